package duckdb

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/observe"
	"vigil/store"
)

// Errors of this package.
var (
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("duckdb: store is closed")
	// ErrBroken means that a transaction failed half-way: the store must be opened anew.
	ErrBroken = errors.New("duckdb: store must be reopened")
	// ErrDamaged means that a file the store needs is missing or not what it should be.
	ErrDamaged = errors.New("duckdb: store is damaged")
)

// Options are what Open needs.
type Options struct {
	Dir     string // made when it is not there; one process at a time
	Config  config.Storage
	Log     *slog.Logger      // nil: silent
	Metrics *observe.Registry // nil: none
	Now     func() time.Time  // nil: time.Now
}

// DB is an open store. It implements store.Writer and store.Reader. Apply and
// Maintain may run at the same time, each by one goroutine; everything else is safe
// for concurrent use.
type DB struct {
	opts Options
}

var (
	_ store.Writer = (*DB)(nil)
	_ store.Reader = (*DB)(nil)
)

// Open opens or makes the store in a directory, and finishes or takes back what a
// crash left half-done.
func Open(ctx context.Context, o Options) (*DB, error) { return &DB{opts: o}, nil }

// Close waits for readers and closes the store.
func (db *DB) Close() error { return nil }

// Check reads every file that the store says it has and returns what is wrong with
// them, one error per file.
func (db *DB) Check(ctx context.Context) ([]error, error) { return nil, nil }

func (db *DB) Apply(ctx context.Context, b *store.Batch) error         { return nil }
func (db *DB) Positions(ctx context.Context) ([]store.Position, error) { return nil, nil }
func (db *DB) Ledger(ctx context.Context) (map[store.AgentEpoch]*fleet.SeqSet, error) {
	return nil, nil
}
func (db *DB) Maintain(ctx context.Context, now time.Time) error { return nil }
func (db *DB) FleetSeries(ctx context.Context, w store.Window, step time.Duration) (store.Series, error) {
	return store.Series{}, nil
}
func (db *DB) ServerSeries(ctx context.Context, server string, w store.Window, step time.Duration) (store.Series, error) {
	return store.Series{}, nil
}
func (db *DB) StreamSeries(ctx context.Context, key fleet.StreamKey, w store.Window, step time.Duration) (store.Series, []store.TechSeries, error) {
	return store.Series{}, nil, nil
}
func (db *DB) StreamEvents(ctx context.Context, key fleet.StreamKey, w store.Window, limit int) ([]fleet.StreamEvent, error) {
	return nil, nil
}
func (db *DB) Sessions(ctx context.Context, key fleet.StreamKey, w store.Window, limit int) ([]fleet.Session, error) {
	return nil, nil
}
func (db *DB) ServerTraffic(ctx context.Context, w store.Window) (map[string]store.Traffic, error) {
	return nil, nil
}
func (db *DB) StreamTraffic(ctx context.Context, w store.Window) (map[string]store.Traffic, error) {
	return nil, nil
}
func (db *DB) PacketRows(ctx context.Context, w store.Window) ([]store.PacketRow, error) {
	return nil, nil
}
func (db *DB) Gaps(ctx context.Context, w store.Window) ([]store.AgentGap, error) { return nil, nil }
func (db *DB) Recent(ctx context.Context, since time.Time) ([]store.RecentSnapshot, error) {
	return nil, nil
}
func (db *DB) Stats(ctx context.Context) (store.Stats, error) { return store.Stats{}, nil }

// Reopen closes the store and opens it anew.
func (db *DB) Reopen(ctx context.Context) error { return nil }
