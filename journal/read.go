package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vigil/bus"
	"vigil/fleet"
)

// stateRetryEvery is the wait before the state of a shard is asked for again.
const stateRetryEvery = 200 * time.Millisecond

// DamagedError is the answer of Read when a message cannot be decoded. Its entries are
// lost to this reader; it can go on after Seq, and must tell somebody.
type DamagedError struct {
	Shard string
	Seq   uint64
	Err   error
}

// Error says which message it is.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("journal: shard %s: message %d: %v", e.Shard, e.Seq, e.Err)
}

// Unwrap returns the cause, which wraps ErrDamaged.
func (e *DamagedError) Unwrap() error { return e.Err }

// Read calls fn for every message of a shard after the given position, in order, and
// goes on as new ones arrive, until ctx ends (it returns ctx.Err()), fn fails (it
// returns that error), the journal is closed (ErrClosed), or the position cannot be
// served (*GapError, *AheadError, *DamagedError). Hiccups of the server are waited
// out. The payloads belong to fn.
func (j *Journal) Read(ctx context.Context, shardName string, after uint64, fn func(Message) error) error {
	s := j.shard(shardName)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrUnknownShard, shardName)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(j.closing, func() { cancel(ErrClosed) })()
	err := s.read(ctx, after, fn)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	if errors.Is(err, bus.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func (s *shard) read(ctx context.Context, after uint64, fn func(Message) error) error {
	if err := s.checkPosition(ctx, after); err != nil {
		return err
	}
	next := after + 1
	return s.stream.Read(ctx, after, func(m bus.Message) error {
		if m.Seq != next {
			// Purged while we read, or lost by damage. Numbers never go back: the bus sees to that.
			s.noteDelivered(m.Seq - 1)
			return &GapError{Shard: s.name, Missing: fleet.SeqRange{First: next, Last: m.Seq - 1}}
		}
		s.noteDelivered(m.Seq)
		entries, err := decodeFrame(m.Data)
		if err != nil {
			return &DamagedError{Shard: s.name, Seq: m.Seq, Err: err}
		}
		if err := fn(Message{Shard: s.name, Seq: m.Seq, Entries: entries}); err != nil {
			return err
		}
		s.journal.messagesRead.Add(1)
		next = m.Seq + 1
		return nil
	})
}

// checkPosition refuses positions that would silently skip messages.
//
// A position ahead of what the shard had when it was opened can only be right when
// this very journal delivered it: otherwise it comes from messages that are gone, and
// new messages have taken their numbers.
func (s *shard) checkPosition(ctx context.Context, after uint64) error {
	if after > s.known() {
		return &AheadError{Shard: s.name, After: after, Last: s.lastAtOpen}
	}
	state, err := s.stateOrWait(ctx)
	if err != nil {
		return err
	}
	if after+1 < state.FirstSeq {
		s.noteDelivered(state.FirstSeq - 1) // the reader may go on from there
		return &GapError{Shard: s.name, Missing: fleet.SeqRange{First: after + 1, Last: state.FirstSeq - 1}}
	}
	return nil
}

// known is the newest position that a reader can rightly have.
func (s *shard) known() uint64 { return max(s.lastAtOpen, s.delivered.Load()) }

func (s *shard) stateOrWait(ctx context.Context) (bus.StreamState, error) {
	for {
		state, err := s.stream.State(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, bus.ErrClosed) {
			return state, err
		}
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-time.After(stateRetryEvery):
		}
	}
}

// noteDelivered remembers how far a reader may have come by reading this journal.
func (s *shard) noteDelivered(seq uint64) {
	for {
		old := s.delivered.Load()
		if seq <= old || s.delivered.CompareAndSwap(old, seq) {
			return
		}
	}
}

// Last returns the position of the newest message of a shard; 0: none yet.
func (j *Journal) Last(ctx context.Context, shardName string) (uint64, error) {
	s := j.shard(shardName)
	if s == nil {
		return 0, fmt.Errorf("%w: %s", ErrUnknownShard, shardName)
	}
	state, err := s.stream.State(ctx)
	if err != nil {
		return 0, fmt.Errorf("last message of shard %s: %w", shardName, err)
	}
	return state.LastSeq, nil
}
