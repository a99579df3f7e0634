package report

import (
	"context"
	"slices"
	"time"

	"vigil/live"
	"vigil/store"
)

// How much of a list the first page shows.
const (
	topStreams = 10
	topServers = 10
)

// Now is the fleet at a glance.
type Now struct {
	Meta
	Totals     Totals   `json:"totals"`
	Chart      *Chart   `json:"chart"`                 // the last hour; null when the store could not be read
	ChartError *Problem `json:"chart_error,omitempty"` // why there is no chart
	TopStreams []Stream `json:"top_streams"`
	TopError   *Problem `json:"top_streams_error,omitempty"`
	Servers    []Server `json:"servers"` // those that need attention first, then the busiest
}

// Now answers what the fleet does now. A store that cannot be read costs the chart,
// not the answer.
func (r *Reports) Now(ctx context.Context) (*Now, error) {
	now := r.NowLive()
	chart, err := r.FleetChart(ctx, ranges[0])
	if err != nil {
		now.ChartError = ProblemOf(err)
		return now, nil //nolint:nilerr // the rest of the answer stands; the failure is in it
	}
	now.Explain = append(now.Explain, chart.Explain...)
	chart.Trim()
	now.Chart = chart
	return now, nil
}

// NowLive is Now without its chart: everything that is in memory.
func (r *Reports) NowLive() *Now {
	out := &Now{Meta: r.meta()}
	at := r.now()
	_ = r.step(&out.Meta, "live totals", func() error {
		out.Totals = totalsOf(r.live.Totals(at), at.UnixMilli())
		return nil
	})
	out.TopError = ProblemOf(r.step(&out.Meta, "live streams", func() error {
		page, err := r.live.Streams(at, live.StreamQuery{Sort: "viewers", Limit: topStreams})
		out.TopStreams = streamsOf(page.Rows, at.UnixMilli())
		return err
	}))
	_ = r.step(&out.Meta, "live servers", func() error {
		rows := serversOf(r.live.Servers(at), at.UnixMilli())
		slices.SortStableFunc(rows, needsAttention)
		out.Servers = rows[:min(len(rows), topServers)]
		return nil
	})
	return out
}

// FleetChart is the sum of all servers over a range.
func (r *Reports) FleetChart(ctx context.Context, g Range) (*Chart, error) {
	return r.chart(ctx, g, ofFleet, r.fleetInterval(r.now()), func(ctx context.Context, m *Meta, w store.Window, step time.Duration) (a answer, err error) {
		err = r.step(m, "fleet series", func() (err error) {
			a.series, err = r.store.FleetSeries(ctx, w, step)
			return err
		})
		return a, err
	})
}

// answer is what the store said about one chart.
type answer struct {
	series  store.Series
	watched []store.Point // streams: the series of their server
	techs   []store.TechSeries
}

type seriesQuestion func(ctx context.Context, m *Meta, w store.Window, step time.Duration) (answer, error)

func (r *Reports) chart(ctx context.Context, g Range, of subject, interval time.Duration, ask seriesQuestion) (*Chart, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	meta := r.meta()
	step := g.stepFor(interval)
	a, err := ask(ctx, &meta, g.window(r.now(), step), step)
	if err != nil {
		return nil, storeError(ctx, err)
	}
	var c Chart
	_ = r.step(&meta, "arithmetic", func() error {
		c = chartOf(g, a.series, a.watched, a.techs, of)
		return nil
	})
	c.Meta = meta
	return &c, nil
}

// fleetInterval is the polling interval of the middle server: one that is set oddly
// must not decide how the fleet is drawn.
func (r *Reports) fleetInterval(at time.Time) time.Duration {
	rows := r.live.Servers(at)
	if len(rows) == 0 {
		return 0
	}
	intervals := make([]int64, len(rows))
	for i, row := range rows {
		intervals[i] = row.IntervalMs
	}
	slices.Sort(intervals)
	return time.Duration(intervals[len(intervals)/2]) * time.Millisecond
}

func streamsOf(rows []live.StreamRow, nowMs int64) []Stream {
	out := make([]Stream, 0, len(rows))
	for _, row := range rows {
		out = append(out, streamOf(row, nowMs))
	}
	return out
}

func serversOf(rows []live.ServerRow, nowMs int64) []Server {
	out := make([]Server, 0, len(rows))
	for _, row := range rows {
		out = append(out, serverOf(row, nowMs))
	}
	return out
}

var attention = map[string]int{ServerFailed: 0, ServerSilent: 1, ServerPartial: 2, ServerUnknown: 3, ServerOK: 4}

// needsAttention orders servers that are in trouble before the busiest.
func needsAttention(a, b Server) int {
	if d := attention[a.State] - attention[b.State]; d != 0 {
		return d
	}
	return compareInts(b.Viewers, a.Viewers)
}
