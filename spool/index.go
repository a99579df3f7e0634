package spool

import (
	"fmt"
	"slices"
)

// entry is one packet that waits. Its payload is on disk only.
type entry struct {
	first, seq uint64
	atMs       int64
	seg        *segment
	offset     int64
	length     int64 // of the payload
	held       bool  // as it was appended; see core.isHeld
	inFlight   bool
	dead       bool // acknowledged, merged or dropped: a place holder
	keep       bool // merging it saved nothing: do not try again
	readErrors uint8
}

func (e *entry) size() int64 { return headSize + e.length }

// span is how many packets the record stands for.
func (e *entry) span() uint64 { return e.seq - e.first + 1 }

// index is the list of packets that wait, by number. Entries die in any order and
// are swept away when they are the majority, so that a death costs little.
type index struct {
	entries []entry
	dead    int
}

func (x *index) live() int { return len(x.entries) - x.dead }

// add appends an entry; its numbers are above all others.
func (x *index) add(e entry) { x.entries = append(x.entries, e) }

// find returns the position of the live entry that ends at seq, or -1.
func (x *index) find(seq uint64) int {
	i := x.from(seq)
	if i < len(x.entries) && x.entries[i].seq == seq && !x.entries[i].dead {
		return i
	}
	return -1
}

// from returns the position of the first entry, dead or alive, that ends at or after
// seq.
func (x *index) from(seq uint64) int {
	i, _ := slices.BinarySearchFunc(x.entries, seq, func(e entry, seq uint64) int {
		if e.seq < seq {
			return -1
		}
		return 1
	})
	return i
}

// kill marks an entry as dead. Positions stay as they are until sweep.
func (x *index) kill(i int) {
	x.entries[i].dead = true
	x.entries[i].seg = nil
	x.dead++
}

// sweep gives the room of dead entries back. Positions change.
func (x *index) sweep() {
	for n := len(x.entries); n > 0 && x.entries[n-1].dead; n-- {
		x.entries = x.entries[:n-1]
		x.dead--
	}
	if x.dead*2 > len(x.entries) {
		x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return e.dead })
		x.dead = 0
	}
}

// check returns what is wrong with the order.
func (x *index) check() error {
	last, dead := uint64(0), 0
	for i := range x.entries {
		e := &x.entries[i]
		if e.dead {
			dead++
			continue
		}
		if e.first <= last || e.seq < e.first || e.seg == nil {
			return fmt.Errorf("entry %d to %d after %d", e.first, e.seq, last)
		}
		last = e.seq
	}
	if dead != x.dead {
		return fmt.Errorf("%d dead entries, counted %d", dead, x.dead)
	}
	return nil
}
