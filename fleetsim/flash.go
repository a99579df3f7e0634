package fleetsim

// flashCrowd is an audience that comes once. Its stream is on air without end.
type flashCrowd struct {
	seed                   uint64
	at, ramp, staying, out int64 // ms
	viewers                int
	firstSeat              int
}

func newFlashCrowd(st *Stream, cfg *Flash) *flashCrowd {
	return &flashCrowd{
		seed:      hash2(st.seed, 9),
		at:        cfg.At.UnixMilli(),
		ramp:      cfg.Ramp.Milliseconds(),
		staying:   cfg.Ramp.Milliseconds() + cfg.Hold.Milliseconds(),
		out:       cfg.Decay.Milliseconds(),
		viewers:   cfg.Viewers,
		firstSeat: st.seats,
	}
}

// interval is when the i-th of the crowd watches.
func (f *flashCrowd) interval(i int) (from, to int64) {
	from = f.at + f.ramp*int64(i)/int64(f.viewers)
	return from, f.at + f.staying + below(hash2(f.seed, uint64(i)), f.out+1)
}

func (f *flashCrowd) tally(atMs int64) tally {
	var t tally
	if atMs <= f.at {
		return t
	}
	for i := range f.viewers {
		from, to := f.interval(i)
		if from >= atMs {
			break
		}
		t.joins++
		t.viewerMs += min(atMs, to) - from
	}
	return t
}

func (f *flashCrowd) seated(atMs int64, visit func(k int, from, to, viewer int64)) {
	f.spans(atMs, atMs+1, func(i int, from, to int64) { visit(f.firstSeat+i, from, to, 0) })
}

// spans visits the intervals that touch [from, to).
func (f *flashCrowd) spans(begin, end int64, visit func(i int, from, to int64)) {
	if end <= f.at || begin > f.at+f.staying+f.out {
		return
	}
	for i := range f.viewers {
		if from, to := f.interval(i); from < end && to > begin {
			visit(i, from, to)
		}
	}
}
