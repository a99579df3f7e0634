package spool

import (
	"fmt"

	"vigil/fleet"
)

// check returns which invariant does not hold; nil when all do. Tests call it after
// every step.
func (c *core) check() error {
	if err := c.index.check(); err != nil {
		return err
	}
	held, flying, bytes, live := 0, 0, int64(0), map[*segment]int64{}
	count := map[*segment]int{}
	for i := range c.index.entries {
		e := &c.index.entries[i]
		if e.dead {
			continue
		}
		if c.isHeld(e) {
			held++
		}
		if e.inFlight {
			flying++
		}
		live[e.seg] += e.size()
		count[e.seg]++
		if e.offset+e.size() > e.seg.end {
			return fmt.Errorf("packet %d is outside of segment %d", e.seq, e.seg.number)
		}
	}
	if held != c.held || flying != c.flying {
		return fmt.Errorf("held %d, counted %d; in flight %d, counted %d", held, c.held, flying, c.flying)
	}
	for _, s := range c.segments {
		bytes += s.size
		if s.live != count[s] || s.liveBytes != live[s] || s.end > s.size {
			return fmt.Errorf("segment %d: live %d/%d, counted %d/%d", s.number, count[s], live[s], s.live, s.liveBytes)
		}
		delete(live, s)
	}
	if len(live) > 0 || bytes != c.bytes {
		return fmt.Errorf("%d entries in segments that are gone, %d bytes, counted %d", len(live), bytes, c.bytes)
	}
	return c.checkNumbers()
}

// checkNumbers proves that every number below next is in exactly one place: waiting,
// settled, or in a gap.
func (c *core) checkNumbers() error {
	var all fleet.SeqSet
	add := func(what string, first, last uint64) error {
		if added, err := all.Fill(fleet.SeqRange{First: first, Last: last}); err != nil || added != last-first+1 {
			return fmt.Errorf("%s %d to %d is accounted for twice (%w)", what, first, last, err)
		}
		return nil
	}
	if c.settled.High() > 0 {
		if err := add("settled", 1, c.settled.High()); err != nil {
			return err
		}
	}
	for _, r := range c.settled.Ahead() {
		if err := add("settled", r.First, r.Last); err != nil {
			return err
		}
	}
	for _, g := range c.gaps {
		if err := add("gap", g.FirstSeq, g.LastSeq); err != nil {
			return err
		}
	}
	for i := range c.index.entries {
		if e := &c.index.entries[i]; !e.dead {
			if err := add("packet", e.first, e.seq); err != nil {
				return err
			}
		}
	}
	if all.High() != c.next-1 || len(all.Ahead()) != 0 {
		return fmt.Errorf("numbers up to %d are accounted for, next is %d", all.High(), c.next)
	}
	return nil
}
