package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"

	"vigil/fleet"
	"vigil/wire"
)

// queriesBenchmark asks every question that a page asks, of 300,000 streams and a day
// of minutes: those about history of the store, those about now of the live view. The
// questions are Go benchmarks beside the code; here their figures are collected.
func queriesBenchmark(ctx context.Context, env *environment) (*result, error) {
	r := newResult("queries")
	if env.quick {
		r.Figures["skipped"] = 1 // a day of 300,000 streams has no small form
		return r, nil
	}
	for _, from := range []struct{ pkg, bench, prefix string }{
		{"./store/duckdb", "^BenchmarkQueries$", "store_"},
		{"./live", "^BenchmarkStreams300k$", "live_"},
	} {
		if err := collect(ctx, r, from.pkg, from.bench, from.prefix); err != nil {
			return nil, fmt.Errorf("%s: %w", from.pkg, err)
		}
	}
	worst50, worst99 := 0.0, 0.0
	for key, v := range r.Figures {
		if strings.HasSuffix(key, "_p50_ms") {
			worst50 = max(worst50, v)
		}
		if strings.HasSuffix(key, "_p99_ms") {
			worst99 = max(worst99, v)
		}
	}
	r.Figures["worst_p50_ms"], r.Figures["worst_p99_ms"] = worst50, worst99
	r.Ratios["worst_p50_over_goal"] = worst50 / 150
	r.Ratios["worst_p99_over_goal"] = worst99 / 1000
	return r, nil
}

// collect runs Go benchmarks and takes over what they report in p50-ms and p99-ms.
func collect(ctx context.Context, r *result, pkg, bench, prefix string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", bench, "-benchtime", "2s", "-timeout", "30m", pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	found := false
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		_, name, ok := strings.Cut(fields[0], "/")
		if !ok {
			continue
		}
		name = strings.ToLower(strings.TrimRight(strings.TrimRight(name, "0123456789"), "-"))
		for i := 1; i+1 < len(fields); i++ {
			if unit := fields[i+1]; unit == "p50-ms" || unit == "p99-ms" {
				v, err := strconv.ParseFloat(fields[i], 64)
				if err != nil {
					return fmt.Errorf("read %q: %w", scanner.Text(), err)
				}
				r.Figures[prefix+name+"_"+strings.ReplaceAll(unit, "-", "_")] = v
				found = true
			}
		}
	}
	if !found {
		return fmt.Errorf("the benchmark reported no percentiles:\n%s", out)
	}
	return scanner.Err()
}

// readPacket reads the packet of a request.
func readPacket(req *http.Request) (*fleet.Packet, error) {
	limits := wire.DefaultLimits()
	body, err := io.ReadAll(io.LimitReader(req.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	return wire.Decode(body, limits)
}
