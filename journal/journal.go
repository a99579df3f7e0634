// Package journal is the durable log between ingest and storage. Append returns nil
// only after the entry is fsynced; Read gives everything that was appended, in the
// order of one shard, from any position on.
//
// Order between entries does not matter to Vigil, because packets carry their own
// numbers and are counted once. So the journal has several shards, an entry goes to
// whichever is least busy, and one that does not answer in time is bypassed. An entry
// may then be in two shards; storage counts it once.
//
// DESIGN.md explains the frame, the group commit, and what happens in each crash.
package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vigil/bus"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/observe"
)

// Errors of this package. Those of Append are wrapped in a *fleet.Error of kind
// unavailable (or too_large, for an entry that fits no message).
var (
	// ErrFull means that no shard has room: storage has not applied what is there.
	ErrFull = errors.New("journal: full")
	// ErrNoShard means that no shard acknowledged in time.
	ErrNoShard = errors.New("journal: no shard acknowledged")
	// ErrTooLarge means that an entry is larger than a message may be.
	ErrTooLarge = errors.New("journal: entry is too large")
	// ErrClosed means that the journal was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrDamaged means that a message cannot be decoded.
	ErrDamaged = errors.New("journal: message is damaged")
	// ErrUnknownShard means that this journal has no such shard.
	ErrUnknownShard = errors.New("journal: no such shard")
)

// GapError is the answer of Read when messages after the wished position are not
// there any more: Missing.First to Missing.Last were purged or lost. The reader can go
// on after Missing.Last, and must tell somebody.
type GapError struct {
	Shard   string
	Missing fleet.SeqRange
}

// Error says what is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("journal: shard %s: messages %d to %d are missing", e.Shard, e.Missing.First, e.Missing.Last)
}

// AheadError is the answer of Read when the wished position is newer than anything
// the shard held when the journal was opened: the shard lost its end, for example
// because an older copy was restored. The reader must go on after Last; what follows
// is new although its numbers were used before.
type AheadError struct {
	Shard string
	After uint64 // the wished position
	Last  uint64 // the last message the shard had when it was opened
}

// Error says how far ahead the reader is.
func (e *AheadError) Error() string {
	return fmt.Sprintf("journal: shard %s: position %d is ahead of the last message %d", e.Shard, e.After, e.Last)
}

// Entry is one packet as it was received.
type Entry struct {
	ID         fleet.PacketID
	FirstSeq   uint64 // equal to ID.Seq unless packets were merged
	ReceivedMs int64  // UTC ms at which ingest took it
	Boot       uint64 // of the process that sent it
	Payload    []byte // the compressed wire packet; not copied
}

// Message is one group of entries that were made durable together.
type Message struct {
	Shard   string
	Seq     uint64 // position of this message in its shard; Read(after: Seq) goes on behind it
	Entries []Entry
}

// Options are what a journal needs besides the bus.
type Options struct {
	Config   config.Journal
	Replicas int          // copies of each shard; 0: 1
	Log      *slog.Logger // nil: silent
	Health   *health.Registry
	Metrics  *observe.Registry
	Now      func() time.Time // nil: time.Now
}

// Usage is how full one shard is.
type Usage struct {
	Shard      string
	FirstSeq   uint64 // first kept message; LastSeq+1 when empty
	LastSeq    uint64 // 0: nothing was ever appended
	AppliedSeq uint64 // what storage told since Open; 0: nothing yet
	Messages   uint64
	Bytes      uint64
	LimitBytes uint64
}

// Stats are counters since Open.
type Stats struct {
	EntriesAppended  uint64 // acknowledged
	EntriesFailed    uint64 // Append returned an error
	MessagesAppended uint64 // acknowledged publishes: one fsync each
	Retries          uint64 // attempts on another shard
	MessagesRead     uint64
}

// Limits of the configuration.
const (
	maxShards             = 64
	defaultShards         = 4
	defaultPublishTimeout = 500 * time.Millisecond
)

const (
	streamPrefix    = "packets-"
	incarnationKey  = "vigil-incarnation"
	incarnationHalf = 4 // random bytes, written as twice as many digits
)

// Journal is an open journal. Safe for concurrent use.
type Journal struct {
	log            *slog.Logger
	health         *health.Registry
	metrics        *metrics
	now            func() time.Time
	publishTimeout time.Duration
	maxAge         time.Duration

	shards   []*shard // never changed after Open
	writable []*shard // those that take entries
	turn     atomic.Uint64
	trouble  atomic.Bool // a condition is set

	closing   context.Context //nolint:containedctx // ends with Close, for all Reads
	close     context.CancelFunc
	running   sync.WaitGroup
	closeOnce sync.Once

	entriesAppended, entriesFailed, messagesAppended, retries, messagesRead atomic.Uint64
}

// Open makes or opens the shards. The bus stays the caller's. Shards that are left
// from a configuration with more of them are read, but take no entries.
func Open(ctx context.Context, b *bus.Bus, o Options) (*Journal, error) {
	count := o.Config.Shards
	if count == 0 {
		count = defaultShards
	}
	if count < 0 || count > maxShards {
		return nil, fmt.Errorf("journal with %d shards: want 1 to %d", count, maxShards)
	}
	j := newJournal(o)
	names, err := shardStreams(ctx, b, count)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		s, err := j.openShard(ctx, b, o, name, count)
		if err != nil {
			return nil, err
		}
		s.readOnly = i >= count
		j.add(s)
	}
	j.start()
	return j, nil
}

func newJournal(o Options) *Journal {
	j := &Journal{
		log: o.Log, health: o.Health, metrics: newMetrics(o.Metrics), now: o.Now,
		publishTimeout: o.Config.PublishTimeout, maxAge: o.Config.MaxAge,
	}
	if j.log == nil {
		j.log = observe.Discard()
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.publishTimeout <= 0 {
		j.publishTimeout = defaultPublishTimeout
	}
	j.closing, j.close = context.WithCancel(context.Background())
	return j
}

// shardStreams returns the names of the streams: those that are configured, then those
// that are left over.
func shardStreams(ctx context.Context, b *bus.Bus, count int) ([]string, error) {
	var names []string
	for i := range count {
		names = append(names, streamPrefix+strconv.Itoa(i))
	}
	have, err := b.StreamNames(ctx)
	if err != nil {
		return nil, fmt.Errorf("find shards: %w", err)
	}
	for _, name := range have {
		if strings.HasPrefix(name, streamPrefix) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (j *Journal) openShard(ctx context.Context, b *bus.Bus, o Options, name string, count int) (*shard, error) {
	incarnation := make([]byte, incarnationHalf)
	if _, err := rand.Read(incarnation); err != nil {
		return nil, fmt.Errorf("name shard: %w", err)
	}
	st, err := b.OpenStream(ctx, bus.StreamConfig{
		Name: name, MaxBytes: o.Config.MaxBytes / int64(count), MaxMessageBytes: maxFrameBytes, Replicas: o.Replicas,
		Metadata: map[string]string{incarnationKey: hex.EncodeToString(incarnation)},
	})
	if err != nil {
		return nil, fmt.Errorf("open shard: %w", err)
	}
	identity := st.Metadata()[incarnationKey]
	if identity == "" {
		return nil, fmt.Errorf("open shard %s: %w: it has no identity", name, ErrDamaged)
	}
	state, err := st.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("open shard: %w", err)
	}
	return &shard{name: strings.TrimPrefix(name, streamPrefix) + "-" + identity, stream: st, lastAtOpen: state.LastSeq}, nil
}

func (j *Journal) add(s *shard) {
	s.journal, s.wake = j, make(chan struct{}, 1)
	j.shards = append(j.shards, s)
	if !s.readOnly {
		j.writable = append(j.writable, s)
	}
}

func (j *Journal) start() {
	for _, s := range j.writable {
		j.running.Go(s.run)
	}
	j.running.Go(func() { j.retainLoop(j.closing) })
}

// Close refuses new entries, waits for those under way and ends all Reads with
// ErrClosed.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() {
		j.close()
		for _, s := range j.writable {
			s.close()
		}
		j.running.Wait()
	})
	return nil
}

// Shards returns the names of the shards, always in the same order. A name contains
// the identity of the shard's data, so a position that was stored for a journal that
// has since been deleted never applies to its successor.
func (j *Journal) Shards() []string {
	names := make([]string, len(j.shards))
	for i, s := range j.shards {
		names[i] = s.name
	}
	return names
}

func (j *Journal) shard(name string) *shard {
	for _, s := range j.shards {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Stats returns counters.
func (j *Journal) Stats() Stats {
	return Stats{
		EntriesAppended:  j.entriesAppended.Load(),
		EntriesFailed:    j.entriesFailed.Load(),
		MessagesAppended: j.messagesAppended.Load(),
		Retries:          j.retries.Load(),
		MessagesRead:     j.messagesRead.Load(),
	}
}
