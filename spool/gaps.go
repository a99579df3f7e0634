package spool

import (
	"slices"

	"vigil/fleet"
)

// The reasons of gaps, as they travel to the service.
const (
	ReasonFull     = "spool_full"
	ReasonDamaged  = "damaged"
	ReasonRejected = "rejected"
)

// maxGapsAtOnce bounds what Gaps returns: a packet that carries more would grow
// without limit.
const maxGapsAtOnce = 256

// gap is a gap and the packet that carries it to the service; 0: none yet.
type gap struct {
	fleet.Gap
	carrier uint64
}

// gapList is sorted by number; gaps do not overlap.
type gapList []gap

// add puts a gap in. Neighbours for the same reason that no packet carries yet are
// joined, so an outage that lasts makes one gap that grows.
func (l gapList) add(g fleet.Gap) gapList {
	i, _ := slices.BinarySearchFunc(l, g.FirstSeq, func(have gap, first uint64) int {
		if have.FirstSeq < first {
			return -1
		}
		return 1
	})
	l = slices.Insert(l, i, gap{Gap: g})
	if i+1 < len(l) && joinable(l[i], l[i+1]) {
		l[i] = joined(l[i], l[i+1])
		l = slices.Delete(l, i+1, i+2)
	}
	if i > 0 && joinable(l[i-1], l[i]) {
		l[i-1] = joined(l[i-1], l[i])
		l = slices.Delete(l, i, i+1)
	}
	return l
}

func joinable(a, b gap) bool {
	return a.LastSeq+1 == b.FirstSeq && a.Reason == b.Reason && a.carrier == 0 && b.carrier == 0 &&
		a.FromMs.Known() == b.FromMs.Known() && a.ToMs.Known() == b.ToMs.Known()
}

func joined(a, b gap) gap {
	a.LastSeq = b.LastSeq
	a.ToMs = a.ToMs.Max(b.ToMs)
	if b.FromMs.Known() && b.FromMs.Or(0) < a.FromMs.Or(0) {
		a.FromMs = b.FromMs
	}
	return a
}

// without removes a range of numbers from the list: the service has them after all.
func (l gapList) without(r fleet.SeqRange) gapList {
	if len(l) == 0 || r.Last < l[0].FirstSeq || r.First > l[len(l)-1].LastSeq {
		return l
	}
	var rest gapList
	for _, g := range l {
		if g.LastSeq < r.First || g.FirstSeq > r.Last {
			rest = append(rest, g)
			continue
		}
		if g.FirstSeq < r.First {
			before := g
			before.LastSeq = r.First - 1
			rest = append(rest, before)
		}
		if g.LastSeq > r.Last {
			after := g
			after.FirstSeq = r.Last + 1
			rest = append(rest, after)
		}
	}
	return rest
}

// open returns the gaps that no packet carries.
func (l gapList) open() []fleet.Gap {
	var gaps []fleet.Gap
	for _, g := range l {
		if g.carrier == 0 && len(gaps) < maxGapsAtOnce {
			gaps = append(gaps, g.Gap)
		}
	}
	return gaps
}

// carried notes that the packet with number seq carries g. The gap may have grown at
// its end since the caller saw it; what was added stays open.
func (l gapList) carried(seq uint64, g fleet.Gap) (gapList, bool) {
	for i, have := range l {
		if have.FirstSeq != g.FirstSeq || have.carrier != 0 || have.LastSeq < g.LastSeq {
			continue
		}
		if have.LastSeq > g.LastSeq {
			rest := have
			rest.FirstSeq = g.LastSeq + 1
			rest.FromMs = g.ToMs
			l = slices.Insert(l, i+1, rest)
		}
		l[i] = gap{Gap: g, carrier: seq}
		return l, true
	}
	return l, false
}

// settle takes out the gaps that packets in the range carry, because the service
// has these packets now.
func (l gapList) settle(r fleet.SeqRange) (rest gapList, settled []fleet.SeqRange) {
	rest = l[:0]
	for _, g := range l {
		if r.First <= g.carrier && g.carrier <= r.Last {
			settled = append(settled, fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq})
			continue
		}
		rest = append(rest, g)
	}
	return rest, settled
}

// uncarry opens the gaps again that packets in the range carry, because these
// packets are lost.
func (l gapList) uncarry(r fleet.SeqRange) {
	for i := range l {
		if r.First <= l[i].carrier && l[i].carrier <= r.Last {
			l[i].carrier = 0
		}
	}
}

// contains reports whether a number is in a gap.
func (l gapList) contains(seq uint64) bool {
	i, found := slices.BinarySearchFunc(l, seq, func(g gap, seq uint64) int {
		switch {
		case g.LastSeq < seq:
			return -1
		case g.FirstSeq > seq:
			return 1
		}
		return 0
	})
	return found && i < len(l)
}

func (l gapList) numbers() (sum uint64) {
	for _, g := range l {
		sum += g.LastSeq - g.FirstSeq + 1
	}
	return sum
}
