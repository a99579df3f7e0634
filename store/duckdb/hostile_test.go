package duckdb

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// hostileNames are names that mean something to SQL, to files, to pages and to terminals.
var hostileNames = [...]string{
	`'; DROP TABLE stream_dim; --`, `" OR 1=1`, "../../../etc/passwd", "\x00", "a\x00b", "%", "_", `\`, "$1", "{{.}}", "<script>alert(1)</script>",
	"\u202egnp.exe", strings.Repeat("x", 4096), "\x1b[2J", "ts_ms", "NULL", "",
}

// lies is a packet in which every number is as large as the wire allows.
func lies(seq uint64, at time.Time) *fleet.Packet {
	huge := fleet.Of(1 << 53)
	p := &fleet.Packet{ID: fleet.PacketID{Agent: "liar", Epoch: 1, Seq: seq}, FirstSeq: seq}
	for i, name := range hostileNames {
		if name == "" {
			continue
		}
		key := fleet.StreamKey{Server: name, VHost: name, App: name, Instance: name, Name: name}
		s := fleet.Snapshot{
			Server: fleet.ServerInfo{
				Key: name, Product: name, Version: name, Collector: name, Verified: name, BootID: name, StartedMs: huge, Workers: huge,
				ConnLimit: huge, ConnsNow: huge, StreamsNow: huge, PublishersNow: huge, ViewersNow: huge, CPUMilliPct: huge, MemRSSBytes: huge,
			},
			Totals: fleet.Totals{BytesIn: huge, BytesOut: huge, ConnsAccepted: huge, ConnsRejected: huge},
			AtMs:   at.UnixMilli(), IntervalMs: 1 << 53, CoveredMs: 1 << 53, ViewerMs: huge, ViewersMax: huge, Status: fleet.PollStatus(i * 17),
			Detail: name, LatencyMs: 1 << 53, UnknownFields: 1 << 53, Flags: 0xffff,
		}
		for _, tech := range []fleet.Tech{0, fleet.TechMixed, 255} {
			k := key
			k.Name += fmt.Sprint(tech)
			s.Streams = append(s.Streams, fleet.StreamSample{
				StreamInfo: fleet.StreamInfo{
					Key: k, Incarnation: name, State: 255, OnlineSinceMs: huge, Tech: tech, Viewers: huge, Publishers: huge, PublisherIP: name,
					ByTech: []fleet.TechViewers{{Tech: 1, Viewers: 1 << 53}, {Tech: 1, Viewers: 1 << 53}, {Tech: 255, Viewers: 1}},
					Media:  fleet.Media{VideoCodec: name, WidthPx: huge, HeightPx: huge, FpsMilli: huge, DeclaredBps: huge},
				},
				CoveredMs: huge, ViewerMs: huge, ViewersMax: huge, BytesIn: huge, BytesOut: huge, FramesDropped: huge, Flags: 0xffff,
			})
		}
		s.Events = []fleet.StreamEvent{{Key: key, AtMs: 253402300799999, State: 255, Reason: name}, {Key: key, State: 0}}
		s.Sessions = []fleet.Session{{
			ID: name, Key: key, Role: 255, Tech: 255, RemoteIP: name, UserAgent: name, StartedMs: 253402300799999, LastSeenMs: 0,
			EndedMs: huge, EndReason: name, BytesIn: huge, BytesOut: huge, Method: name,
		}}
		p.Snapshots = append(p.Snapshots, s)
	}
	return p
}

// askEverything asks every question about a window, of the fleet and of one stream.
func askEverything(t *testing.T, db *DB, w store.Window, key fleet.StreamKey) {
	t.Helper()
	ctx := context.Background()
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s of %.40q: %v", what, key.Name, err)
		}
	}
	for _, step := range []time.Duration{10 * time.Second, time.Minute, 15 * time.Minute, time.Hour, 24 * time.Hour} {
		span := w
		if most := 10_000 * step; span.To.Sub(span.From) > most {
			span.From = span.To.Add(-most)
		}
		_, err := db.FleetSeries(ctx, span, step)
		ok("fleet series", err)
		_, err = db.ServerSeries(ctx, key.Server, span, step)
		ok("server series", err)
		_, _, err = db.StreamSeries(ctx, key, span, step)
		ok("stream series", err)
	}
	_, err := db.StreamEvents(ctx, key, w, 100)
	ok("events", err)
	_, err = db.Sessions(ctx, key, w, 100)
	ok("sessions", err)
	_, err = db.ServerTraffic(ctx, w)
	ok("server traffic", err)
	_, err = db.StreamTraffic(ctx, w)
	ok("stream traffic", err)
	_, err = db.PacketRows(ctx, w)
	ok("packets", err)
	_, err = db.Gaps(ctx, w)
	ok("gaps", err)
	_, err = db.Recent(ctx, w.From)
	ok("recent", err)
	_, err = db.Stats(ctx)
	ok("stats", err)
}

// Whatever a packet says, the store goes on through all its steps, answers every
// question, and counts the honest exactly.
func TestLyingPacketsStopNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(3, 2, 3)
	c := &clock{t: w.start}
	db := openTest(t, t.TempDir(), c)
	for i := range 2 {
		b := w.round(t, 1)
		p := lies(uint64(i+1), c.t)
		b.Packets, b.Received = append(b.Packets, p), append(b.Received, c.t)
		if err := db.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(17 * time.Minute)
		if err := db.Maintain(t.Context(), c.t); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // hours and days are merged and rolled up
		c.t = c.t.Add(25 * time.Hour)
		if err := db.Maintain(t.Context(), c.t); err != nil {
			t.Fatal(err)
		}
	}
	window := store.Window{From: w.start.Add(-24 * time.Hour).Truncate(24 * time.Hour), To: c.t.Truncate(24 * time.Hour)}
	for _, name := range hostileNames[:4] {
		askEverything(t, db, window, fleet.StreamKey{Server: name, VHost: name, App: name, Instance: name, Name: name + "0"})
	}
	want := store.Traffic{}
	for _, p := range w.packets {
		for _, s := range p.Snapshots {
			if s.Server.Key == serverName(0) {
				add(&want, s.CoveredMs, fleet.Int{}, s.Totals.BytesIn, s.Totals.BytesOut)
			}
		}
	}
	traffic := must[map[string]store.Traffic](t)(db.ServerTraffic(t.Context(), window))
	got := traffic[serverName(0)]
	if got.BytesIn != want.BytesIn || got.BytesOut != want.BytesOut || got.CoveredMs != want.CoveredMs {
		t.Errorf("an honest server beside the liar: %+v, want %+v", got, want)
	}
	for _, name := range hostileNames {
		if name == "" {
			continue
		}
		if _, there := traffic[name]; !there {
			t.Errorf("server %.20q is not in the traffic", name)
		}
	}
	if bad := must[[]error](t)(db.Check(t.Context())); len(bad) > 0 {
		t.Error(bad)
	}
}

// So many bytes that their sum does not fit into 64 bits are unknown, not an error and
// not a negative number.
func TestSumsBeyond64BitsAreUnknown(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	db := openTest(t, t.TempDir(), c)
	for round := range 74 { // 66,600 times 2^47 bytes
		p := &fleet.Packet{ID: fleet.PacketID{Agent: "liar", Epoch: 1, Seq: uint64(round + 1)}, FirstSeq: uint64(round + 1)}
		for i := range 900 {
			p.Snapshots = append(p.Snapshots, fleet.Snapshot{
				Server: fleet.ServerInfo{Key: fmt.Sprint("s", i), ViewersNow: fleet.Of(maxCount)}, AtMs: c.t.UnixMilli(), IntervalMs: 10_000, CoveredMs: 10_000,
				ViewerMs: fleet.Of(maxViewerMs), Totals: fleet.Totals{BytesIn: fleet.Of(maxBytes), BytesOut: fleet.Of(maxBytes)}, Status: fleet.StatusOK,
			})
		}
		if err := db.Apply(t.Context(), &store.Batch{Packets: []*fleet.Packet{p}, Received: []time.Time{c.t}, Ledger: map[store.AgentEpoch]*fleet.Ledger{}}); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(10 * time.Second)
	}
	window := store.Window{From: c.t.Truncate(24 * time.Hour), To: c.t.Truncate(24 * time.Hour).Add(24 * time.Hour)}
	for _, after := range []time.Duration{0, 2 * time.Hour, 26 * time.Hour} {
		c.t = c.t.Add(after)
		if err := db.Maintain(t.Context(), c.t); err != nil {
			t.Fatal(err)
		}
		for _, step := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
			series, err := db.FleetSeries(t.Context(), window, step)
			if err != nil {
				t.Fatalf("after %v: %v", after, err)
			}
			for _, p := range series.Points {
				if v, known := p.BytesIn.Get(); known && (v < 0 || step == 24*time.Hour && p.CoveredMs > 0) {
					t.Errorf("step %v: %d bytes of a sum that does not fit", step, v)
				}
			}
		}
		askEverything(t, db, window, fleet.StreamKey{Server: "s1"})
	}
}

// A small packet may say that two hundred thousand streams cover a day, and one that it
// is of a thousand servers nobody knows. Neither may keep the store busy for long.
func TestSmallPacketsMakeBoundedWork(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	db := openTest(t, t.TempDir(), c)
	wide := &fleet.Packet{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: 1}, FirstSeq: 1}
	for i := range 4 {
		s := fleet.Snapshot{Server: fleet.ServerInfo{Key: fmt.Sprint("s", i)}, AtMs: c.t.UnixMilli(), IntervalMs: dayMs, CoveredMs: dayMs, Status: fleet.StatusOK}
		for j := range 10_000 {
			s.Streams = append(s.Streams, fleet.StreamSample{
				StreamInfo: fleet.StreamInfo{Key: fleet.StreamKey{Server: s.Server.Key, Name: fmt.Sprint(j)}, Viewers: fleet.Of(1)}, BytesOut: fleet.Of(1000),
			})
		}
		wide.Snapshots = append(wide.Snapshots, s)
	}
	before := db.hotRows[db.generation].Load()
	if err := db.Apply(t.Context(), &store.Batch{Packets: []*fleet.Packet{wide}, Received: []time.Time{c.t}}); err != nil {
		t.Fatal(err)
	}
	if rows := db.hotRows[db.generation].Load() - before; rows > maxCutRows {
		t.Errorf("%d rows of one packet with 40,000 samples, at most %d", rows, maxCutRows)
	}
	traffic := must[map[string]store.Traffic](t)(db.StreamTraffic(t.Context(), store.Window{From: c.t.Add(-25 * time.Hour).Truncate(time.Hour), To: c.t.Add(time.Hour)}))
	for i := range 4 {
		if got := traffic[fmt.Sprint("s", i)]; got.BytesOut != fleet.Of(10_000_000) || got.CoveredMs != 10_000*dayMs {
			t.Errorf("server %d: %+v", i, got)
		}
	}
}

func TestManyNewServersInOneBatch(t *testing.T) {
	t.Parallel()
	b := &store.Batch{}
	for i := range 100 {
		p := &fleet.Packet{}
		for j := range 1000 {
			p.Snapshots = append(p.Snapshots, fleet.Snapshot{Server: fleet.ServerInfo{Key: fmt.Sprint(j)}, AtMs: int64(1_000_000 + i), IntervalMs: 10})
		}
		b.Packets = append(b.Packets, p)
	}
	first := firstHeard(b)
	if len(first) != 1000 || first["0"] != 1_000_000-10 {
		t.Errorf("%d servers, the first was heard from at %d", len(first), first["0"])
	}
}
