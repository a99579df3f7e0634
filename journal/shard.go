package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vigil/bus"
)

// Limits of one shard.
const (
	maxBatchEntries = 512
	maxBatchBytes   = 1 << 20 // a larger single entry goes alone
	maxWaiting      = 8_192   // entries behind the publish that is under way
	maxWaitingBytes = 64 << 20

	// A publish that has no answer by then will have none: the shard is free for the
	// next one. Entries do not wait that long, they are appended to another shard as well.
	publishGiveUp = 10 * time.Second

	avoidFor     = 250 * time.Millisecond // after a first failure, doubled with each further one
	avoidForMost = 15 * time.Second

	latencyFloor    = 100 * time.Microsecond
	latencyHalfLife = 2 * time.Second
)

// stream is what a shard needs of the bus.
type stream interface {
	Publish(ctx context.Context, data []byte) (uint64, error)
	State(ctx context.Context) (bus.StreamState, error)
	At(ctx context.Context, seq uint64) (time.Time, error)
	PurgeThrough(ctx context.Context, seq uint64) error
	Read(ctx context.Context, after uint64, fn func(bus.Message) error) error
}

// errShardBusy means that too much waits for this shard.
var errShardBusy = errors.New("journal: shard has too much waiting")

// waiter is one Append. It may be in several shards at once.
type waiter struct {
	entry   *Entry
	size    int
	over    atomic.Bool // Append has returned: nobody needs this any more
	results chan error  // room for one result of every shard it was given to
}

// shard gathers entries while a publish is under way and then publishes them
// together: one fsync for all.
type shard struct {
	name       string // as readers know it
	stream     stream
	readOnly   bool   // left over from a time with more shards
	lastAtOpen uint64 // newest message when the journal was opened
	delivered  atomic.Uint64
	applied    atomic.Uint64

	journal *Journal
	wake    chan struct{} // room for one

	mu           sync.Mutex
	closed       bool
	waiting      []*waiter
	waitingBytes int
	inFlight     int       // entries in the publish under way
	since        time.Time // when it began; zero: none
	latency      time.Duration
	latencyAt    time.Time
	failures     int
	avoidUntil   time.Time
}

// add puts w into the queue.
func (s *shard) add(w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if len(s.waiting) >= maxWaiting || s.waitingBytes+w.size > maxWaitingBytes {
		return errShardBusy
	}
	s.waiting = append(s.waiting, w)
	s.waitingBytes += w.size
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// cost is the time that one more entry would probably wait: what is queued times what
// a publish takes, where one that is under way counts with its age, so that a shard
// that hangs looks worse by the millisecond. Failed shards are only the last resort.
func (s *shard) cost(now time.Time) (cost time.Duration, avoid bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	latency := s.latency
	if idle := now.Sub(s.latencyAt); idle > 0 && latency > latencyFloor {
		// What was slow a while ago deserves another try.
		latency >>= min(uint(idle/latencyHalfLife), 62)
	}
	latency = max(latency, latencyFloor)
	if !s.since.IsZero() {
		latency = max(latency, now.Sub(s.since))
	}
	return latency * time.Duration(1+s.inFlight+len(s.waiting)), now.Before(s.avoidUntil)
}

// run publishes what waits until the shard is closed and nothing waits.
func (s *shard) run() {
	for {
		batch, closed := s.take()
		if len(batch) > 0 {
			s.publish(batch)
			continue
		}
		if closed {
			return
		}
		<-s.wake
	}
}

// take removes the next batch from the queue.
func (s *shard) take() (batch []*waiter, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, taken := frameHeaderBytes, 0
	for _, w := range s.waiting {
		if w.over.Load() {
			taken++
			s.waitingBytes -= w.size
			continue
		}
		if len(batch) > 0 && (size+w.size > maxBatchBytes || len(batch) >= maxBatchEntries) {
			break
		}
		batch = append(batch, w)
		taken++
		size += w.size
		s.waitingBytes -= w.size
	}
	clear(s.waiting[:taken])
	s.waiting = s.waiting[taken:]
	if len(s.waiting) == 0 {
		s.waiting = nil // the array shrinks again after a burst
	}
	s.inFlight = len(batch)
	if len(batch) > 0 {
		s.since = s.journal.now()
	}
	return batch, s.closed
}

func (s *shard) publish(batch []*waiter) {
	entries := make([]*Entry, len(batch))
	for i, w := range batch {
		entries[i] = w.entry
	}
	data := encodeFrame(entries)
	ctx, cancel := context.WithTimeout(context.Background(), publishGiveUp)
	_, err := s.stream.Publish(ctx, data)
	cancel()
	s.journal.metrics.published(len(batch), len(data), err)
	if err != nil {
		err = fmt.Errorf("shard %s: %w", s.name, err)
	}
	rest := s.finish(err)
	for _, w := range batch {
		w.results <- err
	}
	// Nobody should wait behind a shard that has just failed.
	for _, w := range rest {
		w.results <- err
	}
	if err == nil {
		s.journal.messagesAppended.Add(1)
	}
}

// finish records how the publish ended and, when it failed, takes everything out of
// the queue.
func (s *shard) finish(err error) (rest []*waiter) {
	now := s.journal.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	took := now.Sub(s.since)
	s.since, s.inFlight = time.Time{}, 0
	s.latency = max(took, (3*s.latency+took)/4) // quick to rise, slow to fall
	s.latencyAt = now
	if err == nil {
		s.failures, s.avoidUntil = 0, time.Time{}
		return nil
	}
	s.avoidUntil = now.Add(min(avoidFor<<min(s.failures, 10), avoidForMost))
	s.failures++
	rest = s.waiting
	s.waiting, s.waitingBytes = nil, 0
	return rest
}

// close lets run end when the queue is empty.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
