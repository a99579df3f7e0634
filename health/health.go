// Package health holds the named conditions of a process: what is wrong now, how bad
// it is, what it means and what to do. One list feeds /ready, the banner of the panel,
// alerts and `vigil doctor`, so they never disagree.
//
// A condition is set by the part that sees it and cleared by the same part. It keeps
// its first time while it is set again, and it shows only after it has lasted for a
// while, so that a hiccup does not flash. A condition that blocks readiness does so at
// once: traffic should not wait for a banner.
package health

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxConditions bounds the list. Codes are constants, so reaching it means that
// somebody puts names of things into codes; further codes are not taken.
const maxConditions = 256

// Severity says who must act.
type Severity uint8

// The severities.
const (
	Info    Severity = 0 // good to know
	Warning Severity = 1 // look tomorrow
	Error   Severity = 2 // wake somebody
)

var severityNames = [...]string{"info", "warning", "error"}

// String returns the lower-case name.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return "error"
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name. Unknown names are errors of a newer version: they
// count as Error.
func (s *Severity) UnmarshalText(text []byte) error {
	*s = Error
	for i, name := range severityNames {
		if name == string(text) {
			*s = Severity(i)
		}
	}
	return nil
}

// Condition is one thing that is wrong now.
type Condition struct {
	Code        string        `json:"code"`  // constant, lower-case-with-dashes: journal-unavailable
	Title       string        `json:"title"` // three to six words
	Severity    Severity      `json:"severity"`
	Text        string        `json:"text"`            // what happened and what it means
	Hint        string        `json:"hint,omitempty"`  // what to do
	Since       time.Time     `json:"since"`           // filled by Set when zero
	After       time.Duration `json:"after_ns"`        // it shows when it has lasted this long
	BlocksReady bool          `json:"blocks_ready"`    // no traffic should come while it lasts
	Shown       bool          `json:"shown,omitempty"` // filled by List: it has lasted for After
}

// Registry is the list of conditions. All methods work on a nil Registry, which is
// ready and forgets what it is told. Safe for concurrent use.
type Registry struct {
	now func() time.Time

	mu     sync.Mutex
	byCode map[string]Condition // guarded by mu
}

// New returns an empty list. A nil now means time.Now.
func New(now func() time.Time) *Registry {
	if now == nil {
		now = time.Now
	}
	return &Registry{now: now, byCode: map[string]Condition{}}
}

// Set adds a condition or renews its text. One that is set already keeps its Since.
func (r *Registry) Set(c Condition) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, there := r.byCode[c.Code]
	switch {
	case there:
		c.Since = old.Since
	case len(r.byCode) >= maxConditions:
		return
	case c.Since.IsZero():
		c.Since = r.now()
	}
	r.byCode[c.Code] = c
}

// Clear ends the condition with this code, if it is set.
func (r *Registry) Clear(code string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byCode, code)
}

// List returns all conditions, the worst and oldest first. Shown tells those that
// have lasted long enough to bother people with.
func (r *Registry) List() []Condition {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	now := r.now()
	list := make([]Condition, 0, len(r.byCode))
	for _, c := range r.byCode {
		c.Shown = now.Sub(c.Since) >= c.After
		list = append(list, c)
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b Condition) int {
		return cmp.Or(-cmp.Compare(a.Severity, b.Severity), a.Since.Compare(b.Since), cmp.Compare(a.Code, b.Code))
	})
	return list
}

// Severities are all severities, from harmless to worst.
func Severities() []Severity { return []Severity{Info, Warning, Error} }

// Count returns how many conditions of a severity are shown now, for a metric.
func (r *Registry) Count(s Severity) int {
	n := 0
	for _, c := range r.List() {
		if c.Shown && c.Severity == s {
			n++
		}
	}
	return n
}

// Ready reports whether traffic may come: no condition blocks it.
func (r *Registry) Ready() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byCode {
		if c.BlocksReady {
			return false
		}
	}
	return true
}

// Report is what /ready and /conditions answer.
type Report struct {
	Ready      bool        `json:"ready"`
	Conditions []Condition `json:"conditions"`
}

// Report returns readiness and all conditions.
func (r *Registry) Report() Report {
	list := r.List()
	if list == nil {
		list = []Condition{}
	}
	return Report{Ready: r.Ready(), Conditions: list}
}

// Handler answers three questions. GET /live: does the process run; 200 always. GET
// /ready: may traffic come; 200 or 503 with the conditions. GET /conditions: what is
// wrong; 200 with the conditions. Bodies are JSON.
func (r *Registry) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		report := r.Report()
		status := http.StatusOK
		if !report.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, report)
	})
	mux.HandleFunc("GET /conditions", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, r.Report())
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error here means that the asker has gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
