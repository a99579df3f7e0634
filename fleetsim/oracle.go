package fleetsim

import (
	"iter"
	"math"
	"slices"
)

// peakChunkMs is how much time a search for a peak looks at in one piece: it bounds
// the memory of the search, whatever the interval.
const peakChunkMs = 10 * 60 * 1000

// Sums is what truly happened in an interval [from, to).
type Sums struct {
	BytesIn   int64 // media bytes sent by publishers
	BytesOut  int64 // media bytes received by viewers
	ViewerMs  int64
	OnlineMs  int64 // ms with a publisher, over all streams
	Joins     int64 // viewer connections that began
	Publishes int64 // publisher connections that began
}

// Plus adds two sums.
func (a Sums) Plus(b Sums) Sums {
	return Sums{
		BytesIn: a.BytesIn + b.BytesIn, BytesOut: a.BytesOut + b.BytesOut, ViewerMs: a.ViewerMs + b.ViewerMs,
		OnlineMs: a.OnlineMs + b.OnlineMs, Joins: a.Joins + b.Joins, Publishes: a.Publishes + b.Publishes,
	}
}

// ServerSums is what truly happened to a server in an interval [from, to).
type ServerSums struct {
	Sums
	WireIn   int64 // what the server's own counter moves by: BytesIn and overhead
	WireOut  int64
	Accepted int64
}

// Between returns what happened to the stream in [from, to).
func (st *Stream) Between(fromMs, toMs int64) Sums {
	t := st.between(fromMs, toMs)
	return Sums{
		BytesIn:   t.onlineMs * st.BytesPerMs(),
		BytesOut:  t.viewerMs * st.BytesPerMs(),
		ViewerMs:  t.viewerMs,
		OnlineMs:  t.onlineMs,
		Joins:     t.joins,
		Publishes: t.publishes,
	}
}

func (st *Stream) between(fromMs, toMs int64) tally {
	var t tally
	st.server.lives(fromMs, toMs, func(boot Boot, from, to int64) {
		t = t.plus(st.raw(to)).minus(st.raw(from))
		if from == boot.StartMs {
			t = t.plus(st.returning(boot))
		}
	})
	return t
}

// WireBetween returns by how much the server's own counters move because of this
// stream in [from, to).
func (st *Stream) WireBetween(fromMs, toMs int64) (in, out, accepted int64) {
	return st.wire(st.between(fromMs, toMs))
}

// Between returns what happened to the server in [from, to).
func (s *Server) Between(fromMs, toMs int64) ServerSums {
	var sums ServerSums
	for _, st := range s.streams {
		sums.Sums = sums.Sums.Plus(st.Between(fromMs, toMs))
		in, out, connections := st.WireBetween(fromMs, toMs)
		sums.WireIn += in
		sums.WireOut += out
		sums.Accepted += connections
	}
	return sums
}

// Between returns what happened to the fleet in [from, to).
func (f *Fleet) Between(fromMs, toMs int64) ServerSums {
	var sums ServerSums
	for i := range f.servers {
		one := f.Server(i).Between(fromMs, toMs)
		sums.Sums = sums.Sums.Plus(one.Sums)
		sums.WireIn += one.WireIn
		sums.WireOut += one.WireOut
		sums.Accepted += one.Accepted
	}
	return sums
}

// Extremes are the fewest and the most viewers at once.
type Extremes struct{ Min, Max int64 }

// ViewerRange returns the fewest and the most viewers that the stream had at once in
// [from, to], both ends included. The cost grows with the audience and the interval.
func (st *Stream) ViewerRange(fromMs, toMs int64) Extremes {
	return extremes(fromMs, toMs, func(yield func(*Stream) bool) { yield(st) })
}

// ViewerRange returns the fewest and the most viewers that the server had at once.
func (s *Server) ViewerRange(fromMs, toMs int64) Extremes {
	return extremes(fromMs, toMs, s.each())
}

// ViewerRange returns the fewest and the most viewers that the fleet had at once.
func (f *Fleet) ViewerRange(fromMs, toMs int64) Extremes {
	return extremes(fromMs, toMs, func(yield func(*Stream) bool) {
		for i := range f.servers {
			for st := range f.Server(i).each() {
				if !yield(st) {
					return
				}
			}
		}
	})
}

func (s *Server) each() iter.Seq[*Stream] {
	return func(yield func(*Stream) bool) {
		for _, st := range s.streams {
			if !yield(st) {
				return
			}
		}
	}
}

func extremes(fromMs, toMs int64, streams iter.Seq[*Stream]) Extremes {
	result := Extremes{Min: math.MaxInt64}
	audience(fromMs, toMs, streams, func(_, viewers int64) {
		result.Min = min(result.Min, viewers)
		result.Max = max(result.Max, viewers)
	})
	return result
}

// LastWithoutViewers returns the last instant in [from, to], both ends included, at
// which nobody watched.
func (st *Stream) LastWithoutViewers(fromMs, toMs int64) (atMs int64, ok bool) {
	empty := false
	audience(fromMs, toMs, func(yield func(*Stream) bool) { yield(st) }, func(at, viewers int64) {
		if empty {
			atMs = at - 1 // it was empty up to this change
		}
		empty = viewers == 0
		ok = ok || empty
	})
	if empty {
		atMs = max(toMs, fromMs)
	}
	return atMs, ok
}

// audience calls visit with the number of viewers at fromMs and at every change up to
// and including toMs.
func audience(fromMs, toMs int64, streams iter.Seq[*Stream], visit func(atMs, viewers int64)) {
	toMs = max(toMs, fromMs)
	var steps []int64
	for begin := fromMs; begin <= toMs; begin += peakChunkMs {
		end := min(begin+peakChunkMs, toMs+1)
		steps = steps[:0]
		for st := range streams {
			steps = st.appendSteps(begin, end, steps)
		}
		slices.Sort(steps)
		var now int64
		if len(steps) == 0 || steps[0]>>1 > begin {
			visit(begin, 0)
		}
		for i := 0; i < len(steps); {
			at := steps[i] >> 1
			for ; i < len(steps) && steps[i]>>1 == at; i++ {
				now += steps[i]&1*2 - 1
			}
			visit(at, now)
		}
	}
}

// appendSteps appends the stream's changes of audience in [begin, end): the instant
// times two, and one more if somebody comes.
func (st *Stream) appendSteps(begin, end int64, steps []int64) []int64 {
	add := func(from, to int64) {
		if from, to = max(from, begin), min(to, end); from < to {
			steps = append(steps, from<<1|1)
			if to < end {
				steps = append(steps, to<<1)
			}
		}
	}
	st.server.lives(begin, end, func(_ Boot, from, to int64) {
		st.spans(from, to, func(sat, left int64) { add(max(sat, from), min(left, to)) })
	})
	return steps
}

// spans calls visit with every viewer's interval that touches [begin, end), in Unix
// ms, as if the server were never down.
func (st *Stream) spans(begin, end int64, visit func(from, to int64)) {
	if st.flash != nil {
		st.flash.spans(begin, end, func(_ int, from, to int64) { visit(from, to) })
	}
	day := st.server.fleet.day
	first, _ := floorDiv(begin-st.anchor, day)
	last, _ := floorDiv(end-1-st.anchor, day)
	for k := range st.seats {
		s := st.seat(k)
		for d := first; d <= last; d++ {
			midnight := st.anchor + d*day
			for i := range st.pubs {
				from, to := s.window(st.pubs[i].start, st.pubs[i].end)
				from, to = from+midnight, to+midnight
				if from >= end || to <= begin {
					continue
				}
				s.spans(begin-from, min(end, to)-from, func(sat, left int64) {
					visit(from+sat, min(from+left, to))
				})
			}
		}
	}
}
