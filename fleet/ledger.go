package fleet

import (
	"errors"
	"fmt"
)

// maxGivenUpRanges bounds what a ledger remembers of given-up packets. The oldest are
// forgotten first: should one of those arrive after all, it is taken for a repeat.
const maxGivenUpRanges = 1_000

// ErrHoles means that a range would be one more of very many with holes between them.
var ErrHoles = errors.New("fleet: too many holes between sequence ranges")

// Ledger is what became of the packets of one agent and epoch: counted, or given up
// by the agent, or neither yet. Numbers that were given up may still arrive, when the
// agent never heard that its packet was taken; they are counted then, once.
// The zero value is empty. Not safe for concurrent use.
type Ledger struct {
	settled SeqSet // counted or given up
	givenUp SeqSet // a part of settled
}

// LedgerFrom rebuilds a ledger from its stored parts.
func LedgerFrom(settled, givenUp *SeqSet) *Ledger {
	return &Ledger{settled: *settled.Clone(), givenUp: *givenUp.Clone()}
}

// Settled returns the numbers that are counted or given up. The caller must not change
// it.
func (l *Ledger) Settled() *SeqSet { return &l.settled }

// GivenUp returns the numbers that are given up and have not arrived. The caller must
// not change it.
func (l *Ledger) GivenUp() *SeqSet { return &l.givenUp }

// Clone returns an independent copy.
func (l *Ledger) Clone() *Ledger { return LedgerFrom(&l.settled, &l.givenUp) }

// Count decides about a packet that holds the given numbers. It reports true when the
// packet must be counted now, and false when it was counted before. ErrSeqOverlap means
// that a part of it was: then nothing changes and it cannot be counted.
func (l *Ledger) Count(r SeqRange) (isNew bool, err error) {
	added, err := l.settled.Add(r)
	if added || err != nil && !errors.Is(err, ErrSeqOverlap) {
		return added, err
	}
	// All of it is settled, or a part. What was given up counts as not there.
	there, givenUp := l.settled.count(r), l.givenUp.count(r)
	switch {
	case givenUp == there && there > 0:
		if _, err := l.settled.Fill(r); err != nil {
			return false, err
		}
		l.givenUp.remove(r)
		return true, nil
	case err != nil:
		return false, err
	case givenUp > 0:
		return false, fmt.Errorf("%w: %d to %d, %d of them were counted", ErrSeqOverlap, r.First, r.Last, there-givenUp)
	}
	return false, nil
}

// GiveUp settles every number of the range that is not settled yet, and returns how
// many that were. ErrHoles, changing nothing, when the ledger has MaxHoles and the
// range would add one: a gap is only a claim, and may be left out.
func (l *Ledger) GiveUp(r SeqRange) (uint64, error) {
	if r.First == 0 || r.Last < r.First {
		return 0, fmt.Errorf("%w: %d to %d", ErrSeqRange, r.First, r.Last)
	}
	if l.settled.AddsHole(r) {
		return 0, fmt.Errorf("%w: %d to %d", ErrHoles, r.First, r.Last)
	}
	for _, missing := range l.settled.missing(r) {
		if _, err := l.givenUp.Fill(missing); err != nil {
			return 0, err
		}
	}
	l.givenUp.forget(maxGivenUpRanges)
	return l.settled.Fill(r)
}

// Missing returns the parts of a range that are not settled, in order: what GiveUp
// would settle.
func (l *Ledger) Missing(r SeqRange) []SeqRange {
	if r.First == 0 || r.Last < r.First {
		return nil
	}
	return l.settled.missing(r)
}

// HasGivenUp reports whether any number of the range is given up.
func (l *Ledger) HasGivenUp(r SeqRange) bool {
	if l.givenUp.Last() < r.First {
		return false
	}
	return l.givenUp.count(r) > 0
}

// count returns how many numbers of a valid range are in the set.
func (s *SeqSet) count(r SeqRange) uint64 {
	n := uint64(0)
	for _, have := range s.Ranges() {
		if first, last := max(have.First, r.First), min(have.Last, r.Last); first <= last {
			n += last - first + 1
		}
	}
	return n
}

// missing returns the parts of a valid range that are not in the set.
func (s *SeqSet) missing(r SeqRange) []SeqRange {
	return SubtractRanges([]SeqRange{r}, s.Ranges())
}

// remove takes a valid range out of the set.
func (s *SeqSet) remove(r SeqRange) {
	s.replace(SubtractRanges(s.Ranges(), []SeqRange{r}))
}

// forget keeps the newest ranges only.
func (s *SeqSet) forget(most int) {
	if all := s.Ranges(); len(all) > most {
		s.replace(all[len(all)-most:])
	}
}

// replace makes the set anew from sorted, disjoint ranges.
func (s *SeqSet) replace(all []SeqRange) {
	*s = SeqSet{}
	for _, r := range all {
		if s.high+1 == r.First {
			s.high = r.Last
		} else {
			s.ahead = append(s.ahead, r)
		}
	}
}

// SubtractRanges returns what is left of sorted, disjoint ranges without others of that
// kind.
func SubtractRanges(from, others []SeqRange) []SeqRange {
	var left []SeqRange
	for _, r := range from {
		for _, o := range others {
			if o.Last < r.First || o.First > r.Last {
				continue
			}
			if o.First > r.First {
				left = append(left, SeqRange{First: r.First, Last: o.First - 1})
			}
			if o.Last >= r.Last {
				r.First = 0 // nothing is left
				break
			}
			r.First = o.Last + 1
		}
		if r.First != 0 {
			left = append(left, r)
		}
	}
	return left
}
