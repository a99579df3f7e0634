package fleet_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"vigil/fleet"
)

// model is a SeqSet as a child would write it.
type model map[uint64]bool

func (m model) overlap(r fleet.SeqRange) (there, missing int) {
	for seq := r.First; seq <= r.Last; seq++ {
		if m[seq] {
			there++
		} else {
			missing++
		}
	}
	return there, missing
}

func (m model) put(r fleet.SeqRange) {
	for seq := r.First; seq <= r.Last; seq++ {
		m[seq] = true
	}
}

func TestSeqSetAgreesWithAPlainSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const span = 60
		var set fleet.SeqSet
		plain := model{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			first := rapid.Uint64Range(1, span).Draw(t, "first")
			r := fleet.SeqRange{First: first, Last: min(span, first+rapid.Uint64Range(0, 7).Draw(t, "more"))}
			there, missing := plain.overlap(r)
			if rapid.Bool().Draw(t, "fill") {
				added, err := set.Fill(r)
				if err != nil || added != uint64(missing) {
					t.Fatalf("Fill(%v) = %d, %v; want %d", r, added, err, missing)
				}
				plain.put(r)
			} else {
				added, err := set.Add(r)
				switch {
				case there > 0 && missing > 0:
					if !errors.Is(err, fleet.ErrSeqOverlap) || added {
						t.Fatalf("Add(%v) with %d of it there = %v, %v; want ErrSeqOverlap", r, there, added, err)
					}
				default:
					if err != nil || added != (missing > 0) {
						t.Fatalf("Add(%v) = %v, %v; want %v", r, added, err, missing > 0)
					}
					plain.put(r)
				}
			}
			check(t, &set, plain, span)
		}
	})
}

// check compares membership and the canonical form.
func check(t *rapid.T, set *fleet.SeqSet, plain model, span uint64) {
	for seq := range span + 2 {
		if set.Contains(seq) != plain[seq] {
			t.Fatalf("Contains(%d) = %v, want %v; set %d %v", seq, set.Contains(seq), plain[seq], set.High(), set.Ahead())
		}
	}
	before := set.High()
	for _, r := range set.Ahead() {
		if r.First <= before+1 || r.Last < r.First {
			t.Fatalf("set is not canonical: high %d ahead %v", set.High(), set.Ahead())
		}
		before = r.Last
	}
	again, err := fleet.SeqSetFrom(set.High(), set.Ahead())
	if err != nil {
		t.Fatalf("SeqSetFrom(%d, %v): %v", set.High(), set.Ahead(), err)
	}
	if diff := cmp.Diff(set, again, cmp.AllowUnexported(fleet.SeqSet{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("rebuilt set differs (-want +got):\n%s", diff)
	}
}

func TestSeqSetFromRefusesWhatCannotBeASet(t *testing.T) {
	t.Parallel()
	f := func(high uint64, ahead ...fleet.SeqRange) {
		t.Helper()
		if s, err := fleet.SeqSetFrom(high, ahead); !errors.Is(err, fleet.ErrSeqRange) {
			t.Errorf("SeqSetFrom(%d, %v) = %v, %v; want ErrSeqRange", high, ahead, s, err)
		}
	}
	f(5, fleet.SeqRange{First: 3, Last: 4})
	f(5, fleet.SeqRange{First: 9, Last: 8})
	f(0, fleet.SeqRange{First: 0, Last: 8})
	f(1, fleet.SeqRange{First: 7, Last: 9}, fleet.SeqRange{First: 4, Last: 5})
}

func TestSeqSetAtTheEndOfTheNumbers(t *testing.T) {
	t.Parallel()
	const top = ^uint64(0)
	var set fleet.SeqSet
	if _, err := set.Fill(fleet.SeqRange{First: top - 1, Last: top}); err != nil {
		t.Fatal(err)
	}
	if !set.Contains(top) || set.Contains(top-2) || set.Contains(0) {
		t.Fatalf("set is %d %v", set.High(), set.Ahead())
	}
	if added, err := set.Fill(fleet.SeqRange{First: top - 3, Last: top}); err != nil || added != 2 {
		t.Fatalf("Fill = %d, %v; want 2", added, err)
	}
}

func TestAddsHoleOnlyWhenFullAndApart(t *testing.T) {
	t.Parallel()
	var set fleet.SeqSet
	for i := range uint64(fleet.MaxHoles) {
		if set.AddsHole(fleet.SeqRange{First: 10 + 3*i, Last: 10 + 3*i}) {
			t.Fatalf("range %d is one too many", i)
		}
		if _, err := set.Add(fleet.SeqRange{First: 10 + 3*i, Last: 10 + 3*i}); err != nil {
			t.Fatal(err)
		}
	}
	const end = 10 + 3*(fleet.MaxHoles-1)
	f := func(first, last uint64, want bool) {
		t.Helper()
		if got := set.AddsHole(fleet.SeqRange{First: first, Last: last}); got != want {
			t.Errorf("AddsHole(%d to %d) = %v, want %v", first, last, got, want)
		}
	}
	f(1, 1, false)
	f(1, 5, false)
	f(3, 8, true)
	f(3, 9, false) // touches 10
	f(10, 10, false)
	f(11, 11, false)
	f(11, 12, false)
	f(end+1, end+1, false)
	f(end+2, end+2, true)
	f(^uint64(0), ^uint64(0), true)
	f(2, ^uint64(0), false) // swallows all of them
}
