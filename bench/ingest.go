package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vigil/lab"
)

// Sizes of the ingest benchmark.
const (
	ingestAgents  = 112
	ingestFor     = 60 * time.Second
	sustainedRate = 50_000 // stream samples per second
	sealEvery     = "10s"  // so that sealing and merging are part of what is measured
	storedWait    = 3 * time.Minute
)

// ingestBenchmark measures the whole way of a packet, from HTTP to rows that are
// sealed and rolled up, with everything synced: first as fast as it goes, then at the
// rate that Vigil promises.
func ingestBenchmark(ctx context.Context, env *environment) (*result, error) {
	r := newResult("ingest")
	if err := env.ingestRun(ctx, r, "peak", 0); err != nil {
		return nil, fmt.Errorf("peak: %w", err)
	}
	if err := env.ingestRun(ctx, r, "sustained", sustainedRate); err != nil {
		return nil, fmt.Errorf("sustained: %w", err)
	}
	r.Ratios["samples_per_cpu_second_over_goal"] = r.Figures["peak_samples_per_cpu_second"] / 150_000
	return r, nil
}

func (env *environment) ingestRun(ctx context.Context, r *result, name string, rate float64) (err error) {
	l, err := env.open(ctx, "ingest-"+name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := l.NewService(ctx, lab.ServiceOptions{Set: []string{"storage.seal_every=" + sealEvery}})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	agents, d := ingestAgents, ingestFor
	if env.quick {
		agents, d, rate = 10, 3*time.Second, min(rate, 5_000)
	}
	// The packets of a minute of load cover a longer time: they end about now.
	span := d * sustainedRate / time.Duration(agents*streamsPerAgent) * packetInterval / time.Second
	g, err := newGenerator(s, agents, time.Now().Add(-2*span))
	if err != nil {
		return err
	}
	before, err := usageOf(s.Process().PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := g.run(ctx, d, rate); err != nil {
		return err
	}
	sent := time.Since(began)
	if err := awaitSealed(ctx, s, g.samples.Load()); err != nil {
		return err
	}
	stored := time.Since(began)
	after, err := usageOf(s.Process().PID())
	if err != nil {
		return err
	}
	samples := float64(g.samples.Load())
	cpu := after.cpu - before.cpu
	r.Figures[name+"_samples"] = samples
	r.Figures[name+"_acknowledged_per_second"] = samples / sent.Seconds()
	r.Figures[name+"_sealed_per_second"] = samples / stored.Seconds()
	r.Figures[name+"_samples_per_cpu_second"] = samples / cpu.Seconds()
	r.Figures[name+"_cpu_us_per_sample"] = float64(cpu.Microseconds()) / samples
	r.Figures[name+"_ack_p50_ms"] = milliseconds(g.percentile(50))
	r.Figures[name+"_ack_p99_ms"] = milliseconds(g.percentile(99))
	r.Figures[name+"_rss_peak_mib"] = float64(after.rssPeak) / (1 << 20)
	return s.Stop()
}

// awaitSealed waits until all samples are stored and their hot rows have become files.
func awaitSealed(ctx context.Context, s *lab.Service, samples int64) error {
	return lab.Await(ctx, storedWait, "all samples stored and sealed", func(ctx context.Context) error {
		stored, err := s.Metric(ctx, "vigil_storage_rows_total")
		if err != nil {
			return err
		}
		hot, err := s.Metric(ctx, "vigil_store_hot_rows")
		if err != nil {
			return err
		}
		if int64(stored) < samples || hot > 0 {
			return fmt.Errorf("%.0f of %d samples stored, %.0f rows hot", stored, samples, hot)
		}
		return nil
	})
}
