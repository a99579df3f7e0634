package duckdb

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vigil/fleet"
	"vigil/store"
)

var compareInts = cmp.AllowUnexported(fleet.Int{})

// checkWorld compares every answer of the store with the packets that a world made. It
// is called at every step of a store's life: nothing may change what is counted.
func checkWorld(t *testing.T, db *DB, w *world) {
	t.Helper()
	ctx := context.Background()
	window := store.Window{From: w.start.Add(-time.Hour).Truncate(time.Hour), To: w.end().Add(time.Hour).Truncate(time.Hour)}

	rows := must[[]store.PacketRow](t)(db.PacketRows(ctx, store.Window{From: window.From.Add(-48 * time.Hour), To: window.To}))
	seen := map[fleet.PacketID]bool{}
	for _, r := range rows {
		if seen[r.ID] {
			t.Fatalf("packet %v is there twice, among %d rows for %d packets", r.ID, len(rows), len(w.packets))
		}
		seen[r.ID] = true
	}
	if len(rows) != len(w.packets) {
		t.Fatalf("%d packet rows, want %d", len(rows), len(w.packets))
	}

	servers, streams := map[string]store.Traffic{}, map[string]store.Traffic{}
	var fleetSum store.Traffic
	key := streamKey(0, 5)
	var one store.Traffic
	techs := map[fleet.Tech]int64{}
	for _, p := range w.packets {
		for _, s := range p.Snapshots {
			a, b := servers[s.Server.Key], streams[s.Server.Key]
			add(&a, s.CoveredMs, fleet.Of(s.Server.ViewersNow.Or(0)*s.IntervalMs), s.Totals.BytesIn, s.Totals.BytesOut)
			add(&fleetSum, s.CoveredMs, fleet.Of(s.Server.ViewersNow.Or(0)*s.IntervalMs), s.Totals.BytesIn, s.Totals.BytesOut)
			for _, x := range s.Streams {
				viewerMs := fleet.Of(x.Viewers.Or(0) * s.IntervalMs)
				add(&b, s.IntervalMs, viewerMs, x.BytesIn, x.BytesOut)
				if x.Key != key {
					continue
				}
				add(&one, s.IntervalMs, viewerMs, x.BytesIn, x.BytesOut)
				if x.Tech != fleet.TechMixed {
					techs[x.Tech] += viewerMs.Or(0)
				}
				for _, by := range x.ByTech {
					techs[by.Tech] += by.Viewers * s.IntervalMs
				}
			}
			servers[s.Server.Key], streams[s.Server.Key] = a, b
		}
	}
	if diff := cmp.Diff(servers, must[map[string]store.Traffic](t)(db.ServerTraffic(ctx, window)), compareInts); diff != "" {
		t.Fatalf("server traffic (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(streams, must[map[string]store.Traffic](t)(db.StreamTraffic(ctx, window)), compareInts); diff != "" {
		t.Fatalf("stream traffic (-want +got):\n%s", diff)
	}
	for _, step := range []time.Duration{10 * time.Second, time.Minute, 15 * time.Minute, time.Hour} {
		series := must[store.Series](t)(db.FleetSeries(ctx, window, step))
		if diff := cmp.Diff(fleetSum, sum(series), compareInts); diff != "" {
			t.Fatalf("fleet series, step %v, tier %s (-want +got):\n%s", step, series.Tier, diff)
		}
		stream, byTech, err := db.StreamSeries(ctx, key, window, step)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(one, sum(stream), compareInts); diff != "" {
			t.Fatalf("stream series, step %v, tier %s (-want +got):\n%s", step, stream.Tier, diff)
		}
		got := map[fleet.Tech]int64{}
		for _, ts := range byTech {
			for _, v := range ts.ViewerMs {
				got[ts.Tech] += v.Or(0)
			}
		}
		if diff := cmp.Diff(techs, got); diff != "" {
			t.Fatalf("technologies, step %v (-want +got):\n%s", step, diff)
		}
	}
	positions := map[string]uint64{}
	for _, p := range must[[]store.Position](t)(db.Positions(ctx)) {
		positions[p.Shard] = p.Seq
	}
	if diff := cmp.Diff(w.position, positions); diff != "" {
		t.Fatalf("positions (-want +got):\n%s", diff)
	}
	ledger := must[map[store.AgentEpoch]*fleet.Ledger](t)(db.Ledger(ctx))
	if diff := cmp.Diff(w.ledger, ledger, cmp.AllowUnexported(fleet.SeqSet{}, fleet.Ledger{})); diff != "" {
		t.Fatalf("ledger (-want +got):\n%s", diff)
	}
	if bad := must[[]error](t)(db.Check(ctx)); len(bad) > 0 {
		t.Fatal(bad)
	}
}

func add(t *store.Traffic, covered int64, viewerMs, in, out fleet.Int) {
	t.CoveredMs += covered
	t.ViewerMs = t.ViewerMs.Plus(viewerMs)
	t.BytesIn, t.BytesOut = t.BytesIn.Plus(in), t.BytesOut.Plus(out)
}

func sum(s store.Series) store.Traffic {
	var t store.Traffic
	for _, p := range s.Points {
		add(&t, p.CoveredMs, p.ViewerMs, p.BytesIn, p.BytesOut)
	}
	return t
}

func TestLifeOfRows(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(1, 3, 40)
	c := &clock{w.start}
	dir := t.TempDir()
	db := openTest(t, dir, c)
	for n := range 100 {
		if err := db.Apply(ctx, w.round(t, n)); err != nil {
			t.Fatal(err)
		}
		c.t = w.start.Add(time.Duration(n+1) * w.interval)
		if n%20 == 10 {
			if err := db.Maintain(ctx, c.t); err != nil {
				t.Fatal(err)
			}
		}
	}
	checkWorld(t, db, w)
	// A long interval that a full spool merged, and a late packet.
	long := w.packet(1, w.start.Add(40*time.Minute).Add(1234*time.Millisecond), 17*time.Minute)
	late := w.packet(2, w.start.Add(3*time.Minute).Add(7*time.Millisecond), 10*time.Second)
	if err := db.Apply(ctx, w.batch(t, long, late)); err != nil {
		t.Fatal(err)
	}
	checkWorld(t, db, w)
	for _, later := range []time.Duration{time.Hour, 2 * time.Hour, 25 * time.Hour, 26 * time.Hour, 40 * time.Hour} {
		c.t = w.start.Add(later)
		if err := db.Maintain(ctx, c.t); err != nil {
			t.Fatal(err)
		}
		checkWorld(t, db, w)
	}
	if err := db.Reopen(ctx); err != nil {
		t.Fatal(err)
	}
	checkWorld(t, db, w)
	// Raw rows go first; sums stay.
	c.t = w.start.Add(72 * time.Hour)
	if err := db.Maintain(ctx, c.t); err != nil {
		t.Fatal(err)
	}
	if s := must[store.Stats](t)(db.Stats(ctx)); s.RawRows != 0 {
		t.Errorf("%d raw rows are left after their retention", s.RawRows)
	}
}

// TestQuestionsWhileEverythingMoves asks while one goroutine applies and another seals and
// merges: sums may only grow, and a batch is seen whole or not at all.
func TestQuestionsWhileEverythingMoves(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	w := newWorld(8, 4, 25)
	db := openTest(t, t.TempDir(), &clock{w.start.Add(time.Hour)})
	const rounds = 60
	var batches []*store.Batch
	for n := range rounds {
		batches = append(batches, w.round(t, n))
	}
	errs := make(chan error, 8)
	go func() {
		defer cancel()
		for _, b := range batches {
			if err := db.Apply(context.Background(), b); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	go func() {
		now := w.start
		for ctx.Err() == nil {
			now = now.Add(min(7*time.Minute, w.start.Add(40*time.Hour).Sub(now))) // nothing expires
			if err := db.Maintain(context.Background(), now); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	window := store.Window{From: w.start, To: w.start.Add(time.Hour)}
	for range 3 {
		go func() {
			last := int64(0)
			for ctx.Err() == nil {
				series, err := db.FleetSeries(context.Background(), window, time.Minute)
				if err != nil {
					errs <- err
					return
				}
				covered := sum(series).CoveredMs
				if covered < last || covered%(4*10_000) != 0 {
					errs <- fmt.Errorf("%d ms after %d ms", covered, last)
					return
				}
				last = covered
			}
			errs <- nil
		}()
	}
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	checkWorld(t, db, w)
}
