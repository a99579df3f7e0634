package media

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"vigil/config"
	"vigil/fleet"
)

// Limits of the per-mount lists, which cost one request each.
const (
	maxListedMounts = 500 // per poll; the rest is listed at the next ones
	pathAdminStats  = "/admin/stats"
	pathListClients = "/admin/listclients"
	pathPublicJSON  = "/status-json.xsl"
)

// icecast polls Icecast: the XML of the administration where there are credentials,
// the public JSON otherwise.
type icecast struct {
	fetch     *fetcher
	base      *url.URL
	listEvery time.Duration // guarded by fetch.mu

	parser     iceParser // guarded by fetch.mu
	listedAtMs int64     // mono; when the last round of lists was finished
	listedOnce bool
	pending    []string // mounts of the round that is under way
}

func newIcecast(cfg config.MediaServer, f *fetcher) *icecast {
	base := *f.base
	base.RawQuery, base.Fragment = "", ""
	for _, suffix := range []string{pathAdminStats, pathAdminStats + ".xml", pathPublicJSON, "/"} {
		base.Path = strings.TrimSuffix(base.Path, suffix)
	}
	return &icecast{fetch: f, base: &base, listEvery: cfg.ClientListEvery}
}

// SetClientListEvery changes how often the listeners are listed; 0 turns it off.
func (c *icecast) SetClientListEvery(d time.Duration) {
	c.fetch.mu.Lock()
	defer c.fetch.mu.Unlock()
	c.listEvery = max(0, d)
}

func (c *icecast) page(path, query string) *url.URL {
	u := *c.base
	u.Path += path
	u.RawPath = ""
	u.RawQuery = query
	return &u
}

// Collect asks for the statistics once and, when it is time, for the listeners of
// each mount that has some.
func (c *icecast) Collect(ctx context.Context) *fleet.Reading {
	c.fetch.mu.Lock()
	defer c.fetch.mu.Unlock()
	r := c.fetch.reading(ProductIcecast, "icecast/1")
	started := c.fetch.mono()
	var stats *iceStats
	target, read := c.page(pathPublicJSON, ""), func(body io.Reader) (err error) {
		stats, err = parseIceJSON(body, &c.parser.in)
		return err
	}
	withAdmin := c.fetch.hasCredentials()
	if withAdmin {
		target, read = c.page(pathAdminStats, ""), func(body io.Reader) (err error) {
			stats, err = c.parser.parseStats(body)
			return err
		}
	}
	got, err := c.fetch.get(ctx, target, read)
	c.fetch.stamp(r, started)
	if err != nil {
		c.fetch.fail(r, err)
		return r
	}
	stats.fill(r, got.date)
	if withAdmin {
		c.listClients(ctx, r)
	}
	return r
}

// fill turns the statistics into a reading whose time is known. date is the server's
// own clock; ages are taken from it, so a wrong clock on either side does no harm.
func (s *iceStats) fill(r *fleet.Reading, date time.Time) {
	r.Status = fleet.StatusOK
	r.UnknownFields = s.unknown
	if s.repaired {
		r.UnknownFields++
		r.Detail = "the JSON of the server was invalid (a title of one dash, or control characters) and was mended"
	}
	r.Server.Version = strings.TrimPrefix(s.serverID, "Icecast ")
	r.Server.Verified = "spec"
	if strings.HasPrefix(r.Server.Version, "2.4.") && !strings.Contains(r.Server.Version, "kh") {
		r.Server.Verified = "real"
	}
	r.Server.BootID = s.serverStart
	r.Server.StartedMs = agentTime(s.serverStart, date, r.AtMs)
	// The server's own count of connections includes our polls; these do not.
	r.Totals.ConnsAccepted = s.listenerConns.Plus(s.sourceConns).Plus(s.relayConns)
	var listeners fleet.Int
	for i := range s.sources {
		st := s.sources[i].reading(r, date)
		listeners = listeners.Plus(st.Viewers)
		r.Streams = append(r.Streams, st)
		r.Sessions = append(r.Sessions, s.sources[i].session(&st, r))
	}
	n := int64(len(s.sources))
	if n == 0 {
		listeners = fleet.Of(0)
	}
	r.Server.StreamsNow, r.Server.PublishersNow, r.Server.ViewersNow = fleet.Of(n), fleet.Of(n), listeners
	if v, ok := listeners.Get(); ok {
		r.Server.ConnsNow = fleet.Of(v + n)
	}
}

// agentTime is a time of the server on the agent's clock.
func agentTime(printed string, serverNow time.Time, atMs int64) fleet.Int {
	t, ok := iceTime(printed)
	if !ok {
		return fleet.Int{}
	}
	if serverNow.IsZero() {
		return fleet.Of(t.UnixMilli())
	}
	return fleet.Of(atMs - max(0, serverNow.Sub(t).Milliseconds()))
}

func (src *iceSource) reading(r *fleet.Reading, date time.Time) fleet.StreamReading {
	out := fleet.StreamReading{BytesIn: src.bytesRead, BytesOut: src.bytesSent}
	out.Key = fleet.StreamKey{Server: r.Server.Key, Name: src.mount}
	out.Incarnation = src.start
	out.BeginMs = agentTime(src.start, date, r.AtMs)
	out.OnlineSinceMs = out.BeginMs
	out.State, out.Tech = fleet.StateOnline, fleet.TechIcecast
	out.Viewers, out.Publishers = src.listeners, fleet.Of(1)
	out.Media = src.media()
	out.PublisherIP = ipOf(src.sourceIP)
	return out
}

func (src *iceSource) media() fleet.Media {
	m := fleet.Media{
		Channels: src.channels, SampleRateHz: src.sampleRate, DeclaredBps: src.bitrate,
		WidthPx: src.videoWidth, HeightPx: src.videoHeight, FpsMilli: src.videoRate,
	}
	if v, ok := src.iceBitrate.Get(); ok && !m.DeclaredBps.Known() && v < 1e9 {
		m.DeclaredBps = fleet.Of(v * 1000)
	}
	kind, _, _ := strings.Cut(strings.ToLower(src.serverType), ";")
	switch kind {
	case "audio/mpeg", "audio/mp3", "audio/x-mpeg":
		m.AudioCodec = "MP3"
	case "audio/aac":
		m.AudioCodec = "AAC"
	case "audio/aacp":
		m.AudioCodec, m.AudioProfile = "AAC", "HE"
	case "audio/flac", "audio/opus":
		m.AudioCodec = strings.TrimPrefix(kind, "audio/")
	}
	if src.subtype != "" {
		if strings.HasPrefix(kind, "video/") || strings.Contains(src.subtype, "Theora") {
			m.VideoCodec = src.subtype
		} else {
			m.AudioCodec = src.subtype
		}
	}
	return m
}

// session is the source client. Icecast has no identity for it; its start is one,
// because a mount lives exactly as long as its source.
func (src *iceSource) session(st *fleet.StreamReading, r *fleet.Reading) fleet.Session {
	return fleet.Session{
		ID: "source " + src.mount + " " + src.start, Key: st.Key, Role: fleet.RolePublisher, Tech: fleet.TechIcecast,
		RemoteIP: st.PublisherIP, UserAgent: src.userAgent,
		StartedMs: st.BeginMs.Or(r.AtMs), LastSeenMs: r.AtMs, BytesIn: src.bytesRead, Method: "native_connection",
	}
}

// listClients adds the listeners to the reading when their time has come. A mount
// whose list could not be read is left out of the scope, so nobody is thought to
// have gone.
func (c *icecast) listClients(ctx context.Context, r *fleet.Reading) {
	if c.listEvery <= 0 {
		c.pending = nil
		return
	}
	if len(c.pending) == 0 {
		if c.listedOnce && r.MonoMs-c.listedAtMs < c.listEvery.Milliseconds()-r.LatencyMs {
			return
		}
		c.listedAtMs, c.listedOnce = r.MonoMs, true
		for i := range r.Streams {
			c.pending = append(c.pending, r.Streams[i].Key.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.fetch.timeout)
	defer cancel()
	byMount := make(map[string]*fleet.StreamReading, len(r.Streams))
	for i := range r.Streams {
		byMount[r.Streams[i].Key.Name] = &r.Streams[i]
	}
	r.SessionScope = []fleet.StreamKey{}
	for asked := 0; len(c.pending) > 0 && asked < maxListedMounts && ctx.Err() == nil; {
		mount := c.pending[0]
		c.pending = c.pending[1:]
		st := byMount[mount]
		if st == nil {
			continue
		}
		if st.Viewers.Or(1) > 0 {
			asked++
			if err := c.listMount(ctx, r, st); err != nil {
				r.Detail = clipText("the listeners of " + mount + " could not be listed: " + err.Error())
				continue
			}
		}
		r.SessionScope = append(r.SessionScope, st.Key)
	}
	r.SessionsComplete = len(r.SessionScope) > 0
}

func (c *icecast) listMount(ctx context.Context, r *fleet.Reading, st *fleet.StreamReading) error {
	query := url.Values{"mount": {st.Key.Name}}.Encode()
	var list []iceListener
	_, err := c.fetch.get(ctx, c.page(pathListClients, query), func(body io.Reader) (err error) {
		list, err = c.parser.parseListeners(body)
		return err
	})
	if err != nil {
		return err
	}
	now := r.AtMs + c.fetch.mono() - r.MonoMs
	for i := range list {
		l := &list[i]
		r.Sessions = append(r.Sessions, fleet.Session{
			ID: listenerID(r.Server.BootID, st, l), Key: st.Key, Role: fleet.RoleViewer, Tech: fleet.TechIcecast,
			RemoteIP: ipOf(l.ip), UserAgent: l.userAgent,
			StartedMs: now - l.connectedS.Or(0)*1000, LastSeenMs: now, Method: "native_connection",
		})
	}
	return nil
}

// listenerID makes the number of a connection unique beyond one run of the server.
func listenerID(boot string, st *fleet.StreamReading, l *iceListener) string {
	if t, ok := iceTime(boot); ok {
		return fmt.Sprintf("%d-%s", t.Unix(), l.id)
	}
	return st.Incarnation + "-" + l.id
}
