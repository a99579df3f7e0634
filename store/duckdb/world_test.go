package duckdb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/store"
)

// A world makes packets of a fleet and remembers everything it made.
type world struct {
	rng      *rand.Rand
	servers  int
	streams  int // per server
	start    time.Time
	interval time.Duration
	seq      map[string]uint64
	position map[string]uint64
	ledger   map[store.AgentEpoch]*fleet.Ledger
	packets  []*fleet.Packet
	received []time.Time
}

const worldEpoch = 0xfeedfacecafebeef

func newWorld(seed uint64, servers, streams int) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 1)), servers: servers, streams: streams,
		start: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), interval: 10 * time.Second,
		seq: map[string]uint64{}, position: map[string]uint64{}, ledger: map[store.AgentEpoch]*fleet.Ledger{},
	}
}

func serverName(i int) string { return fmt.Sprintf("edge-%03d.example.net", i) }

func streamKey(server, i int) fleet.StreamKey {
	return fleet.StreamKey{Server: serverName(server), App: "live", Name: fmt.Sprintf("channel-%04d", i)}
}

// packet makes the packet of one server whose interval ends at the given time.
func (w *world) packet(server int, at time.Time, interval time.Duration) *fleet.Packet {
	agent := "agent-" + serverName(server)
	w.seq[agent]++
	p := &fleet.Packet{ID: fleet.PacketID{Agent: agent, Epoch: worldEpoch, Seq: w.seq[agent]}, FirstSeq: w.seq[agent], Boot: 7}
	s := fleet.Snapshot{
		Server: fleet.ServerInfo{Key: serverName(server), Product: "nginx-rtmp", Version: "1.2.2", Verified: "real", ViewersNow: fleet.Of(0), ConnsNow: fleet.Of(12)},
		AtMs:   at.UnixMilli(), IntervalMs: interval.Milliseconds(), CoveredMs: interval.Milliseconds(), Status: fleet.StatusOK, LatencyMs: 3,
	}
	var viewers, in, out int64
	for i := range w.streams {
		bps := int64(500_000 + (i*7919+server*104729)%4_000_000)
		sample := fleet.StreamSample{StreamInfo: fleet.StreamInfo{
			Key: streamKey(server, i), State: fleet.StateOnline, Tech: fleet.Tech(1 + i%3),
			Viewers: fleet.Of(int64(i%50) + w.rng.Int64N(3)), Publishers: fleet.Of(1), PublisherIP: "192.0.2.7",
			OnlineSinceMs: fleet.Of(w.start.UnixMilli()), Media: fleet.Media{VideoCodec: "H264", WidthPx: fleet.Of(1280), HeightPx: fleet.Of(720)},
		}}
		v := sample.Viewers.Or(0)
		bytesIn := bps*interval.Milliseconds()/8000 + w.rng.Int64N(20_000)
		sample.BytesIn, sample.BytesOut, sample.FramesDropped = fleet.Of(bytesIn), fleet.Of(bytesIn*v+w.rng.Int64N(3000)), fleet.Of(0)
		if i%17 == 5 && v >= 2 {
			sample.Tech = fleet.TechMixed
			sample.ByTech = []fleet.TechViewers{{Tech: fleet.TechHLS, Viewers: v - 1}, {Tech: fleet.TechRTMP, Viewers: 1}}
		}
		if i%23 == 4 {
			sample.BytesOut = fleet.Int{}
		}
		viewers += v
		in += bytesIn
		out += sample.BytesOut.Or(0)
		s.Streams = append(s.Streams, sample)
	}
	s.Server.ViewersNow, s.Server.StreamsNow = fleet.Of(viewers), fleet.Of(int64(w.streams))
	s.Totals.BytesIn, s.Totals.BytesOut = fleet.Of(in+1000), fleet.Of(out+2000)
	p.Snapshots = []fleet.Snapshot{s}
	return p
}

// batch makes a batch of packets and brings positions and ledger forward.
func (w *world) batch(tb testing.TB, packets ...*fleet.Packet) *store.Batch {
	tb.Helper()
	b := &store.Batch{Packets: packets, Ledger: map[store.AgentEpoch]*fleet.Ledger{}}
	for _, p := range packets {
		key := store.AgentEpoch{Agent: p.ID.Agent, Epoch: p.ID.Epoch}
		set := w.ledger[key]
		if set == nil {
			set = &fleet.Ledger{}
			w.ledger[key] = set
		}
		if added, err := set.Count(fleet.SeqRange{First: p.FirstSeq, Last: p.ID.Seq}); err != nil || !added {
			tb.Fatalf("packet %v: added %v, %v", p.ID, added, err)
		}
		b.Ledger[key] = set.Clone()
		at := w.start
		for _, s := range p.Snapshots {
			at = time.UnixMilli(s.AtMs)
		}
		b.Received = append(b.Received, at.Add(200*time.Millisecond))
		w.packets = append(w.packets, p)
	}
	w.received = append(w.received, b.Received...)
	w.position["shard-0"] += 3
	b.Positions = []store.Position{{Shard: "shard-0", Seq: w.position["shard-0"]}}
	return b
}

// round makes one packet per server for the n-th interval.
func (w *world) round(tb testing.TB, n int) *store.Batch {
	var packets []*fleet.Packet
	for server := range w.servers {
		at := w.start.Add(time.Duration(n+1)*w.interval + time.Duration(server*37%1000)*time.Millisecond)
		packets = append(packets, w.packet(server, at, w.interval))
	}
	return w.batch(tb, packets...)
}

func (w *world) end() time.Time {
	end := w.start
	for _, p := range w.packets {
		for _, s := range p.Snapshots {
			if at := time.UnixMilli(s.AtMs).UTC(); at.After(end) {
				end = at
			}
		}
	}
	return end
}

// clock is a settable time.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func openTest(tb testing.TB, dir string, c *clock) *DB {
	tb.Helper()
	db, err := Open(context.Background(), Options{Dir: dir, Config: config.Storage{SealEvery: time.Minute, MemoryBytes: 2 << 30}, Now: c.now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

func must[T any](tb testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
