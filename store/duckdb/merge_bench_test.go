package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vigil/config"
)

// BenchmarkMergeDay merges hours of minute rows of many streams into a day, and adds
// up their quarters, under a memory limit of 1 GiB. Its 24 million rows make 12 slices;
// a day of 300,000 streams has 432 million in 216, one after the other.
func BenchmarkMergeDay(b *testing.B) {
	const hours, perHour = 12, 2_000_000
	ctx := context.Background()
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		c := &clock{day.Add(24*time.Hour + 10*time.Minute)}
		db, err := Open(ctx, Options{Dir: b.TempDir(), Config: config.Storage{MemoryBytes: 1 << 30}, Now: c.now})
		if err != nil {
			b.Fatal(err)
		}
		var made []parquetFile
		for h := range hours {
			query := fmt.Sprintf(`SELECT hash(s)::UBIGINT AS stream_id, (%d + m * 60000)::BIGINT AS ts_ms, false AS part, 1::UTINYINT AS tech, 60000::INTEGER AS last_ms,
				1::UTINYINT AS state, 6::BIGINT AS samples, 60000::BIGINT AS covered_ms, (hash(s, m) %% 50 * 60000)::BIGINT AS viewer_ms, (hash(s, m) %% 53)::BIGINT AS viewers_max,
				(hash(m, s) %% 900000)::BIGINT AS bytes_in, (hash(m, s, 1) %% 9000000)::BIGINT AS bytes_out, 0::BIGINT AS frames_dropped
				FROM range(%d) AS r(s), range(60) AS t(m)`, day.Add(time.Duration(h)*time.Hour).UnixMilli(), perHour/60)
			f, err := db.write(ctx, output{kind: &streamKind, tier: tierMinute, level: 1, rolled: true, atMs: day.UnixMilli()}, query)
			if err != nil {
				b.Fatal(err)
			}
			made = append(made, f)
		}
		if err := db.transact(ctx, func(tx *sql.Tx) error { return insertFiles(ctx, tx, made) }); err != nil {
			b.Fatal(err)
		}
		before := residentPeak(b)
		began, wall := cpuTime(b), time.Now()
		if err := db.Maintain(ctx, c.t); err != nil {
			b.Fatal(err)
		}
		spent := cpuTime(b) - began
		files := must[[]parquetFile](b)(manifest(ctx, db.sql, "level = 2"))
		if len(files) < 8 {
			b.Fatalf("%d files", len(files))
		}
		b.ReportMetric(hours*perHour/spent.Seconds(), "rows/cpu-s")
		b.ReportMetric(time.Since(wall).Seconds(), "wall-s")
		b.ReportMetric(float64(len(files)), "files")
		b.ReportMetric(before, "RSS-MiB-before")
		b.ReportMetric(residentPeak(b), "RSS-MiB-peak")
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// residentPeak is the largest memory that the process ever had, in MiB.
func residentPeak(tb testing.TB) float64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscanf(rest, "%f", &kib); err != nil {
		tb.Fatal(err)
	}
	return kib / 1024
}
