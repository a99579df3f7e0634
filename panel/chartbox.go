package panel

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/report"
)

// chartWait is how long the box alone waits: longer than the store may take.
const chartWait = 12 * time.Second

// chartView is the box with the charts of the fleet, a server or a stream.
type chartView struct {
	ID      string
	Src     string // where the box is loaded from
	Page    string // address of the page around it, without the range
	Links   []rangeLink
	Chart   *report.Chart
	Problem *report.Problem
	Pending bool
	Empty   bool
	JSON    string // for chart.js
	NowMs   int64
	Of      string // fleet, server, stream
}

type rangeLink struct {
	Name, Label string
	Page, Src   string
	Current     bool
}

// chartOf says what a chart is about.
type chartSubject struct {
	kind   string // fleet, server, stream
	server string
	stream fleet.StreamKey
}

func (s chartSubject) query() string {
	switch s.kind {
	case "server":
		return "of=server&server=" + url.QueryEscape(s.server)
	case "stream":
		return "of=stream&" + report.KeyQuery(s.stream)
	}
	return "of=fleet"
}

func (s chartSubject) page() string {
	switch s.kind {
	case "server":
		return "/servers/" + url.PathEscape(s.server) + "?"
	case "stream":
		return "/stream?" + report.KeyQuery(s.stream) + "&"
	}
	return "/?"
}

func (p *Panel) ask(s chartSubject, g report.Range) *memoEntry {
	return p.charts.get(s.query()+"&range="+g.Name, p.deps.Reports.Clock, func(ctx context.Context) (*report.Chart, error) {
		switch s.kind {
		case "server":
			return p.deps.Reports.ServerChart(ctx, s.server, g)
		case "stream":
			return p.deps.Reports.StreamChart(ctx, s.stream, g)
		}
		return p.deps.Reports.FleetChart(ctx, g)
	})
}

// chartView makes the box, waiting for its chart no longer than given.
func (p *Panel) chartView(ctx context.Context, s chartSubject, g report.Range, longest time.Duration) chartView {
	v := chartView{
		ID: "chart", Src: "/box/chart?" + s.query() + "&range=" + g.Name, Page: s.page(), Of: s.kind,
		NowMs: p.deps.Reports.Clock().UnixMilli(),
	}
	for _, each := range report.Ranges() {
		v.Links = append(v.Links, rangeLink{
			Name: each.Name, Label: each.Label, Current: each.Name == g.Name,
			Page: s.page() + "range=" + each.Name, Src: "/box/chart?" + s.query() + "&range=" + each.Name,
		})
	}
	chart, err, ok := p.ask(s, g).wait(ctx, longest)
	switch {
	case !ok:
		v.Pending = true
	case err != nil:
		v.Problem = report.ProblemOf(err)
	default:
		v.Chart, v.Empty = chart, chart.Empty()
		v.JSON = chartJSON(chart)
	}
	return v
}

// chartBox serves the box alone, for its own refresh and for another range.
func (p *Panel) chartBox(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	g, err := report.RangeNamed(q.Get("range"))
	if err != nil {
		return err
	}
	s := chartSubject{kind: q.Get("of"), server: q.Get("server")}
	switch s.kind {
	case "fleet", "server":
	case "stream":
		if s.stream, err = streamKey(r); err != nil {
			return err
		}
	default:
		return &fleet.Error{Kind: fleet.KindInvalid, Message: "There is no chart of that.", Hint: "Charts are of fleet, server or stream."}
	}
	return p.renderPart(w, r, "chart", p.chartView(r.Context(), s, g, chartWait))
}

// plot is what chart.js draws: parallel lists, null where nothing is known.
type plot struct {
	StepS    int64        `json:"step_s"`
	FromS    int64        `json:"from_s"`
	ToS      int64        `json:"to_s"`
	T        []int64      `json:"t"` // middle of each bucket, seconds
	Viewers  []report.Num `json:"viewers"`
	Max      []fleet.Int  `json:"max,omitempty"`
	In       []fleet.Int  `json:"in"`
	Out      []fleet.Int  `json:"out"`
	Complete []report.Num `json:"complete"`
	Off      []int        `json:"off,omitempty"` // indexes of buckets in which the stream was seen to be off air
	Tech     []plotTech   `json:"tech,omitempty"`
}

type plotTech struct {
	Name    string       `json:"name"`
	Viewers []report.Num `json:"viewers"`
}

func chartJSON(c *report.Chart) string {
	out := plot{StepS: c.StepMs / 1000, FromS: c.FromMs / 1000, ToS: c.ToMs / 1000}
	hasMax := false
	for i, pt := range c.Points {
		if pt.OffAir() {
			out.Off = append(out.Off, i)
		}
		out.T = append(out.T, (pt.AtMs+c.StepMs/2)/1000)
		out.Viewers = append(out.Viewers, pt.ViewersAvg)
		out.Max = append(out.Max, pt.ViewersMax)
		out.In, out.Out = append(out.In, pt.InBps), append(out.Out, pt.OutBps)
		out.Complete = append(out.Complete, pt.CompletePct)
		hasMax = hasMax || pt.ViewersMax.Known()
	}
	if !hasMax {
		out.Max = nil
	}
	for _, t := range c.ByTech {
		out.Tech = append(out.Tech, plotTech{Name: t.Tech, Viewers: t.ViewersAvg})
	}
	text, err := json.Marshal(out)
	if err != nil {
		return "{}" // numbers and nulls always marshal
	}
	return string(text)
}

// Size of a sparkline, in its own units.
const (
	sparkWidth  = 120
	sparkHeight = 32
)

// spark is a small line without axes: one path per stretch without a gap.
type spark struct {
	Line string
	Area string
}

func sparkOf(points []report.Point, pick func(report.Point) (float64, bool)) spark {
	top, low := 0.0, math.Inf(1)
	for _, pt := range points {
		if v, ok := pick(pt); ok {
			top, low = math.Max(top, v), math.Min(low, v)
		}
	}
	if top == 0 || len(points) < 2 {
		return spark{}
	}
	// A line without an axis shows the shape; the charts below begin at zero.
	low = math.Max(0, low-(top-low)-0.02*top)
	var line, area strings.Builder
	open, startX, lastX := false, 0.0, 0.0
	shut := func() {
		if open {
			fmt.Fprintf(&area, "L%.1f %d L%.1f %d Z", lastX, sparkHeight, startX, sparkHeight)
		}
		open = false
	}
	for i, pt := range points {
		v, ok := pick(pt)
		if !ok {
			shut()
			continue
		}
		x := float64(i) * sparkWidth / float64(len(points)-1)
		y := 2 + (sparkHeight-3)*(1-(v-low)/(top-low))
		verb := "L"
		if !open {
			verb, startX, open = "M", x, true
		}
		fmt.Fprintf(&line, "%s%.1f %.1f ", verb, x, y)
		fmt.Fprintf(&area, "%s%.1f %.1f ", verb, x, y)
		lastX = x
	}
	shut()
	return spark{Line: strings.TrimSpace(line.String()), Area: area.String()}
}
