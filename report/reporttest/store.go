package reporttest

import (
	"context"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// covered is how much of a bucket of server i exists in a scenario.
func (w *World) covered(i int, from time.Time, step time.Duration) int64 {
	now := w.now()
	age := now.Sub(from)
	full := step.Milliseconds()
	if from.Add(step).After(now) {
		return 0
	}
	switch w.scene() {
	case Gaps:
		// A hole for the whole fleet, and longer ones for some servers.
		part := float64(age) / float64(60*step)
		if part > 0.55 && part < 0.75 {
			return 0
		}
		if i == 7 && part < 0.9 || i == 2 && part < 0.3 {
			return 0
		}
		if i == 5 {
			return full / 2
		}
	case Silent:
		if age < silentFor+step {
			return 0
		}
	case Normal, Broken:
		if i == 5 && age > 18*time.Minute && age < 24*time.Minute {
			return full / 3
		}
	}
	return full
}

func (w *World) point(servers []int, streams func(server int) []int, from time.Time, step time.Duration) store.Point {
	p := store.Point{AtMs: from.UnixMilli()}
	mid := from.Add(step / 2)
	for _, i := range servers {
		p.ExpectedMs += step.Milliseconds()
		covered := w.covered(i, from, step)
		if covered == 0 {
			continue
		}
		p.CoveredMs += covered
		var viewers, in, out int64
		for _, j := range streams(i) {
			s := &w.streams[j]
			viewers += s.viewersAt(mid)
			in, out = in+s.inBpsAt(mid), out+s.outBpsAt(mid)
		}
		p.ViewerMs = p.ViewerMs.Plus(fleet.Of(viewers * covered))
		p.BytesIn = p.BytesIn.Plus(fleet.Of(in * covered / 8000))
		p.BytesOut = p.BytesOut.Plus(fleet.Of(out * covered / 8000))
		p.Level.ViewersMilli = p.Level.ViewersMilli.Plus(fleet.Of(viewers * 1000))
		p.Level.InBps = p.Level.InBps.Plus(fleet.Of(in))
		p.Level.OutBps = p.Level.OutBps.Plus(fleet.Of(out))
		if len(servers) == 1 {
			p.ViewersMax = fleet.Of(viewers + viewers/50)
		}
	}
	return p
}

func (w *World) series(servers []int, streams func(int) []int, win store.Window, step time.Duration) (store.Series, error) {
	if w.scene() == Broken {
		return store.Series{}, ErrStore
	}
	s := store.Series{Window: win, Step: step, Tier: "minute"}
	for at := win.From; at.Before(win.To); at = at.Add(step) {
		if w.scene() == Empty || len(servers) == 0 {
			s.Points = append(s.Points, store.Point{AtMs: at.UnixMilli()})
			continue
		}
		s.Points = append(s.Points, w.point(servers, streams, at, step))
	}
	return s, nil
}

func (w *World) streamsOf(i int) []int {
	all := w.servers[i].streams
	return all[:min(len(all), 200)] // enough for a picture, also of a huge fleet
}

// FleetSeries implements store.Reader.
func (w *World) FleetSeries(_ context.Context, win store.Window, step time.Duration) (store.Series, error) {
	all := make([]int, len(w.servers))
	for i := range all {
		all[i] = i
	}
	return w.series(all, w.streamsOf, win, step)
}

func (w *World) find(key string) []int {
	for i := range w.servers {
		if w.servers[i].key == key {
			return []int{i}
		}
	}
	return nil
}

// ServerSeries implements store.Reader.
func (w *World) ServerSeries(_ context.Context, key string, win store.Window, step time.Duration) (store.Series, error) {
	return w.series(w.find(key), w.streamsOf, win, step)
}

func (w *World) findStream(key fleet.StreamKey) (int, bool) {
	for i := range w.streams {
		if w.streams[i].key == key {
			return i, true
		}
	}
	return 0, false
}

// StreamSeries implements store.Reader.
func (w *World) StreamSeries(_ context.Context, key fleet.StreamKey, win store.Window, step time.Duration) (store.Series, []store.TechSeries, error) {
	j, ok := w.findStream(key)
	var servers []int
	if ok {
		servers = []int{w.streams[j].server}
	}
	s, err := w.series(servers, func(int) []int { return []int{j} }, win, step)
	if ok && w.scene() != Empty {
		w.offAir(&s)
	}
	if err != nil || !ok || w.streams[j].tech != fleet.TechMixed {
		return s, nil, err
	}
	rtmp, hls := store.TechSeries{Tech: fleet.TechRTMP}, store.TechSeries{Tech: fleet.TechHLS}
	for i := range s.Points {
		v, known := s.Points[i].ViewerMs.Get()
		if !known {
			rtmp.ViewerMs, hls.ViewerMs = append(rtmp.ViewerMs, fleet.Int{}), append(hls.ViewerMs, fleet.Int{})
			continue
		}
		rtmp.ViewerMs, hls.ViewerMs = append(rtmp.ViewerMs, fleet.Of(v/4)), append(hls.ViewerMs, fleet.Of(v-v/4))
	}
	return s, []store.TechSeries{hls, rtmp}, nil
}

// offAir takes every stream off the air for a while, and says its state otherwise.
func (w *World) offAir(s *store.Series) {
	for i := range s.Points {
		p := &s.Points[i]
		if p.CoveredMs == 0 {
			continue
		}
		p.State = fleet.StateOnline
		if age := w.now().Sub(time.UnixMilli(p.AtMs)); age > 13*time.Minute && age < 17*time.Minute {
			*p = store.Point{AtMs: p.AtMs, ExpectedMs: p.ExpectedMs, State: fleet.StateOffline}
		}
	}
}

// StreamEvents implements store.Reader.
func (w *World) StreamEvents(_ context.Context, key fleet.StreamKey, win store.Window, limit int) ([]fleet.StreamEvent, error) {
	if w.scene() == Broken {
		return nil, ErrStore
	}
	if _, ok := w.findStream(key); !ok || w.scene() == Empty {
		return nil, nil
	}
	to := win.To
	events := []fleet.StreamEvent{
		{Key: key, AtMs: to.Add(-13 * time.Minute).UnixMilli(), State: fleet.StateOnline, Reason: "publish"},
		{Key: key, AtMs: to.Add(-17 * time.Minute).UnixMilli(), State: fleet.StateOffline, Reason: "vanished"},
		{Key: key, AtMs: to.Add(-38 * time.Minute).UnixMilli(), State: fleet.StateOnline, Reason: "data"},
		{Key: key, AtMs: to.Add(-39 * time.Minute).UnixMilli(), State: fleet.StateIdle, Reason: "no_data"},
		{Key: key, AtMs: to.Add(-26 * time.Hour).UnixMilli(), State: fleet.StateOnline, Reason: "first_sight"},
	}
	return events[:min(limit, len(events))], nil
}

// Sessions implements store.Reader.
func (w *World) Sessions(_ context.Context, key fleet.StreamKey, win store.Window, limit int) ([]fleet.Session, error) {
	if w.scene() == Broken {
		return nil, ErrStore
	}
	if _, ok := w.findStream(key); !ok || w.scene() == Empty {
		return nil, nil
	}
	to := win.To.UnixMilli()
	rows := []fleet.Session{
		{ID: "4711", Key: key, Role: fleet.RolePublisher, Tech: fleet.TechRTMP, RemoteIP: "203.0.113.17", UserAgent: "FMLE/3.0 (compatible; OBS 30.2)", StartedMs: to - 780_000, LastSeenMs: to, BytesIn: fleet.Of(412_000_000), Method: "native_connection"},
		{ID: "4690", Key: key, Role: fleet.RoleViewer, Tech: fleet.TechRTMP, RemoteIP: "198.51.100.4", UserAgent: "LNX 9,0,124,2", StartedMs: to - 1_900_000, LastSeenMs: to - 60_000, EndedMs: fleet.Of(to - 60_000), EndReason: "closed", BytesOut: fleet.Of(611_000_000), Method: "native_connection"},
		{ID: "4688", Key: key, Role: fleet.RoleViewer, Tech: fleet.TechHLS, RemoteIP: "2001:db8::17", UserAgent: "AppleCoreMedia/1.0", StartedMs: to - 2_100_000, LastSeenMs: to - 400_000, EndedMs: fleet.Of(to - 400_000), EndReason: "vanished", Method: "log_session", Unobserved: true},
	}
	return rows[:min(limit, len(rows))], nil
}

func (w *World) traffic(win store.Window) (map[string]store.Traffic, error) {
	out := map[string]store.Traffic{}
	for _, s := range w.servers {
		series, err := w.ServerSeries(context.Background(), s.key, win, time.Minute)
		if err != nil {
			return nil, err
		}
		var t store.Traffic
		for _, p := range series.Points {
			t.BytesIn, t.BytesOut = t.BytesIn.Plus(p.BytesIn), t.BytesOut.Plus(p.BytesOut)
			t.ViewerMs = t.ViewerMs.Plus(p.ViewerMs)
			t.CoveredMs += p.CoveredMs
		}
		out[s.key] = t
	}
	return out, nil
}

// ServerTraffic implements store.Reader.
func (w *World) ServerTraffic(_ context.Context, win store.Window) (map[string]store.Traffic, error) {
	return w.traffic(win)
}

// StreamTraffic implements store.Reader.
func (w *World) StreamTraffic(_ context.Context, win store.Window) (map[string]store.Traffic, error) {
	return w.traffic(win)
}

// PacketRows implements store.Reader: this world has no packets.
func (w *World) PacketRows(context.Context, store.Window) ([]store.PacketRow, error) { return nil, nil }

// Gaps implements store.Reader.
func (w *World) Gaps(_ context.Context, win store.Window) ([]store.AgentGap, error) {
	switch w.scene() {
	case Broken:
		return nil, ErrStore
	case Gaps:
		return []store.AgentGap{{Agent: w.servers[2].key, Epoch: 0xfeedc0de12345678, Gap: fleet.Gap{
			FirstSeq: 41_001, LastSeq: 41_360, FromMs: fleet.Of(win.To.Add(-3 * time.Hour).UnixMilli()),
			ToMs: fleet.Of(win.To.Add(-2 * time.Hour).UnixMilli()), Reason: "spool_full",
		}}}, nil
	}
	return nil, nil
}

// Recent implements store.Reader: the live view of this world needs no rebuilding.
func (w *World) Recent(context.Context, time.Time) ([]store.RecentSnapshot, error) { return nil, nil }

// Stats implements store.Reader.
func (w *World) Stats(context.Context) (store.Stats, error) {
	switch w.scene() {
	case Broken:
		return store.Stats{}, ErrStore
	case Empty:
		return store.Stats{}, nil
	}
	return store.Stats{
		PacketsStored: 1_482_330, RawRows: 86_204_118, BytesOnDisk: 612 << 20, RawBytesOnDisk: 420 << 20, ParquetFiles: 96,
		NewestMs: tick(w.now()).UnixMilli(),
	}, nil
}
