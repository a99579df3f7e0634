package spool

import (
	"errors"
	"fmt"
)

// newEpoch writes all records that rewrite keeps into draft segments of a new epoch
// and then a state record, which makes the new epoch count: recovery follows the
// newest state record. Until then the old segments are the spool; after a crash the
// drafts are deleted. For a moment both take space, also above MaxBytes: what is kept
// is what this process recorded, which is little.
func (c *core) newEpoch(rewrite Rewrite) error {
	fresh, err := newEpoch(c.opt.Rand)
	if err != nil {
		return err
	}
	if c.flying > 0 {
		return fmt.Errorf("%w: %d records are in flight", ErrBusy, c.flying)
	}
	old := *c // everything that the attempt changes is in here, by value or replaced
	c.seal()
	c.state = state{next: 1, previous: old.epoch}
	c.epoch, c.index, c.held, c.segments, c.bytes = fresh, index{}, 0, nil, 0
	c.phase = drafting
	err = c.draft(&old, rewrite)
	if err == nil {
		c.seal()
		c.phase = committing
		_, err = c.tryNew(nil) // begins with the state
	}
	c.phase = normal
	if err != nil {
		c.goBack(&old)
		return fmt.Errorf("begin a new epoch: %w", err)
	}
	for _, seg := range old.segments {
		c.discard(seg.number)
	}
	c.log.Warn("spool began a new epoch", "epoch", fmt.Sprintf("%016x", c.epoch), "kept", c.index.live(), "left", old.index.live())
	return nil
}

// phase says what a new segment is for.
type phase uint8

const (
	normal     phase = iota
	drafting         // a draft of a new epoch: without state, so it does not count yet
	committing       // the segment with the state that makes the drafts count
)

// goBack returns to the old epoch. An attempt that failed may have reached the disk
// all the same, so the old epoch's state is written after it before anything goes. If
// that fails as well, the drafts stay: whichever epoch a restart finds is whole.
func (c *core) goBack(old *core) {
	c.seal()
	drafts, next := c.segments, c.nextSegment
	*c = *old
	c.active, c.activeFile, c.nextSegment = nil, nil, next
	if err := c.writeState(); err != nil {
		c.log.Warn("drafts of a new epoch stay for now", "error", err)
		return
	}
	for _, seg := range drafts {
		c.discard(seg.number)
	}
}

// draft rewrites the records of the old epoch, one at a time.
func (c *core) draft(old *core, rewrite Rewrite) error {
	for i := range old.index.entries {
		e := &old.index.entries[i]
		if e.dead {
			continue
		}
		payload, err := old.read(e)
		if errors.Is(err, errDamaged) {
			c.log.Warn("packet in spool is damaged and left behind in the old epoch", "seq", e.seq, "error", err)
			c.met.damaged.Add(float64(e.span()))
			continue
		}
		if err != nil {
			return fmt.Errorf("read packet %d: %w", e.seq, err)
		}
		rec := Record{FirstSeq: e.first, Seq: e.seq, AtMs: e.atMs, Held: old.isHeld(e), Payload: payload}
		payload, keep, err := rewrite(rec, c.epoch, c.next)
		if err != nil {
			return fmt.Errorf("rewrite packet %d: %w", e.seq, err)
		}
		if !keep {
			continue
		}
		if err := c.draftOne(rec, payload); err != nil {
			return err
		}
	}
	return nil
}

func (c *core) draftOne(rec Record, payload []byte) error {
	if int64(len(payload)) > c.payloadBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), c.payloadBytes)
	}
	f := frame{kind: typePacket, first: c.next, seq: c.next, atMs: rec.AtMs, payload: payload}
	if rec.Held {
		f.flags = flagHeld
	}
	offsets, err := c.tryDraft([]frame{f})
	if err != nil {
		return fmt.Errorf("store packet %d: %w", rec.Seq, err)
	}
	c.active.place(f.size())
	c.index.add(entry{
		first: c.next, seq: c.next, atMs: rec.AtMs, seg: c.active, offset: offsets[0], length: int64(len(payload)), held: rec.Held,
	})
	if rec.Held {
		c.held++
	}
	c.next++
	return nil
}

// tryDraft is write for drafts: any failure ends the attempt.
func (c *core) tryDraft(frames []frame) ([]int64, error) {
	if c.active != nil {
		offsets, err := c.tryActive(frames)
		if !errors.Is(err, errSegmentFull) {
			return offsets, err
		}
		c.seal()
	}
	return c.tryNew(frames)
}
