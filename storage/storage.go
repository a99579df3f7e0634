// Package storage applies the journal to the store, counting every packet once, and
// feeds the live view with what was applied.
//
// It reads every shard of the journal from the position that the store itself keeps.
// Packets that the dedup state of the store has not seen are stored together with the
// new position and the new dedup state in one transaction; only then the live view and
// Stored learn of them. After any failure the store is opened anew and everything starts from
// its positions, so there is one way to recover, and it is the way to start.
//
// A packet that cannot be counted is never lost without a word: it goes to the
// dead-letter file, a gap in its place goes to the store, and a condition says so.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/live"
	"vigil/observe"
	"vigil/store"
	"vigil/wire"
)

const (
	// defaultApplyEvery is the longest wait of a packet before its transaction. A
	// transaction costs as much as some thousand rows, however few it has, and a page
	// may be two seconds behind.
	defaultApplyEvery = time.Second
	// maxBatchPackets and maxBatchRows end the wait early: a transaction of this size
	// takes about a tenth of a second.
	maxBatchPackets = 500
	maxBatchRows    = 100_000
	// queuedMessages is how many decoded messages of each shard wait for a transaction.
	queuedMessages = 4
	// maintainEvery is how often the store is asked whether anything is due.
	maintainEvery = 5 * time.Second
	// recentFor is how far back the live view is rebuilt at a start.
	recentFor = 24 * time.Hour
	// The waits between attempts after a failure.
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// Journal is what storage reads.
type Journal interface {
	Shards() []string
	// Read calls fn for every message after a position and follows. See journal.Journal.
	Read(ctx context.Context, shard string, after uint64, fn func(journal.Message) error) error
	Last(ctx context.Context, shard string) (uint64, error)
	// Applied says what need not be kept for this storage any more.
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
	Dir     string       // for the dead-letter file
	Limits  *wire.Limits // of packets; nil: well above what ingest lets through
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
	PacketsQuarantined int64 // undecodable or impossible: in the dead-letter file
	RowsApplied        int64 // stream samples
	Transactions       int64
	NewestMs           int64         // end of the newest interval applied
	Lag                time.Duration // from ingest to stored, of the oldest packet in the newest transaction
}

// Storage is the role that applies the journal. Run is called once; everything else is
// safe for concurrent use.
type Storage struct {
	cfg     config.Storage
	deps    Deps
	codec   *wire.Codec
	log     *slog.Logger
	metrics *metrics
	dead    *deadLetters
	// step is called between the steps of a transaction with the name of what comes
	// next; tests fail there.
	step    func(name string) error
	backoff time.Duration // the first wait after a failure

	ready     chan struct{}
	readyOnce sync.Once

	mu     sync.RWMutex
	loaded bool                               // guarded by mu
	ledger map[store.AgentEpoch]*fleet.Ledger // what is on disk; entries are replaced, never changed; guarded by mu

	applied, duplicate, conflict, quarantined atomic.Int64
	rows, transactions, newestMs, lag         atomic.Int64
}

// New checks its arguments. It opens and starts nothing.
func New(cfg config.Storage, deps Deps) (*Storage, error) {
	if deps.Journal == nil || deps.Store == nil || deps.Live == nil || deps.Dir == "" {
		return nil, errors.New("storage: journal, store, live view and directory are needed")
	}
	if cfg.ApplyEvery <= 0 {
		cfg.ApplyEvery = defaultApplyEvery
	}
	if deps.Log == nil {
		deps.Log = observe.Discard()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	limits := generousLimits()
	if deps.Limits != nil {
		limits = *deps.Limits
	}
	codec, err := wire.NewCodec(limits)
	if err != nil {
		return nil, fmt.Errorf("make codec: %w", err)
	}
	s := &Storage{
		cfg: cfg, deps: deps, log: deps.Log, codec: codec, ready: make(chan struct{}),
		step: func(string) error { return nil }, backoff: firstBackoff, ledger: map[store.AgentEpoch]*fleet.Ledger{},
		dead: newDeadLetters(deps.Dir),
	}
	s.metrics = newMetrics(deps.Metrics, s)
	return s, nil
}

// generousLimits only keep memory bounded: what ingest acknowledged must be applied,
// whatever its limits were configured to.
func generousLimits() wire.Limits {
	l := wire.DefaultLimits()
	l.CompressedBytes *= 8
	l.DecodedBytes = 1 << 30 // the most that ingest can be configured to take
	l.Rows *= 4
	l.Streams, l.Events, l.Sessions = l.Rows, l.Rows, l.Rows
	return l
}

// Run applies the journal until ctx ends. It survives failures of the store and the
// journal: it starts again from what is on disk.
func (s *Storage) Run(ctx context.Context) error {
	s.deps.Health.Set(catchingUp)
	backoff := s.backoff
	for {
		applied := s.transactions.Load()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if s.transactions.Load() > applied {
			backoff = s.backoff
		}
		s.metrics.restarts.Inc()
		s.deps.Health.Set(failing(err))
		s.log.Error("storage stopped and starts again from its positions", "error", err, "wait", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(backoff*2, maxBackoff)
		if err := s.deps.Store.Reopen(ctx); err != nil {
			s.log.Error("store did not open", "error", err)
		}
	}
}

// Ready is closed when everything that was in the journal at the start is applied.
func (s *Storage) Ready() <-chan struct{} { return s.ready }

// Stored returns the packets of an agent and epoch that are on disk here or given up;
// false when storage has not started yet or never heard of them. The set is the caller's.
func (s *Storage) Stored(agent string, epoch uint64) (*fleet.SeqSet, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ledger, found := s.ledger[store.AgentEpoch{Agent: agent, Epoch: epoch}]
	if !found || !s.loaded {
		return nil, false
	}
	return ledger.Settled().Clone(), true
}

// Stats returns counters.
func (s *Storage) Stats() Stats {
	return Stats{
		PacketsApplied: s.applied.Load(), PacketsDuplicate: s.duplicate.Load(), PacketsConflict: s.conflict.Load(),
		PacketsQuarantined: s.quarantined.Load(), RowsApplied: s.rows.Load(), Transactions: s.transactions.Load(),
		NewestMs: s.newestMs.Load(), Lag: time.Duration(s.lag.Load()),
	}
}

// load reads from the store what was applied, and rebuilds the live view.
func (s *Storage) load(ctx context.Context) (map[string]uint64, error) {
	list, err := s.deps.Store.Positions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	positions := make(map[string]uint64, len(list))
	for _, p := range list {
		positions[p.Shard] = p.Seq
	}
	ledger, err := s.deps.Store.Ledger(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	s.mu.Lock()
	s.ledger, s.loaded = ledger, true
	s.mu.Unlock()
	// After a failure too: the last batch may be on disk and not in the view.
	recent, err := s.deps.Store.Recent(ctx, s.deps.Now().Add(-recentFor))
	if err != nil {
		return nil, fmt.Errorf("rebuild live view: %w", err)
	}
	for i := range recent {
		s.deps.Live.Apply(recent[i].Agent, recent[i].Received, &recent[i].Snapshot)
	}
	return positions, nil
}
