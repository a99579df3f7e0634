package media

import (
	"slices"
	"strings"

	"vigil/fleet"
)

// session is a connection that is under way.
type session struct {
	fleet.Session
	poll     uint64
	rawIn    fleet.Int // counters as last printed
	rawOut   fleet.Int
	streamIn fleet.Int // the stream's counter when this publisher began; unknown when it cannot be told
}

// trackSessions updates the connections of this boot, reports publishers that began
// and everybody who is gone.
func (s *step) trackSessions() {
	for i := range s.r.Sessions {
		s.see(&s.r.Sessions[i])
	}
	s.endSessions()
}

func (s *step) see(now *fleet.Session) {
	id := now.ID
	have := s.b.sessions[id]
	if have != nil && (have.Key != now.Key || have.Role != now.Role) {
		if have.poll == s.poll {
			id += " " + now.Key.App + "/" + now.Key.Name // two streams over one connection
			have = s.b.sessions[id]
		} else {
			s.end(have, "closed") // the connection turned to another stream
			have = nil
		}
	}
	if n, ok := connNumber(now.ID); ok {
		s.b.maxConn = max(s.b.maxConn, n)
	}
	if have == nil {
		have = &session{Session: *now}
		have.ID = id
		have.rawIn, have.rawOut = now.BytesIn, now.BytesOut
		if now.Role == fleet.RolePublisher {
			have.streamIn = s.counterAtStart(now)
		}
		s.b.sessions[id] = have
		s.update(have, now)
		if now.Role == fleet.RolePublisher {
			s.out.Sessions = append(s.out.Sessions, have.Session)
		}
		return
	}
	s.update(have, now)
}

func (s *step) update(have *session, now *fleet.Session) {
	have.BytesIn = grown(have.BytesIn, have.rawIn, now.BytesIn)
	have.BytesOut = grown(have.BytesOut, have.rawOut, now.BytesOut)
	have.rawIn, have.rawOut = now.BytesIn, now.BytesOut
	have.LastSeenMs, have.poll = now.LastSeenMs, s.poll
	if now.UserAgent != "" {
		have.UserAgent = now.UserAgent
	}
	if !now.BytesIn.Known() && have.Role == fleet.RolePublisher {
		have.BytesIn = s.bytesSince(have)
	}
}

// grown continues the bytes of a connection. Servers count them in 32 bits: a value
// that falls from the upper half passed 4 GiB.
func grown(total, before, now fleet.Int) fleet.Int {
	n, ok := now.Get()
	if !ok {
		return total
	}
	b, known := before.Get()
	if !known {
		return now
	}
	switch {
	case n >= b:
		return fleet.Of(total.Or(0) + n - b)
	case b >= wrap32/2 && b < wrap32:
		return fleet.Of(total.Or(0) + n + wrap32 - b)
	}
	return fleet.Of(total.Or(0) + n)
}

// counterAtStart is what the stream's counter showed when a publisher began, so that
// its own bytes can be told where the server counts per stream only: zero when the
// stream began with it, the last value when nobody had been publishing since.
func (s *step) counterAtStart(now *fleet.Session) fleet.Int {
	st := s.b.streams[now.Key]
	if st == nil || len(st.parts) != 1 {
		return fleet.Int{}
	}
	p := &st.parts[0]
	if p.isKnown && near(p.wallMs, now.StartedMs, s.toleranceMs) {
		return fleet.Of(0)
	}
	if st.wasOffline {
		return st.inBefore
	}
	return fleet.Int{}
}

// bytesSince is what a publisher sent according to the counter of its stream.
func (s *step) bytesSince(have *session) fleet.Int {
	base, ok := have.streamIn.Get()
	st := s.b.streams[have.Key]
	if !ok || st == nil || len(st.parts) != 1 {
		return have.BytesIn
	}
	if in, known := st.parts[0].in.Get(); known && in >= base {
		return fleet.Of(in - base)
	}
	return have.BytesIn
}

// endSessions ends the connections that are gone, in a fixed order.
func (s *step) endSessions() {
	var gone []*session
	for _, have := range s.b.sessions {
		if have.poll != s.poll && s.isOver(have) {
			gone = append(gone, have)
		}
	}
	slices.SortFunc(gone, func(a, b *session) int { return strings.Compare(a.ID, b.ID) })
	for _, have := range gone {
		reason := "closed"
		if s.b.streams[have.Key] == nil {
			reason = "vanished"
		}
		s.end(have, reason)
	}
}

// isOver decides whether a connection that was not listed has ended. Lists may be
// missing, or cover some streams only; but a stream that is gone has no connections,
// and one without a publisher, or with another one, has lost the one it had.
func (s *step) isOver(have *session) bool {
	if s.r.Status == fleet.StatusPartial {
		return false
	}
	st := s.b.streams[have.Key]
	if st == nil {
		return true
	}
	if s.r.SessionsComplete && s.r.SessionScope == nil {
		return true
	}
	if have.Role == fleet.RolePublisher {
		return !st.isLive() || (st.publisher != "" && st.publisher != have.ID)
	}
	return s.r.SessionsComplete && slices.Contains(s.r.SessionScope, have.Key)
}

// end reports the end of a connection. Its last moments fell between two polls: the
// end is when it was last seen, so durations and bytes are what is certain.
func (s *step) end(have *session, reason string) {
	out := have.Session
	out.EndedMs, out.EndReason, out.Unobserved = fleet.Of(have.LastSeenMs), reason, true
	s.out.Sessions = append(s.out.Sessions, out)
	delete(s.b.sessions, have.ID)
}

// endAll ends every connection of a boot.
func (s *step) endAll(b *boot, reason string) {
	ids := make([]string, 0, len(b.sessions))
	for id := range b.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		out := b.sessions[id].Session
		out.EndedMs, out.EndReason, out.Unobserved = fleet.Of(out.LastSeenMs), reason, true
		s.out.Sessions = append(s.out.Sessions, out)
	}
	clear(b.sessions)
}
