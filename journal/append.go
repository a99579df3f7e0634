package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vigil/bus"
	"vigil/fleet"
	"vigil/health"
)

// maxAttempts is how many shards one entry is given to. More would only add to the
// load of disks that are slow already.
const maxAttempts = 3

const (
	conditionFull        = "journal-full"
	conditionUnavailable = "journal-unavailable"
)

// Append makes an entry durable. nil means that it is fsynced. After an error it may
// or may not be in the journal; appending it again is safe because storage counts it
// once. It returns at the latest when ctx ends. The error is a *fleet.Error.
//
// The entry is first given to the shard that is least busy. When that fails, or has
// not answered within the publish timeout, it is given to another one as well; the
// first acknowledgement counts.
func (j *Journal) Append(ctx context.Context, e Entry) error {
	began := j.now()
	err := j.append(ctx, &e)
	j.metrics.appended(j.now().Sub(began), err)
	if err != nil {
		j.entriesFailed.Add(1)
		return j.explain(err)
	}
	j.entriesAppended.Add(1)
	j.recovered()
	return nil
}

func (j *Journal) append(ctx context.Context, e *Entry) error {
	if err := checkEntry(e); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{entry: e, size: encodedBytes(e), results: make(chan error, maxAttempts)}
	defer w.over.Store(true)
	a := attempts{journal: j, waiter: w}
	if !a.next() {
		return a.failure()
	}
	timer := time.NewTimer(j.publishTimeout)
	defer timer.Stop()
	for {
		select {
		case err := <-w.results:
			if err == nil {
				return nil
			}
			a.open--
			a.failed(err)
			if !a.next() && a.open == 0 {
				return a.failure()
			}
		case <-timer.C:
			a.next()
			timer.Reset(j.publishTimeout)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNoShard, ctx.Err())
		}
	}
}

// attempts are the shards that one entry was given to.
type attempts struct {
	journal *Journal
	waiter  *waiter
	tried   []*shard
	open    int // without a result yet
	given   int
	errs    []error
}

// next gives the entry to one more shard and reports whether there was one.
func (a *attempts) next() bool {
	for a.given < maxAttempts {
		s := a.journal.pick(a.tried)
		if s == nil {
			return false
		}
		a.tried = append(a.tried, s)
		if err := s.add(a.waiter); err != nil {
			a.failed(err)
			continue
		}
		if a.given++; a.given > 1 {
			a.journal.retries.Add(1)
			a.journal.metrics.retries.Inc()
		}
		a.open++
		return true
	}
	return false
}

func (a *attempts) failed(err error) { a.errs = append(a.errs, err) }

// failure is one error for all that was tried. Full and busy only count when they were
// the reason everywhere.
func (a *attempts) failure() error {
	full, busy, closed := 0, 0, 0
	for _, err := range a.errs {
		switch {
		case errors.Is(err, bus.ErrFull):
			full++
		case errors.Is(err, errShardBusy):
			busy++
		case errors.Is(err, ErrClosed), errors.Is(err, bus.ErrClosed):
			closed++
		}
	}
	cause := errors.Join(a.errs...)
	switch n := len(a.errs); {
	case n == 0:
		return ErrNoShard
	case closed > 0:
		return fmt.Errorf("%w: %w", ErrClosed, cause)
	case full > 0 && full+busy == n:
		return fmt.Errorf("%w: %w", ErrFull, cause)
	}
	return fmt.Errorf("%w: %w", ErrNoShard, cause)
}

// pick returns the shard that would be quickest and was not tried, or nil.
func (j *Journal) pick(tried []*shard) *shard {
	now := j.now()
	var best *shard
	var bestCost time.Duration
	bestAvoid := true
	// Begin at another shard each time, so that equal ones share the work.
	start := int(j.turn.Add(1) % uint64(max(len(j.writable), 1)))
	for i := range j.writable {
		s := j.writable[(start+i)%len(j.writable)]
		if contains(tried, s) {
			continue
		}
		cost, avoid := s.cost(now)
		if best == nil || (bestAvoid && !avoid) || (bestAvoid == avoid && cost < bestCost) {
			best, bestCost, bestAvoid = s, cost, avoid
		}
	}
	return best
}

func contains(list []*shard, s *shard) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// explain says to people what an error means, and keeps a condition while it lasts.
func (j *Journal) explain(err error) error {
	switch {
	case errors.Is(err, ErrTooLarge):
		return &fleet.Error{Kind: fleet.KindTooLarge, Message: "the packet is larger than the journal takes", Hint: "split it into smaller packets", Err: err}
	case errors.Is(err, ErrFull):
		j.troubled(health.Condition{
			Code: conditionFull, Title: "The journal is full", Severity: health.Error, BlocksReady: true,
			Text: "The journal holds as much as it may that storage has not applied yet. New packets are refused, agents keep them.",
			Hint: "Look why storage does not keep up, or give the journal more room: journal.max_bytes.",
		})
		return &fleet.Error{Kind: fleet.KindUnavailable, Message: "the journal is full: the packet was not taken", Hint: "send it again later", Err: err}
	case errors.Is(err, ErrNoShard) && !errors.Is(err, context.Canceled):
		j.troubled(health.Condition{
			Code: conditionUnavailable, Title: "The journal does not answer", Severity: health.Error, After: 5 * time.Second,
			Text: "A packet could not be made durable in time. Such packets are refused, agents keep them.",
			Hint: "Look for a slow, full or failing disk.",
		})
	}
	return &fleet.Error{Kind: fleet.KindUnavailable, Message: "the journal did not make the packet durable in time", Hint: "send it again", Err: err}
}

func (j *Journal) troubled(c health.Condition) {
	j.trouble.Store(true)
	j.health.Set(c)
}

// recovered ends the conditions after a success. The flag keeps the usual case free of
// locks.
func (j *Journal) recovered() {
	if j.trouble.Load() && j.trouble.CompareAndSwap(true, false) {
		j.health.Clear(conditionFull)
		j.health.Clear(conditionUnavailable)
	}
}
