package journal

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"vigil/bus"
)

// Limits of keeping messages.
const (
	retainEvery   = 10 * time.Second
	retainTimeout = 5 * time.Second
	// A shard that is fuller than this gives up applied messages before their age: the
	// rest is for what storage has not applied yet, which is never given up.
	keepAppliedFraction = 0.5
)

// Applied tells the journal that storage has every message of the shard up to and
// including upTo on disk. Nothing else ever makes room: messages that were applied are
// dropped when they are older than the configured age, or earlier when the shard is
// more than half full. Cheap; meant to be called after every transaction. A position
// that Read would refuse as ahead is refused here too (*AheadError): it would give up
// new messages that only have the numbers of old ones.
func (j *Journal) Applied(shardName string, upTo uint64) error {
	s := j.shard(shardName)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrUnknownShard, shardName)
	}
	if upTo > s.known() {
		return &AheadError{Shard: s.name, After: upTo, Last: s.lastAtOpen}
	}
	for {
		old := s.applied.Load()
		if upTo <= old || s.applied.CompareAndSwap(old, upTo) {
			return nil
		}
	}
}

// Purge drops every message of the shard up to and including upTo at once.
func (j *Journal) Purge(ctx context.Context, shardName string, upTo uint64) error {
	s := j.shard(shardName)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrUnknownShard, shardName)
	}
	return s.stream.PurgeThrough(ctx, upTo)
}

// Usage returns how full each shard is.
func (j *Journal) Usage(ctx context.Context) ([]Usage, error) {
	list := make([]Usage, 0, len(j.shards))
	for _, s := range j.shards {
		state, err := s.stream.State(ctx)
		if err != nil {
			return nil, fmt.Errorf("usage of shard %s: %w", s.name, err)
		}
		list = append(list, Usage{
			Shard: s.name, FirstSeq: state.FirstSeq, LastSeq: state.LastSeq, AppliedSeq: min(s.applied.Load(), state.LastSeq),
			Messages: state.Messages, Bytes: state.Bytes, LimitBytes: state.MaxBytes,
		})
	}
	return list, nil
}

func (j *Journal) retainLoop(ctx context.Context) {
	ticker := time.NewTicker(retainEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, s := range j.shards {
			if err := j.retain(ctx, s); err != nil && ctx.Err() == nil {
				j.log.Warn("cannot drop old messages of the journal", "shard", s.name, "error", err)
			}
		}
	}
}

// retain drops applied messages of one shard that are too old or take too much room.
func (j *Journal) retain(ctx context.Context, s *shard) error {
	ctx, cancel := context.WithTimeout(ctx, retainTimeout)
	defer cancel()
	state, err := s.stream.State(ctx)
	if err != nil {
		return err
	}
	j.metrics.usage(s.name, state)
	applied := min(s.applied.Load(), state.LastSeq)
	if state.Messages == 0 || applied < state.FirstSeq {
		return nil
	}
	through := dropForRoom(state, applied)
	if j.maxAge > 0 && j.now().Sub(state.FirstAt) > j.maxAge {
		old, err := s.lastBefore(ctx, state.FirstSeq, applied, j.now().Add(-j.maxAge))
		if err != nil {
			return err
		}
		through = max(through, old)
	}
	if through < state.FirstSeq {
		return nil
	}
	if err := s.stream.PurgeThrough(ctx, through); err != nil {
		return err
	}
	j.log.Debug("dropped applied messages of the journal", "shard", s.name, "first", state.FirstSeq, "last", through)
	return nil
}

// dropForRoom returns the last message to drop so that about the wished fraction of
// the shard is used; 0: none. Messages differ in size, so this is repeated.
func dropForRoom(state bus.StreamState, applied uint64) uint64 {
	target := uint64(float64(state.MaxBytes) * keepAppliedFraction)
	if state.MaxBytes == 0 || state.Bytes <= target {
		return 0
	}
	// messages x surplus / bytes, rounded up, without overflow.
	high, low := bits.Mul64(state.Messages, state.Bytes-target)
	count, rest := bits.Div64(high, low, state.Bytes)
	if rest > 0 {
		count++
	}
	return min(applied, state.FirstSeq+count-1)
}

// lastBefore finds the last message from first to last that was stored before the
// given time, by halving; first-1 when there is none. Messages are ordered by time as
// well as the clock of the machine was.
func (s *shard) lastBefore(ctx context.Context, first, last uint64, before time.Time) (uint64, error) {
	low, high := first, last+1 // the answer + 1 is in [low, high]
	for low < high {
		middle := low + (high-low)/2
		at, err := s.stream.At(ctx, middle)
		switch {
		case errors.Is(err, bus.ErrMissing): // purged meanwhile, or damaged
			low = middle + 1
		case err != nil:
			return 0, err
		case at.Before(before):
			low = middle + 1
		default:
			high = middle
		}
	}
	return low - 1, nil
}
