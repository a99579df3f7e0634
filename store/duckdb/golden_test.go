package duckdb

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// TestGolden runs testdata/day.txt: lines that load packets, and questions with the answers
// that somebody worked out by hand. Every question is asked of hot rows, of sealed files, and
// of merged ones.
func TestGolden(t *testing.T) {
	t.Parallel()
	g := &golden{t: t, day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), seq: map[string]uint64{}}
	g.clock.t = g.day.Add(11 * time.Hour)
	g.db = openTest(t, t.TempDir(), &g.clock)
	g.run("testdata/day.txt", true)
	for _, at := range []time.Duration{11 * time.Hour, 12 * time.Hour, 13 * time.Hour, 25 * time.Hour, 26 * time.Hour} {
		g.clock.t = g.day.Add(at)
		if err := g.db.Maintain(context.Background(), g.clock.t); err != nil {
			t.Fatal(err)
		}
		g.run("testdata/day.txt", false)
	}
}

type golden struct {
	t     *testing.T
	day   time.Time
	clock clock
	db    *DB
	seq   map[string]uint64
}

func (g *golden) run(name string, load bool) {
	g.t.Helper()
	f, err := os.Open(name)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	var question string
	var want []string
	ask := func() {
		g.t.Helper()
		if question == "" {
			return
		}
		if got := g.eval(strings.Fields(question)[1:]); !slices.Equal(got, want) {
			g.t.Errorf("%s\ngot:\n%s\nwant:\n%s", question, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		question, want = "", nil
	}
	for scan := bufio.NewScanner(f); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "load "):
			if load {
				g.load(strings.Fields(line)[1:])
			}
		case strings.HasPrefix(line, "eval "):
			ask()
			question = line
		default:
			want = append(want, line)
		}
	}
	ask()
}

func (g *golden) at(clock string) time.Time {
	g.t.Helper()
	if strings.Count(clock, ":") == 1 {
		clock += ":00"
	}
	c, err := time.Parse("15:04:05", clock)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.day.Add(c.Sub(c.Truncate(24 * time.Hour)))
}

func (g *golden) number(s string) fleet.Int {
	g.t.Helper()
	if s == "-" {
		return fleet.Int{}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return fleet.Of(n)
}

func named[T interface {
	~uint8
	fmt.Stringer
}](t *testing.T, name string) T {
	t.Helper()
	for v := range T(20) {
		if v.String() == name {
			return v
		}
	}
	t.Fatalf("nothing is called %q", name)
	return 0
}

func (g *golden) load(f []string) {
	g.t.Helper()
	interval, err := time.ParseDuration(f[2])
	if err != nil {
		g.t.Fatal(err)
	}
	s := fleet.Snapshot{AtMs: g.at(f[1]).UnixMilli(), IntervalMs: interval.Milliseconds(), Status: named[fleet.PollStatus](g.t, f[3])}
	if s.Status.HasNumbers() {
		s.CoveredMs = s.IntervalMs
	}
	s.Server.Key, s.Server.ViewersNow = f[0], g.number(f[4])
	s.Totals.BytesIn, s.Totals.BytesOut = g.number(f[5]), g.number(f[6])
	for _, text := range f[7:] {
		p := strings.Split(text, ":")
		x := fleet.StreamSample{BytesIn: g.number(p[4]), BytesOut: g.number(p[5])}
		x.Key = fleet.StreamKey{Server: f[0], Name: p[0]}
		x.Tech, x.State, x.Viewers = named[fleet.Tech](g.t, p[1]), named[fleet.StreamState](g.t, p[2]), g.number(p[3])
		s.Streams = append(s.Streams, x)
	}
	g.seq[f[0]]++
	seq := g.seq[f[0]]
	p := &fleet.Packet{ID: fleet.PacketID{Agent: f[0], Epoch: 1, Seq: seq}, FirstSeq: seq, Snapshots: []fleet.Snapshot{s}}
	if err := g.db.Apply(context.Background(), &store.Batch{Packets: []*fleet.Packet{p}, Received: []time.Time{g.at(f[1])}}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *golden) eval(f []string) []string {
	g.t.Helper()
	ctx := context.Background()
	var series store.Series
	var techs []store.TechSeries
	var err error
	n := len(f)
	switch f[0] {
	case "fleet", "level":
		series, err = g.db.FleetSeries(ctx, g.window(f[n-3], f[n-2]), g.step(f[n-1]))
	case "server":
		series, err = g.db.ServerSeries(ctx, f[1], g.window(f[n-3], f[n-2]), g.step(f[n-1]))
	case "stream":
		series, techs, err = g.db.StreamSeries(ctx, fleet.StreamKey{Server: f[1], Name: f[2]}, g.window(f[n-3], f[n-2]), g.step(f[n-1]))
	case "traffic":
		return g.traffic(f)
	default:
		g.t.Fatalf("no question is called %q", f[0])
	}
	if err != nil {
		g.t.Fatal(err)
	}
	layout := "15:04"
	if series.Step < time.Minute {
		layout = "15:04:05"
	}
	var out []string
	for _, p := range series.Points {
		line := fmt.Sprintf("%s %d %d %v %v %v %v", time.UnixMilli(p.AtMs).UTC().Format(layout), p.CoveredMs, p.ExpectedMs, p.ViewerMs, p.ViewersMax, p.BytesIn, p.BytesOut)
		switch f[0] {
		case "level":
			line = fmt.Sprintf("%s %v %v %v", time.UnixMilli(p.AtMs).UTC().Format(layout), p.Level.ViewersMilli, p.Level.InBps, p.Level.OutBps)
		case "stream":
			line += " " + p.State.String()
		}
		out = append(out, line)
	}
	for _, ts := range techs {
		line := "tech " + ts.Tech.String()
		for _, v := range ts.ViewerMs {
			line += " " + v.String()
		}
		out = append(out, line)
	}
	return out
}

func (g *golden) traffic(f []string) []string {
	g.t.Helper()
	ask := g.db.ServerTraffic
	if f[1] == "stream" {
		ask = g.db.StreamTraffic
	}
	sums, err := ask(context.Background(), g.window(f[2], f[3]))
	if err != nil {
		g.t.Fatal(err)
	}
	var out []string
	for server, t := range sums {
		out = append(out, fmt.Sprintf("%s %v %v", server, t.BytesIn, t.BytesOut))
	}
	slices.Sort(out)
	return out
}

func (g *golden) window(from, to string) store.Window {
	return store.Window{From: g.at(from), To: g.at(to)}
}

func (g *golden) step(s string) time.Duration {
	g.t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}
