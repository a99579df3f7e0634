package wire

import "vigil/fleet"

// columnOf writes one column: value says what stands in each row.
func columnOf[T any](e *encoding, b []byte, number int, rows []T, always bool, value func(*T) uint64) []byte {
	e.rows = e.rows[:0]
	for i := range rows {
		e.rows = append(e.rows, value(&rows[i]))
	}
	return e.packed(b, uint32(number)+1, always)
}

func (e *encoding) streams(b []byte, s *fleet.Snapshot) []byte {
	rows := s.Streams
	if len(rows) == 0 {
		return b
	}
	clear(e.media)
	e.mediaList = e.mediaList[:0]
	type row = fleet.StreamSample
	c := e.part2[:0]
	column := func(number int, value func(*row) uint64) {
		c = columnOf(e, c, number, rows, number == streamName, value)
	}
	column(streamVHost, func(r *row) uint64 { e.key(s.Server.Key, &r.Key); return e.ref(r.Key.VHost) })
	column(streamApp, func(r *row) uint64 { return e.ref(r.Key.App) })
	column(streamInstance, func(r *row) uint64 { return e.ref(r.Key.Instance) })
	column(streamName, func(r *row) uint64 { return e.ref(r.Key.Name) })
	column(streamIncarnation, func(r *row) uint64 { return e.ref(r.Incarnation) })
	column(streamState, func(r *row) uint64 { return uint64(r.State) })
	column(streamOnlineFor, func(r *row) uint64 { return e.agoN1(s.AtMs, r.OnlineSinceMs) })
	column(streamTech, func(r *row) uint64 { return uint64(r.Tech) })
	column(streamViewers, func(r *row) uint64 { return e.intN1(r.Viewers) })
	column(streamPublishers, func(r *row) uint64 { return e.intN1(r.Publishers) })
	column(streamCovered, func(r *row) uint64 { return e.intN1(r.CoveredMs) })
	column(streamViewerMs, func(r *row) uint64 { return e.intN1(r.ViewerMs) })
	column(streamViewersMax, func(r *row) uint64 { return e.intN1(r.ViewersMax) })
	column(streamBytesIn, func(r *row) uint64 { return e.intN1(r.BytesIn) })
	column(streamBytesOut, func(r *row) uint64 { return e.intN1(r.BytesOut) })
	column(streamFramesDropped, func(r *row) uint64 { return e.intN1(r.FramesDropped) })
	column(streamFlags, func(r *row) uint64 { return uint64(flagsOf(r)) })
	column(streamPublisherIP, func(r *row) uint64 { return e.ref(r.PublisherIP) })
	column(streamMedia, func(r *row) uint64 { return e.mediaRef(&r.Media) })
	for i := range e.mediaList {
		c = e.mediaKind(c, &e.mediaList[i])
	}
	for i := range rows {
		for j := range rows[i].ByTech {
			c = e.techRow(c, i, &rows[i].ByTech[j])
		}
	}
	e.part2 = c
	return appendBytesField(b, 50, c)
}

func flagsOf(r *fleet.StreamSample) fleet.SampleFlags {
	if r.NameCollision {
		return r.Flags | fleet.FlagNameCollision
	}
	return r.Flags
}

// mediaRef is the index of a kind of media, plus one; 0 when nothing is known.
func (e *encoding) mediaRef(m *fleet.Media) uint64 {
	if *m == (fleet.Media{}) {
		return 0
	}
	if i, ok := e.media[*m]; ok {
		return uint64(i)
	}
	e.mediaList = append(e.mediaList, *m)
	i := uint32(len(e.mediaList))
	e.media[*m] = i
	return uint64(i)
}

func (e *encoding) mediaKind(b []byte, m *fleet.Media) []byte {
	k := e.column[:0]
	for n, s := range []string{m.VideoCodec, m.VideoProfile, m.AudioCodec, m.AudioProfile} {
		k = appendVarintField(k, uint32(1+n), e.ref(s))
	}
	for n, v := range []fleet.Int{m.WidthPx, m.HeightPx, m.FpsMilli, m.Channels, m.SampleRateHz, m.DeclaredBps} {
		k = appendVarintField(k, uint32(5+n), e.intN1(v))
	}
	e.column = k
	return appendBytesField(b, 20, k)
}

func (e *encoding) techRow(b []byte, row int, t *fleet.TechViewers) []byte {
	k := e.column[:0]
	k = appendVarintField(k, 1, uint64(row))
	k = appendVarintField(k, 2, uint64(t.Tech))
	k = appendVarintField(k, 3, e.whole(t.Viewers))
	e.column = k
	return appendBytesField(b, 21, k)
}

func (e *encoding) events(b []byte, s *fleet.Snapshot) []byte {
	rows := s.Events
	if len(rows) == 0 {
		return b
	}
	type row = fleet.StreamEvent
	c := e.part2[:0]
	column := func(number int, value func(*row) uint64) {
		c = columnOf(e, c, number, rows, number == eventName, value)
	}
	column(eventVHost, func(r *row) uint64 { e.key(s.Server.Key, &r.Key); return e.ref(r.Key.VHost) })
	column(eventApp, func(r *row) uint64 { return e.ref(r.Key.App) })
	column(eventInstance, func(r *row) uint64 { return e.ref(r.Key.Instance) })
	column(eventName, func(r *row) uint64 { return e.ref(r.Key.Name) })
	column(eventBefore, func(r *row) uint64 { return e.beforeMs(s.AtMs, r.AtMs) })
	column(eventState, func(r *row) uint64 { return uint64(r.State) })
	column(eventReason, func(r *row) uint64 { return e.ref(r.Reason) })
	e.part2 = c
	return appendBytesField(b, 51, c)
}

func (e *encoding) sessions(b []byte, s *fleet.Snapshot) []byte {
	rows := s.Sessions
	if len(rows) == 0 {
		return b
	}
	type row = fleet.Session
	c := e.part2[:0]
	column := func(number int, value func(*row) uint64) {
		c = columnOf(e, c, number, rows, number == sessionID, value)
	}
	column(sessionID, func(r *row) uint64 { e.key(s.Server.Key, &r.Key); return e.ref(r.ID) })
	column(sessionVHost, func(r *row) uint64 { return e.ref(r.Key.VHost) })
	column(sessionApp, func(r *row) uint64 { return e.ref(r.Key.App) })
	column(sessionInstance, func(r *row) uint64 { return e.ref(r.Key.Instance) })
	column(sessionName, func(r *row) uint64 { return e.ref(r.Key.Name) })
	column(sessionRole, func(r *row) uint64 { return uint64(r.Role) })
	column(sessionTech, func(r *row) uint64 { return uint64(r.Tech) })
	column(sessionRemoteIP, func(r *row) uint64 { return e.ref(r.RemoteIP) })
	column(sessionUserAgent, func(r *row) uint64 { return e.ref(r.UserAgent) })
	column(sessionStartedBefore, func(r *row) uint64 { return e.beforeMs(s.AtMs, r.StartedMs) })
	column(sessionSeenBefore, func(r *row) uint64 { return e.beforeMs(s.AtMs, r.LastSeenMs) })
	column(sessionEndedBefore, func(r *row) uint64 { return e.agoN1(s.AtMs, r.EndedMs) })
	column(sessionEndReason, func(r *row) uint64 { return e.ref(r.EndReason) })
	column(sessionBytesIn, func(r *row) uint64 { return e.intN1(r.BytesIn) })
	column(sessionBytesOut, func(r *row) uint64 { return e.intN1(r.BytesOut) })
	column(sessionMethod, func(r *row) uint64 { return e.ref(r.Method) })
	column(sessionUnobserved, func(r *row) uint64 {
		if r.Unobserved {
			return 1
		}
		return 0
	})
	e.part2 = c
	return appendBytesField(b, 52, c)
}
