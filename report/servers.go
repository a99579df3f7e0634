package report

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/live"
	"vigil/store"
)

// Limits of lists.
const (
	MaxServersPage = 500
	MaxStreamsPage = 1000
	MaxOffset      = 10_000_000
	MaxSearchBytes = 200
)

// ServerQuery selects and orders servers.
type ServerQuery struct {
	Search    string // every word must be part of key, agent, product or version
	State     string // ok, partial, failed, silent, unknown; empty: all
	Sort      string // attention, key, viewers, streams, in_bps, out_bps, age; default attention
	Ascending bool   // attention and key are ascending unless asked otherwise
	Offset    int
	Limit     int // 1 to MaxServersPage
}

// Servers is a part of the ordered list of servers.
type Servers struct {
	Meta
	Totals  Totals   `json:"totals"`
	Rows    []Server `json:"rows"`
	Matched int64    `json:"matched"`
	Total   int64    `json:"total"`
}

// ServerSorts are the columns servers can be ordered by.
func ServerSorts() []string {
	return []string{"attention", "key", "viewers", "streams", "in_bps", "out_bps", "age"}
}

// ServerStates are the states servers can be selected by.
func ServerStates() []string {
	return []string{ServerOK, ServerPartial, ServerFailed, ServerSilent, ServerUnknown}
}

// Servers lists servers.
func (r *Reports) Servers(q ServerQuery) (*Servers, error) {
	if err := checkServerQuery(q); err != nil {
		return nil, err
	}
	out := &Servers{Meta: r.meta()}
	at := r.now()
	_ = r.step(&out.Meta, "live servers", func() error {
		out.Totals = totalsOf(r.live.Totals(at), at.UnixMilli())
		rows := serversOf(r.live.Servers(at), at.UnixMilli())
		out.Total = int64(len(rows))
		words := strings.Fields(strings.ToLower(q.Search))
		rows = slices.DeleteFunc(rows, func(s Server) bool {
			return (q.State != "" && s.State != q.State) || !matches(words, s.Key, s.Agent, s.Product, s.Version)
		})
		out.Matched = int64(len(rows))
		sortServers(rows, q.Sort, q.Ascending)
		from := min(q.Offset, len(rows))
		out.Rows = rows[from:min(from+q.Limit, len(rows))]
		return nil
	})
	return out, nil
}

func checkServerQuery(q ServerQuery) error {
	if err := checkPage(q.Search, q.Offset, q.Limit, MaxServersPage); err != nil {
		return err
	}
	if q.Sort != "" && !slices.Contains(ServerSorts(), q.Sort) {
		return invalid("The list cannot be ordered by that column.", "Use one of "+strings.Join(ServerSorts(), ", ")+".")
	}
	if q.State != "" && !slices.Contains(ServerStates(), q.State) {
		return invalid("There is no such state of a server.", "Use one of "+strings.Join(ServerStates(), ", ")+".")
	}
	return nil
}

func matches(words []string, fields ...string) bool {
	for _, word := range words {
		if !slices.ContainsFunc(fields, func(f string) bool { return strings.Contains(strings.ToLower(f), word) }) {
			return false
		}
	}
	return true
}

func sortServers(rows []Server, by string, ascending bool) {
	var compare func(a, b Server) int
	switch by {
	case "key":
		compare = func(a, b Server) int { return cmp.Compare(a.Key, b.Key) }
	case "viewers":
		compare = func(a, b Server) int { return compareInts(a.Viewers, b.Viewers) }
	case "streams":
		compare = func(a, b Server) int { return compareInts(a.Streams, b.Streams) }
	case "in_bps":
		compare = func(a, b Server) int { return compareInts(a.InBps, b.InBps) }
	case "out_bps":
		compare = func(a, b Server) int { return compareInts(a.OutBps, b.OutBps) }
	case "age":
		compare = func(a, b Server) int { return cmp.Compare(a.AgeMs, b.AgeMs) }
	default:
		slices.SortStableFunc(rows, needsAttention)
		return
	}
	slices.SortStableFunc(rows, func(a, b Server) int {
		d := compare(a, b)
		if !ascending {
			d = -d
		}
		if d == 0 {
			return cmp.Compare(a.Key, b.Key)
		}
		return d
	})
}

// compareInts orders unknown before every number.
func compareInts(a, b fleet.Int) int {
	x, xok := a.Get()
	y, yok := b.Get()
	switch {
	case xok && yok:
		return cmp.Compare(x, y)
	case xok:
		return 1
	case yok:
		return -1
	}
	return 0
}

// ServerPage is one server: now and over a range.
type ServerPage struct {
	Meta
	Server     *Server  `json:"server"` // null when only the past knows it
	Chart      *Chart   `json:"chart"`
	ChartError *Problem `json:"chart_error,omitempty"`
	TopStreams []Stream `json:"top_streams"`
	TopError   *Problem `json:"top_streams_error,omitempty"`
}

// Server answers for one server.
func (r *Reports) Server(ctx context.Context, key string, g Range) (*ServerPage, error) {
	out := r.ServerLive(key)
	chart, err := r.ServerChart(ctx, key, g)
	if err != nil {
		if out.Server == nil {
			return nil, err
		}
		out.ChartError = ProblemOf(err)
		return out, nil //nolint:nilerr // what is live stands; the failure is in the answer
	}
	if out.Server == nil && chart.Empty() {
		return nil, MissingServer(key)
	}
	out.Explain = append(out.Explain, chart.Explain...)
	chart.Trim()
	out.Chart = chart
	return out, nil
}

// MissingServer says that nobody ever reported a server.
func MissingServer(key string) error {
	return &fleet.Error{
		Kind:    fleet.KindMissing,
		Message: "No agent has reported a server with the key \"" + Printable(key) + "\" in this range.",
		Hint:    "Look for it in the list of servers, or ask for a longer range.",
	}
}

// ServerLive is one server now with its busiest streams.
func (r *Reports) ServerLive(key string) *ServerPage {
	out := &ServerPage{Meta: r.meta(), TopStreams: []Stream{}}
	at := r.now()
	out.TopError = ProblemOf(r.step(&out.Meta, "live server", func() error {
		row, ok := r.live.Server(at, key)
		if !ok {
			return nil
		}
		s := serverOf(row, at.UnixMilli())
		out.Server = &s
		page, err := r.live.Streams(at, live.StreamQuery{Server: key, Sort: "viewers", Limit: topStreams})
		out.TopStreams = streamsOf(page.Rows, at.UnixMilli())
		return err
	}))
	return out
}

// ServerChart is one server over a range.
func (r *Reports) ServerChart(ctx context.Context, key string, g Range) (*Chart, error) {
	return r.chart(ctx, g, ofServer, r.serverInterval(key), func(ctx context.Context, m *Meta, w store.Window, step time.Duration) (a answer, err error) {
		err = r.step(m, "server series", func() (err error) {
			a.series, err = r.store.ServerSeries(ctx, key, w, step)
			return err
		})
		return a, err
	})
}

func (r *Reports) serverInterval(key string) time.Duration {
	row, _ := r.live.Server(r.now(), key)
	return time.Duration(row.IntervalMs) * time.Millisecond
}

func invalid(message, hint string) error {
	return &fleet.Error{Kind: fleet.KindInvalid, Message: message, Hint: hint}
}
