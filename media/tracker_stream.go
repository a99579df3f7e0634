package media

import (
	"strconv"

	"vigil/fleet"
)

// stream is what the tracker remembers of one stream of one boot.
type stream struct {
	parts       []part // one, unless several streams are reported under one name
	state       fleet.StreamState
	publisher   string // session id; empty when the source does not say
	onlineSince fleet.Int
	published   bool      // a publisher was seen in this incarnation
	wasOffline  bool      // it had no publisher at the good poll before this one
	inBefore    fleet.Int // bytes in at that poll, in the same incarnation
	poll        uint64    // the step in which it was last listed

	zeroPolls   int // good polls in a row without a new byte from the publisher
	zeroSinceMs int64
}

// part is one set of counters under a name.
type part struct {
	origin
	label            string // the incarnation that samples carry
	in, out, dropped fleet.Int
	lastMs           int64
	poll             uint64
}

func (st *stream) isLive() bool {
	return st.state == fleet.StateOnline || st.state == fleet.StateIdle
}

func (st *stream) label() string {
	if len(st.parts) == 0 {
		return ""
	}
	return st.parts[0].label
}

// countStreams makes samples of all streams of the reading and ends those that are
// no longer listed.
func (s *step) countStreams() {
	publishers := s.publishersByStream()
	s.out.Streams = make([]fleet.StreamSample, 0, len(s.r.Streams))
	rows := make(map[fleet.StreamKey]int, len(s.r.Streams))
	for i := range s.r.Streams {
		sr := &s.r.Streams[i]
		st := s.b.streams[sr.Key]
		if st == nil {
			st = &stream{}
			s.b.streams[sr.Key] = st
		}
		sample := fleet.StreamSample{StreamInfo: sr.StreamInfo}
		s.countPart(st, sr, &sample)
		if row, ok := rows[sr.Key]; ok {
			merge(&s.out.Streams[row], &sample)
			continue
		}
		st.poll = s.poll
		rows[sr.Key] = len(s.out.Streams)
		s.out.Streams = append(s.out.Streams, sample)
	}
	for i := range s.out.Streams {
		sample := &s.out.Streams[i]
		st := s.b.streams[sample.Key]
		s.dropParts(st, sample)
		s.refine(st, sample, publishers[sample.Key])
	}
	s.endUnlisted()
}

// publishersByStream finds the session of each stream's publisher.
func (s *step) publishersByStream() map[fleet.StreamKey]string {
	ids := make(map[fleet.StreamKey]string, len(s.r.Streams))
	for i := range s.r.Sessions {
		if sess := &s.r.Sessions[i]; sess.Role == fleet.RolePublisher {
			ids[sess.Key] = sess.ID
		}
	}
	return ids
}

// countPart finds the counters that a reading continues and fills the deltas.
func (s *step) countPart(st *stream, sr *fleet.StreamReading, sample *fleet.StreamSample) {
	now := originOf(sr.Incarnation, sr.BeginMs, s.r)
	p := st.continued(now, s.toleranceMs, s.poll)
	c := counting{maxRate: s.opts.LineRateBps}
	switch {
	case p != nil:
		c.basis, c.spanMs = basisPrevious, max(0, s.r.MonoMs-p.lastMs)
	case s.beganUnseen(now) && !(s.first && s.basis == basisNone):
		c.basis, c.spanMs = basisZero, max(0, s.r.MonoMs-now.monoMs)
		c.flags |= fleet.FlagNewIncarnation
	default:
		c.flags |= fleet.FlagBaseline
	}
	st.inBefore = fleet.Int{}
	if p != nil && p.in.Or(0) <= sr.BytesIn.Or(-1) {
		st.inBefore = p.in
	}
	if p == nil {
		st.parts = append(st.parts, part{label: incarnationLabel(now)})
		p = &st.parts[len(st.parts)-1]
	}
	sample.BytesIn = c.delta(p.in, sr.BytesIn)
	sample.BytesOut = c.delta(p.out, sr.BytesOut)
	sample.FramesDropped = c.delta(p.dropped, sr.FramesDropped)
	sample.Flags |= c.flags
	sample.Incarnation = p.label
	s.cover(sample, &c)
	p.origin = now
	p.in, p.out, p.dropped, p.lastMs, p.poll = sr.BytesIn, sr.BytesOut, sr.FramesDropped, s.r.MonoMs, s.poll
}

// cover says which part of the interval the deltas describe. Nothing is said in the
// usual case, that they describe all of it.
func (s *step) cover(sample *fleet.StreamSample, c *counting) {
	switch {
	case c.basis == basisNone:
		sample.CoveredMs = fleet.Of(0)
	case c.basis == basisZero:
		span := c.spanMs
		if s.out.IntervalMs > 0 {
			span = min(span, s.out.IntervalMs)
		}
		sample.CoveredMs = fleet.Of(span)
		if v, ok := sample.Viewers.Get(); ok {
			sample.ViewerMs = fleet.Of(v * span)
		}
	case c.spanMs != s.out.IntervalMs:
		sample.CoveredMs = fleet.Of(c.spanMs)
	}
}

// continued returns the part whose counters began when the new ones did, the nearest
// where several come into question.
func (st *stream) continued(now origin, toleranceMs int64, poll uint64) *part {
	var best *part
	var bestGap int64
	for i := range st.parts {
		p := &st.parts[i]
		if p.poll == poll || !p.same(now, toleranceMs) {
			continue
		}
		gap := max(p.monoMs-now.monoMs, now.monoMs-p.monoMs)
		if best == nil || gap < bestGap {
			best, bestGap = p, gap
		}
	}
	return best
}

func incarnationLabel(o origin) string {
	if o.name != "" || !o.isKnown {
		return o.name
	}
	return strconv.FormatInt(o.wallMs, 10)
}

// merge adds a stream to another one of the same name.
func merge(to, from *fleet.StreamSample) {
	to.NameCollision = true
	to.Viewers, to.Publishers = to.Viewers.Plus(from.Viewers), to.Publishers.Plus(from.Publishers)
	to.BytesIn, to.BytesOut = to.BytesIn.Plus(from.BytesIn), to.BytesOut.Plus(from.BytesOut)
	to.FramesDropped = to.FramesDropped.Plus(from.FramesDropped)
	to.Flags |= from.Flags | fleet.FlagNameCollision
	to.ViewerMs = fleet.Int{}
	if !from.CoveredMs.Known() || !to.CoveredMs.Known() {
		to.CoveredMs = fleet.Int{}
	} else {
		to.CoveredMs = to.CoveredMs.Max(from.CoveredMs)
	}
	if to.State != fleet.StateOnline && from.State == fleet.StateOnline {
		to.State, to.Media, to.PublisherIP, to.OnlineSinceMs = from.State, from.Media, from.PublisherIP, from.OnlineSinceMs
	}
}

// dropParts forgets counters that are no longer listed under a name that still is.
func (s *step) dropParts(st *stream, sample *fleet.StreamSample) {
	kept := st.parts[:0]
	for _, p := range st.parts {
		if p.poll == s.poll {
			kept = append(kept, p)
		} else {
			sample.Flags |= fleet.FlagTailUnobserved
		}
	}
	st.parts = kept
}

// refine decides the state of a stream from its history and reports changes.
func (s *step) refine(st *stream, sample *fleet.StreamSample, publisher string) {
	before, was := st.state, *st
	if sample.Publishers.Or(0) > 0 {
		if s.isIdle(st, sample) {
			sample.State = fleet.StateIdle
		}
		st.published = true
	} else {
		st.zeroPolls = 0
	}
	if sample.Flags&fleet.FlagNewIncarnation != 0 {
		st.published = sample.Publishers.Or(0) > 0
	}
	st.state, st.publisher, st.onlineSince = sample.State, publisher, sample.OnlineSinceMs
	live, wasLive := st.isLive(), before == fleet.StateOnline || before == fleet.StateIdle
	newHere := before == fleet.StateUnknown
	st.wasOffline = before == fleet.StateOffline
	switch {
	case sample.State == fleet.StateUnknown:
	case newHere && s.basis == basisNone:
		s.event(sample.Key, s.r.AtMs, sample.State, "first_sight")
	case live && !wasLive:
		s.event(sample.Key, s.within(sample.OnlineSinceMs), sample.State, "publish")
	case !live && wasLive:
		s.event(sample.Key, s.r.AtMs, sample.State, "unpublish")
	case live && s.wasReplaced(&was, sample, publisher):
		s.event(sample.Key, s.within(sample.OnlineSinceMs), sample.State, "replaced")
	case before == fleet.StateOnline && sample.State == fleet.StateIdle:
		s.event(sample.Key, s.r.AtMs, sample.State, "no_data")
	case before == fleet.StateIdle && sample.State == fleet.StateOnline:
		s.event(sample.Key, s.r.AtMs, sample.State, "data")
	}
}

// isIdle counts the polls without a new byte from a publisher that is connected.
func (s *step) isIdle(st *stream, sample *fleet.StreamSample) bool {
	d, ok := sample.BytesIn.Get()
	switch {
	case !ok:
		return st.state == fleet.StateIdle && sample.Flags&fleet.FlagBaseline == 0
	case d > 0:
		st.zeroPolls = 0
		return false
	case st.zeroPolls == 0:
		st.zeroSinceMs = s.r.MonoMs - s.out.IntervalMs
	}
	st.zeroPolls++
	return st.zeroPolls >= idlePolls && s.r.MonoMs-st.zeroSinceMs >= s.rules.idleMinMs
}

// wasReplaced reports whether a stream that was live and is live has another
// publisher. Where several streams share a name nothing can be said.
func (s *step) wasReplaced(was *stream, sample *fleet.StreamSample, publisher string) bool {
	if sample.NameCollision {
		return false
	}
	if was.publisher != "" && publisher != "" {
		return was.publisher != publisher
	}
	return sample.Flags&fleet.FlagNewIncarnation != 0
}

// within is the time that the server gives for a change, if that can be true, and the
// time of the poll otherwise.
func (s *step) within(at fleet.Int) int64 {
	from := s.r.AtMs - s.out.IntervalMs
	if v, ok := at.Get(); ok && v >= from && v <= s.r.AtMs {
		return v
	}
	return s.r.AtMs
}

// endUnlisted ends the streams of this boot that the reading no longer lists.
func (s *step) endUnlisted() {
	if len(s.b.streams) == 0 {
		return
	}
	var gone map[fleet.StreamKey]*stream
	for key, st := range s.b.streams {
		if st.poll != s.poll {
			if gone == nil {
				gone = make(map[fleet.StreamKey]*stream)
			}
			gone[key] = st
		}
	}
	for _, key := range sortedKeys(gone) {
		st := gone[key]
		if s.r.Status == fleet.StatusPartial {
			continue // it may be in the part that this reading does not show
		}
		delete(s.b.streams, key)
		if !st.isLive() && st.state != fleet.StateHidden {
			continue
		}
		s.event(key, s.r.AtMs, fleet.StateOffline, "vanished")
		s.out.Streams = append(s.out.Streams, fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{
				Key: key, Incarnation: st.label(), State: fleet.StateOffline,
				Viewers: fleet.Of(0), Publishers: fleet.Of(0),
			},
			CoveredMs: fleet.Of(0),
			Flags:     fleet.FlagTailUnobserved,
		})
	}
}
