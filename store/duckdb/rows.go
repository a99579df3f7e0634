package duckdb

import "vigil/fleet"

// onlineSinceSlackMs is how much the start of a publication may wobble before it is
// written again: some servers say how long ago it was, rounded to seconds.
const onlineSinceSlackMs = 5_000

func timeOf(s *fleet.Snapshot) int64 { return min(max(s.AtMs, minTimeMs), maxTimeMs) }

func intervalOf(s *fleet.Snapshot) int64 { return min(max(s.IntervalMs, 0), maxIntervalMs) }

// streamSums are a server's streams added up, one sum per piece of a cut.
type streamSums struct {
	coveredMs int64
	viewerMs  fleet.Int
	bytesIn   fleet.Int
	bytesOut  fleet.Int
}

func (a *applying) snapshot(agent string, s *fleet.Snapshot, receivedMs int64) error {
	entry := a.db.ids.servers[s.Server.Key]
	c := cutOf(timeOf(s), intervalOf(s), a.pieces, a.edges)
	a.edges = c.edges
	sums := make([]streamSums, len(c.edges))
	for i := range s.Streams {
		stream := a.entries[i]
		if stream == nil { // it was new
			stream = entry.streams[nameOf(&s.Streams[i].Key)]
		}
		if err := a.stream(stream, &s.Streams[i], &c, sums); err != nil {
			return err
		}
	}
	a.entries = a.entries[len(s.Streams):]
	if err := a.server(entry, s, &c, sums, receivedMs); err != nil {
		return err
	}
	if err := a.serverInfo(entry, agent, s); err != nil {
		return err
	}
	for i := range s.Events {
		if err := a.event(entry, &s.Events[i]); err != nil {
			return err
		}
	}
	for i := range s.Sessions {
		if err := a.session(entry, &s.Sessions[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) stream(entry *streamEntry, sample *fleet.StreamSample, c *cut, sums []streamSums) error {
	entry.seenMs = c.endMs
	m := measure(sample, c.totalMs)
	whole := len(c.edges) == 1
	a.samples++
	for i, endMs := range c.edges {
		covered := m.coveredMs
		if !whole {
			covered = c.share(fleet.Of(covered), i).Or(0)
		}
		viewerMs, in, out := c.share(m.viewerMs, i), c.share(m.bytesIn, i), c.share(m.bytesOut, i)
		sum := &sums[i]
		sum.coveredMs += covered
		sum.viewerMs = sum.viewerMs.Plus(viewerMs)
		sum.bytesIn = sum.bytesIn.Plus(in)
		sum.bytesOut = sum.bytesOut.Plus(out)

		app := a.streams
		app.u64(0, entry.id)
		app.i64(1, endMs)
		app.bool(2, false)
		app.u8(3, uint8(sample.Tech))
		app.u8(4, uint8(sample.State))
		app.u16(5, uint16(m.flags))
		app.i32(6, int32(covered))
		app.int(7, m.viewers)
		app.int(8, unless(m.viewersMax, m.viewers))
		app.int(9, unlessProduct(viewerMs, m.viewers, covered))
		app.int(10, in)
		app.int(11, out)
		app.int(12, c.share(m.dropped, i))
		if err := app.next(); err != nil {
			return err
		}
		a.rows++
		if err := a.parts(entry, sample, endMs, c.pieceMs(i)); err != nil {
			return err
		}
	}
	return a.streamInfo(entry, sample, c.endMs)
}

// parts writes the viewers by technology of a stream that has several. Their time is
// the gauge times the interval: servers do not say more.
func (a *applying) parts(entry *streamEntry, sample *fleet.StreamSample, endMs, pieceMs int64) error {
	if sample.Tech != fleet.TechMixed {
		return nil
	}
	for _, part := range sample.ByTech {
		ignored := false
		viewers := within(fleet.Of(part.Viewers), maxCount, &ignored)
		app := a.streams
		app.u64(0, entry.id)
		app.i64(1, endMs)
		app.bool(2, true)
		app.u8(3, uint8(part.Tech))
		app.u8(4, uint8(sample.State))
		app.u16(5, 0)
		app.i32(6, int32(pieceMs))
		app.int(7, viewers)
		for col := 8; col <= 12; col++ {
			app.null(col)
		}
		if err := app.next(); err != nil {
			return err
		}
		a.rows++
	}
	return nil
}

// unless leaves out a number that equals its default.
func unless(n, fallback fleet.Int) fleet.Int {
	if n == fallback {
		return fleet.Int{}
	}
	return n
}

func unlessProduct(n, viewers fleet.Int, coveredMs int64) fleet.Int {
	v, known := viewers.Get()
	if known && n == fleet.Of(v*coveredMs) {
		return fleet.Int{}
	}
	return n
}

func (c *cut) pieceMs(i int) int64 {
	begin := c.endMs - c.totalMs
	if i > 0 {
		begin = c.edges[i-1]
	}
	return c.edges[i] - begin
}

func (a *applying) server(entry *serverEntry, s *fleet.Snapshot, c *cut, sums []streamSums, receivedMs int64) error {
	clamped := false
	viewers := within(s.Server.ViewersNow, maxCount, &clamped)
	viewersMax := within(s.ViewersMax, maxCount, &clamped)
	viewerMs := within(s.ViewerMs, maxViewerMs, &clamped)
	in := within(s.Totals.BytesIn, maxBytes, &clamped)
	out := within(s.Totals.BytesOut, maxBytes, &clamped)
	accepted := within(s.Totals.ConnsAccepted, maxCount, &clamped)
	rejected := within(s.Totals.ConnsRejected, maxCount, &clamped)
	if v, known := viewers.Get(); known && !viewerMs.Known() {
		viewerMs = fleet.Of(v * c.totalMs)
	}
	flags := s.Flags
	if clamped {
		flags |= fleet.FlagClamped
	}
	coveredMs := fleet.Of(min(max(s.CoveredMs, 0), c.totalMs))
	for i, endMs := range c.edges {
		covered := c.share(coveredMs, i).Or(0)
		app := a.servers
		app.u64(0, entry.id)
		app.i64(1, endMs)
		app.i64(2, c.totalMs)
		app.i64(3, receivedMs)
		app.u8(4, uint8(s.Status))
		app.u16(5, uint16(flags))
		app.i32(6, int32(covered))
		app.int(7, viewers)
		app.int(8, unless(viewersMax, viewers))
		app.int(9, unlessProduct(c.share(viewerMs, i), viewers, covered))
		app.int(10, c.share(in, i))
		app.int(11, c.share(out, i))
		app.int(12, c.share(accepted, i))
		app.int(13, c.share(rejected, i))
		app.int(14, within(s.Server.ConnsNow, maxCount, &clamped))
		app.int(15, within(s.Server.StreamsNow, maxCount, &clamped))
		app.int(16, within(s.Server.PublishersNow, maxCount, &clamped))
		app.int(17, within(s.Server.CPUMilliPct, maxGauge, &clamped))
		app.int(18, within(s.Server.MemRSSBytes, maxGauge, &clamped))
		app.i64(19, s.LatencyMs)
		app.i64(20, s.UnknownFields)
		sum := &sums[i]
		app.i64(21, sum.coveredMs)
		app.int(22, sum.viewerMs)
		app.int(23, sum.bytesIn)
		app.int(24, sum.bytesOut)
		if err := app.next(); err != nil {
			return err
		}
		a.rows++
	}
	return nil
}

func (a *applying) streamInfo(entry *streamEntry, s *fleet.StreamSample, atMs int64) error {
	info := a.db.ids.infoOfStream(s)
	since := s.OnlineSinceMs.Or(0)
	moved := since - entry.onlineSinceMs
	if info == entry.info && -onlineSinceSlackMs <= moved && moved <= onlineSinceSlackMs {
		return nil
	}
	entry.info, entry.onlineSinceMs = info, since
	app, err := a.to("stream_info", streamInfoColumns)
	if err != nil {
		return err
	}
	m := &s.Media
	app.u64(0, entry.id)
	app.i64(1, atMs)
	app.int(2, s.OnlineSinceMs)
	app.text(3, s.Incarnation)
	app.int(4, s.Publishers)
	app.text(5, s.PublisherIP)
	app.text(6, m.VideoCodec)
	app.text(7, m.VideoProfile)
	app.int(8, m.WidthPx)
	app.int(9, m.HeightPx)
	app.int(10, m.FpsMilli)
	app.text(11, m.AudioCodec)
	app.text(12, m.AudioProfile)
	app.int(13, m.Channels)
	app.int(14, m.SampleRateHz)
	app.int(15, m.DeclaredBps)
	return app.next()
}

func (a *applying) serverInfo(entry *serverEntry, agent string, s *fleet.Snapshot) error {
	info := a.db.ids.infoOfServer(agent, s)
	if info == entry.info {
		return nil
	}
	entry.info = info
	app, err := a.to("server_info", serverInfoColumns)
	if err != nil {
		return err
	}
	app.u64(0, entry.id)
	app.i64(1, timeOf(s))
	app.text(2, agent)
	app.text(3, s.Server.Product)
	app.text(4, s.Server.Version)
	app.text(5, s.Server.Collector)
	app.text(6, s.Server.Verified)
	app.text(7, s.Server.BootID)
	app.int(8, s.Server.StartedMs)
	app.int(9, s.Server.Workers)
	app.int(10, s.Server.ConnLimit)
	app.text(11, s.Detail)
	return app.next()
}

func (a *applying) event(server *serverEntry, e *fleet.StreamEvent) error {
	app := a.events
	app.u64(0, server.streams[nameOf(&e.Key)].id)
	app.i64(1, min(max(e.AtMs, minTimeMs), maxTimeMs))
	app.u8(2, uint8(e.State))
	app.text(3, e.Reason)
	a.rows++
	return app.next()
}

func (a *applying) session(server *serverEntry, s *fleet.Session) error {
	app := a.sessions
	ignored := false
	app.u64(0, server.streams[nameOf(&s.Key)].id)
	app.i64(1, min(max(s.LastSeenMs, s.EndedMs.Or(0), minTimeMs), maxTimeMs))
	app.text(2, s.ID)
	app.u8(3, uint8(s.Role))
	app.u8(4, uint8(s.Tech))
	app.text(5, s.RemoteIP)
	app.text(6, s.UserAgent)
	app.i64(7, s.StartedMs)
	app.int(8, s.EndedMs)
	app.text(9, s.EndReason)
	app.int(10, within(s.BytesIn, maxGauge, &ignored))
	app.int(11, within(s.BytesOut, maxGauge, &ignored))
	app.text(12, s.Method)
	app.bool(13, s.Unobserved)
	a.rows++
	return app.next()
}
