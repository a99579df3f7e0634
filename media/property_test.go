package media

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"vigil/fleet"
)

// truth is a stream as it really is: bytes that flow, publishers that come and go,
// incarnations that begin anew.
type truth struct {
	name     string
	began    int64 // s
	in, out  int64
	seenIn   int64 // counter at the last good poll that showed this incarnation
	seenOut  int64
	observed bool // this incarnation was shown by a good poll, or began after one
	exists   bool
}

// Whatever happens, the deltas of a stream add up to exactly what its counters grew
// by inside the incarnations that the tracker could observe, and no delta is negative
// or larger than the counter it came from.
func TestDeltasAddUpToTheGrowthOfTheCounters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		tracker := NewTracker(TrackerOptions{})
		product := rapid.SampledFrom([]string{ProductNginxRTMP, ProductIcecast}).Draw(rt, "product")
		streams := make([]*truth, rapid.IntRange(1, 4).Draw(rt, "streams"))
		for i := range streams {
			streams[i] = &truth{name: fmt.Sprint("s", i)}
		}
		var now, boot, started, lastGood, first int64 = 10_000, 1, 9_000, -1, -1
		want, got := make(map[string][2]int64), make(map[string][2]int64)
		for range rapid.IntRange(2, 40).Draw(rt, "polls") {
			now += rapid.Int64Range(5, 60).Draw(rt, "wait")
			if first < 0 {
				first = now
			}
			if rapid.IntRange(0, 12).Draw(rt, "restart") == 0 {
				boot, started = boot+1, now-3
				for _, s := range streams {
					s.exists = false
				}
			}
			for _, s := range streams {
				s.live(rt, now)
			}
			if rapid.IntRange(0, 5).Draw(rt, "fails") == 0 {
				tracker.Step((&server{product: product, at: now, status: fleet.StatusUnreachable}).reading())
				continue
			}
			answer := &server{product: product, at: now, boot: fmt.Sprint(boot), started: started, status: fleet.StatusOK}
			for _, s := range streams {
				if !s.exists {
					continue
				}
				// Before the first good poll only a server that began under our eyes
				// counts from zero.
				underOurEyes := started >= first+2 && s.began >= first+2
				if (lastGood < 0 && !underOurEyes) || (!s.observed && s.began < lastGood) {
					s.seenIn, s.seenOut = s.in, s.out // baseline
				}
				w := want[s.name]
				want[s.name] = [2]int64{w[0] + s.in - s.seenIn, w[1] + s.out - s.seenOut}
				s.seenIn, s.seenOut, s.observed = s.in, s.out, true
				answer.streams = append(answer.streams, s.reading(product))
			}
			lastGood = now
			snap := tracker.Step(answer.reading())
			for _, row := range snap.Streams {
				in, out := row.BytesIn.Or(0), row.BytesOut.Or(0)
				if in < 0 || out < 0 {
					rt.Fatalf("negative delta: %+v", row)
				}
				for _, s := range streams {
					if s.name == row.Key.Name && s.exists && (in > s.in || out > s.out) {
						rt.Fatalf("delta %d/%d is larger than the counter %d/%d", in, out, s.in, s.out)
					}
				}
				g := got[row.Key.Name]
				got[row.Key.Name] = [2]int64{g[0] + in, g[1] + out}
			}
		}
		for name, w := range want {
			if got[name] != w {
				rt.Fatalf("%s: deltas add up to %v, counters grew by %v", name, got[name], w)
			}
		}
	})
}

// live lets one stream live for a while: it may end, begin anew, stall or flow.
func (s *truth) live(rt *rapid.T, now int64) {
	switch rapid.IntRange(0, 9).Draw(rt, "fate") {
	case 0:
		s.exists = false
	case 1:
		*s = truth{name: s.name, began: now - rapid.Int64Range(0, 2).Draw(rt, "age"), exists: true}
	default:
		if !s.exists {
			return
		}
	}
	s.in += rapid.Int64Range(0, 1_000_000).Draw(rt, "in")
	s.out += rapid.Int64Range(0, 5_000_000).Draw(rt, "out")
}

func (s *truth) reading(product string) fleet.StreamReading {
	r := live(s.name, s.began, s.in, s.out)
	if product == ProductIcecast {
		r.Incarnation = fmt.Sprint("began ", s.began)
	}
	return r
}
