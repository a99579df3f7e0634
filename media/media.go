package media

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"vigil/config"
	"vigil/fleet"
)

// The products that New knows, as written in the configuration.
const (
	ProductNginxRTMP = "nginx-rtmp"
	ProductIcecast   = "icecast"
)

// Collector reads one media server.
type Collector interface {
	// Collect asks the server once and returns what it said. A failure is a
	// Reading too: its Status and Detail say what went wrong, and it has no
	// numbers. Collect blocks until the answer is complete, the configured
	// time-out has passed or ctx has ended. Calls that overlap wait for each
	// other, so a server never has two of our requests at once.
	Collect(ctx context.Context) *fleet.Reading
}

// ClientLister is a Collector whose per-viewer lists cost extra requests, so that
// their rate may be changed while it runs.
type ClientLister interface {
	// SetClientListEvery changes the time between two readings of the lists; 0
	// turns them off. Safe for concurrent use.
	SetClientListEvery(d time.Duration)
}

// Deps are what collectors take from outside. All fields are optional.
type Deps struct {
	Transport http.RoundTripper // a plain one without proxy when nil
	Now       func() time.Time  // wall clock, for labels
	Mono      func() int64      // ms that never go backwards, for rates
}

// Products lists the products that New accepts.
func Products() []string { return []string{ProductIcecast, ProductNginxRTMP} }

// New returns the collector for one configured media server. It opens nothing. A
// configuration that cannot work is a *fleet.Error of kind invalid.
func New(cfg config.MediaServer, deps Deps) (Collector, error) {
	if !slices.Contains(Products(), cfg.Product) {
		return nil, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("media server %q has the unknown product %q", cfg.Name, cfg.Product),
			Hint:    "set product to one of: " + strings.Join(Products(), ", "),
		}
	}
	base, err := url.Parse(cfg.URL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("media server %q has the url %q, which is not an http or https address", cfg.Name, redactURL(cfg.URL)),
			Hint:    "write the address of its statistics, such as " + exampleURL(cfg.Product),
			Err:     redactedParseError(err),
		}
	}
	f := newFetcher(cfg, base, deps)
	if cfg.Product == ProductIcecast {
		return newIcecast(cfg, f), nil
	}
	return newNginxRTMP(f), nil
}

func exampleURL(product string) string {
	if product == ProductIcecast {
		return "http://127.0.0.1:8000"
	}
	return "http://127.0.0.1:8080/stat"
}
