package live

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vigil/fleet"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A model is the view written down in the plainest way: the newest snapshot of each
// server, and which streams it once had.
type model struct {
	newest map[string]fleet.Snapshot
	agent  map[string]string
	heard  map[string]time.Time
	rows   map[fleet.StreamKey]StreamRow
}

func newModel() *model {
	return &model{map[string]fleet.Snapshot{}, map[string]string{}, map[string]time.Time{}, map[fleet.StreamKey]StreamRow{}}
}

func (m *model) apply(agent string, received time.Time, s fleet.Snapshot) {
	key := s.Server.Key
	if old, there := m.newest[key]; there && s.AtMs < old.AtMs {
		return
	}
	m.newest[key], m.agent[key], m.heard[key] = s, agent, received
	if !s.Status.HasNumbers() {
		return
	}
	now := map[fleet.StreamKey]bool{}
	for _, x := range s.Streams {
		now[x.Key] = true
		m.rows[x.Key] = StreamRow{
			Key: x.Key, State: x.State, AtMs: s.AtMs, OnlineSinceMs: x.OnlineSinceMs, Tech: x.Tech, Viewers: x.Viewers,
			InBps: rate(x.BytesIn, s.IntervalMs), OutBps: rate(x.BytesOut, s.IntervalMs), Media: x.Media, PublisherIP: x.PublisherIP, Flags: x.Flags,
		}
	}
	for k, row := range m.rows {
		if k.Server != key || now[k] || row.State == fleet.StateOffline {
			continue
		}
		row.Viewers, row.InBps, row.OutBps = fleet.Int{}, fleet.Int{}, fleet.Int{}
		if s.Status == fleet.StatusPartial {
			row.State = fleet.StateHidden
		} else {
			row.State, row.AtMs = fleet.StateOffline, s.AtMs
		}
		m.rows[k] = row
	}
}

func (m *model) silent(server string, now time.Time) bool {
	return now.Sub(m.heard[server]) > 30*time.Second
}

func (m *model) streams(now time.Time, q StreamQuery) StreamPage {
	page := StreamPage{Total: int64(len(m.rows)), Rows: []StreamRow{}}
	for _, s := range m.newest {
		page.AsOfMs = max(page.AsOfMs, s.AtMs)
	}
	var all []StreamRow
	for k, row := range m.rows {
		row.Silent = m.silent(k.Server, now)
		switch q.State {
		case "":
			if row.State == fleet.StateOffline {
				continue
			}
		case "silent":
			if row.State == fleet.StateOffline || !row.Silent {
				continue
			}
		default:
			if row.State.String() != q.State {
				continue
			}
		}
		if q.Server != "" && q.Server != k.Server {
			continue
		}
		matches := true
		for _, word := range strings.Fields(strings.ToLower(q.Search)) {
			if !strings.Contains(strings.ToLower(k.Server), word) && !strings.Contains(strings.ToLower(k.App), word) && !strings.Contains(strings.ToLower(k.Name), word) {
				matches = false
			}
		}
		if matches {
			all = append(all, row)
		}
	}
	byName := func(a, b StreamRow) int {
		return cmp.Or(strings.Compare(a.Key.Name, b.Key.Name), strings.Compare(a.Key.Server, b.Key.Server), strings.Compare(a.Key.App, b.Key.App))
	}
	value := func(r StreamRow) fleet.Int {
		return map[string]fleet.Int{"": r.Viewers, "viewers": r.Viewers, "in_bps": r.InBps, "out_bps": r.OutBps, "since": r.OnlineSinceMs}[q.Sort]
	}
	slices.SortFunc(all, func(a, b StreamRow) int {
		sign := -1
		if q.Ascending {
			sign = 1
		}
		switch q.Sort {
		case "name":
			return sign * byName(a, b)
		case "server":
			return sign * cmp.Or(strings.Compare(a.Key.Server, b.Key.Server), byName(a, b))
		}
		x, y := value(a), value(b)
		switch {
		case x.Known() != y.Known():
			if x.Known() {
				return -1
			}
			return 1
		case x != y:
			return sign * cmp.Compare(x.Or(0), y.Or(0))
		}
		return byName(a, b)
	})
	page.Matched = int64(len(all))
	page.Rows = append(page.Rows, all[min(q.Offset, len(all)):min(q.Offset+q.Limit, len(all))]...)
	return page
}

func (m *model) totals(now time.Time) Totals {
	var t Totals
	for key, s := range m.newest {
		t.Servers++
		t.AsOfMs = max(t.AsOfMs, s.AtMs)
		switch {
		case m.silent(key, now):
			t.ServersSilent++
			continue
		case !s.Status.HasNumbers():
			t.ServersFailed++
			continue
		}
		t.ServersOK++
		if t.OldestMs == 0 || s.AtMs < t.OldestMs {
			t.OldestMs = s.AtMs
		}
		viewers := s.Server.ViewersNow
		var sum fleet.Int
		for _, x := range s.Streams {
			sum = sum.Plus(x.Viewers)
			switch x.State {
			case fleet.StateIdle:
				t.StreamsIdle++
				t.Streams++
			case fleet.StateOnline:
				t.Streams++
			}
		}
		if !viewers.Known() {
			viewers = sum
		}
		t.Viewers = t.Viewers.Plus(viewers)
		t.Publishers = t.Publishers.Plus(s.Server.PublishersNow)
		t.InBps, t.OutBps = t.InBps.Plus(rate(s.Totals.BytesIn, s.CoveredMs)), t.OutBps.Plus(rate(s.Totals.BytesOut, s.CoveredMs))
	}
	return t
}

func drawInt(t *rapid.T, name string, most int64) fleet.Int {
	n := rapid.Int64Range(-1, most).Draw(t, name)
	if n < 0 {
		return fleet.Int{}
	}
	return fleet.Of(n)
}

func drawSnapshot(t *rapid.T) fleet.Snapshot {
	server := rapid.SampledFrom([]string{"Edge-1", "edge-2", "origin"}).Draw(t, "server")
	s := fleet.Snapshot{
		AtMs:       start.UnixMilli() + rapid.Int64Range(0, 12).Draw(t, "at")*10_000,
		IntervalMs: 10_000, CoveredMs: 10_000,
		Status: rapid.SampledFrom([]fleet.PollStatus{fleet.StatusOK, fleet.StatusOK, fleet.StatusPartial, fleet.StatusUnreachable}).Draw(t, "status"),
	}
	s.Server.Key, s.Server.ViewersNow, s.Server.PublishersNow = server, drawInt(t, "viewers", 9), drawInt(t, "publishers", 9)
	s.Totals.BytesIn, s.Totals.BytesOut = drawInt(t, "in", 1e9), drawInt(t, "out", 1e9)
	if !s.Status.HasNumbers() {
		return s
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "streams") {
		if rapid.Bool().Draw(t, "absent") {
			continue
		}
		x := fleet.StreamSample{}
		x.Key = fleet.StreamKey{Server: server, App: []string{"live", "VOD", ""}[i%3], Name: fmt.Sprintf("Stream-%d", i)}
		if i == 4 {
			x.Key.Instance, x.Key.VHost = "x", "v"
		}
		x.State = rapid.SampledFrom([]fleet.StreamState{fleet.StateOnline, fleet.StateIdle, fleet.StateOffline}).Draw(t, "state")
		x.Viewers, x.OnlineSinceMs = drawInt(t, "viewers", 3), drawInt(t, "since", 3)
		x.BytesIn, x.BytesOut = drawInt(t, "in", 2e6), drawInt(t, "out", 2e6)
		x.Media.VideoCodec = rapid.SampledFrom([]string{"", "H264", "H265"}).Draw(t, "codec")
		s.Streams = append(s.Streams, x)
	}
	return s
}

func TestViewEqualsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v, m := New(), newModel()
		now := start.Add(2 * time.Minute) // after all snapshots: none is from the future
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "pass")) * time.Second)
			s := drawSnapshot(t)
			v.Apply("agent", now, &s)
			m.apply("agent", now, s)
			q := StreamQuery{
				Search: rapid.SampledFrom([]string{"", "edge", "STREAM-1", "vod 2", "live edge-2", "nothing"}).Draw(t, "search"),
				Server: rapid.SampledFrom([]string{"", "edge-2"}).Draw(t, "only"),
				State:  rapid.SampledFrom(states[:]).Draw(t, "state"), Sort: rapid.SampledFrom(append(sorts[:], "")).Draw(t, "sort"),
				Ascending: rapid.Bool().Draw(t, "ascending"), Offset: rapid.IntRange(0, 4).Draw(t, "offset"), Limit: rapid.IntRange(1, 20).Draw(t, "limit"),
			}
			got, err := v.Streams(now, q)
			if err != nil {
				t.Fatal(err)
			}
			ints := gocmp.AllowUnexported(fleet.Int{})
			if diff := gocmp.Diff(m.streams(now, q), got, ints); diff != "" {
				t.Fatalf("streams %+v (-want +got):\n%s", q, diff)
			}
			if diff := gocmp.Diff(m.totals(now), v.Totals(now), ints); diff != "" {
				t.Fatalf("totals (-want +got):\n%s", diff)
			}
			if rows := v.Servers(now); len(rows) != len(m.newest) || !slices.IsSortedFunc(rows, func(a, b ServerRow) int { return cmp.Compare(a.Key, b.Key) }) {
				t.Fatalf("servers %v", rows)
			}
		}
	})
}

func TestOlderNeverReplacesNewer(t *testing.T) {
	t.Parallel()
	v := New()
	s := fleet.Snapshot{AtMs: 1_000_000, IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK}
	s.Server.Key, s.Server.ViewersNow = "a", fleet.Of(7)
	v.Apply("x", start, &s)
	old := s
	old.AtMs, old.Server.ViewersNow = s.AtMs-1, fleet.Of(1)
	version := v.Version()
	v.Apply("x", start.Add(time.Minute), &old)
	row, _ := v.Server(start, "a")
	if row.Viewers != fleet.Of(7) || v.Version() != version {
		t.Fatalf("viewers %v, version %d after an older snapshot; want 7 and %d", row.Viewers, v.Version(), version)
	}
	if row, _ := v.Server(start.Add(31*time.Second), "a"); !row.Silent {
		t.Error("a server is not silent after three intervals")
	}
}

func TestEndedStreamsAreForgotten(t *testing.T) {
	t.Parallel()
	v := New()
	s := fleet.Snapshot{AtMs: start.UnixMilli(), IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK}
	s.Server.Key = "a"
	x := fleet.StreamSample{}
	x.Key, x.State = fleet.StreamKey{Server: "a", Name: "one"}, fleet.StateOnline
	s.Streams = []fleet.StreamSample{x}
	v.Apply("x", start, &s)
	s.Streams = nil
	for _, after := range []time.Duration{10 * time.Second, 23 * time.Hour, 25 * time.Hour, 25*time.Hour + time.Minute} {
		s.AtMs = start.Add(after).UnixMilli()
		v.Apply("x", start.Add(after), &s)
		row, found := v.Stream(start.Add(after), x.Key)
		if want := after < offlineFor; found != want || (found && row.State != fleet.StateOffline) {
			t.Errorf("after %v: found %v, state %v", after, found, row.State)
		}
	}
	if page, err := v.Streams(start.Add(26*time.Hour), StreamQuery{Limit: 10, State: "offline"}); err != nil || page.Total != 0 || page.Matched != 0 {
		t.Errorf("page %+v, %v", page, err)
	}
}

func TestChangedIsClosedAtTheNextChange(t *testing.T) {
	t.Parallel()
	v := New()
	changed := v.Changed()
	select {
	case <-changed:
		t.Fatal("changed before anything happened")
	default:
	}
	s := fleet.Snapshot{AtMs: 1, Status: fleet.StatusOK}
	s.Server.Key = "a"
	v.Apply("x", start, &s)
	<-changed
}

func TestImpossibleQueries(t *testing.T) {
	t.Parallel()
	v := New()
	for _, q := range []StreamQuery{{}, {Limit: 1001}, {Limit: 1, Offset: -1}, {Limit: 1, Sort: "age"}, {Limit: 1, State: "gone"}, {Limit: 1, Search: strings.Repeat("x", 300)}} {
		if _, err := v.Streams(start, q); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// bigFleet returns one snapshot per server.
func bigFleet(servers, streams int) []*fleet.Snapshot {
	list := make([]*fleet.Snapshot, servers)
	for i := range list {
		s := &fleet.Snapshot{AtMs: start.UnixMilli(), IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK, Streams: make([]fleet.StreamSample, streams)}
		s.Server.Key, s.Server.ViewersNow = fmt.Sprintf("edge-%03d.example.net", i), fleet.Of(100)
		for j := range s.Streams {
			x := &s.Streams[j]
			x.Key = fleet.StreamKey{Server: s.Server.Key, App: "live", Name: fmt.Sprintf("channel-%05d", (j*7919+i)%(streams*servers))}
			x.State, x.Tech, x.Viewers, x.BytesIn, x.BytesOut = fleet.StateOnline, fleet.TechRTMP, fleet.Of(int64(j*31%977)), fleet.Of(int64(1e6+j)), fleet.Of(int64(2e6+j*i))
			x.OnlineSinceMs, x.PublisherIP = fleet.Of(start.UnixMilli()-int64(j)), "192.0.2.77"
			x.Media = fleet.Media{VideoCodec: "H264", WidthPx: fleet.Of(int64(640 + j%4*320)), HeightPx: fleet.Of(720), AudioCodec: "AAC"}
		}
		list[i] = s
	}
	return list
}

func BenchmarkApply300k(b *testing.B) {
	snapshots := bigFleet(500, 600)
	v := New()
	for _, s := range snapshots {
		v.Apply("agent", start, s)
	}
	i := 0
	for b.Loop() {
		s := snapshots[i%len(snapshots)]
		s.AtMs++
		v.Apply("agent", start, s)
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/600, "ns/stream")
}

func BenchmarkMemory300k(b *testing.B) {
	for b.Loop() {
		snapshots := bigFleet(500, 600)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		v := New()
		for _, s := range snapshots {
			v.Apply("agent", start, s)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(snapshots)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/300_000, "B/stream")
		runtime.KeepAlive(v)
	}
}

func BenchmarkStreams300k(b *testing.B) {
	snapshots := bigFleet(500, 600)
	v := New()
	for _, s := range snapshots {
		v.Apply("agent", start, s)
	}
	for name, q := range map[string]StreamQuery{
		"default":          {Limit: 100},
		"search":           {Limit: 100, Search: "channel-0123"},
		"search_three_out": {Limit: 100, Search: "edge-04 live 77", Sort: "out_bps"},
		"by_name":          {Limit: 100, Sort: "name", Ascending: true},
		"far_down":         {Limit: 100, Sort: "server", Offset: 250_000},
		"one_server":       {Limit: 1000, Server: "edge-123.example.net"},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			now := start
			for b.Loop() {
				// Every question finds a changed view and an order over a second old: the worst case.
				s := snapshots[len(took)%len(snapshots)]
				s.AtMs++
				v.Apply("agent", start, s)
				now = now.Add(2 * time.Second)
				began := time.Now()
				if _, err := v.Streams(now, q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
