// Package storage applies the journal to the store, counting every packet once, and
// feeds the live view with what was applied.
//
// It reads every shard of the journal from the position that the store itself keeps.
// Packets that the dedup state of the store has not seen are stored together with the
// new position and the new dedup state in one transaction; only then the live view and
// Stored learn of them. After any failure the store is opened anew and everything starts from
// its positions, so there is one way to recover, and it is the way to start.
package storage

import (
	"context"
	"log/slog"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/live"
	"vigil/observe"
	"vigil/store"
)

// Journal is what storage reads.
type Journal interface {
	Shards() []string
	Read(ctx context.Context, shard string, after uint64, fn func(journal.Message) error) error
	Last(ctx context.Context, shard string) (uint64, error)
	Applied(shard string, upTo uint64) error
}

// Store is what storage writes, and what it rebuilds the live view from.
type Store interface {
	store.Writer
	Recent(ctx context.Context, since time.Time) ([]store.RecentSnapshot, error)
	// Reopen closes the store and opens it anew, so that its state is what is on disk.
	Reopen(ctx context.Context) error
}

// Deps are what storage needs from others.
type Deps struct {
	Journal Journal
	Store   Store
	Live    *live.View
	Dir     string // for the dead-letter file
	Log     *slog.Logger
	Metrics *observe.Registry
	Health  *health.Registry
	Now     func() time.Time
}

// Stats are counters since the start.
type Stats struct {
	PacketsApplied     int64
	PacketsDuplicate   int64
	PacketsConflict    int64 // a merged packet that overlaps what is stored: left out
	PacketsQuarantined int64 // undecodable: in the dead-letter file
	RowsApplied        int64 // stream samples
	Transactions       int64
	NewestMs           int64         // end of the newest interval applied
	Lag                time.Duration // from ingest to stored, of the newest transaction
}

// Storage is the role that applies the journal.
type Storage struct{}

// New checks its arguments. It opens and starts nothing.
func New(cfg config.Storage, deps Deps) (*Storage, error) { return &Storage{}, nil }

// Run applies the journal until ctx ends.
func (s *Storage) Run(ctx context.Context) error { return nil }

// Ready is closed when everything that was in the journal at the start is applied.
func (s *Storage) Ready() <-chan struct{} { return nil }

// Stored returns the packets of an agent and epoch that are on disk here; false when
// storage has not started yet or never heard of them. The set is the caller's.
func (s *Storage) Stored(agent string, epoch uint64) (*fleet.SeqSet, bool) { return nil, false }

// Stats returns counters.
func (s *Storage) Stats() Stats { return Stats{} }
