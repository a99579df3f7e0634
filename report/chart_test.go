package report

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vigil/fleet"
	"vigil/store"
)

const minute = time.Minute

var start = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

func series(points ...store.Point) store.Series {
	for i := range points {
		points[i].AtMs = start.Add(time.Duration(i) * minute).UnixMilli()
	}
	return store.Series{
		Window: store.Window{From: start, To: start.Add(time.Duration(len(points)) * minute)},
		Step:   minute, Tier: "minute", Points: points,
	}
}

// bucket is a minute in which so many servers were known, watched for so many ms in
// all, with 10 viewers and 8 kbit/s out each.
func bucket(servers, coveredMs int64) store.Point {
	if coveredMs == 0 {
		return store.Point{ExpectedMs: servers * 60_000}
	}
	return store.Point{
		ExpectedMs: servers * 60_000, CoveredMs: coveredMs, ViewerMs: fleet.Of(10 * coveredMs),
		ViewersMax: fleet.Of(12), BytesOut: fleet.Of(coveredMs), // 1 byte per ms is 8 kbit/s
	}
}

func num(t *testing.T, what string, got Num, want float64) {
	t.Helper()
	if v, ok := got.Get(); !ok || v < want-1e-9 || v > want+1e-9 {
		t.Errorf("%s = %v (known %v), want %v", what, v, ok, want)
	}
}

func integer(t *testing.T, what string, got fleet.Int, want int64) {
	t.Helper()
	if got != fleet.Of(want) {
		t.Errorf("%s = %v, want %d", what, got, want)
	}
}

func TestOneServerIsAveragedOverTheTimeItWasWatched(t *testing.T) {
	t.Parallel()
	c := chartOf(ranges[0], series(bucket(1, 60_000), bucket(1, 20_000)), nil, nil, ofServer)
	num(t, "full bucket", c.Points[0].ViewersAvg, 10)
	num(t, "bucket watched for a third", c.Points[1].ViewersAvg, 10)
	integer(t, "its rate", c.Points[1].OutBps, 8000)
	integer(t, "its bytes are those counted", c.Points[1].OutBytes, 20_000)
	num(t, "completeness of the third", c.Points[1].CompletePct, 100.0/3)
	num(t, "completeness of both", c.Summary.CompletePct, 100*80.0/120)
	num(t, "average of both", c.Summary.ViewersAvg, 10)
	integer(t, "sum of bytes", c.Summary.OutBytes, 80_000)
}

func TestGapsAreUnknownAndNotZero(t *testing.T) {
	t.Parallel()
	c := chartOf(ranges[0], series(bucket(1, 60_000), bucket(1, 0), bucket(0, 0)), nil, nil, ofServer)
	gap, before := c.Points[1], c.Points[2]
	for name, known := range map[string]bool{
		"viewers": gap.ViewersAvg.Known(), "most": gap.ViewersMax.Known(), "in": gap.InBps.Known(), "out": gap.OutBps.Known(),
		"in bytes": gap.InBytes.Known(), "out bytes": gap.OutBytes.Known(),
	} {
		if known {
			t.Errorf("%s of a gap is known", name)
		}
	}
	num(t, "completeness of a gap", gap.CompletePct, 0)
	if before.CompletePct.Known() {
		t.Errorf("completeness when nobody was known = %v, want unknown", before.CompletePct)
	}
	if c.Summary.GapBuckets != 1 {
		t.Errorf("gap buckets = %d, want 1: a time before the first packet is no gap", c.Summary.GapBuckets)
	}
	num(t, "average leaves gaps out", c.Summary.ViewersAvg, 10)
	if c.Summary.InBytes.Known() || c.Summary.InPeakBps.Value.Known() || c.Summary.InPeakBps.AtMs != 0 {
		t.Errorf("a number that no bucket has became known: %+v", c.Summary)
	}
}

func TestAFleetCountsWhatReported(t *testing.T) {
	t.Parallel()
	seen := func(servers, coveredMs int64) store.Point {
		p := bucket(2, coveredMs)
		if servers > 0 {
			p.Level = store.Level{ViewersMilli: fleet.Of(servers * 10_000), OutBps: fleet.Of(servers * 8_000)}
		}
		return p
	}
	c := chartOf(ranges[0], series(
		seen(2, 120_000), // both
		seen(1, 60_000),  // one silent
		seen(2, 90_000),  // one watched for half the time
		seen(2, 140_000), // a poll that straddles the edge
		seen(2, 20_000),  // both, until a gap began
		seen(0, 0),
	), nil, nil, ofFleet)
	num(t, "both", c.Points[0].ViewersAvg, 20)
	num(t, "one silent: nothing is made up for it", c.Points[1].ViewersAvg, 10)
	num(t, "one and a half", c.Points[2].ViewersAvg, 20)
	num(t, "straddling is not more viewers", c.Points[3].ViewersAvg, 20)
	num(t, "nor more than complete", c.Points[3].CompletePct, 100)
	num(t, "a gap that begins is no drop", c.Points[4].ViewersAvg, 20)
	if v, known := c.Points[4].CompletePct.Get(); !known || v >= 50 {
		t.Errorf("the bucket that is cut short is %v %% complete", v)
	}
	if c.Points[5].ViewersAvg.Known() {
		t.Error("a gap has viewers")
	}
	integer(t, "rate of both", c.Points[0].OutBps, 16_000)
	integer(t, "rate of one", c.Points[1].OutBps, 8_000)
	num(t, "average over buckets", c.Summary.ViewersAvg, 18)
	integer(t, "bytes are those counted", c.Summary.OutBytes, 430_000)
}

func TestPeaks(t *testing.T) {
	t.Parallel()
	quiet, busy := bucket(1, 60_000), bucket(1, 60_000)
	busy.ViewerMs, busy.ViewersMax, busy.BytesOut = fleet.Of(25*60_000), fleet.Of(31), fleet.Of(120_000)
	c := chartOf(ranges[0], series(quiet, busy, quiet), nil, nil, ofServer)
	at := start.Add(minute).UnixMilli()
	if diff := cmp.Diff(Peak{Value: fleet.Of(31), AtMs: at, Of: "poll"}, c.Summary.ViewersPeak, cmp.AllowUnexported(fleet.Int{})); diff != "" {
		t.Errorf("peak of viewers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Peak{Value: fleet.Of(16_000), AtMs: at, Of: "bucket"}, c.Summary.OutPeakBps, cmp.AllowUnexported(fleet.Int{})); diff != "" {
		t.Errorf("peak of bandwidth (-want +got):\n%s", diff)
	}
	quiet.ViewersMax, busy.ViewersMax = fleet.Int{}, fleet.Int{}
	quiet.Level.ViewersMilli, busy.Level.ViewersMilli = fleet.Of(10_000), fleet.Of(25_000)
	c = chartOf(ranges[0], series(quiet, busy), nil, nil, ofFleet)
	if got := c.Summary.ViewersPeak; got.Of != "bucket" || got.Value != fleet.Of(25) {
		t.Errorf("peak without a maximum of polls = %+v, want the largest average", got)
	}
}

func TestTechnologiesAreAveragedAsTheirStream(t *testing.T) {
	t.Parallel()
	techs := []store.TechSeries{{Tech: fleet.TechHLS, ViewerMs: []fleet.Int{fleet.Of(240_000), {}}}}
	c := chartOf(ranges[0], series(bucket(1, 60_000), bucket(1, 0)), nil, techs, ofStream)
	if c.ByTech[0].Tech != "hls" || c.ByTech[0].ViewersAvg[1].Known() {
		t.Errorf("got %+v", c.ByTech)
	}
	num(t, "hls", c.ByTech[0].ViewersAvg[0], 4)
}

func TestAPollBehindTheEdgeOfABucketIsNotMissing(t *testing.T) {
	t.Parallel()
	c := chartOf(ranges[0], series(bucket(1, 60_000), bucket(1, 50_000), bucket(1, 70_000), bucket(1, 50_000), bucket(1, 0), bucket(1, 70_000)), nil, nil, ofServer)
	for i, want := range []float64{100, 100, 100, 100 * 50.0 / 60, 0, 100} {
		num(t, "completeness", c.Points[i].CompletePct, want)
	}
}

func TestAStreamThatIsOffAirIsNotMissing(t *testing.T) {
	t.Parallel()
	off := bucket(1, 0)
	off.State = fleet.StateOffline
	begins := bucket(1, 20_000)
	begins.State = fleet.StateOnline
	server := series(bucket(1, 60_000), bucket(1, 60_000), bucket(1, 30_000), bucket(1, 0)).Points
	c := chartOf(ranges[0], series(off, begins, begins, bucket(1, 0)), server, nil, ofStream)
	num(t, "off air, and watched", c.Points[0].CompletePct, 100)
	num(t, "on air from the middle, and watched", c.Points[1].CompletePct, 100)
	num(t, "watched for half the time", c.Points[2].CompletePct, 50)
	num(t, "not watched", c.Points[3].CompletePct, 0)
	num(t, "average while on air", c.Points[1].ViewersAvg, 10)
	if c.Summary.GapBuckets != 1 || c.Summary.CoveredMs != 40_000 || c.Points[0].State != "offline" || c.Points[0].ViewersAvg.Known() {
		t.Errorf("got %+v", c.Summary)
	}
	num(t, "complete", c.Summary.CompletePct, 100*150.0/240)
}

func TestRanges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 10, 0, 20, 0, time.UTC)
	for _, g := range Ranges() {
		for _, interval := range []time.Duration{0, time.Second, 10 * time.Second, 30 * time.Second, 5 * time.Minute} {
			step := g.stepFor(interval)
			w := g.window(now, step)
			if step < g.Step || step < min(intervalsPerBucket*interval, steps[len(steps)-1]) {
				t.Errorf("%s with polls every %s: step %s is too short", g.Name, interval, step)
			}
			if w.To.Sub(w.From) != g.Length || w.To.Truncate(step) != w.To || now.Sub(w.To) < settle || now.Sub(w.To) > step+settle {
				t.Errorf("%s with polls every %s: window %s to %s at %s", g.Name, interval, w.From, w.To, now)
			}
			if (24*time.Hour)%step != 0 {
				t.Errorf("%s: step %s does not divide a day", g.Name, step)
			}
			if n := g.Length / step; n > 400 {
				t.Errorf("%s: %d buckets", g.Name, n)
			}
		}
	}
	if _, err := RangeNamed("2h"); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("RangeNamed(2h): %v, want invalid", err)
	}
	if g, err := RangeNamed(""); err != nil || g.Name != DefaultRange {
		t.Errorf("RangeNamed(\"\") = %v, %v", g, err)
	}
}

func TestNumJSON(t *testing.T) {
	t.Parallel()
	f := func(n Num, want string) {
		t.Helper()
		got, err := n.MarshalJSON()
		if err != nil || string(got) != want {
			t.Errorf("MarshalJSON(%v) = %s, %v, want %s", n, got, err, want)
		}
	}
	f(Num{}, "null")
	f(NumOf(0), "0")
	f(NumOf(1.005), "1")
	f(NumOf(33.3333), "33.33")
	f(NumOf(1e15), "1000000000000000")
}
