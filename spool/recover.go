package spool

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"vigil/fleet"
)

// defaultFrameBytes stands in for the size of the smallest packet when none is known.
const defaultFrameBytes = 1 << 10

// recovered is what the files of a directory say together. It is computed from scans
// alone, so Check and ReadStats see exactly what Open sees.
type recovered struct {
	state
	epoch    uint64
	found    bool // there is a spool
	packets  []waiting
	sealed   []sealed // segments that count, oldest first
	dirty    map[uint64]bool
	obsolete []uint64 // segments that a state or an unfinished new epoch left behind
	damage   []Damage
	newGaps  []fleet.Gap
	release  bool // a release marker may be among what is damaged
	highest  uint64
}

// waiting is a packet that waits.
type waiting struct {
	place
	number uint64 // of the segment
}

// recoverFrom works out the state from scans, which are sorted by number. It never
// fails: what it cannot explain becomes a gap.
func recoverFrom(scans []*scan) *recovered {
	r := &recovered{dirty: map[uint64]bool{}}
	r.next = 1
	if len(scans) > 0 {
		r.highest = scans[len(scans)-1].number
	}
	base, baseScan := r.chooseEpoch(scans)
	if base != nil {
		r.state = base.state
	}
	mine := r.sort(scans, base, baseScan)
	r.found = r.epoch != 0 && len(mine) > 0
	for _, s := range mine {
		r.control(s, baseScan)
	}
	r.choosePackets(mine)
	r.countNumbers(mine)
	r.accountForAll(mine)
	return r
}

// at is a place across segments.
type at struct {
	number uint64
	offset int64
}

// chooseEpoch finds the newest state record. Its epoch is the spool's epoch. Without
// any, which takes more than one damaged place, it is that of the newest segment that
// still tells one.
func (r *recovered) chooseEpoch(scans []*scan) (*snapshot, at) {
	for _, s := range slices.Backward(scans) {
		for _, p := range slices.Backward(s.places) {
			if p.kind != typeState {
				continue
			}
			snap, err := decodeState(p.payload)
			if err != nil {
				s.damage = append(s.damage, Damage{
					File: segmentName(s.number), Offset: p.offset, Length: p.end() - p.offset, Kind: DamageState, Detail: err.Error(),
				})
				continue
			}
			r.epoch = p.epoch
			return snap, at{s.number, p.offset}
		}
	}
	for _, s := range slices.Backward(scans) {
		if epoch, ok := s.epoch(); ok && !(s.headerOK && s.header.flags&headerDraft != 0) {
			r.epoch = epoch
			break
		}
	}
	return nil, at{}
}

// sort tells the segments that count from those that do not, and cuts what stands
// behind their end.
func (r *recovered) sort(scans []*scan, base *snapshot, baseAt at) (mine []*scan) {
	listed := map[uint64]int64{}
	if base != nil {
		for _, s := range base.sealed {
			listed[s.number] = s.end
		}
	}
	for _, s := range scans {
		epoch, known := s.epoch()
		end, ok := listed[s.number]
		delete(listed, s.number)
		switch {
		case s.newer:
			r.damage = append(r.damage, s.damage...) // left alone
			continue
		case known && epoch != r.epoch:
			r.stranger(s, epoch)
			continue
		case base != nil && s.number < baseAt.number && !ok:
			r.obsolete = append(r.obsolete, s.number)
			continue
		case ok && s.number < baseAt.number:
			s.cut(end)
		}
		if !known && s.size == 0 {
			r.obsolete = append(r.obsolete, s.number)
			continue
		}
		mine = append(mine, s)
	}
	for _, number := range slices.Sorted(maps.Keys(listed)) {
		r.damage = append(r.damage, Damage{
			File: segmentName(number), Length: listed[number], Kind: DamageRead, Detail: "the file is missing",
		})
		r.release = true
	}
	return mine
}

// stranger deals with a segment of another epoch: what NewEpoch left behind goes,
// anything else is somebody's and stays.
func (r *recovered) stranger(s *scan, epoch uint64) {
	draft := s.headerOK && s.header.flags&headerDraft != 0
	if draft || epoch == r.previous {
		r.obsolete = append(r.obsolete, s.number)
		return
	}
	r.damage = append(r.damage, Damage{
		File: segmentName(s.number), Length: s.size, Kind: DamageEpoch, Detail: fmt.Sprintf("epoch %016x", epoch),
	})
}

// cut removes what stands behind the end that a state record gave.
func (s *scan) cut(end int64) {
	s.places = slices.DeleteFunc(s.places, func(p place) bool { return p.offset >= end })
	s.broken = slices.DeleteFunc(s.broken, func(p place) bool { return p.offset >= end })
	s.damage = slices.DeleteFunc(s.damage, func(d Damage) bool { return d.Offset >= end })
	if s.size < end {
		// The file was longer when the state was written.
		s.damage = append(s.damage, Damage{
			File: segmentName(s.number), Offset: s.size, Length: end - s.size, Kind: DamageRead, Detail: "the file is shorter than it was",
		})
	}
	s.size = min(s.size, end)
	s.tailStart = min(s.tailStart, end)
}

// control applies the gaps and releases that came after the base.
func (r *recovered) control(s *scan, base at) {
	for _, d := range s.damage {
		if d.Kind != DamageTail {
			r.dirty[s.number] = true
		}
	}
	// A release marker that cannot be read must not lead to merging what may have been
	// sent. A head that survived says what its record was.
	if s.hidden() > len(s.broken) || slices.ContainsFunc(s.broken, isRelease) {
		r.release = true
	}
	r.damage = append(r.damage, s.damage...)
	for _, p := range s.places {
		if s.number < base.number || (s.number == base.number && p.offset <= base.offset) {
			continue
		}
		r.apply(p)
	}
}

func isRelease(p place) bool { return p.kind == typeRelease }

// hidden counts the damaged places that may have been a record.
func (s *scan) hidden() int {
	n := 0
	for _, d := range s.damage {
		if d.Kind != DamageHeader && !(d.Kind == DamageTail && s.tailZero) {
			n++
		}
	}
	return n
}

func (r *recovered) apply(p place) {
	switch p.kind {
	case typeRelease:
		r.released = max(r.released, p.seq)
	case typeGap:
		if g, ok := gapFrom(p); ok {
			r.addGap(g)
		}
	}
}

// addGap puts in the part of a gap that is not settled or in a gap yet.
func (r *recovered) addGap(g fleet.Gap) {
	for _, free := range r.freeParts(fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq}) {
		part := g
		part.FirstSeq, part.LastSeq = free.First, free.Last
		r.gaps = r.gaps.add(part)
	}
}

// freeParts are the parts of a range that are neither settled nor in a gap.
func (r *recovered) freeParts(want fleet.SeqRange) []fleet.SeqRange {
	taken := r.settled.Clone()
	for _, g := range r.gaps {
		fill(taken, fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq})
	}
	return holes(taken, want)
}

func fill(set *fleet.SeqSet, r fleet.SeqRange) {
	if _, err := set.Fill(r); err != nil {
		panic(fmt.Sprintf("spool: fill %d to %d: %v", r.First, r.Last, err))
	}
}

// holes are the parts of a range that are not in a set.
func holes(set *fleet.SeqSet, want fleet.SeqRange) []fleet.SeqRange {
	var free []fleet.SeqRange
	next := max(want.First, set.High()+1)
	for _, r := range set.Ahead() {
		if next > want.Last || r.First > want.Last {
			break
		}
		if r.First > next {
			free = append(free, fleet.SeqRange{First: next, Last: r.First - 1})
		}
		next = max(next, r.Last+1)
	}
	if next <= want.Last {
		free = append(free, fleet.SeqRange{First: next, Last: want.Last})
	}
	return free
}

// choosePackets decides which packet records wait: not those whose numbers are
// settled or given up; of several for the same numbers the merged one, and of equals
// the one written last.
func (r *recovered) choosePackets(mine []*scan) {
	var all []waiting
	for _, s := range mine {
		for _, p := range s.places {
			if p.kind == typePacket && p.first > 0 {
				all = append(all, waiting{place: p, number: s.number})
			}
		}
	}
	slices.SortFunc(all, func(a, b waiting) int {
		return cmp.Or(
			-cmp.Compare(a.seq-a.first, b.seq-b.first), // wide ones first
			-cmp.Compare(a.number, b.number),
			-cmp.Compare(a.offset, b.offset),
		)
	})
	taken := r.settled.Clone()
	for _, g := range r.gaps {
		fill(taken, fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq})
	}
	r.packets = choose(all, taken)
	slices.SortFunc(r.packets, func(a, b waiting) int { return cmp.Compare(a.seq, b.seq) })
}

// choose takes each packet whose numbers are all free. Adding in the order of width
// would make a set with many ranges, so narrow ones, nearly all, go in by number.
func choose(all []waiting, taken *fleet.SeqSet) []waiting {
	var chosen []waiting
	for start := 0; start < len(all); {
		end := start
		for end < len(all) && all[end].seq-all[end].first == all[start].seq-all[start].first {
			end++
		}
		same := all[start:end]
		slices.SortStableFunc(same, func(a, b waiting) int { return cmp.Compare(a.seq, b.seq) })
		for _, w := range same {
			if free := holes(taken, fleet.SeqRange{First: w.first, Last: w.seq}); len(free) == 1 &&
				free[0].First == w.first && free[0].Last == w.seq {
				fill(taken, free[0])
				chosen = append(chosen, w)
			}
		}
		start = end
	}
	return chosen
}

// countNumbers finds the next number. It must be above every number that was ever
// given out, also when the last records are damaged beyond recognition.
func (r *recovered) countNumbers(mine []*scan) {
	smallest := int64(0)
	for _, s := range mine {
		for _, p := range slices.Concat(s.places, s.broken) {
			switch p.kind {
			case typeRelease: // carries the next number
				r.next = max(r.next, p.seq)
			case typePacket, typeGap, typeState:
				r.next = max(r.next, p.seq+1)
			}
			if size := headSize + p.length; p.kind == typePacket && (smallest == 0 || size < smallest) {
				smallest = size
			}
		}
	}
	if len(mine) == 0 {
		return
	}
	last := mine[len(mine)-1]
	if last.tail() == 0 || last.tailZero || slices.ContainsFunc(last.broken, func(p place) bool { return p.offset == last.tailStart }) {
		return
	}
	// Something was written that tells nothing: as many packets as could stand there.
	// Numbers cost nothing, and one that is used twice costs a packet.
	smallest = cmp.Or(smallest, defaultFrameBytes)
	r.next += uint64((last.tail() + smallest - 1) / smallest)
}

// accountForAll makes gaps of the numbers that nothing accounts for, and lists the
// segments that stay.
func (r *recovered) accountForAll(mine []*scan) {
	taken := r.settled.Clone()
	for _, g := range r.gaps {
		fill(taken, fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq})
	}
	for _, w := range r.packets {
		fill(taken, fleet.SeqRange{First: w.first, Last: w.seq})
	}
	times := map[uint64]int64{}
	for _, s := range mine {
		for _, p := range s.broken {
			if p.kind == typePacket {
				times[p.seq] = p.atMs
			}
		}
		r.sealed = append(r.sealed, sealed{number: s.number, end: s.tailStart})
	}
	if r.next < 2 {
		return
	}
	for _, hole := range holes(taken, fleet.SeqRange{First: 1, Last: r.next - 1}) {
		g := fleet.Gap{FirstSeq: hole.First, LastSeq: hole.Last, Reason: ReasonDamaged}
		if from, ok := times[hole.First]; ok {
			g.FromMs = fleet.Of(from)
		}
		if to, ok := times[hole.Last]; ok {
			g.ToMs = fleet.Of(to)
		}
		r.newGaps = append(r.newGaps, g)
	}
	for _, g := range r.newGaps {
		r.gaps = r.gaps.add(g)
	}
}

func gapFrame(g fleet.Gap) frame {
	payload := appendInt(nil, g.FromMs)
	payload = appendInt(payload, g.ToMs)
	payload = append(payload, g.Reason...)
	return frame{kind: typeGap, first: g.FirstSeq, seq: g.LastSeq, atMs: g.ToMs.Or(0), payload: payload}
}

func gapFrom(p place) (fleet.Gap, bool) {
	r := stateReader{data: p.payload}
	g := fleet.Gap{FirstSeq: p.first, LastSeq: p.seq, FromMs: r.int(), ToMs: r.int()}
	g.Reason = string(r.data)
	return g, !r.bad && p.first > 0 && len(g.Reason) <= maxReasonBytes
}
