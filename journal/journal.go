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
	"errors"
	"fmt"
	"log/slog"
	"time"

	"vigil/bus"
	"vigil/config"
	"vigil/fleet"
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
	Now      func() time.Time
}

// Usage is how full one shard is.
type Usage struct {
	Shard      string
	FirstSeq   uint64 // first kept message; LastSeq+1 when empty
	LastSeq    uint64 // 0: nothing was ever appended
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

// Journal is an open journal. Safe for concurrent use.
type Journal struct{}

// Open makes or opens the shards. The bus stays the caller's.
func Open(ctx context.Context, b *bus.Bus, o Options) (*Journal, error) { return &Journal{}, nil }

// Close refuses new entries, waits for those under way and ends all Reads with
// ErrClosed.
func (j *Journal) Close() error { return nil }

// Shards returns the names of the shards, always in the same order. A name contains
// the identity of the shard's data, so a position that was stored for a journal that
// has since been deleted never applies to its successor.
func (j *Journal) Shards() []string { return nil }

// Append makes an entry durable. nil means that it is fsynced. After an error it may
// or may not be in the journal; appending it again is safe because storage counts it
// once. It returns at the latest when ctx ends.
func (j *Journal) Append(ctx context.Context, e Entry) error { return nil }

// Read calls fn for every message of a shard after the given position, in order, and
// goes on as new ones arrive, until ctx ends (it returns ctx.Err()), fn fails (it
// returns that error), the journal is closed (ErrClosed), or the position cannot be
// served (*GapError, *AheadError). Hiccups of the server are waited out. The payloads
// belong to fn.
func (j *Journal) Read(ctx context.Context, shard string, after uint64, fn func(Message) error) error {
	return nil
}

// Last returns the position of the newest message of a shard; 0: none yet.
func (j *Journal) Last(ctx context.Context, shard string) (uint64, error) { return 0, nil }

// Usage returns how full each shard is.
func (j *Journal) Usage(ctx context.Context) ([]Usage, error) { return nil, nil }

// Applied tells the journal that storage has every message of the shard up to and
// including upTo on disk. Nothing else ever makes room: messages that were applied are
// dropped when they are older than the configured age, or earlier when the shard is
// more than half full. Cheap; meant to be called after every transaction.
func (j *Journal) Applied(shard string, upTo uint64) error { return nil }

// Purge drops every message of the shard up to and including upTo at once.
func (j *Journal) Purge(ctx context.Context, shard string, upTo uint64) error { return nil }

// Stats returns counters.
func (j *Journal) Stats() Stats { return Stats{} }
