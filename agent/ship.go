package agent

import (
	"context"
	"errors"
	"time"

	"vigil/fleet"
	"vigil/spool"
)

const (
	// Backoff after failures: half of it is jitter, so that a fleet does not come back in
	// step. It grows to the interval at which the agent sends anyway, so a service that
	// comes back meets the load that it knows, and pages are right one interval later.
	backoffFirst     = time.Second
	backoffMostLeast = 2 * time.Second // of the largest backoff, for short intervals
	backoffMost      = 15 * time.Second
	// After a refusal that a person must mend: wrong token, wrong address.
	backoffRefused     = 30 * time.Second
	backoffRefusedMost = 5 * time.Minute
	// A service may ask for patience, within reason.
	maxRetryAfter = 15 * time.Minute
	// The backlog is sent at this many times real time beside the live packets.
	backlogSpeed = 20
	// A packet that something before the service refuses waits so long aside.
	parkFor   = 10 * time.Minute
	maxParked = 64
	// So many such refusals in a row are not about packets but about the way.
	parksInRow = 3
	// A new epoch begins at most so often.
	epochEvery = time.Minute
)

// lane says why a packet is sent.
type lane uint8

const (
	laneLive    lane = iota // the newest packet
	laneBacklog             // the oldest one
	lanes
)

// shipState belongs to the shipper.
type shipState struct {
	wantLive  bool // something was appended since the live lane last looked
	busy      [lanes]bool
	failures  int
	notBefore time.Time // nothing is sent earlier
	nextOld   time.Time // the backlog lane's next turn
	oldEmpty  bool      // the backlog lane found nothing since something changed
	clone     bool      // a new epoch is needed
	nextEpoch time.Time
	parked    []parked
	parks     int // since the last packet that got through
}

type parked struct {
	seq   uint64
	until time.Time
}

// sent is what became of one packet.
type sent struct {
	lane   lane
	record spool.Record
	result result
}

// ship sends what is in the spool until ctx ends. One request per lane is in flight at
// most.
func (a *Agent) ship(ctx context.Context) {
	s := &a.ships
	s.wantLive = true // what an earlier run left
	results := make(chan sent, lanes)
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		select {
		case <-ctx.Done():
			a.finish(results, cancel)
			return
		case <-a.appended:
			s.wantLive, s.oldEmpty = true, false
		case r := <-results:
			a.landed(r)
		case <-wake.C:
		}
		if ctx.Err() != nil {
			continue
		}
		wake.Reset(a.dispatch(requests, results))
	}
}

// finish waits a moment for what is in flight. What is not answered stays in the
// spool.
func (a *Agent) finish(results chan sent, cancel context.CancelFunc) {
	timer := time.AfterFunc(stopGrace, cancel)
	defer timer.Stop()
	for a.ships.busy[laneLive] || a.ships.busy[laneBacklog] {
		a.landed(<-results)
	}
}

// dispatch sends what may be sent now and returns when to look again.
func (a *Agent) dispatch(ctx context.Context, results chan sent) time.Duration {
	s := &a.ships
	now := a.deps.Now()
	a.unpark(now)
	if s.clone {
		return a.recoverClone(now)
	}
	if wait := s.notBefore.Sub(now); wait > 0 {
		return wait
	}
	a.mu.Lock()
	offline := a.offline
	a.mu.Unlock()
	if offline {
		// One packet finds out whether the service is back; the rest waits for it.
		if !s.busy[laneLive] && !s.busy[laneBacklog] && !a.launch(ctx, laneLive, results) {
			a.launch(ctx, laneBacklog, results)
		}
		return a.interval()
	}
	if s.wantLive && !s.busy[laneLive] {
		s.wantLive = false
		a.launch(ctx, laneLive, results)
	}
	if s.busy[laneBacklog] || s.oldEmpty {
		return a.interval()
	}
	if wait := s.nextOld.Sub(now); wait > 0 {
		return wait
	}
	s.nextOld = now.Add(a.interval() / backlogSpeed)
	if !a.launch(ctx, laneBacklog, results) {
		s.oldEmpty = true
		return a.interval()
	}
	return a.interval() / backlogSpeed
}

// launch sends the newest or the oldest packet. It reports whether there was one.
func (a *Agent) launch(ctx context.Context, l lane, results chan sent) bool {
	record, ok, err := a.spool.Take(l == laneLive)
	if err != nil {
		a.setSpoolCondition(err)
		a.log.Warn("spool does not give a packet", "error", err)
		a.ships.notBefore = a.deps.Now().Add(backoffFirst)
		return false
	}
	if !ok {
		return false
	}
	a.ships.busy[l] = true
	a.count(func(c *counters) { c.flying++; c.attempts++ })
	go func() { // answered within requestTimeout, and results has room for every lane
		results <- sent{l, record, a.send(ctx, record)}
	}()
	return true
}

// landed takes the outcome of one request.
func (a *Agent) landed(r sent) {
	s := &a.ships
	s.busy[r.lane] = false
	s.oldEmpty = false
	a.count(func(c *counters) { c.flying-- })
	a.metrics.request(r.result.category)
	seq := r.record.Seq
	switch r.result.verdict {
	case verdictDurable:
		a.acknowledged(r)
		return
	case verdictReject:
		a.rejected(r)
		return
	case verdictClone:
		a.spool.Return(seq)
		s.clone = true
		a.note(r.result.err)
		return
	case verdictPark:
		if s.parks++; s.parks <= parksInRow {
			a.park(seq)
			a.note(r.result.err)
			a.setServiceCondition(r.result)
			return
		}
	}
	a.spool.Return(seq)
	a.failed(r.result)
}

// failed makes the agent wait, and hold what comes next.
func (a *Agent) failed(r result) {
	s := &a.ships
	s.failures++
	first, most := backoffFirst, min(backoffMost, max(backoffMostLeast, a.interval()))
	if r.verdict == verdictRefused {
		first, most = backoffRefused, backoffRefusedMost
	}
	wait := most
	if s.failures < 12 {
		wait = min(most, first<<(s.failures-1))
	}
	wait = wait/2 + a.jitter(wait/2)
	if r.retryAfter > 0 {
		after := min(r.retryAfter, maxRetryAfter)
		wait = after + a.jitter(after/4)
	}
	until := a.deps.Now().Add(wait)
	if until.After(s.notBefore) {
		s.notBefore = until
	}
	a.mu.Lock()
	news := !a.offline
	a.offline = true
	a.mu.Unlock()
	a.note(r.err)
	a.setServiceCondition(r)
	level := a.log.Debug
	if news {
		level = a.log.Warn
	}
	level("service did not take a packet; packets wait in the spool", "category", r.category, "error", r.err, "retry_in", wait.Round(time.Millisecond))
}

// acknowledged frees the packet. Only now, and when the spool has noted it, may what
// was held be sent.
func (a *Agent) acknowledged(r sent) {
	s := &a.ships
	s.failures, s.parks = 0, 0
	receipt := r.result.receipt
	if receipt.StoredKnown {
		err := a.spool.AckStored(receipt.Stored, receipt.StoredAhead)
		if errors.Is(err, spool.ErrRewound) {
			// Packets that this spool never wrote have this packet's successors' numbers, so
			// this one was taken for a repeat of another: it goes on under the new epoch.
			a.spool.Return(r.record.Seq)
			s.clone = true
			a.note(err)
			return
		}
		a.noteStored(receipt)
	}
	if err := a.spool.Ack(r.record.Seq); err != nil && !errors.Is(err, spool.ErrClosed) {
		a.log.Warn("space of an acknowledged packet is not free yet", "seq", r.record.Seq, "error", err)
	}
	packets := r.record.Seq - max(r.record.FirstSeq, 1) + 1
	first := false
	a.count(func(c *counters) {
		first = c.lastAckMs == 0
		c.acknowledged += packets
		c.lastAckMs = a.deps.Now().UnixMilli()
	})
	if first {
		a.log.Info("service took the first packet of this run", "seq", r.record.Seq)
	}
	a.metrics.acknowledged.Add(float64(packets))
	a.apply(receipt.Settings)
	a.backOnline()
}

func (a *Agent) noteStored(receipt *fleet.Receipt) {
	ahead := uint64(0)
	for _, r := range receipt.StoredAhead {
		ahead += r.Last - r.First + 1
	}
	a.count(func(c *counters) { c.stored, c.storedAhead, c.storedKnown = receipt.Stored, ahead, true })
}

func (a *Agent) backOnline() {
	a.deps.Health.Clear(codeService)
	a.mu.Lock()
	offline := a.offline
	a.mu.Unlock()
	if !offline && a.spool.Stats().Held == 0 { // an earlier run may have left some held
		return
	}
	// Between the release and the flag a packet may be appended held; the next release
	// takes care of it, so the flag goes first.
	a.mu.Lock()
	a.offline = false
	a.mu.Unlock()
	if err := a.releaseHeld(); err != nil {
		a.log.Warn("held packets cannot be released yet", "error", err)
		a.setSpoolCondition(err)
		a.mu.Lock()
		a.offline = true
		a.mu.Unlock()
		a.ships.notBefore = a.deps.Now().Add(backoffFirst)
		return
	}
	a.log.Info("service takes packets again", "waiting", a.spool.Stats().Records)
	a.ships.nextOld = a.deps.Now().Add(a.jitter(a.interval())) // not all agents at once
}

// releaseHeld waits for an append in progress, which may have decided to hold.
func (a *Agent) releaseHeld() error {
	a.appending.Lock()
	defer a.appending.Unlock()
	return a.spool.Release()
}

// rejected moves a packet that the service will never take out of the way.
func (a *Agent) rejected(r sent) {
	reason := string(r.result.category) + ": " + clip(redact(r.result.err.Error()), maxDetailBytes)
	a.log.Error("service rejected a packet for good", "seq", r.record.Seq, "error", r.result.err)
	a.note(r.result.err)
	if err := a.spool.Reject(r.record.Seq, reason); err != nil {
		a.spool.Return(r.record.Seq)
		a.setSpoolCondition(err)
		a.ships.notBefore = a.deps.Now().Add(backoffFirst)
		return
	}
	packets := r.record.Seq - max(r.record.FirstSeq, 1) + 1
	a.count(func(c *counters) { c.rejected += packets })
	a.metrics.rejected.Add(float64(packets))
	a.setRejectedCondition(r.result.err)
	a.ships.failures = 0
	a.backOnline() // it did answer
}

// park puts a packet aside that something on the way refuses, so that it does not stand
// in the way of others. It is neither lost nor tried all the time.
func (a *Agent) park(seq uint64) {
	s := &a.ships
	s.parked = append(s.parked, parked{seq, a.deps.Now().Add(parkFor)})
	if len(s.parked) > maxParked {
		a.spool.Return(s.parked[0].seq)
		s.parked = s.parked[1:]
	}
}

func (a *Agent) unpark(now time.Time) {
	s := &a.ships
	for len(s.parked) > 0 && (s.clone || !now.Before(s.parked[0].until)) {
		a.spool.Return(s.parked[0].seq)
		s.parked = s.parked[1:]
		s.oldEmpty = false
	}
}

// recoverClone begins a new epoch as soon as nothing is in flight.
func (a *Agent) recoverClone(now time.Time) time.Duration {
	s := &a.ships
	a.setCloneCondition()
	if s.busy[laneLive] || s.busy[laneBacklog] {
		return a.interval() // landed wakes us
	}
	if wait := s.nextEpoch.Sub(now); wait > 0 {
		return wait
	}
	s.nextEpoch = now.Add(epochEvery)
	if err := a.newEpoch(); err != nil {
		a.note(err)
		a.log.Error("spool cannot begin a new epoch", "error", err)
		return backoffFirst
	}
	s.clone, s.wantLive, s.oldEmpty = false, true, false
	return 0
}
