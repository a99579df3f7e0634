package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vigil/fleet"
	"vigil/live"
	"vigil/observe"
	"vigil/report"
)

// Limits of a request.
const (
	maxQueryBytes = 8 << 10 // names of streams may be long, and three bytes are needed for one that is not text
	maxKeyBytes   = 1 << 10 // one part of a stream's or server's name
	defaultLimit  = 100
)

//go:embed openapi.json
var description []byte

// Deps is what an API is made of.
type Deps struct {
	Reports *report.Reports
	Log     *slog.Logger
	Metrics *observe.Registry
}

// API answers JSON. Safe for concurrent use.
type API struct {
	reports  *report.Reports
	log      *slog.Logger
	requests *observe.CounterVec
	failures *observe.CounterVec
}

// New makes an API.
func New(d Deps) *API {
	if d.Log == nil {
		d.Log = observe.Discard()
	}
	return &API{
		reports: d.Reports, log: d.Log,
		requests: d.Metrics.Counter("vigil_api_requests_total", "Requests by route.", "route"),
		failures: d.Metrics.Counter("vigil_api_failures_total", "Requests that ended with an error, by its kind.", "kind"),
	}
}

// question answers one request with something that becomes JSON.
type question func(r *http.Request, q url.Values) (any, error)

// route is one address with the parameters it takes. Others are refused, so that a
// misspelt one does not silently mean its default.
type route struct {
	pattern string
	params  []string
	ask     question
}

func (a *API) routes() []route {
	return []route{
		{"/api/v1/now", nil, a.now},
		{"/api/v1/servers", []string{"q", "state", "sort", "order", "offset", "limit"}, a.servers},
		{"/api/v1/servers/{key}", []string{"range"}, a.server},
		{"/api/v1/streams", []string{"q", "server", "state", "sort", "order", "offset", "limit"}, a.streams},
		{"/api/v1/stream", []string{"server", "vhost", "app", "instance", "name", "range"}, a.stream},
		{"/api/v1/status", nil, a.status},
		{"/api/v1/openapi.json", nil, a.openapi},
	}
}

// Handler returns all routes under /api/v1/.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range a.routes() {
		mux.Handle("GET "+rt.pattern, a.handle(rt))
	}
	mux.Handle("/api/v1/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, a.noRoute(r))
	}))
	return mux
}

func (a *API) noRoute(r *http.Request) error {
	known := false
	for _, rt := range a.routes() {
		known = known || rt.pattern == r.URL.Path
	}
	if known || strings.HasPrefix(r.URL.Path, "/api/v1/servers/") {
		return invalid("This address only answers GET.", "Ask with GET; nothing can be changed through this API.")
	}
	return &fleet.Error{Kind: fleet.KindMissing, Message: "There is nothing at this address.", Hint: "See /api/v1/openapi.json for what there is."}
}

func (a *API) handle(rt route) http.Handler {
	params := append([]string{"explain"}, rt.params...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.requests.With(rt.pattern).Inc()
		q, err := values(r, params)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		answer, err := rt.ask(r, q)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if m, ok := answer.(interface{ Trim() }); ok && q.Get("explain") != "1" {
			m.Trim()
		}
		body, err := json.Marshal(answer)
		if err != nil {
			a.fail(w, r, fmt.Errorf("encode answer: %w", err))
			return
		}
		write(w, http.StatusOK, body)
	})
}

// values reads a query and refuses what the route does not know.
func values(r *http.Request, params []string) (url.Values, error) {
	if len(r.URL.RawQuery) > maxQueryBytes {
		return nil, &fleet.Error{
			Kind: fleet.KindTooLarge, Message: "The query is longer than " + strconv.Itoa(maxQueryBytes) + " bytes.",
			Hint: "Ask for less at once.",
		}
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.KindInvalid, Message: "The query is not well formed.", Hint: "Encode names with percent signs; separate parameters with &.", Err: err}
	}
	for name, given := range q {
		if !slices.Contains(params, name) {
			return nil, invalid("There is no parameter \""+report.Printable(name)+"\" here.", "Known are "+strings.Join(params, ", ")+".")
		}
		if len(given) > 1 {
			return nil, invalid("The parameter \""+name+"\" is given more than once.", "Give it once.")
		}
		if name != "q" && len(given[0]) > maxKeyBytes {
			return nil, invalid("The parameter \""+name+"\" is longer than "+strconv.Itoa(maxKeyBytes)+" bytes.", "No name is that long.")
		}
	}
	if explain := q.Get("explain"); explain != "" && explain != "0" && explain != "1" {
		return nil, invalid("The parameter \"explain\" is neither 0 nor 1.", "Use explain=1 to get the time of each step.")
	}
	if order := q.Get("order"); order != "" && order != "asc" && order != "desc" {
		return nil, invalid("The parameter \"order\" is neither asc nor desc.", "Leave it out for the default.")
	}
	return q, nil
}

func invalid(message, hint string) error {
	return &fleet.Error{Kind: fleet.KindInvalid, Message: message, Hint: hint}
}

func number(q url.Values, name string, fallback int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid("The parameter \""+name+"\" is not a whole number.", "Give it in decimal digits.")
	}
	return n, nil
}

func page(q url.Values) (offset, limit int, err error) {
	if offset, err = number(q, "offset", 0); err != nil {
		return 0, 0, err
	}
	limit, err = number(q, "limit", defaultLimit)
	return offset, limit, err
}

func (a *API) now(r *http.Request, _ url.Values) (any, error) { return a.reports.Now(r.Context()) }

func (a *API) servers(_ *http.Request, q url.Values) (any, error) {
	offset, limit, err := page(q)
	if err != nil {
		return nil, err
	}
	return a.reports.Servers(report.ServerQuery{
		Search: q.Get("q"), State: q.Get("state"), Sort: q.Get("sort"), Ascending: q.Get("order") == "asc", Offset: offset, Limit: limit,
	})
}

func (a *API) server(r *http.Request, q url.Values) (any, error) {
	g, err := report.RangeNamed(q.Get("range"))
	if err != nil {
		return nil, err
	}
	key := r.PathValue("key")
	if len(key) > maxKeyBytes {
		return nil, report.MissingServer(key[:16] + "...")
	}
	return a.reports.Server(r.Context(), key, g)
}

func (a *API) streams(_ *http.Request, q url.Values) (any, error) {
	offset, limit, err := page(q)
	if err != nil {
		return nil, err
	}
	return a.reports.Streams(live.StreamQuery{
		Search: q.Get("q"), Server: q.Get("server"), State: q.Get("state"), Sort: q.Get("sort"),
		Ascending: q.Get("order") == "asc", Offset: offset, Limit: limit,
	})
}

func (a *API) stream(r *http.Request, q url.Values) (any, error) {
	g, err := report.RangeNamed(q.Get("range"))
	if err != nil {
		return nil, err
	}
	key := report.KeyFrom(q)
	if key.Server == "" || !q.Has("name") {
		return nil, invalid("A stream needs at least its server and its name.", "Take the \"query\" of a row of /api/v1/streams.")
	}
	return a.reports.Stream(r.Context(), key, g)
}

func (a *API) status(r *http.Request, _ url.Values) (any, error) {
	return a.reports.Status(r.Context())
}

func (a *API) openapi(*http.Request, url.Values) (any, error) {
	return json.RawMessage(description), nil
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	kind := fleet.KindOf(err)
	a.failures.With(kind.String()).Inc()
	if kind == fleet.KindInternal || kind == fleet.KindUnavailable {
		a.log.Warn("api request failed", "path", r.URL.Path, "kind", kind.String(), "error", err)
	}
	body, marshalErr := json.Marshal(report.ProblemOf(err))
	if marshalErr != nil {
		body = []byte(`{"kind":"internal","message":"","hint":""}`)
	}
	if kind == fleet.KindBusy || kind == fleet.KindUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	write(w, kind.HTTPStatus(), body)
}

func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is not our failure
}
