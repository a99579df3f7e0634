package spool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"vigil/fleet"
)

// state is all that the spool knows besides the records that wait. It is written as
// a state record at the beginning of every segment and before a segment is deleted,
// each time twice in a row, so that one damaged place never takes the position.
type state struct {
	next     uint64 // sequence number of the next packet, from 1
	released uint64 // held records below this number may be sent
	previous uint64 // epoch that this one replaced; 0: none
	// settled are the numbers that need no further care: acknowledged, or given up
	// with a gap that the service has.
	settled fleet.SeqSet
	gaps    gapList
}

// sealed is one finished segment as a state record lists it: what stands behind its
// end was never promised to anybody, for instance bytes of a failed write.
type sealed struct {
	number uint64
	end    int64
}

// snapshot is a state together with the segments before the one it stands in. A
// segment with a lower number that is not listed has been emptied.
type snapshot struct {
	state
	sealed []sealed
}

const stateVersion = 1

// Limits of a decoded state. They are far above what the spool writes.
const (
	maxStateSegments = 1 << 16
	maxStateRanges   = 1 << 20
	maxReasonBytes   = 64
)

var errState = errors.New("state record makes no sense")

func (s *snapshot) encode() []byte {
	buf := []byte{stateVersion}
	put := func(v uint64) { buf = binary.AppendUvarint(buf, v) }
	put(s.next)
	put(s.released)
	put(s.previous)
	put(uint64(len(s.sealed)))
	for _, seg := range s.sealed {
		put(seg.number)
		put(uint64(seg.end))
	}
	put(s.settled.High())
	put(uint64(len(s.settled.Ahead())))
	for _, r := range s.settled.Ahead() {
		put(r.First)
		put(r.Last)
	}
	put(uint64(len(s.gaps)))
	for _, g := range s.gaps {
		put(g.FirstSeq)
		put(g.LastSeq)
		buf = appendInt(buf, g.FromMs)
		buf = appendInt(buf, g.ToMs)
		put(uint64(len(g.Reason)))
		buf = append(buf, g.Reason...)
	}
	return buf
}

func appendInt(buf []byte, n fleet.Int) []byte {
	v, known := n.Get()
	if !known {
		return append(buf, 0)
	}
	return binary.AppendVarint(append(buf, 1), v)
}

// decodeState reads a state record's payload. Anything out of place is an error:
// the payload has a checksum, so it is our own bug or somebody's forgery.
func decodeState(data []byte) (*snapshot, error) {
	if len(data) == 0 || data[0] != stateVersion {
		return nil, fmt.Errorf("%w: version", errState)
	}
	r := stateReader{data: data[1:]}
	s := &snapshot{}
	s.next, s.released, s.previous = r.uint(), r.uint(), r.uint()
	for n := r.count(maxStateSegments); n > 0 && !r.bad; n-- {
		s.sealed = append(s.sealed, sealed{number: r.uint(), end: int64(r.uint() & (1<<62 - 1))})
	}
	high := r.uint()
	var ahead []fleet.SeqRange
	for n := r.count(maxStateRanges); n > 0 && !r.bad; n-- {
		ahead = append(ahead, fleet.SeqRange{First: r.uint(), Last: r.uint()})
	}
	for n := r.count(maxStateRanges); n > 0 && !r.bad; n-- {
		g := fleet.Gap{FirstSeq: r.uint(), LastSeq: r.uint(), FromMs: r.int(), ToMs: r.int(), Reason: r.text()}
		s.gaps = append(s.gaps, gap{Gap: g})
	}
	if r.bad || len(r.data) != 0 || s.next == 0 {
		return nil, fmt.Errorf("%w: %d bytes left", errState, len(r.data))
	}
	settled, err := fleet.SeqSetFrom(high, ahead)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	s.settled = *settled
	return s, s.check()
}

func (s *snapshot) check() error {
	if s.next > maxSeq || s.settled.Last() >= s.next {
		return fmt.Errorf("%w: number %d is settled, next is %d", errState, s.settled.Last(), s.next)
	}
	last := uint64(0)
	for _, g := range s.gaps {
		if g.FirstSeq <= last || g.LastSeq < g.FirstSeq || g.LastSeq >= s.next {
			return fmt.Errorf("%w: gap %d to %d after %d, next is %d", errState, g.FirstSeq, g.LastSeq, last, s.next)
		}
		last = g.LastSeq
	}
	return nil
}

// stateReader takes numbers off a payload; bad stays set after the first error.
type stateReader struct {
	data []byte
	bad  bool
}

func (r *stateReader) uint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *stateReader) count(limit uint64) uint64 {
	n := r.uint()
	// Every element takes a byte at least, so a count is never larger than the rest.
	if n > limit || n > uint64(len(r.data)) {
		r.bad = true
		return 0
	}
	return n
}

func (r *stateReader) int() fleet.Int {
	if r.uint() == 0 {
		return fleet.Int{}
	}
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.bad, r.data = true, nil
		return fleet.Int{}
	}
	r.data = r.data[n:]
	return fleet.Of(v)
}

func (r *stateReader) text() string {
	n := r.count(maxReasonBytes)
	if r.bad {
		return ""
	}
	text := string(r.data[:n])
	r.data = r.data[n:]
	return text
}
