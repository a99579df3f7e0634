package fleetsim

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// small is a fleet in which much happens within seconds.
func small(seed uint64) Config {
	return Config{
		Seed: seed, Servers: 3, Streams: 7, Start: time.UnixMilli(1_790_000_000_123), Viewers: 30, Churn: true,
		Day: 20 * time.Second, Watch: 900 * time.Millisecond, RestartEvery: 7 * time.Second, RestartDown: 400 * time.Millisecond,
		Flash: &Flash{Server: 1, At: time.UnixMilli(1_790_000_003_000), Viewers: 40, Ramp: time.Second, Hold: 2 * time.Second, Decay: time.Second},
	}
}

func drawFleet(t *rapid.T) *Fleet {
	cfg := small(rapid.Uint64().Draw(t, "seed"))
	cfg.Churn = rapid.Bool().Draw(t, "churn")
	cfg.Mix = Mix(rapid.IntRange(0, 2).Draw(t, "mix"))
	cfg.Viewers = rapid.SampledFrom([]int{-1, 1, 5, 30, 80}).Draw(t, "viewers")
	if rapid.Bool().Draw(t, "calm") {
		cfg.RestartEvery = 0
	}
	if rapid.Bool().Draw(t, "no flash") {
		cfg.Flash = nil
	}
	return New(cfg)
}

func drawTime(t *rapid.T, f *Fleet, name string) int64 {
	return f.StartMs() + rapid.Int64Range(-15_000, 60_000).Draw(t, name)
}

// TestIntegralsEqualTheSumOverEveryMillisecond is the anchor of everything else: the
// closed forms against the plain definition, ms by ms.
func TestIntegralsEqualTheSumOverEveryMillisecond(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t)
		s := f.Server(rapid.IntRange(0, 2).Draw(t, "server"))
		st := s.Streams()[rapid.IntRange(0, 6).Draw(t, "stream")]
		from := drawTime(t, f, "from")
		to := from + rapid.Int64Range(0, 4_000).Draw(t, "length")
		var want Sums
		seen := map[uint64]bool{}
		lastPub := int64(-1)
		if pub, ok := st.Publication(from - 1); ok {
			lastPub = pub.Number
		}
		st.Sessions(from-1, func(one Session) { seen[one.ID] = true })
		wantRange := Extremes{Min: 1 << 40}
		for at := from; at < to; at++ {
			pub, onAir := st.Publication(at)
			if onAir {
				want.OnlineMs++
				if pub.Number != lastPub {
					want.Publishes++
				}
				lastPub = pub.Number
			}
			n := st.Viewers(at)
			if n > 0 && !onAir {
				t.Fatalf("%d viewers of a stream that is off air at %d", n, at)
			}
			want.ViewerMs += int64(n)
			wantRange.Min, wantRange.Max = min(wantRange.Min, int64(n)), max(wantRange.Max, int64(n))
			st.Sessions(at, func(one Session) {
				if !seen[one.ID] {
					seen[one.ID] = true
					want.Joins++
					if one.StartMs != at {
						t.Fatalf("session %d first seen at %d says it began at %d", one.ID, at, one.StartMs)
					}
				}
				if at < one.StartMs || at >= one.EndMs || one.Bytes != (at-one.StartMs)*st.BytesPerMs() {
					t.Fatalf("session %+v at %d", one, at)
				}
			})
		}
		want.BytesIn, want.BytesOut = want.OnlineMs*st.BytesPerMs(), want.ViewerMs*st.BytesPerMs()
		if diff := cmp.Diff(want, st.Between(from, to)); diff != "" {
			t.Fatalf("Between(%d, %d) of %s: -want +got\n%s", from, to, st.Name(), diff)
		}
		if to > from {
			at, ok := st.LastWithoutViewers(from, to-1)
			if ok != (wantRange.Min == 0) || ok && st.Viewers(at) != 0 {
				t.Fatalf("LastWithoutViewers = %d, %t; fewest %d", at, ok, wantRange.Min)
			}
			if ok && at < to-1 {
				if rest := st.ViewerRange(at+1, to-1); rest.Min == 0 {
					t.Fatalf("LastWithoutViewers = %d, but later there is nobody either", at)
				}
			}
			if got := st.ViewerRange(from, to-1); got != wantRange {
				t.Fatalf("ViewerRange = %+v, want %+v", got, wantRange)
			}
		}
	})
}

func TestIntervalsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t)
		a := drawTime(t, f, "a")
		b := a + rapid.Int64Range(0, 30_000).Draw(t, "b")
		c := b + rapid.Int64Range(0, 30_000).Draw(t, "c")
		whole, left, right := f.Between(a, c), f.Between(a, b), f.Between(b, c)
		sum := ServerSums{left.Plus(right.Sums), left.WireIn + right.WireIn, left.WireOut + right.WireOut, left.Accepted + right.Accepted}
		if diff := cmp.Diff(whole, sum); diff != "" {
			t.Fatalf("[a,c) -want, [a,b)+[b,c) +got\n%s", diff)
		}
		for _, n := range []int64{whole.BytesIn, whole.BytesOut, whole.ViewerMs, whole.OnlineMs, whole.Joins, whole.Publishes, whole.WireIn - whole.BytesIn, whole.WireOut - whole.BytesOut} {
			if n < 0 {
				t.Fatalf("negative: %+v", whole)
			}
		}
	})
}

// TestCountersMoveByTheTruth polls a server as a collector would and adds up what it
// sees: no poll may go backwards inside a life or a publication, and the sums are the
// oracle's.
func TestCountersMoveByTheTruth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t)
		s := f.Server(rapid.IntRange(0, 2).Draw(t, "server"))
		at := drawTime(t, f, "from")
		prev, prevStreams := s.State(at, nil)
		for range 20 {
			next := at + rapid.Int64Range(1, 3_000).Draw(t, "step")
			now, streams := s.State(next, nil)
			truth := s.Between(at, next)
			if now.Boot == prev.Boot && now.Boot.Up {
				got := ServerSums{truth.Sums, now.BytesIn - prev.BytesIn, now.BytesOut - prev.BytesOut, now.Accepted - prev.Accepted}
				if diff := cmp.Diff(truth, got); diff != "" {
					t.Fatalf("server counters from %d to %d: -truth +counters\n%s", at, next, diff)
				}
			} else if now.Boot.Up {
				truth := s.Between(now.Boot.StartMs, next)
				if now.BytesIn != truth.WireIn || now.BytesOut != truth.WireOut || now.Accepted != truth.Accepted {
					t.Fatalf("after a restart: %+v, truth %+v", now, truth)
				}
			}
			viewers := 0
			for _, st := range streams {
				viewers += st.Viewers
				truth := st.Stream.Between(st.Publication.StartMs, next)
				if st.BytesIn != truth.BytesIn || st.BytesOut != truth.BytesOut || st.ViewerMs != truth.ViewerMs {
					t.Fatalf("%s: %+v, truth %+v", st.Stream.Name(), st, truth)
				}
				for _, old := range prevStreams {
					if old.Stream == st.Stream && old.Publication == st.Publication && (st.BytesIn < old.BytesIn || st.BytesOut < old.BytesOut) {
						t.Fatalf("%s goes backwards", st.Stream.Name())
					}
				}
			}
			if viewers != now.Viewers || len(streams) != now.Streams {
				t.Fatalf("server says %d streams and %d viewers, its streams %d and %d", now.Streams, now.Viewers, len(streams), viewers)
			}
			if rng := s.ViewerRange(next, next); rng.Max != int64(viewers) || rng.Min != int64(viewers) {
				t.Fatalf("ViewerRange at one instant = %+v, viewers %d", rng, viewers)
			}
			at, prev, prevStreams = next, now, streams
		}
	})
}

func TestSameSeedSameFleet(t *testing.T) {
	t.Parallel()
	a, b, other := New(small(7)), New(small(7)), New(small(8))
	at := a.StartMs() + 12_345
	print := func(f *Fleet) (out string) {
		for i := f.Servers() - 1; i >= 0; i-- { // the order of questions must not matter
			state, streams := f.Server(i).State(at, nil)
			out += fmt.Sprintln(state)
			for _, st := range streams {
				out += fmt.Sprintln(st.Stream.Name(), st.Publication, st.BytesIn, st.BytesOut)
				st.Stream.Sessions(at, func(s Session) { out += fmt.Sprintln(s, s.IP(), s.UserAgent()) })
			}
		}
		return out
	}
	_, _ = b.Server(1).State(at-5_000, nil)
	if diff := cmp.Diff(print(a), print(b)); diff != "" {
		t.Errorf("same seed differs:\n%s", diff)
	}
	if print(a) == print(other) {
		t.Error("other seed, same fleet")
	}
}

func TestAudienceHasAShape(t *testing.T) {
	t.Parallel()
	f := New(Config{Seed: 1, Servers: 4, Streams: 300, Viewers: 3000, Churn: true})
	s := f.Server(0)
	top, tail := s.Streams()[0], s.Streams()[299]
	if top.seats < 20*max(tail.seats, 1) {
		t.Errorf("no Zipf: first stream has %d seats, last %d", top.seats, tail.seats)
	}
	hour := int64(3_600_000)
	var hours [24]int64
	for h := range hours {
		hours[h] = top.Between(f.StartMs()+int64(h)*hour, f.StartMs()+int64(h+1)*hour).ViewerMs / hour
	}
	low, high := hours[0], hours[0]
	for _, v := range hours {
		low, high = min(low, v), max(high, v)
	}
	if high < 2*low || high > 6*low {
		t.Errorf("diurnal curve from %d to %d viewers", low, high)
	}
	on := 0
	for h := range 24 {
		_, streams := s.State(f.StartMs()+int64(h)*hour, nil)
		on += len(streams)
	}
	if share := on * 100 / (24 * 300); share < 55 || share > 95 {
		t.Errorf("%d %% of the streams on air", share)
	}
}

func TestFlashCrowdComesAndGoes(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_790_000_000_000)
	f := New(Config{Servers: 1, Streams: 10, Viewers: 100, Start: start, Flash: &Flash{At: start.Add(time.Hour), Viewers: 900}})
	st := f.Server(0).Streams()[0]
	at := func(d time.Duration) int { return st.Viewers(start.Add(d).UnixMilli()) }
	before, after := at(59*time.Minute), at(62*time.Minute)
	if after < before+900-20 || at(90*time.Minute) > before+60 {
		t.Errorf("viewers before %d, in %d, after %d", before, after, at(90*time.Minute))
	}
	rng := st.ViewerRange(start.UnixMilli(), start.Add(2*time.Hour).UnixMilli())
	if rng.Max < int64(after) || rng.Max > int64(after)+100 {
		t.Errorf("peak %d, %d in the middle of the crowd", rng.Max, after)
	}
}

func TestRestartsAreStaggered(t *testing.T) {
	t.Parallel()
	f := New(Config{Servers: 10, Streams: 2, RestartEvery: 10 * time.Minute, RestartDown: 5 * time.Second})
	down := map[int64]bool{}
	for i := range 10 {
		boot := f.Server(i).Boot(f.StartMs())
		down[boot.EndMs] = true
		next := f.Server(i).Boot(boot.EndMs)
		if next.Up || next.Number != 1 || next.StartMs != boot.EndMs+5_000 || !f.Server(i).Boot(next.StartMs).Up {
			t.Errorf("server %d: %+v then %+v", i, boot, next)
		}
	}
	if len(down) != 10 {
		t.Errorf("%d instants of restart for 10 servers", len(down))
	}
}

// FuzzConfig asks any configuration for the basics: nothing may panic or go backwards.
func FuzzConfig(f *testing.F) {
	f.Add(uint64(1), 3, 10, 50, int64(1000), int64(0), int64(0), int64(5000))
	f.Add(uint64(9), 1, 1, -1, int64(86_400_000), int64(1), int64(3000), int64(1))
	f.Fuzz(func(t *testing.T, seed uint64, servers, streams, viewers int, day, watch, restart, step int64) {
		cfg := Config{Seed: seed, Servers: servers % 5, Streams: streams % 20, Viewers: viewers % 500, Churn: true,
			Start: time.UnixMilli(1_700_000_000_000), Day: time.Duration(day%90_000_000) * time.Millisecond,
			Watch: time.Duration(watch%10_000_000) * time.Millisecond, RestartEvery: time.Duration(restart%1_000_000) * time.Millisecond}
		fleet := New(cfg)
		at := fleet.StartMs() + (step%100_000+100_000)%100_000
		sums := fleet.Between(fleet.StartMs(), at)
		if sums.ViewerMs < 0 || sums.BytesIn < 0 || sums.Joins < 0 {
			t.Errorf("%+v: %+v", cfg, sums)
		}
		fleet.Server(0).State(at, nil)
	})
}

func BenchmarkState(b *testing.B) {
	f := New(Config{Servers: 1, Streams: 600, Churn: true})
	s := f.Server(0)
	var streams []StreamState
	at := f.StartMs() + 1000
	_, streams = s.State(at, streams)
	b.ReportAllocs()
	for b.Loop() {
		at += 1000
		_, streams = s.State(at, streams[:0])
	}
}

func BenchmarkNewServer(b *testing.B) {
	f := New(Config{Servers: 1, Streams: 600, Churn: true})
	b.ReportAllocs()
	for b.Loop() {
		newServer(f, 0)
	}
}
