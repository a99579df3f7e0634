package duckdb

import (
	"testing"

	"pgregory.net/rapid"

	"vigil/fleet"
)

// TestCutAddsUp: whatever an interval is cut into, the pieces are inside their buckets,
// touch each other, are few, and their shares add up to the total.
func TestCutAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.Int64Range(0, maxTimeMs).Draw(t, "end")
		interval := rapid.OneOf(rapid.Int64Range(0, 2*minuteMs), rapid.Int64Range(0, 2*dayMs), rapid.Int64Range(0, maxIntervalMs)).Draw(t, "interval")
		total := rapid.Int64Range(0, maxViewerMs).Draw(t, "total")
		most := rapid.IntRange(0, 200).Draw(t, "most")
		c := cutOf(end, interval, most, nil)
		if n := len(c.edges); n > 97 || n > max(most, 1) || c.edges[n-1] != end {
			t.Fatalf("%d pieces, the last ends at %d", n, c.edges[n-1])
		}
		sum, covered, before := int64(0), int64(0), end-interval
		for i, edge := range c.edges {
			share := c.share(fleet.Of(total), i).Or(-1)
			if share < 0 || (interval > 0 && edge <= before) {
				t.Fatalf("piece %d ends at %d after %d with %d", i, edge, before, share)
			}
			sum += share
			covered += c.pieceMs(i)
			before = edge
		}
		if sum != total || covered != interval {
			t.Fatalf("shares add up to %d of %d, pieces to %d of %d ms", sum, total, covered, interval)
		}
		if c.share(fleet.Int{}, 0).Known() {
			t.Fatal("a share of nothing known is known")
		}
	})
}

func TestLedgerEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var set fleet.SeqSet
		for range rapid.IntRange(0, 40).Draw(t, "ranges") {
			first := rapid.Uint64Range(1, 200).Draw(t, "first")
			_, _ = set.Fill(fleet.SeqRange{First: first, Last: first + rapid.Uint64Range(0, 5).Draw(t, "more")})
		}
		got, err := decodeRanges(set.High(), encodeRanges(set.High(), set.Ahead()))
		if err != nil || got.High() != set.High() || len(got.Ahead()) != len(set.Ahead()) {
			t.Fatalf("%+v became %+v, %v", set, got, err)
		}
		for i, r := range set.Ahead() {
			if got.Ahead()[i] != r {
				t.Fatalf("range %d: %v became %v", i, r, got.Ahead()[i])
			}
		}
	})
}

func FuzzDecodeRanges(f *testing.F) {
	f.Add(uint64(3), []byte{2, 1, 3, 4})
	f.Add(uint64(0), []byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, high uint64, data []byte) {
		if set, err := decodeRanges(high, data); err == nil && set.High() < high {
			t.Fatalf("high-water mark fell from %d to %d", high, set.High())
		}
	})
}
