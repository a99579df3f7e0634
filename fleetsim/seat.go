package fleetsim

// tally is a set of integrals since some instant. They are whole numbers, so the
// difference of two tallies is exactly what happened between.
type tally struct {
	onlineMs  int64 // ms with a publisher
	viewerMs  int64
	joins     int64 // viewers that began to watch
	publishes int64 // publications that began
}

func (a tally) plus(b tally) tally {
	return tally{a.onlineMs + b.onlineMs, a.viewerMs + b.viewerMs, a.joins + b.joins, a.publishes + b.publishes}
}

func (a tally) minus(b tally) tally {
	return tally{a.onlineMs - b.onlineMs, a.viewerMs - b.viewerMs, a.joins - b.joins, a.publishes - b.publishes}
}

func (a tally) times(n int64) tally {
	return tally{a.onlineMs * n, a.viewerMs * n, a.joins * n, a.publishes * n}
}

// seat is a place in the audience of a stream. Inside the part of the day in which it
// is in use, [from, to), viewers follow each other: cycle = watch + pause, and phase is
// how far into a cycle the use begins.
type seat struct {
	from, to int64 // ms of the stream's day
	watch    int64 // ms, > 0
	cycle    int64 // ms, >= watch
	phase    int64 // ms, in [0, cycle)
}

// window is the part of [start, end) in which the seat is in use.
func (s *seat) window(start, end int64) (from, to int64) {
	from, to = max(start, s.from), min(end, s.to)
	return from, max(from, to)
}

// watched returns the viewer-ms and the joins in the first x ms of a use.
func (s *seat) watched(x int64) (viewerMs, joins int64) {
	if x <= 0 {
		return 0, 0
	}
	// Counted from the beginning of the cycle in which the use began: y(0) = phase.
	viewerMs = s.occupied(s.phase+x) - s.occupied(s.phase)
	joins = (s.phase + x - 1) / s.cycle
	if s.phase < s.watch {
		joins++ // somebody sits down in the middle of a cycle, because the use begins
	}
	return viewerMs, joins
}

func (s *seat) occupied(y int64) int64 {
	return y/s.cycle*s.watch + min(y%s.cycle, s.watch)
}

// taken returns the interval of the viewer who sits there x ms into a use, in ms of
// the use, and the number of the cycle.
func (s *seat) taken(x int64) (from, to, cycle int64, ok bool) {
	y := s.phase + x
	cycle = y / s.cycle
	if y%s.cycle >= s.watch {
		return 0, 0, 0, false
	}
	from = max(cycle*s.cycle-s.phase, 0)
	return from, cycle*s.cycle + s.watch - s.phase, cycle, true
}

// spans calls visit with every interval in which somebody sits there and that touches
// [x1, x2) of a use; the intervals are not cut to it.
func (s *seat) spans(x1, x2 int64, visit func(from, to int64)) {
	x1 = max(x1, 0)
	for c := (s.phase + x1) / s.cycle; ; c++ {
		from := max(c*s.cycle-s.phase, 0)
		to := c*s.cycle + s.watch - s.phase
		if from >= x2 {
			return
		}
		if to > x1 && to > 0 {
			visit(from, to)
		}
	}
}
