package main

import (
	"context"
	"errors"
	"time"

	"vigil/lab"
)

// diskSpan is the time that the stored packets cover: sealed files of ten minutes.
const (
	diskSpan   = 10 * time.Minute
	diskAgents = 50
)

// diskBenchmark measures what a raw stream sample costs on disk once it is sealed.
func diskBenchmark(ctx context.Context, env *environment) (_ *result, err error) {
	r := newResult("disk")
	l, err := env.open(ctx, "disk")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := l.NewService(ctx, lab.ServiceOptions{Set: []string{"storage.seal_every=" + sealEvery}})
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	agents := diskAgents
	if env.quick {
		agents = 4
	}
	g, err := newGenerator(s, agents, time.Now().Add(-2*diskSpan))
	if err != nil {
		return nil, err
	}
	for seq := range uint64(diskSpan / packetInterval) {
		for agent := range agents {
			body, id, err := g.packet(agent, seq+1)
			if err != nil {
				return nil, err
			}
			if err := g.send(ctx, body, id, time.Now()); err != nil {
				return nil, err
			}
		}
	}
	if err := awaitSealed(ctx, s, g.samples.Load()); err != nil {
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	db, err := s.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stats, err := db.Stats(ctx)
	if err != nil {
		return nil, err
	}
	r.Figures["samples"] = float64(stats.RawRows)
	r.Figures["raw_bytes_per_sample"] = float64(stats.RawBytesOnDisk) / float64(stats.RawRows)
	r.Figures["all_bytes_per_sample"] = float64(stats.BytesOnDisk) / float64(stats.RawRows)
	r.Figures["parquet_files"] = float64(stats.ParquetFiles)
	r.Ratios["raw_bytes_per_sample_over_goal"] = r.Figures["raw_bytes_per_sample"] / 8
	return r, nil
}
