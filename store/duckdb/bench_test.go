package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/store"
)

func cpuTime(tb testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkApply measures a time of a fleet in transactions of some packets, and
// then the seal. Packets are made outside of the measured time.
func BenchmarkApply(b *testing.B) {
	for _, packets := range []int{1, 5, 30, 120} {
		b.Run(fmt.Sprintf("%d packets", packets), func(b *testing.B) { benchmarkApply(b, packets) })
	}
}

func benchmarkApply(b *testing.B, packets int) {
	ctx := context.Background()
	for b.Loop() {
		w := newWorld(1, 120, 450)
		c := &clock{w.start}
		db := openTest(b, b.TempDir(), c)
		var apply, seal time.Duration
		var samples int64
		rounds := 20
		for n := range rounds {
			whole := w.round(b, n)
			for i := 0; i < len(whole.Packets); i += packets {
				batch := &store.Batch{Packets: whole.Packets[i : i+packets], Received: whole.Received[i : i+packets], Positions: whole.Positions, Ledger: map[store.AgentEpoch]*fleet.Ledger{}}
				for _, p := range batch.Packets {
					key := store.AgentEpoch{Agent: p.ID.Agent, Epoch: p.ID.Epoch}
					batch.Ledger[key] = whole.Ledger[key]
				}
				began := cpuTime(b)
				if err := db.Apply(ctx, batch); err != nil {
					b.Fatal(err)
				}
				apply += cpuTime(b) - began
				samples += int64(packets) * 450
			}
			w.packets, w.received = nil, nil
		}
		c.t = w.start.Add(time.Duration(rounds) * w.interval)
		began := cpuTime(b)
		for range 2 {
			if err := db.Maintain(ctx, c.t); err != nil {
				b.Fatal(err)
			}
			c.t = c.t.Add(time.Minute)
		}
		seal = cpuTime(b) - began
		stats := must[store.Stats](b)(db.Stats(ctx))
		b.ReportMetric(float64(samples)/apply.Seconds(), "applied/cpu-s")
		b.ReportMetric(float64(samples)/(apply+seal).Seconds(), "sealed/cpu-s")
		b.ReportMetric(float64(stats.RawBytesOnDisk)/float64(samples), "B/sample")
		b.ReportMetric(float64(stats.BytesOnDisk), "B-all")
	}
}

// benchSlices is how many of 64 slices of a day of streams are made.
const benchSlices = 4

// loadDay fabricates a day of a fleet: minute rollups of all its streams and servers and
// their names, by SQL inside the engine. Each server has streams streams.
func loadDay(tb testing.TB, db *DB, day time.Time, servers, streams int) {
	tb.Helper()
	ctx := context.Background()
	exec := func(query string) {
		tb.Helper()
		if _, err := db.sql.ExecContext(ctx, query); err != nil {
			tb.Fatalf("%s: %v", query[:min(len(query), 300)], err)
		}
	}
	app := func(table string, columns []column, fill func(a *appender)) {
		tb.Helper()
		a, err := newAppender(db.writer, table, columns)
		if err != nil {
			tb.Fatal(err)
		}
		defer a.close()
		fill(a)
		if err := a.finish(); err != nil {
			tb.Fatal(err)
		}
	}
	app("server_dim", serverDimColumns, func(a *appender) {
		for i := range servers {
			a.u64(0, serverID(serverName(i), 0))
			a.text(1, serverName(i))
			a.i64(2, day.UnixMilli())
			if err := a.next(); err != nil {
				tb.Fatal(err)
			}
		}
	})
	app("stream_dim", streamDimColumns, func(a *appender) {
		for i := range servers {
			for j := range streams {
				key := streamKey(i, j)
				a.u64(0, streamID(key.Server, nameOf(&key), 0))
				a.u64(1, serverID(key.Server, 0))
				a.text(2, "")
				a.text(3, key.App)
				a.text(4, "")
				a.text(5, key.Name)
				if err := a.next(); err != nil {
					tb.Fatal(err)
				}
			}
		}
	})
	exec(fmt.Sprintf("INSERT INTO server_seen SELECT server_id, %d FROM server_dim", day.Add(24*time.Hour).UnixMilli()))
	var made []parquetFile
	write := func(k *kind, tierName string, level int, query string) {
		tb.Helper()
		f, err := db.write(ctx, output{kind: k, tier: tierName, level: level, rolled: true, atMs: day.UnixMilli()}, query)
		if err != nil {
			tb.Fatal(err)
		}
		made = append(made, f)
	}
	// 16 slices of ids, as merging would make them.
	rows := func(dim, id string, from, minutes int64) string {
		return fmt.Sprintf("(SELECT %s, (%d + m * 60000)::BIGINT AS ts_ms, hash(%s, m) AS h FROM %s, range(%d) AS r(m))", id, day.UnixMilli()+from*60000, id, dim, minutes)
	}
	sums := "60000::BIGINT AS covered_ms, (h % 50 * 60000)::BIGINT AS viewer_ms, (h % 53)::BIGINT AS viewers_max, (10000000 + h % 900000)::BIGINT AS bytes_in, (20000000 + h % 9000000)::BIGINT AS bytes_out"
	stream := func(lo, hi uint64, from, minutes int64) string {
		return "SELECT stream_id, ts_ms, false AS part, (1 + stream_id % 3)::UTINYINT AS tech, 60000::INTEGER AS last_ms, 1::UTINYINT AS state, 6::BIGINT AS samples, " + sums + fmt.Sprintf(", 0::BIGINT AS frames_dropped FROM %s WHERE stream_id BETWEEN %d AND %d",
			rows("stream_dim", "stream_id", from, minutes), lo, hi)
	}
	// Of the 64 slices of ids that merging would make only some are made: which ones a
	// question about one stream opens is known from the manifest, so the others would
	// only take time to make.
	for i := range uint64(benchSlices) {
		lo := i << 58
		write(&streamKind, tierMinute, 2, stream(lo, lo+(1<<58-1), 0, 23*60))
	}
	// The last hour is not merged yet: six seals of ten minutes.
	for i := range int64(6) {
		write(&streamKind, tierMinute, 0, stream(0, ^uint64(0), 23*60+i*10, 10))
	}
	write(&serverKind, tierMinute, 2, "SELECT server_id, ts_ms, 60000::INTEGER AS last_ms, 1::UTINYINT AS status, 6::BIGINT AS samples, "+sums+", 1::BIGINT AS conns_accepted, 0::BIGINT AS conns_rejected, covered_ms AS stream_covered_ms, viewer_ms AS stream_viewer_ms, bytes_in AS stream_bytes_in, bytes_out AS stream_bytes_out FROM "+
		rows("server_dim", "server_id", 0, 24*60))
	if err := db.transact(ctx, func(tx *sql.Tx) error { return insertFiles(ctx, tx, made) }); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkQueries asks every question of a fleet of 300,000 streams about a day of
// minutes, with hot rows in the database, and reports the 50th and 99th percentile.
func BenchmarkQueries(b *testing.B) {
	ctx := context.Background()
	w := newWorld(1, 500, 600)
	day := w.start.Truncate(24 * time.Hour)
	w.start = day.Add(24 * time.Hour)
	c := &clock{w.start.Add(time.Minute)}
	db := openTest(b, b.TempDir(), c)
	began := time.Now()
	loadDay(b, db, day, w.servers, w.streams)
	b.Logf("a day of %d streams loaded in %v", w.servers*w.streams, time.Since(began))
	for n := range 6 {
		if err := db.Apply(ctx, w.round(b, n)); err != nil {
			b.Fatal(err)
		}
		w.packets = nil
	}
	stats := must[store.Stats](b)(db.Stats(ctx))
	b.Logf("%+v", stats)
	rng := rand.New(rand.NewPCG(1, 2))
	window := store.Window{From: day, To: day.Add(24 * time.Hour)}
	var keys []fleet.StreamKey // of streams in the slices that were made
	for i := range w.servers {
		for j := range w.streams {
			if key := streamKey(i, j); streamID(key.Server, nameOf(&key), 0)>>58 < benchSlices {
				keys = append(keys, key)
			}
		}
	}
	for _, q := range []struct {
		name string
		ask  func() error
	}{
		{"FleetSeries minute", func() error { _, err := db.FleetSeries(ctx, window, time.Minute); return err }},
		{"FleetSeries 5m", func() error { _, err := db.FleetSeries(ctx, window, 5*time.Minute); return err }},
		{"FleetSeries 15m", func() error { _, err := db.FleetSeries(ctx, window, 15*time.Minute); return err }},
		{"ServerSeries minute", func() error {
			_, err := db.ServerSeries(ctx, serverName(rng.IntN(w.servers)), window, time.Minute)
			return err
		}},
		{"StreamSeries minute", func() error {
			s, _, err := db.StreamSeries(ctx, keys[rng.IntN(len(keys))], window, time.Minute)
			if err == nil && s.Points[700].CoveredMs != 60000 {
				err = fmt.Errorf("no data in %+v", s.Points[700])
			}
			return err
		}},
		{"StreamSeries 10s", func() error {
			_, _, err := db.StreamSeries(ctx, streamKey(rng.IntN(w.servers), rng.IntN(w.streams)), store.Window{From: w.start.Add(-time.Hour), To: w.start.Add(time.Minute)}, 10*time.Second)
			return err
		}},
		{"ServerTraffic", func() error { _, err := db.ServerTraffic(ctx, window); return err }},
		{"StreamTraffic", func() error { _, err := db.StreamTraffic(ctx, window); return err }},
		{"StreamEvents", func() error { _, err := db.StreamEvents(ctx, streamKey(1, 1), window, 100); return err }},
		{"Sessions", func() error { _, err := db.Sessions(ctx, streamKey(1, 1), window, 100); return err }},
		{"PacketRows", func() error {
			_, err := db.PacketRows(ctx, store.Window{From: w.start, To: w.start.Add(time.Hour)})
			return err
		}},
		{"Gaps", func() error { _, err := db.Gaps(ctx, window); return err }},
		{"Stats", func() error { _, err := db.Stats(ctx); return err }},
	} {
		b.Run(q.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := q.ask(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
	b.Run("Recent", func(b *testing.B) {
		for b.Loop() {
			list, err := db.Recent(ctx, c.t.Add(-24*time.Hour))
			if err != nil || len(list) != w.servers || len(list[0].Snapshot.Streams) != w.streams {
				b.Fatal(len(list), err)
			}
		}
	})
}
