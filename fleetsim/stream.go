package fleetsim

// publication is a part of the stream's day in which it is on air.
type publication struct {
	start, end int64 // ms of the day
	before     tally // of all publications of the day before this one
}

// Stream is one stream of one server.
type Stream struct {
	server  *Server
	index   int
	seed    uint64
	name    string
	app     string
	media   *Media
	seats   int
	anchor  int64 // Unix ms at which day 0 of this stream began
	endless bool  // one publication over all days
	pubs    []publication
	perDay  tally
	flash   *flashCrowd
}

func newStream(s *Server, index, seats int) *Stream {
	seed := hash2(s.seed, uint64(index)+1)
	st := &Stream{server: s, index: index, seed: seed, seats: seats}
	st.app, st.name = s.streamName(index)
	st.media = s.pickMedia(seed)
	// Peaks of one server's streams lie within two hours of a day of 24.
	st.anchor = s.fleet.origin - s.fleet.day + s.anchor + below(hash2(seed, 2), max(s.fleet.day/12, 1))
	st.pubs, st.endless = s.fleet.publications(seed, index)
	for i := range st.pubs {
		p := &st.pubs[i]
		p.before = st.perDay
		st.perDay = st.perDay.plus(st.within(p, p.end-p.start))
	}
	return st
}

// publications chooses the day's publications of a stream.
func (f *Fleet) publications(seed uint64, index int) (pubs []publication, endless bool) {
	if !f.cfg.Churn || index == 0 || hash2(seed, 3)%3 == 0 {
		return []publication{{start: 0, end: f.day}}, true
	}
	// From one a day to one an hour.
	choices := [...]int64{1, 2, 4, 8, 24}
	n := choices[hash2(seed, 4)%uint64(len(choices))]
	slot := f.day / n
	pubs = make([]publication, 0, n)
	for j := range n {
		h := hash3(seed, 5, uint64(j))
		length := between(h, slot/3, slot*9/10)
		gap := max(slot-length-1, 0)
		start := j*slot + between(mix(h), 0, gap)
		if length > 0 {
			pubs = append(pubs, publication{start: start, end: start + length})
		}
	}
	return pubs, false
}

// Server returns the server of the stream.
func (st *Stream) Server() *Server { return st.server }

// Index returns the number of the stream in its server.
func (st *Stream) Index() int { return st.index }

// App returns the application (nginx-rtmp); empty for icecast.
func (st *Stream) App() string { return st.app }

// Name returns the true name of the stream: for icecast the mount with its slash.
// A server may report it mangled.
func (st *Stream) Name() string { return st.name }

// Media returns what is published.
func (st *Stream) Media() *Media { return st.media }

// BytesPerMs returns the constant rate at which the publisher sends and each viewer
// receives.
func (st *Stream) BytesPerMs() int64 { return st.media.BytesPerMs }

// seat derives the k-th seat from the seed.
func (st *Stream) seat(k int) seat {
	day, mean := st.server.fleet.day, st.server.fleet.watch
	h := hash3(st.seed, 6, uint64(k))
	half := curveHalfWidth(k, st.seats, day)
	s := seat{from: day/2 - half, to: day/2 + half}
	if half*2 >= day {
		s.from, s.to = 0, day
	}
	// Many short visits, few long ones: a triangle of weights over the classes.
	classes := [...]int64{5, 10, 15, 25, 40, 60, 100, 150, 250, 400}
	percent := classes[min(h%10, (h>>8)%12)]
	s.watch = max(mean*percent/100, 1)
	s.cycle = s.watch + between(h>>16, s.watch/20, s.watch/5)
	s.phase = below(h>>24, s.cycle)
	return s
}

// within returns the tally of a publication x ms after its beginning.
func (st *Stream) within(p *publication, x int64) tally {
	x = min(x, p.end-p.start)
	if x <= 0 {
		return tally{}
	}
	t := tally{onlineMs: x, publishes: 1}
	if st.endless {
		t.publishes = 0
	}
	for k := range st.seats {
		s := st.seat(k)
		from, to := s.window(p.start, p.end)
		viewerMs, joins := s.watched(min(p.start+x, to) - from)
		t.viewerMs += viewerMs
		t.joins += joins
	}
	return t
}

// raw is the tally since the anchor if the server were never down.
func (st *Stream) raw(atMs int64) tally {
	days, ms := floorDiv(atMs-st.anchor, st.server.fleet.day)
	t := st.perDay.times(days)
	if p := st.lastStarted(ms); p != nil {
		t = t.plus(p.before).plus(st.within(p, ms-p.start))
	}
	if st.flash != nil {
		t = t.plus(st.flash.tally(atMs))
	}
	return t
}

// lastStarted returns the last publication of the day that began at or before ms.
func (st *Stream) lastStarted(ms int64) *publication {
	for i := len(st.pubs) - 1; i >= 0; i-- {
		if st.pubs[i].start <= ms {
			return &st.pubs[i]
		}
	}
	return nil
}

// Publication is an interval in which a stream is on air, cut to the time between
// two restarts of its server.
type Publication struct {
	Number  int64 // counts publications and restarts: different for each of the stream's publications
	StartMs int64
	EndMs   int64 // first instant at which it is off air; math.MaxInt64 when it never ends
}

// Publication returns the publication that is on air at an instant.
func (st *Stream) Publication(atMs int64) (Publication, bool) {
	boot := st.server.Boot(atMs)
	if !boot.Up {
		return Publication{}, false
	}
	pub := Publication{Number: int64(boot.Number), StartMs: boot.StartMs, EndMs: boot.EndMs}
	if st.endless {
		return pub, true
	}
	days, ms := floorDiv(atMs-st.anchor, st.server.fleet.day)
	p := st.lastStarted(ms)
	if p == nil || ms >= p.end {
		return Publication{}, false
	}
	midnight := st.anchor + days*st.server.fleet.day
	pub.Number += (midnight + p.start) << 12
	pub.StartMs = max(pub.StartMs, midnight+p.start)
	pub.EndMs = min(pub.EndMs, midnight+p.end)
	return pub, true
}
