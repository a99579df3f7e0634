package fleet_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"vigil/fleet"
)

func TestLedgerAgreesWithAPlainBook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const span = 40
		var book fleet.Ledger
		counted, givenUp := model{}, model{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			first := rapid.Uint64Range(1, span).Draw(t, "first")
			r := fleet.SeqRange{First: first, Last: min(span, first+rapid.Uint64Range(0, 5).Draw(t, "more"))}
			there, missing := counted.overlap(r)
			if rapid.Bool().Draw(t, "give up") {
				want := uint64(0)
				for seq := r.First; seq <= r.Last; seq++ {
					if !counted[seq] && !givenUp[seq] {
						givenUp[seq] = true
						want++
					}
				}
				if got, err := book.GiveUp(r); err != nil || got != want {
					t.Fatalf("GiveUp(%v) = %d, %v; want %d", r, got, err, want)
				}
			} else {
				isNew, err := book.Count(r)
				switch {
				case there > 0 && missing > 0:
					if !errors.Is(err, fleet.ErrSeqOverlap) || isNew {
						t.Fatalf("Count(%v) with %d counted before = %v, %v; want ErrSeqOverlap", r, there, isNew, err)
					}
				case err != nil || isNew != (missing > 0):
					t.Fatalf("Count(%v) = %v, %v; want %v", r, isNew, err, missing > 0)
				default:
					for seq := r.First; seq <= r.Last; seq++ {
						counted[seq] = true
						delete(givenUp, seq)
					}
				}
			}
			settled := model{}
			for seq := range uint64(span + 1) {
				if counted[seq] || givenUp[seq] {
					settled[seq] = true
				}
			}
			check(t, book.Settled(), settled, span)
			check(t, book.GivenUp(), givenUp, span)
			check(t, book.Clone().GivenUp(), givenUp, span)
		}
	})
}

func TestLedgerForgetsTheOldestOfManyGaps(t *testing.T) {
	t.Parallel()
	var book fleet.Ledger
	const many = 3_000
	for n := range uint64(many) { // every second packet was counted
		if _, err := book.Count(fleet.SeqRange{First: 2*n + 1, Last: 2*n + 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := book.GiveUp(fleet.SeqRange{First: 2*n + 2, Last: 2*n + 2}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(book.GivenUp().Ahead()); n != 1_000 {
		t.Errorf("%d ranges are remembered, want 1,000", n)
	}
	if isNew, err := book.Count(fleet.SeqRange{First: 2 * many, Last: 2 * many}); !isNew || err != nil {
		t.Errorf("the newest that was given up arrives: %v, %v; want it counted", isNew, err)
	}
	if isNew, err := book.Count(fleet.SeqRange{First: 2, Last: 2}); isNew || err != nil {
		t.Errorf("the oldest that was given up arrives: %v, %v; want a repeat", isNew, err)
	}
	if _, err := book.GiveUp(fleet.SeqRange{First: 3, Last: 2}); !errors.Is(err, fleet.ErrSeqRange) {
		t.Errorf("a range that is none: %v", err)
	}
}

// A packet may carry thousands of gaps: each apart from the others would be a range to
// keep for ever.
func TestGapsCannotTearALedgerToPieces(t *testing.T) {
	t.Parallel()
	var l fleet.Ledger
	for i := range uint64(10 * fleet.MaxHoles) {
		if _, err := l.GiveUp(fleet.SeqRange{First: 2 + 2*i, Last: 2 + 2*i}); err != nil && !errors.Is(err, fleet.ErrHoles) {
			t.Fatal(err)
		}
	}
	if n := len(l.Settled().Ahead()); n != fleet.MaxHoles {
		t.Errorf("%d ranges, want %d", n, fleet.MaxHoles)
	}
	if isNew, err := l.Count(fleet.SeqRange{First: 1, Last: 1}); !isNew || err != nil {
		t.Errorf("a packet is not counted any more: %v, %v", isNew, err)
	}
}
