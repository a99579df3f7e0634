package report

import (
	"vigil/fleet"
	"vigil/store"
)

// Point is one bucket. Numbers are null where nothing covers it.
type Point struct {
	AtMs        int64     `json:"at_ms"` // start of the bucket, UTC ms
	CoveredMs   int64     `json:"covered_ms"`
	CompletePct Num       `json:"complete_pct"` // of a stream: of its server; null when nothing was expected: nobody was known then
	ViewersAvg  Num       `json:"viewers_avg"`
	ViewersMax  fleet.Int `json:"viewers_max"` // most at once; null for the fleet, where the moments do not coincide
	InBps       fleet.Int `json:"in_bps"`
	OutBps      fleet.Int `json:"out_bps"`
	InBytes     fleet.Int `json:"in_bytes"`
	OutBytes    fleet.Int `json:"out_bytes"`
	State       string    `json:"state,omitempty"` // streams: last state in the bucket; offline and nothing covered: seen to be off air
}

// OffAir reports whether the stream was watched and not there: no number, and no gap.
func (p Point) OffAir() bool {
	return p.CoveredMs == 0 && p.State == fleet.StateOffline.String()
}

// Peak is the largest value of a series and when it was.
type Peak struct {
	Value fleet.Int `json:"value"`
	AtMs  int64     `json:"at_ms"` // start of its bucket; 0 when the value is unknown
	Of    string    `json:"of"`    // poll: the most seen in any one poll; bucket: the largest average of a bucket
}

// Summary is a series in a few numbers.
type Summary struct {
	CompletePct Num       `json:"complete_pct"`
	CoveredMs   int64     `json:"covered_ms"`
	ExpectedMs  int64     `json:"expected_ms"`
	GapBuckets  int       `json:"gap_buckets"`
	InBytes     fleet.Int `json:"in_bytes"`
	OutBytes    fleet.Int `json:"out_bytes"`
	ViewerMs    fleet.Int `json:"viewer_ms"` // viewers x time
	ViewersAvg  Num       `json:"viewers_avg"`
	InAvgBps    fleet.Int `json:"in_avg_bps"`
	OutAvgBps   fleet.Int `json:"out_avg_bps"`
	ViewersPeak Peak      `json:"viewers_peak"`
	InPeakBps   Peak      `json:"in_peak_bps"`
	OutPeakBps  Peak      `json:"out_peak_bps"`
}

// TechLine is the viewers of one technology over the buckets of its chart.
type TechLine struct {
	Tech       string `json:"tech"`
	ViewersAvg []Num  `json:"viewers_avg"`
}

// Chart is a series of whole buckets without holes.
type Chart struct {
	Meta
	Range   string     `json:"range"`
	FromMs  int64      `json:"from_ms"`
	ToMs    int64      `json:"to_ms"`
	StepMs  int64      `json:"step_ms"`
	Tier    string     `json:"tier"` // resolution the store read: raw, minute, quarter, day
	Points  []Point    `json:"points"`
	ByTech  []TechLine `json:"by_tech,omitempty"`
	Summary Summary    `json:"summary"`
}

// Empty reports whether nobody was expected to report in the whole range.
func (c *Chart) Empty() bool { return c.Summary.ExpectedMs == 0 && c.Summary.CoveredMs == 0 }

// Unseen reports whether no number covers any time of the range. For a stream that
// nobody knows this holds although its server is watched.
func (c *Chart) Unseen() bool { return c.Summary.CoveredMs == 0 }

// subject is what a series is about.
type subject int

const (
	ofFleet  subject = iota // the sum of many servers
	ofServer                // one
	ofStream                // one, on a server that is watched whether the stream is there or not
)

// chartOf does the arithmetic. For a stream, watched is the series of its server: it
// says how complete the stream's buckets are, because a stream that was seen to be off
// air is not missing.
func chartOf(g Range, series store.Series, watched []store.Point, techs []store.TechSeries, of subject) Chart {
	c := Chart{
		Range: g.Name, Tier: series.Tier, StepMs: series.Step.Milliseconds(),
		FromMs: series.Window.From.UnixMilli(), ToMs: series.Window.To.UnixMilli(),
		Points: make([]Point, 0, len(series.Points)),
	}
	if of != ofStream || len(watched) != len(series.Points) {
		watched = series.Points
	}
	seen := settleEdges(watched)
	for i, p := range series.Points {
		point := pointOf(p, of)
		point.CompletePct = completePct(seen[i], watched[i].ExpectedMs)
		c.Points = append(c.Points, point)
	}
	c.Summary = summaryOf(series.Points, c.Points, of)
	c.Summary.addCoverage(watched, seen)
	for _, t := range techs {
		line := TechLine{Tech: t.Tech.String(), ViewersAvg: make([]Num, len(series.Points))}
		for i := range min(len(t.ViewerMs), len(series.Points)) {
			line.ViewersAvg[i] = average(t.ViewerMs[i], series.Points[i].CoveredMs)
		}
		c.ByTech = append(c.ByTech, line)
	}
	return c
}

// settleEdges returns the covered time of each bucket after giving what is more than
// can be in a bucket back to its neighbours. A poll is counted whole where it ends,
// so one that ends just behind the edge is missing before it.
func settleEdges(points []store.Point) []int64 {
	seen := make([]int64, len(points))
	for i, p := range points {
		seen[i] = p.CoveredMs
	}
	for i, p := range points {
		for _, j := range [...]int{i - 1, i + 1} {
			if j < 0 || j >= len(points) || points[j].CoveredMs == 0 {
				continue // a gap stays one
			}
			give := max(0, min(seen[i]-p.ExpectedMs, points[j].ExpectedMs-seen[j]))
			seen[i] -= give
			seen[j] += give
		}
	}
	return seen
}

func pointOf(p store.Point, of subject) Point {
	out := Point{AtMs: p.AtMs, CoveredMs: p.CoveredMs, ViewersMax: p.ViewersMax, InBytes: p.BytesIn, OutBytes: p.BytesOut}
	if p.State != fleet.StateUnknown {
		out.State = p.State.String()
	}
	if of == ofFleet {
		// Servers are seen for different times, so each one's average is its own, also in a
		// bucket that a gap cuts short: completeness says for how much of the time.
		out.ViewersAvg = intNum(p.Level.ViewersMilli).times(0.001)
		out.InBps, out.OutBps = p.Level.InBps, p.Level.OutBps
		return out
	}
	out.ViewersAvg = average(p.ViewerMs, p.CoveredMs)
	out.InBps = rate(p.BytesIn, p.CoveredMs).rounded()
	out.OutBps = rate(p.BytesOut, p.CoveredMs).rounded()
	return out
}

// addCoverage fills in how complete the whole is.
func (s *Summary) addCoverage(watched []store.Point, seen []int64) {
	var covered int64
	for i, p := range watched {
		covered += seen[i]
		s.ExpectedMs += p.ExpectedMs
		if p.CoveredMs == 0 && p.ExpectedMs > 0 {
			s.GapBuckets++
		}
	}
	s.CompletePct = completePct(covered, s.ExpectedMs)
}

func summaryOf(raw []store.Point, points []Point, of subject) Summary {
	s := Summary{ViewersPeak: Peak{Of: "bucket"}, InPeakBps: Peak{Of: "bucket"}, OutPeakBps: Peak{Of: "bucket"}}
	var viewers, in, out mean
	for i, p := range raw {
		s.CoveredMs += p.CoveredMs
		s.InBytes = s.InBytes.Plus(p.BytesIn)
		s.OutBytes = s.OutBytes.Plus(p.BytesOut)
		s.ViewerMs = s.ViewerMs.Plus(p.ViewerMs)
		s.ViewersPeak.offer(points[i].ViewersAvg.rounded(), "bucket", p.AtMs)
		s.ViewersPeak.offer(points[i].ViewersMax, "poll", p.AtMs)
		s.InPeakBps.offer(points[i].InBps, "bucket", p.AtMs)
		s.OutPeakBps.offer(points[i].OutBps, "bucket", p.AtMs)
		weight := p.CoveredMs
		if of == ofFleet {
			weight = 1
		}
		viewers.add(points[i].ViewersAvg, weight)
		in.add(intNum(points[i].InBps), weight)
		out.add(intNum(points[i].OutBps), weight)
	}
	s.ViewersAvg = viewers.value()
	s.InAvgBps, s.OutAvgBps = in.value().rounded(), out.value().rounded()
	return s
}

func (p *Peak) offer(v fleet.Int, of string, atMs int64) {
	n, ok := v.Get()
	if !ok {
		return
	}
	if have, known := p.Value.Get(); !known || n > have {
		*p = Peak{Value: v, AtMs: atMs, Of: of}
	}
}

// mean is a weighted average of what is known.
type mean struct {
	sum    float64
	weight float64
}

func (m *mean) add(n Num, weight int64) {
	if v, ok := n.Get(); ok {
		m.sum += v * float64(weight)
		m.weight += float64(weight)
	}
}

func (m *mean) value() Num {
	if m.weight == 0 {
		return Num{}
	}
	return NumOf(m.sum / m.weight)
}

func intNum(n fleet.Int) Num {
	v, ok := n.Get()
	if !ok {
		return Num{}
	}
	return NumOf(float64(v))
}
