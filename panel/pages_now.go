package panel

import (
	"net/http"

	"vigil/report"
)

// sparkFromPct is how complete a bucket must be for the small lines in the tiles, which
// have no room to say what is missing from it. The charts below have.
const sparkFromPct = 90

// nowView is the first page: the fleet at a glance.
type nowView struct {
	Totals  totalsView
	Chart   chartView
	Streams topStreamsView
	Servers topServersView
}

type totalsView struct {
	report.Totals
	NowMs        int64
	ViewersSpark spark
	InSpark      spark
	OutSpark     spark
}

// Why is the reason when the fleet has no numbers.
func (t totalsView) Why() string {
	switch {
	case t.Servers == 0:
		return "no agent has reported yet"
	case t.ServersSilent == t.Servers:
		return "no server is reporting now"
	case t.ServersFailed+t.ServersSilent == t.Servers:
		return "no server can be read now"
	}
	return "no server says this"
}

// Trouble reports whether some servers are missing from the sums.
func (t totalsView) Trouble() int64 { return t.ServersSilent + t.ServersFailed }

type topStreamsView struct {
	Rows    []report.Stream
	Problem *report.Problem
	NowMs   int64
	Total   int64
	More    string // where the whole list is
	Alone   bool   // all rows are of one server: do not repeat its name
}

type topServersView struct {
	Rows  []report.Server
	NowMs int64
	Total int64
}

func (p *Panel) nowLive() (nowView, *report.Now) {
	now := p.deps.Reports.NowLive()
	v := nowView{
		Totals:  totalsView{Totals: now.Totals, NowMs: now.AtMs},
		Streams: topStreamsView{Rows: now.TopStreams, Problem: now.TopError, NowMs: now.AtMs, Total: now.Totals.Streams, More: "/streams"},
		Servers: topServersView{Rows: now.Servers, NowMs: now.AtMs, Total: now.Totals.Servers},
	}
	// The lines in the tiles come with the chart of the last hour; a live update never
	// waits for the store.
	// A sum that a part of the fleet is missing from would look like a fall.
	if chart := p.charts.peek(chartSubject{kind: "fleet"}.query() + "&range=" + report.DefaultRange); chart != nil {
		whole := func(pt report.Point) bool { pct, ok := pt.CompletePct.Get(); return ok && pct >= sparkFromPct }
		v.Totals.ViewersSpark = sparkOf(chart.Points, func(pt report.Point) (float64, bool) {
			n, ok := pt.ViewersAvg.Get()
			return n, ok && whole(pt)
		})
		v.Totals.InSpark = sparkOf(chart.Points, func(pt report.Point) (float64, bool) {
			n, ok := pt.InBps.Get()
			return float64(n), ok && whole(pt)
		})
		v.Totals.OutSpark = sparkOf(chart.Points, func(pt report.Point) (float64, bool) {
			n, ok := pt.OutBps.Get()
			return float64(n), ok && whole(pt)
		})
	}
	return v, now
}

func (p *Panel) nowPage(w http.ResponseWriter, r *http.Request) error {
	g, err := report.RangeNamed(r.URL.Query().Get("range"))
	if err != nil {
		return err
	}
	chart := p.chartView(r.Context(), chartSubject{kind: "fleet"}, g, chartBudget)
	body, now := p.nowLive()
	body.Chart = chart
	v := p.frame(r, "now", "Now")
	v.Live, v.AsOfMs, v.Body = "/live/now", now.Totals.AsOfMs, body
	return p.render(w, r, http.StatusOK, "now.html", v)
}

func (p *Panel) nowBoxes(*http.Request) (update, error) {
	v, now := p.nowLive()
	if now.Totals.Servers == 0 {
		return update{}, nil // the page waits for its first agent; a box makes it grow
	}
	return update{AsOfMs: now.Totals.AsOfMs, Boxes: []box{
		{ID: "totals", Part: "totals", Data: v.Totals},
		{ID: "top-streams", Part: "top-streams", Data: v.Streams},
		{ID: "top-servers", Part: "top-servers", Data: v.Servers},
	}}, nil
}
