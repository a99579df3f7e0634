package mediatest

import (
	"vigil/fleetsim"
)

// icecastSourceTimeoutMs is after how long without data Icecast drops a source.
const icecastSourceTimeoutMs = 10_000

// idStep changes connection numbers when a connection is made again.
const idStep = 0x9e3779b1

// picture is what a server shows at one instant.
type picture struct {
	up       bool
	atMs     int64
	skewMs   int64
	startMs  int64 // counters of the server began
	pid      int
	in, out  int64
	accepted int64
	viewers  int
	streams  []view
}

// view is a stream in a picture.
type view struct {
	st          *fleetsim.Stream
	sinceMs     int64
	in, out     int64
	publishing  bool
	flowing     bool // data comes
	publisherMs int64
	publisherID uint64
	sessions    []fleetsim.Session
	peak        int64 // Icecast
}

// look makes the picture of the present. The caller holds mu; the picture's sessions
// are valid until the next call.
func (e *Emulator) look(atMs int64) picture {
	boot := e.truth.Boot(atMs)
	p := picture{up: boot.Up, atMs: atMs, skewMs: e.skew.Milliseconds()}
	if !boot.Up {
		return p
	}
	p.startMs = e.world.bootMs(boot)
	worker := 0
	if e.workers == 2 && e.Product() == fleetsim.ProductNginx {
		worker = int(e.asked % 2)
	}
	p.pid = 1000 + (e.truth.Index()*7919+boot.Number*613+e.world.restarts*101)%30_000*2 + worker
	e.sessions = e.sessions[:0]
	if e.world.calm() && e.workers == 1 {
		e.lookCalm(&p)
	} else {
		e.lookClosely(&p, boot, worker)
	}
	for i := range p.streams {
		p.viewers += len(p.streams[i].sessions)
	}
	if e.Product() == fleetsim.ProductIcecast {
		e.notePeaks(&p)
	}
	return p
}

// lookCalm shows the truth as it is.
func (e *Emulator) lookCalm(p *picture) {
	var state fleetsim.ServerState
	state, e.scratch = e.truth.State(p.atMs, e.scratch[:0])
	p.in, p.out, p.accepted = state.BytesIn, state.BytesOut, state.Accepted
	p.streams = make([]view, 0, len(e.scratch))
	for _, s := range e.scratch {
		v := view{
			st: s.Stream, sinceMs: s.Publication.StartMs, in: s.BytesIn, out: s.BytesOut, publishing: true, flowing: true,
			publisherMs: s.Publication.StartMs, publisherID: s.Stream.PublisherID(s.Publication),
		}
		if at := e.stepped(v.sinceMs, p.atMs); at != p.atMs {
			sums := v.st.Between(v.sinceMs, at)
			v.in, v.out = sums.BytesIn, sums.BytesOut
		}
		v.sessions = e.appendSessions(v.st, p.atMs, 0, 0)
		p.streams = append(p.streams, v)
	}
}

// stepped is the instant whose byte counters Icecast shows at atMs.
func (e *Emulator) stepped(sinceMs, atMs int64) int64 {
	step := e.opts.StepMs
	if step <= 0 || e.Product() != fleetsim.ProductIcecast {
		return atMs
	}
	return atMs - (atMs-sinceMs)%step
}

// appendSessions returns the open sessions of a stream. Those that began before
// againMs were made again then, and those that began before hiddenMs are left out.
func (e *Emulator) appendSessions(st *fleetsim.Stream, atMs, againMs, hiddenMs int64) []fleetsim.Session {
	begin := len(e.sessions)
	st.Sessions(atMs, func(s fleetsim.Session) {
		if s.StartMs < hiddenMs {
			return
		}
		if s.StartMs < againMs {
			s.ID += idStep * uint64(againMs-s.StartMs)
			s.StartMs = againMs
		}
		e.sessions = append(e.sessions, s)
	})
	return e.sessions[begin:len(e.sessions):len(e.sessions)]
}

// lookClosely shows the truth as the events of the world changed it.
func (e *Emulator) lookClosely(p *picture, boot fleetsim.Boot, worker int) {
	for i, st := range e.truth.Streams() {
		secondWorkersViewers := e.workers == 2 && i%2 == 0
		e.addTotals(p, st, worker == 1, secondWorkersViewers)
		pub, onAir := st.Publication(p.atMs)
		if !onAir {
			continue
		}
		v, shown := view{}, false
		if e.Product() == fleetsim.ProductIcecast {
			v, shown = e.lookAtMount(st, pub, p.atMs)
		} else {
			v, shown = e.lookAtStream(st, pub, p.atMs)
		}
		if !shown {
			continue
		}
		switch {
		case worker == 1 && !secondWorkersViewers:
			continue
		case worker == 1:
			v.in, v.out, v.publishing, v.flowing = 0, 0, false, false
			if len(v.sessions) == 0 {
				continue
			}
		case secondWorkersViewers:
			v.out, v.sessions = 0, nil
			if !v.publishing {
				continue
			}
		}
		p.streams = append(p.streams, v)
	}
	if e.world.restartMs > boot.StartMs {
		p.accepted += e.returning(p.atMs)
	}
}

// returning counts the connections that were made again because of Restart.
func (e *Emulator) returning(atMs int64) int64 {
	at := e.world.restartMs
	if at >= atMs {
		return 0
	}
	var n int64
	for _, st := range e.truth.Streams() {
		if pub, ok := st.Publication(at); ok && pub.StartMs < at {
			n++
		}
		st.Sessions(at, func(s fleetsim.Session) {
			if s.StartMs < at {
				n++
			}
		})
	}
	return n
}

// addTotals adds one stream to the server's own counters: what the simulation says,
// less what did not flow or flowed out of sight.
func (e *Emulator) addTotals(p *picture, st *fleetsim.Stream, waitingRoom, noViewers bool) {
	in, out, accepted := st.WireBetween(p.startMs, p.atMs)
	p.accepted += accepted
	if waitingRoom {
		return
	}
	e.silences(st, p.startMs, p.atMs, func(from, to int64) {
		sums := st.Between(from, to)
		in -= sums.OnlineMs * st.WireBytesPerMs()
		out -= sums.ViewerMs * st.WireBytesPerMs()
	})
	for _, o := range e.world.streams[st] {
		if o.replaced && o.to >= p.startMs {
			p.accepted++
		}
	}
	p.in += in
	if !noViewers {
		p.out += out
	}
}

// silences calls visit with the disjoint parts of [from, to) in which the stream's
// data did not flow or was out of sight.
func (e *Emulator) silences(st *fleetsim.Stream, from, to int64, visit func(from, to int64)) {
	done := from
	cut := func(a, b int64) {
		if a, b = max(a, done), min(b, to); a < b {
			visit(a, b)
			done = b
		}
	}
	if reload := e.world.reloadMs; reload > 0 {
		if pub, ok := st.Publication(reload); ok && pub.StartMs < reload {
			cut(reload, e.replacedAfter(st, reload, pub.EndMs))
		}
	}
	for _, o := range e.world.streams[st] {
		cut(o.from, o.to)
	}
}

// replacedAfter is when the publication that was on air at an instant ended or got
// another publisher.
func (e *Emulator) replacedAfter(st *fleetsim.Stream, atMs, endMs int64) int64 {
	for _, o := range e.world.streams[st] {
		if o.replaced && o.to >= atMs {
			return min(o.to, endMs)
		}
	}
	return endMs
}

// lookAtStream shows a stream as nginx-rtmp does: it lives as long as anybody is
// connected to it, and its counters with it.
func (e *Emulator) lookAtStream(st *fleetsim.Stream, pub fleetsim.Publication, atMs int64) (view, bool) {
	born := max(pub.StartMs, e.world.restartMs)
	v := view{st: st, sinceMs: born, publishing: true, flowing: true, publisherMs: born}
	for _, o := range e.world.streams[st] {
		if o.to <= v.sinceMs || o.from > atMs {
			continue
		}
		from, to := max(o.from, v.sinceMs), min(o.to, atMs)
		v.flowing = o.to <= atMs
		if !o.gone {
			continue
		}
		v.publishing = o.to <= atMs
		if o.to <= atMs {
			v.publisherMs = max(v.publisherMs, o.to)
		}
		if empty, was := st.LastWithoutViewers(from, to); was {
			if empty >= atMs && !v.publishing {
				return v, false
			}
			v.sinceMs = min(empty+1, to)
		}
		if reload := e.world.reloadMs; v.publishing && v.sinceMs < reload && o.to >= reload {
			v.sinceMs = o.to // with the new publisher it is a stream of the new worker
		}
	}
	if reload := e.world.reloadMs; v.publisherMs < reload {
		return e.lookBehindReload(v, atMs)
	}
	sums := st.Between(v.sinceMs, atMs)
	v.in, v.out = sums.BytesIn, sums.BytesOut
	e.silences(st, v.sinceMs, atMs, func(from, to int64) {
		sums := st.Between(from, to)
		v.in -= sums.BytesIn
		v.out -= sums.BytesOut
	})
	v.publisherID = st.PublisherID(pub) + idStep*uint64(v.publisherMs-pub.StartMs)
	v.sessions = e.appendSessions(st, atMs, e.world.restartMs, e.world.reloadMs)
	return v, true
}

// lookBehindReload shows the viewers who came after a reload to a stream whose
// publisher stayed with the old worker: they wait, and nothing comes.
func (e *Emulator) lookBehindReload(v view, atMs int64) (view, bool) {
	v.publishing, v.flowing = false, false
	v.sessions = e.appendSessions(v.st, atMs, e.world.restartMs, e.world.reloadMs)
	v.sinceMs = atMs
	for _, s := range v.sessions {
		v.sinceMs = min(v.sinceMs, s.StartMs)
	}
	return v, len(v.sessions) > 0
}

// lookAtMount shows a stream as Icecast does: it lives as long as its source, and the
// listeners go with it. They come back with the next source.
func (e *Emulator) lookAtMount(st *fleetsim.Stream, pub fleetsim.Publication, atMs int64) (view, bool) {
	v := view{st: st, sinceMs: max(pub.StartMs, e.world.restartMs), publishing: true, flowing: true}
	for _, o := range e.world.streams[st] {
		if o.to <= v.sinceMs || o.from > atMs {
			continue
		}
		dropped := o.gone || min(o.to, atMs)-o.from >= icecastSourceTimeoutMs
		if o.to > atMs {
			v.flowing = false
			if dropped {
				return v, false
			}
		} else if dropped {
			v.sinceMs = o.to
		}
	}
	at := e.stepped(v.sinceMs, atMs)
	sums := st.Between(v.sinceMs, at)
	v.in, v.out = sums.BytesIn, sums.BytesOut
	e.silences(st, v.sinceMs, at, func(from, to int64) {
		sums := st.Between(from, to)
		v.in -= sums.BytesIn
		v.out -= sums.BytesOut
	})
	v.publisherMs = v.sinceMs
	v.publisherID = st.PublisherID(pub) + idStep*uint64(v.sinceMs-pub.StartMs)
	v.sessions = e.appendSessions(st, atMs, v.sinceMs, 0)
	return v, true
}

// peak remembers a mount's highest audience so far, so that each request looks only
// at the time since the last one.
type peak struct {
	sinceMs, untilMs, most int64
}

// notePeaks fills in the highest audience of each mount since its source came, at most
// over the last two simulated days.
func (e *Emulator) notePeaks(p *picture) {
	day := e.truth.Fleet().Config().Day.Milliseconds()
	for i := range p.streams {
		v := &p.streams[i]
		have := e.peaks[v.st]
		if have.sinceMs != v.sinceMs || have.untilMs > p.atMs {
			have = peak{sinceMs: v.sinceMs, untilMs: max(v.sinceMs, p.atMs-2*day)}
		}
		have.most = max(have.most, v.st.ViewerRange(have.untilMs, p.atMs).Max)
		have.untilMs = p.atMs
		e.peaks[v.st] = have
		v.peak = have.most
	}
}
