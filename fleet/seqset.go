package fleet

import (
	"errors"
	"fmt"
	"slices"
)

// SeqRange is the sequence numbers First to Last, both included.
type SeqRange struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Errors of SeqSet.Add.
var (
	// ErrSeqRange means that the range is empty or begins at 0.
	ErrSeqRange = errors.New("fleet: sequence range is invalid")
	// ErrSeqOverlap means that a part of the range, but not all of it, was there.
	ErrSeqOverlap = errors.New("fleet: sequence range overlaps what is stored")
)

// SeqSet is the set of sequence numbers that were applied for one agent and epoch:
// a high-water mark below which everything is there, and the ranges above it. Its
// size grows with the number of holes, not with the number of packets.
// The zero value is empty. Not safe for concurrent use.
type SeqSet struct {
	high  uint64     // 1..high are all in the set
	ahead []SeqRange // sorted, disjoint, not adjacent, all above high+1
}

// High returns the high-water mark: 1..High are all in the set.
func (s *SeqSet) High() uint64 { return s.high }

// Ahead returns the ranges above the high-water mark. The caller must not change it.
func (s *SeqSet) Ahead() []SeqRange { return s.ahead }

// Ranges returns the whole set as sorted, disjoint ranges. The caller must not change it.
func (s *SeqSet) Ranges() []SeqRange {
	if s.high == 0 {
		return s.ahead
	}
	return append([]SeqRange{{First: 1, Last: s.high}}, s.ahead...)
}

// Last returns the largest number in the set.
func (s *SeqSet) Last() uint64 {
	if n := len(s.ahead); n > 0 {
		return s.ahead[n-1].Last
	}
	return s.high
}

// Contains reports whether seq is in the set.
func (s *SeqSet) Contains(seq uint64) bool {
	if seq == 0 {
		return false
	}
	if seq <= s.high {
		return true
	}
	_, found := slices.BinarySearchFunc(s.ahead, seq, func(r SeqRange, seq uint64) int {
		switch {
		case r.Last < seq:
			return -1
		case r.First > seq:
			return 1
		}
		return 0
	})
	return found
}

// Add puts a range into the set. It reports false when all of the range was there
// already, and ErrSeqOverlap, changing nothing, when only a part of it was.
func (s *SeqSet) Add(r SeqRange) (added bool, err error) {
	if r.First == 0 || r.Last < r.First {
		return false, fmt.Errorf("%w: %d to %d", ErrSeqRange, r.First, r.Last)
	}
	// Merged ranges arrive rarely; single numbers in order are the usual case.
	if r.First == s.high+1 && len(s.ahead) == 0 {
		s.high = r.Last
		return true, nil
	}
	if r.Last <= s.high {
		return false, nil
	}
	if r.First <= s.high {
		return false, fmt.Errorf("%w: %d to %d, high-water mark %d", ErrSeqOverlap, r.First, r.Last, s.high)
	}
	i, _ := slices.BinarySearchFunc(s.ahead, r.First, func(have SeqRange, first uint64) int {
		if have.Last < first {
			return -1
		}
		return 1
	})
	if i < len(s.ahead) && s.ahead[i].First <= r.Last {
		if s.ahead[i].First <= r.First && r.Last <= s.ahead[i].Last {
			return false, nil
		}
		return false, fmt.Errorf("%w: %d to %d, have %d to %d", ErrSeqOverlap, r.First, r.Last, s.ahead[i].First, s.ahead[i].Last)
	}
	s.ahead = slices.Insert(s.ahead, i, r)
	s.join(i)
	return true, nil
}

// MaxHoles is how many ranges a set may have above its high-water mark before nothing is
// taken any more that would add one. Agents send in order except for the newest packet,
// so a handful is usual; a hostile one could make millions with a few small packets.
const MaxHoles = 1_000

// AddsHole reports whether a valid range would be one more range of a set that has
// MaxHoles. What fills a hole, makes a range longer, or is there already never does.
func (s *SeqSet) AddsHole(r SeqRange) bool {
	if len(s.ahead) < MaxHoles || r.First <= s.high+1 {
		return false
	}
	// A range that ends before r.First-1, followed by one that begins after r.Last+1.
	i, _ := slices.BinarySearchFunc(s.ahead, r.First-1, func(have SeqRange, before uint64) int {
		if have.Last < before {
			return -1
		}
		return 1
	})
	return i == len(s.ahead) || s.ahead[i].First-1 > r.Last
}

// Fill puts every number of a range into the set that is not there yet, and returns
// how many that were. Gaps that an agent reports are filled so.
func (s *SeqSet) Fill(r SeqRange) (added uint64, err error) {
	if r.First == 0 || r.Last < r.First {
		return 0, fmt.Errorf("%w: %d to %d", ErrSeqRange, r.First, r.Last)
	}
	if r.Last <= s.high {
		return 0, nil
	}
	for next := max(r.First, s.high+1); next <= r.Last; {
		if end, ok := s.endOfRangeAt(next); ok {
			if end >= r.Last {
				break
			}
			next = end + 1
			continue
		}
		last := min(r.Last, s.beforeNextRange(next))
		if _, err := s.Add(SeqRange{First: next, Last: last}); err != nil {
			return added, err
		}
		added += last - next + 1
		if last == r.Last {
			break
		}
		next = last + 1
	}
	return added, nil
}

func (s *SeqSet) endOfRangeAt(seq uint64) (uint64, bool) {
	if seq <= s.high {
		return s.high, true
	}
	for _, r := range s.ahead {
		if r.First <= seq && seq <= r.Last {
			return r.Last, true
		}
	}
	return 0, false
}

func (s *SeqSet) beforeNextRange(seq uint64) uint64 {
	for _, r := range s.ahead {
		if r.First > seq {
			return r.First - 1
		}
	}
	return ^uint64(0)
}

// join merges the range at i with its neighbours and with the high-water mark.
func (s *SeqSet) join(i int) {
	if i+1 < len(s.ahead) && s.ahead[i].Last == s.ahead[i+1].First-1 {
		s.ahead[i].Last = s.ahead[i+1].Last
		s.ahead = slices.Delete(s.ahead, i+1, i+2)
	}
	if i > 0 && s.ahead[i-1].Last+1 == s.ahead[i].First {
		s.ahead[i-1].Last = s.ahead[i].Last
		s.ahead = slices.Delete(s.ahead, i, i+1)
	}
	if len(s.ahead) > 0 && s.ahead[0].First == s.high+1 {
		s.high = s.ahead[0].Last
		s.ahead = slices.Delete(s.ahead, 0, 1)
	}
}

// Clone returns an independent copy.
func (s *SeqSet) Clone() *SeqSet {
	return &SeqSet{high: s.high, ahead: slices.Clone(s.ahead)}
}

// SeqSetFrom rebuilds a set from a stored high-water mark and ranges, checking that
// they can be the parts of one.
func SeqSetFrom(high uint64, ahead []SeqRange) (*SeqSet, error) {
	s := &SeqSet{high: high}
	for _, r := range ahead {
		if r.First == 0 || r.Last < r.First || r.First <= s.Last() {
			return nil, fmt.Errorf("%w: %d to %d after %d", ErrSeqRange, r.First, r.Last, s.Last())
		}
		if _, err := s.Add(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}
