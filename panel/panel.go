package panel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"vigil/auth"
	"vigil/config"
	"vigil/health"
	"vigil/observe"
	"vigil/report"
)

// Auth is what the panel needs of whoever keeps logins; *auth.Auth is one.
type Auth interface {
	// Login checks a name and a password and, when they are right, sets the session's
	// cookie. Errors are *fleet.Error.
	Login(ctx context.Context, w http.ResponseWriter, r *http.Request, name, password string) error
	// Logout ends the session of the request and clears its cookie.
	Logout(ctx context.Context, w http.ResponseWriter, r *http.Request) error
	// RequirePage sends people who are not logged in to /login?next=....
	RequirePage(next http.Handler) http.Handler
	// RequireAPI answers 401 to who is not logged in.
	RequireAPI(next http.Handler) http.Handler
	// Identify returns who makes a request now; false when the login has ended.
	Identify(r *http.Request) (auth.Identity, bool)
	// Protect refuses requests that change something and come from another site.
	Protect(next http.Handler) http.Handler
}

// Deps is what a panel is made of.
type Deps struct {
	Reports *report.Reports
	Auth    Auth
	API     http.Handler     // mounted under /api/v1/, behind the login; nil: no API
	Health  *health.Registry // its conditions are the banner on every page; nil: no banner
	Version string           // of the program, for the footer
	Log     *slog.Logger
	Metrics *observe.Registry
}

// Panel serves pages. Safe for concurrent use.
type Panel struct {
	cfg     config.Panel
	deps    Deps
	log     *slog.Logger
	pages   *pages
	assets  *assets
	metrics *metrics
	charts  *memo
	tokens  chan struct{} // one per open event stream

	watchMu  sync.Mutex
	watching map[string]int // event streams by person; guarded by watchMu

	stopOnce sync.Once
	stopped  chan struct{} // closed by Stop
}

// New makes a panel. It parses the templates and hashes the assets, and starts nothing.
func New(cfg config.Panel, deps Deps) (*Panel, error) {
	if deps.Reports == nil || deps.Auth == nil {
		return nil, errors.New("panel: reports and auth are required")
	}
	if deps.Log == nil {
		deps.Log = observe.Discard()
	}
	static, err := loadAssets()
	if err != nil {
		return nil, err
	}
	templates, err := loadPages(static)
	if err != nil {
		return nil, err
	}
	return &Panel{
		cfg: cfg, deps: deps, log: deps.Log, pages: templates, assets: static,
		metrics: newMetrics(deps.Metrics), charts: newMemo(), tokens: make(chan struct{}, maxEventStreams),
		watching: map[string]int{},
		stopped:  make(chan struct{}),
	}, nil
}

// Stop ends the event streams, which would otherwise keep a stopping http.Server
// waiting: give it to http.Server.RegisterOnShutdown. Open pages keep their numbers
// and look for the service again.
func (p *Panel) Stop() { p.stopOnce.Do(func() { close(p.stopped) }) }
