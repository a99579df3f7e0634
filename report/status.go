package report

import (
	"context"
	"fmt"
	"time"

	"vigil/fleet"
	"vigil/store"
)

const (
	gapWindow = 24 * time.Hour
	maxGaps   = 50
)

// Status describes the service's own data.
type Status struct {
	Meta
	LiveVersion    uint64       `json:"live_version"` // grows with every change of the live view
	Totals         Totals       `json:"totals"`
	Store          *StoreStatus `json:"store"` // null when the store could not be read
	StoreError     *Problem     `json:"store_error,omitempty"`
	GapsLast24h    []AgentGap   `json:"gaps_last_24h"` // newest first, at most 50
	GapsLast24hAll int          `json:"gaps_last_24h_total"`
}

// StoreStatus describes the analytic store.
type StoreStatus struct {
	Packets      int64     `json:"packets"`
	RawRows      int64     `json:"raw_rows"`
	DiskBytes    int64     `json:"disk_bytes"`
	RawDiskBytes int64     `json:"raw_disk_bytes"`
	ParquetFiles int64     `json:"parquet_files"`
	NewestMs     int64     `json:"newest_ms"`     // end of the newest interval stored; 0 when there is none
	NewestAgeMs  fleet.Int `json:"newest_age_ms"` // null when there is none
}

// AgentGap is what an agent gave up on purpose.
type AgentGap struct {
	Agent    string    `json:"agent"`
	Epoch    string    `json:"epoch"` // hexadecimal: JSON numbers end at 2^53
	FirstSeq uint64    `json:"first_seq"`
	LastSeq  uint64    `json:"last_seq"`
	FromMs   fleet.Int `json:"from_ms"`
	ToMs     fleet.Int `json:"to_ms"`
	Reason   string    `json:"reason"`
}

// Status answers how the service's data is.
func (r *Reports) Status(ctx context.Context) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	at := r.now()
	out := &Status{Meta: r.meta(), LiveVersion: r.live.Version(), GapsLast24h: []AgentGap{}}
	_ = r.step(&out.Meta, "live totals", func() error {
		out.Totals = totalsOf(r.live.Totals(at), at.UnixMilli())
		return nil
	})
	err := r.step(&out.Meta, "store stats", func() error { return r.storeStatus(ctx, out, at) })
	if err == nil {
		err = r.step(&out.Meta, "agent gaps", func() error { return r.gaps(ctx, out, at) })
	}
	out.StoreError = ProblemOf(storeError(ctx, err))
	return out, nil
}

func (r *Reports) storeStatus(ctx context.Context, out *Status, at time.Time) error {
	s, err := r.store.Stats(ctx)
	if err != nil {
		return err
	}
	out.Store = &StoreStatus{
		Packets: s.PacketsStored, RawRows: s.RawRows, DiskBytes: s.BytesOnDisk, RawDiskBytes: s.RawBytesOnDisk,
		ParquetFiles: s.ParquetFiles, NewestMs: s.NewestMs,
	}
	if s.NewestMs > 0 {
		out.Store.NewestAgeMs = fleet.Of(max(0, at.UnixMilli()-s.NewestMs))
	}
	return nil
}

func (r *Reports) gaps(ctx context.Context, out *Status, at time.Time) error {
	gaps, err := r.store.Gaps(ctx, store.Window{From: at.Add(-gapWindow), To: at})
	if err != nil {
		return err
	}
	out.GapsLast24hAll = len(gaps)
	for _, g := range gaps[:min(len(gaps), maxGaps)] {
		out.GapsLast24h = append(out.GapsLast24h, AgentGap{
			Agent: g.Agent, Epoch: fmt.Sprintf("%016x", g.Epoch), FirstSeq: g.FirstSeq, LastSeq: g.LastSeq,
			FromMs: g.FromMs, ToMs: g.ToMs, Reason: g.Reason,
		})
	}
	return nil
}
