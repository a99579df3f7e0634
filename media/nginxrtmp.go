package media

import (
	"context"
	"io"
	"net/netip"
	"net/url"
	"strings"

	"vigil/fleet"
)

// Flash versions by which relays of nginx-rtmp give themselves away. The first is
// what nginx says of its own end of a push or pull, the second is what it tells the
// other server.
const (
	flashverLocalRelay  = "ngx-local-relay"
	flashverRemoteRelay = "LNX.11,1,102,55"
)

// testedRTMPVersion is what the release that the fixtures were recorded from prints
// (1.2.2 never changed the number). Forks count in their own way.
const testedRTMPVersion = "1.1.4"

// nginxRTMP polls the statistics page of nginx-rtmp and its forks.
type nginxRTMP struct {
	fetch  *fetcher
	target *url.URL
	parser nginxParser // guarded by fetch.mu
}

func newNginxRTMP(f *fetcher) *nginxRTMP {
	target := *f.base
	if target.Path == "" || target.Path == "/" {
		target.Path = "/stat"
	}
	return &nginxRTMP{fetch: f, target: &target}
}

// Collect asks for the statistics page once.
func (c *nginxRTMP) Collect(ctx context.Context) *fleet.Reading {
	c.fetch.mu.Lock()
	defer c.fetch.mu.Unlock()
	r := c.fetch.reading(ProductNginxRTMP, "nginx-rtmp/1")
	started := c.fetch.mono()
	var stat *nginxStat
	_, err := c.fetch.get(ctx, c.target, func(body io.Reader) (err error) {
		stat, err = c.parser.parse(body)
		return err
	})
	c.fetch.stamp(r, started)
	if err != nil {
		c.fetch.fail(r, err)
		return r
	}
	stat.fill(r)
	return r
}

// fill turns the page into a reading whose time is known.
func (s *nginxStat) fill(r *fleet.Reading) {
	r.Status = fleet.StatusOK
	r.UnknownFields = s.unknown
	r.Totals = fleet.Totals{BytesIn: s.bytesIn, BytesOut: s.bytesOut, ConnsAccepted: s.accepted}
	r.Server.Version = s.version()
	r.Server.Verified = "real"
	if s.flavour != "" || s.rtmpVersion != testedRTMPVersion {
		r.Server.Verified = "spec"
	}
	r.Server.BootID = s.pid
	if up, ok := s.uptimeS.Get(); ok {
		r.Server.StartedMs = fleet.Of(r.AtMs - up*1000)
	}
	r.Streams = make([]fleet.StreamReading, 0, len(s.streams))
	r.Sessions = make([]fleet.Session, 0, len(s.clients))
	r.SessionsComplete = true
	var conns, viewers, publishers, online int64
	viewersKnown := true
	for i := range s.streams {
		st := s.streams[i].reading(s, r)
		r.Streams = append(r.Streams, st)
		conns += s.streams[i].conns()
		n, ok := st.Viewers.Get()
		viewers, viewersKnown = viewers+n, viewersKnown && ok
		publishers += st.Publishers.Or(0)
		if st.Publishers.Or(0) > 0 {
			online++
		}
		if s.streams[i].listsClients() {
			continue
		}
		r.SessionsComplete = false // rtmp_stat without clients
	}
	r.Server.ConnsNow, r.Server.PublishersNow, r.Server.StreamsNow = fleet.Of(conns), fleet.Of(publishers), fleet.Of(online)
	if viewersKnown {
		r.Server.ViewersNow = fleet.Of(viewers)
	}
}

func (s *nginxStat) version() string {
	v := s.nginxVersion
	if s.rtmpVersion != "" {
		v += " (" + strings.TrimSpace(s.flavour+" module "+s.rtmpVersion) + ")"
	}
	return v
}

func (st *nginxStream) listsClients() bool {
	return st.end > st.firstClient || st.nclients.Or(0) == 0
}

func (st *nginxStream) conns() int64 {
	return st.nclients.Or(int64(st.end - st.firstClient))
}

func (st *nginxStream) reading(s *nginxStat, r *fleet.Reading) fleet.StreamReading {
	out := fleet.StreamReading{BytesIn: st.bytesIn, BytesOut: st.bytesOut}
	out.Key = fleet.StreamKey{Server: r.Server.Key, VHost: st.vhost, App: st.app, Name: st.name}
	out.Tech, out.Media = fleet.TechRTMP, st.media
	if st.vod {
		out.Key.Instance = "play"
	} else {
		out.State = fleet.StateOffline
	}
	if age, ok := st.timeMs.Get(); ok {
		out.BeginMs = fleet.Of(r.AtMs - age)
	}
	var viewers, publishers int64
	for i := st.firstClient; i < st.end; i++ {
		c := &s.clients[i]
		session := c.session(s, out.Key, r)
		r.Sessions = append(r.Sessions, session)
		switch session.Role {
		case fleet.RolePublisher:
			publishers++
			out.PublisherIP = session.RemoteIP
			out.OnlineSinceMs = fleet.Of(session.StartedMs)
		case fleet.RoleViewer:
			viewers++
		}
	}
	if st.publishing {
		publishers = max(publishers, 1)
	}
	out.Publishers = fleet.Of(publishers)
	if publishers > 0 && !st.vod {
		out.State = fleet.StateOnline
	}
	switch n, ok := st.nclients.Get(); {
	case st.listsClients():
		out.Viewers = fleet.Of(viewers)
	case ok:
		out.Viewers = fleet.Of(max(0, n-publishers))
	}
	return out
}

func (c *nginxClient) session(s *nginxStat, key fleet.StreamKey, r *fleet.Reading) fleet.Session {
	out := fleet.Session{
		ID: s.in.joined(s.pid, c.id), Key: key, Role: c.role(), Tech: fleet.TechRTMP,
		RemoteIP: s.in.ip(c.address), UserAgent: c.flashver,
		StartedMs: r.AtMs - c.timeMs.Or(0), LastSeenMs: r.AtMs, Method: "native_connection",
	}
	if out.Role == fleet.RolePublisher {
		out.BytesIn = c.bytesIn
	} else {
		out.BytesOut = c.bytesOut
	}
	return out
}

// role tells publishers, relays and viewers apart. A publisher that is itself a relay
// is a publisher: it is where the stream comes from.
func (c *nginxClient) role() fleet.Role {
	switch {
	case c.publishing:
		return fleet.RolePublisher
	case c.flashver == flashverLocalRelay, c.flashver == flashverRemoteRelay, strings.HasPrefix(c.address, "unix:"):
		return fleet.RoleRelay
	}
	return fleet.RoleViewer
}

// ipOf finds the address in what servers print: an address, address:port, or, for
// relays of nginx-rtmp, address:port/app.
func ipOf(s string) string {
	host, _, _ := strings.Cut(s, "/")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String()
	}
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().Unmap().String()
	}
	return ""
}
