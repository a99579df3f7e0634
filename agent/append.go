package agent

import (
	"errors"
	"fmt"

	"vigil/fleet"
	"vigil/spool"
	"vigil/wire"
)

// append gives a packet its number and puts it into the spool, synced. When the disk
// does not take it, it stays in memory and becomes part of the next one: its sums are
// not lost while the process lives, and its number was never given out.
func (a *Agent) append(p *fleet.Packet) {
	a.appending.Lock()
	defer a.appending.Unlock()
	a.metrics.health(a.deps.Health) // once per interval, whatever becomes of the packet
	if a.unsaved != nil {
		p = a.joinUnsaved(p)
	}
	gaps := a.spool.Gaps()
	err := a.store(p, gaps)
	if kind := fleet.KindOf(err); err != nil && (kind == fleet.KindTooLarge || kind == fleet.KindInvalid) {
		// It can never be sent. That is a mistake of ours, and it must be seen.
		a.unsaved = nil
		a.count(func(c *counters) { c.unencodable++; c.lastError = err.Error() })
		a.setEncodeCondition(err)
		a.log.Error("packet cannot be encoded and is lost", "error", err)
		return
	}
	if err != nil {
		a.unsaved = p
		a.count(func(c *counters) { c.appendErrors++; c.lastError = err.Error() })
		a.setSpoolCondition(err)
		a.log.Warn("packet waits in memory because the spool does not take it", "seq", p.ID.Seq, "error", err)
		return
	}
	a.unsaved = nil
	a.deps.Health.Clear(codeSpoolFails)
	if len(gaps) > 0 {
		if err := a.spool.GapsCarried(p.ID.Seq, gaps); err != nil {
			a.log.Warn("gaps will be reported twice", "error", err) // the service fills them once
		}
	}
	a.count(func(c *counters) { c.spooled++ })
	a.metrics.spooled.Inc()
	a.watchSpool()
	select {
	case a.appended <- struct{}{}:
	default: // the shipper has not looked yet
	}
}

// store numbers a packet, encodes it and appends it to the spool. What is too large
// loses its details before its totals, and says so: sessions first, then events, then
// streams. Errors of kind invalid and too large mean that the packet can never be
// stored.
func (a *Agent) store(p *fleet.Packet, gaps []fleet.Gap) error {
	p.ID.Epoch, p.ID.Seq = a.spool.Epoch(), a.spool.NextSeq()
	p.FirstSeq = p.ID.Seq
	p.Gaps = gaps
	err := a.tryStore(p)
	for step := 0; fleet.KindOf(err) == fleet.KindTooLarge && step < len(reductions); step++ {
		a.log.Warn("packet is too large and loses details", "lost", reductions[step].name, "error", err)
		for i := range p.Snapshots {
			s := &p.Snapshots[i]
			reductions[step].drop(s)
			if s.Status.HasNumbers() {
				s.Status = fleet.StatusPartial
			}
			s.Detail = "too much for one packet: left out " + reductions[step].name
		}
		err = a.tryStore(p)
	}
	return err
}

func (a *Agent) tryStore(p *fleet.Packet) error {
	payload, err := a.codec.Encode(p)
	if err != nil {
		return err
	}
	err = a.spool.Append(spool.Record{FirstSeq: p.FirstSeq, Seq: p.ID.Seq, AtMs: newestMs(p), Held: a.hold(), Payload: payload})
	if errors.Is(err, spool.ErrTooLarge) {
		return &fleet.Error{
			Kind: fleet.KindTooLarge, Message: fmt.Sprintf("a packet of %d bytes is too large for the disk queue", len(payload)), Hint: "raise spool_max_bytes", Err: err,
		}
	}
	return err
}

type reduction struct {
	name string
	drop func(*fleet.Snapshot)
}

var reductions = [...]reduction{
	{"sessions", func(s *fleet.Snapshot) { s.Sessions = nil }},
	{"sessions and events", func(s *fleet.Snapshot) { s.Events = nil }},
	{"sessions, events and streams", func(s *fleet.Snapshot) { s.Streams = nil }},
}

// joinUnsaved adds a packet that has no number yet to its successor.
func (a *Agent) joinUnsaved(p *fleet.Packet) *fleet.Packet {
	older, newer := *a.unsaved, *p
	older.ID = fleet.PacketID{Agent: p.ID.Agent, Epoch: 1, Seq: 1}
	newer.ID = fleet.PacketID{Agent: p.ID.Agent, Epoch: 1, Seq: 2}
	older.FirstSeq, newer.FirstSeq = 1, 2
	older.Gaps = nil // still in the spool's list
	whole, err := wire.Merge([]*fleet.Packet{&older, &newer})
	if err != nil {
		a.log.Error("packet in memory cannot be merged and is lost", "error", err)
		a.count(func(c *counters) { c.unencodable++; c.lastError = err.Error() })
		return p
	}
	return whole
}

// hold decides whether the next packet is appended held: while the service does not
// answer, if there is another one that can be tried.
func (a *Agent) hold() bool {
	a.mu.Lock()
	offline, flying := a.offline, a.stats.flying
	a.mu.Unlock()
	if !offline {
		return false
	}
	if flying > 0 {
		return true // that one will be tried again
	}
	_, free, err := a.spool.Newest()
	return free && err == nil
}

func newestMs(p *fleet.Packet) int64 {
	newest := int64(0)
	for i := range p.Snapshots {
		newest = max(newest, p.Snapshots[i].AtMs)
	}
	return newest
}

// newEpoch is the way out of a cloned or restored spool: what this process recorded and
// the service has not acknowledged gets a new identity. What was recorded before is in
// the other copy as well, or at the service already, and is left to the old epoch. Nothing may be
// in flight.
func (a *Agent) newEpoch() error {
	a.appending.Lock()
	defer a.appending.Unlock()
	kept, left := 0, 0
	err := a.spool.NewEpoch(func(rec spool.Record, epoch, seq uint64) ([]byte, bool, error) {
		p, err := a.codec.Decode(rec.Payload)
		if err != nil {
			return nil, false, fmt.Errorf("decode packet %d: %w", rec.Seq, err)
		}
		if p.Boot != a.boot {
			left++
			return nil, false, nil
		}
		p.ID.Epoch, p.ID.Seq, p.FirstSeq = epoch, seq, seq
		p.Gaps = nil // of the old epoch
		payload, err := a.codec.Encode(p)
		kept++
		return payload, err == nil, err
	})
	if errors.Is(err, spool.ErrClosed) {
		return nil
	}
	if err != nil {
		return err
	}
	a.count(func(c *counters) {
		c.epochs++
		c.leftBehind += uint64(left)
		c.stored, c.storedAhead, c.storedKnown = 0, 0, false
	})
	a.log.Error("spool is a copy of another one: packets go on under a new epoch",
		"epoch", fmt.Sprintf("%016x", a.spool.Epoch()), "packets_kept", kept, "packets_left", left)
	return nil
}
