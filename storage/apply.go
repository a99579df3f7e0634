package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// An applier turns messages into transactions. It belongs to one goroutine.
type applier struct {
	s         *Storage
	queue     chan decoded
	positions map[string]uint64 // on disk
	goals     map[string]uint64 // what was in each shard at the start
}

// A batch is one transaction being put together.
type batch struct {
	store.Batch
	positions map[string]uint64
	rows      int
	oldest    time.Time // when the oldest packet of it was received
	tally     tally
	dead      []deadLetter
}

// tally is what becomes true when the batch is on disk.
type tally struct {
	applied, duplicate, conflict, quarantined, arrived, rows, newestMs int64
}

func newBatch() *batch {
	return &batch{Batch: store.Batch{Ledger: map[store.AgentEpoch]*fleet.Ledger{}}, positions: map[string]uint64{}}
}

func (a *applier) run(ctx context.Context) error {
	for {
		b := newBatch()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d := <-a.queue:
			a.add(b, d)
		}
		if err := a.gather(ctx, b); err != nil {
			return err
		}
		if err := a.commit(ctx, b); err != nil {
			return err
		}
	}
}

// gather waits for more until the batch is large or its first packet has waited enough.
func (a *applier) gather(ctx context.Context, b *batch) error {
	timer := time.NewTimer(a.s.cfg.ApplyEvery)
	defer timer.Stop()
	for len(b.Packets) < maxBatchPackets && b.rows < maxBatchRows {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case d := <-a.queue:
			a.add(b, d)
		}
	}
	return nil
}

// add counts the packets of a message.
func (a *applier) add(b *batch, d decoded) {
	b.positions[d.shard] = d.seq
	for i := range d.packets {
		p := &d.packets[i]
		if b.oldest.IsZero() || p.received.Before(b.oldest) {
			b.oldest = p.received
		}
		a.count(b, d.shard, p)
	}
}

// count decides what one packet is: new, a duplicate, in conflict, or not countable.
func (a *applier) count(b *batch, shard string, p *arrived) {
	id := p.entry.ID
	key := store.AgentEpoch{Agent: id.Agent, Epoch: id.Epoch}
	ledger := a.ledger(b, key)
	seqs := fleet.SeqRange{First: p.entry.FirstSeq, Last: id.Seq}
	if p.packet == nil {
		a.quarantine(b, ledger, shard, p, seqs)
		return
	}
	wasGivenUp := ledger.HasGivenUp(seqs)
	isNew, err := ledger.Count(seqs)
	switch {
	case errors.Is(err, fleet.ErrSeqOverlap):
		b.tally.conflict++
		b.dead = append(b.dead, newDeadLetter(shard, p, "conflict", err))
	case err != nil:
		b.tally.quarantined++
		b.dead = append(b.dead, newDeadLetter(shard, p, "quarantined", err))
	case !isNew:
		b.tally.duplicate++
	default:
		if wasGivenUp {
			// Its agent never heard that it was taken, or an earlier copy of it was damaged.
			b.tally.arrived++
			b.Arrived = append(b.Arrived, store.Arrived{AgentEpoch: key, SeqRange: seqs, Received: p.received})
		}
		a.take(b, ledger, p)
	}
}

// quarantine gives up the numbers of a packet that cannot be counted, so that the agent's
// proof adds up and says why. Should a good copy of it arrive, that one is counted.
func (a *applier) quarantine(b *batch, ledger *fleet.Ledger, shard string, p *arrived, seqs fleet.SeqRange) {
	id := p.entry.ID
	given, err := a.giveUp(b, ledger, id, fleet.Gap{FirstSeq: seqs.First, LastSeq: seqs.Last, Reason: "damaged"}, p.received)
	if err == nil && !given {
		b.tally.duplicate++ // a copy of it was counted, or it is known to be lost
		return
	}
	b.tally.quarantined++
	b.dead = append(b.dead, newDeadLetter(shard, p, "quarantined", errors.Join(p.why, err)))
}

// giveUp settles what is not settled of a gap, and stores that as gaps. It reports
// whether there was any.
func (a *applier) giveUp(b *batch, ledger *fleet.Ledger, id fleet.PacketID, gap fleet.Gap, received time.Time) (bool, error) {
	whole := fleet.SeqRange{First: gap.FirstSeq, Last: gap.LastSeq}
	missing := ledger.Missing(whole)
	if _, err := ledger.GiveUp(whole); err != nil {
		return false, err
	}
	for _, r := range missing {
		gap.FirstSeq, gap.LastSeq = r.First, r.Last
		b.Gaps = append(b.Gaps, store.ReceivedGap{AgentGap: store.AgentGap{Agent: id.Agent, Epoch: id.Epoch, Gap: gap}, Received: received})
	}
	return len(missing) > 0, nil
}

// take adds a new packet to the batch.
func (a *applier) take(b *batch, ledger *fleet.Ledger, p *arrived) {
	for _, g := range p.packet.Gaps {
		// An agent gives up only what is older than the packet that says so.
		err := fleet.ErrSeqRange
		if g.LastSeq <= p.packet.ID.Seq {
			_, err = a.giveUp(b, ledger, p.packet.ID, g, p.received)
		}
		if err != nil {
			a.s.log.Warn("packet names a gap that cannot be", "packet", p.packet.ID.String(), "first", g.FirstSeq, "last", g.LastSeq)
		}
	}
	b.Packets = append(b.Packets, p.packet)
	b.Received = append(b.Received, p.received)
	b.tally.applied++
	for i := range p.packet.Snapshots {
		s := &p.packet.Snapshots[i]
		b.rows += len(s.Streams) + len(s.Events) + len(s.Sessions) + 1
		b.tally.rows += int64(len(s.Streams))
		b.tally.newestMs = max(b.tally.newestMs, s.AtMs)
	}
}

// ledger returns the books of an agent and epoch as they will be after the batch.
func (a *applier) ledger(b *batch, key store.AgentEpoch) *fleet.Ledger {
	if ledger, there := b.Ledger[key]; there {
		return ledger
	}
	a.s.mu.RLock()
	ledger, there := a.s.ledger[key]
	a.s.mu.RUnlock()
	if there {
		ledger = ledger.Clone()
	} else {
		ledger = &fleet.Ledger{}
	}
	b.Ledger[key] = ledger
	return ledger
}

// commit stores the batch and then tells everybody.
func (a *applier) commit(ctx context.Context, b *batch) error {
	s := a.s
	for shard, seq := range b.positions {
		b.Positions = append(b.Positions, store.Position{Shard: shard, Seq: seq})
	}
	// Dead letters are written before the position moves: after a crash between the two
	// a letter may be there twice, but never not at all.
	if err := s.dead.write(b.dead); err != nil {
		s.log.Error("dead-letter file cannot be written", "error", err, "letters", len(b.dead))
	}
	if err := s.step("apply"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.deps.Store.Apply(ctx, &b.Batch); err != nil {
		return fmt.Errorf("store batch: %w", err)
	}
	s.metrics.transactionSeconds.Observe(time.Since(began).Seconds())
	if err := s.step("applied"); err != nil {
		return err
	}
	a.publish(b)
	if err := s.step("published"); err != nil {
		return err
	}
	for _, p := range b.Positions {
		a.positions[p.Shard] = p.Seq
		if err := s.deps.Journal.Applied(p.Shard, p.Seq); err != nil {
			s.log.Warn("journal did not take the applied position", "shard", p.Shard, "error", err)
		}
	}
	a.checkReady()
	return nil
}

// publish lets the rest of the process see what is on disk now.
func (a *applier) publish(b *batch) {
	s := a.s
	s.mu.Lock()
	for key, ledger := range b.Ledger {
		s.ledger[key] = ledger
	}
	s.mu.Unlock()
	for i, p := range b.Packets {
		for j := range p.Snapshots {
			s.deps.Live.Apply(p.ID.Agent, b.Received[i], &p.Snapshots[j])
		}
	}
	t := &b.tally
	s.applied.Add(t.applied)
	s.duplicate.Add(t.duplicate)
	s.conflict.Add(t.conflict)
	s.quarantined.Add(t.quarantined)
	s.rows.Add(t.rows)
	s.transactions.Add(1)
	s.newestMs.Store(max(s.newestMs.Load(), t.newestMs))
	if !b.oldest.IsZero() {
		s.lag.Store(int64(max(s.deps.Now().Sub(b.oldest), 0)))
	}
	s.metrics.published(t)
	s.conditionsAfter(t)
	for _, d := range b.dead {
		s.log.Error("packet is not counted, it is in the dead-letter file", "packet", d.Packet, "why", d.Why, "reason", d.Reason)
	}
}

// checkReady finds out whether everything that was there at the start is applied.
func (a *applier) checkReady() {
	for shard, goal := range a.goals {
		if a.positions[shard] < goal {
			return
		}
	}
	a.s.readyOnce.Do(func() {
		a.s.deps.Live.Warm(a.s.deps.Now())
		close(a.s.ready)
		a.s.log.Info("storage has caught up with the journal", "packets", a.s.applied.Load())
	})
	a.s.deps.Health.Clear(catchingUp.Code)
	a.s.deps.Health.Clear(failingCode)
}
