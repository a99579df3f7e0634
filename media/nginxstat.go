package media

import (
	"errors"
	"fmt"
	"io"

	"vigil/fleet"
)

// Limits of one statistics page.
const (
	maxStreams = 200_000
	maxClients = 1_000_000
)

var errTooMany = errors.New("media: the answer lists more than is believed")

// nginxStat is a statistics page of nginx-rtmp as it was printed.
type nginxStat struct {
	nginxVersion, rtmpVersion, flavour string
	pid                                string
	uptimeS                            fleet.Int
	accepted, bytesIn, bytesOut        fleet.Int
	streams                            []nginxStream
	clients                            []nginxClient
	in                                 *interner
	unknown                            int64 // elements nobody knows, and numbers nobody can believe
}

type nginxStream struct {
	vhost, app, name  string
	vod               bool // listed under play: a file, not a publication
	publishing        bool
	timeMs            fleet.Int
	bytesIn, bytesOut fleet.Int
	nclients          fleet.Int
	media             fleet.Media
	firstClient, end  int // its clients are clients[firstClient:end]
}

type nginxClient struct {
	id, address, flashver string
	publishing            bool
	timeMs                fleet.Int
	dropped               fleet.Int
	bytesIn, bytesOut     fleet.Int // only forks print them
}

// nginxParser reads statistics pages. Its buffers and strings are used again for the
// next page, so a result is valid until the next parse. Not safe for concurrent use.
type nginxParser struct {
	xml  xmlScanner
	in   interner
	stat nginxStat
	srv  int // server blocks seen so far
}

// parse reads one page. Anything that is not a whole page is an error.
func (p *nginxParser) parse(r io.Reader) (*nginxStat, error) {
	p.xml.reset(r)
	p.srv = 0
	p.stat = nginxStat{in: &p.in, streams: p.stat.streams[:0], clients: p.stat.clients[:0]}
	kind, err := p.xml.next()
	if err != nil {
		return nil, err
	}
	if kind != xmlStart {
		return nil, fmt.Errorf("%w: no root element", errXMLSyntax)
	}
	switch string(p.xml.name) {
	case "rtmp":
	case "http-flv":
		p.stat.flavour = "http-flv"
	default:
		return nil, &failure{fleet.StatusParseError, "the answer is XML with the root <" + clipText(string(p.xml.name)) + ">, not the statistics page of nginx-rtmp", nil}
	}
	if err := p.children(p.rootChild); err != nil {
		return nil, err
	}
	if p.stat.pid == "" && p.srv == 0 && !p.stat.uptimeS.Known() {
		return nil, &failure{fleet.StatusParseError, "the answer has no statistics in it: set rtmp_stat all in nginx", nil}
	}
	return &p.stat, nil
}

// children calls child for each element inside the one whose start was just read.
// The child must consume its element.
func (p *nginxParser) children(child func(name []byte) error) error {
	for {
		kind, err := p.xml.next()
		switch {
		case err != nil:
			return err
		case kind == xmlEnd:
			return nil
		case kind == xmlStart:
			if err := child(p.xml.name); err != nil {
				return err
			}
		}
	}
}

func (p *nginxParser) ignore() error { return p.xml.skip() }

func (p *nginxParser) unknown() error {
	p.stat.unknown++
	return p.xml.skip()
}

func (p *nginxParser) text(to *string) error {
	b, err := p.xml.leaf()
	if err == nil {
		*to = p.in.string(b)
	}
	return err
}

func (p *nginxParser) number(to *fleet.Int, read func([]byte) fleet.Int) error {
	b, err := p.xml.leaf()
	if err != nil {
		return err
	}
	*to = read(b)
	if len(b) > 0 && !to.Known() {
		p.stat.unknown++
	}
	return nil
}

func (p *nginxParser) flag(to *bool) error {
	*to = true
	return p.xml.skip()
}

func (p *nginxParser) rootChild(name []byte) error {
	switch string(name) {
	case "nginx_version":
		return p.text(&p.stat.nginxVersion)
	case "nginx_rtmp_version", "nginx_http_flv_version":
		return p.text(&p.stat.rtmpVersion)
	case "pid":
		return p.text(&p.stat.pid)
	case "uptime":
		return p.number(&p.stat.uptimeS, count)
	case "naccepted":
		return p.number(&p.stat.accepted, count)
	case "bytes_in":
		return p.number(&p.stat.bytesIn, count)
	case "bytes_out":
		return p.number(&p.stat.bytesOut, count)
	case "server":
		p.srv++
		return p.children(p.serverChild)
	case "built", "compiler", "bw_in", "bw_out":
		return p.ignore()
	}
	return p.unknown()
}

func (p *nginxParser) serverChild(name []byte) error {
	switch string(name) {
	case "application":
		var app string
		return p.children(func(name []byte) error { return p.applicationChild(name, &app) })
	case "port", "server_index":
		return p.ignore()
	}
	return p.unknown()
}

func (p *nginxParser) applicationChild(name []byte, app *string) error {
	switch string(name) {
	case "name":
		return p.text(app)
	case "live", "play":
		vod := string(name) == "play"
		return p.children(func(name []byte) error {
			switch string(name) {
			case "stream":
				return p.stream(*app, vod)
			case "nclients":
				return p.ignore()
			}
			return p.unknown()
		})
	}
	return p.unknown()
}

func (p *nginxParser) stream(app string, vod bool) error {
	if len(p.stat.streams) >= maxStreams {
		return fmt.Errorf("%w: more than %d streams", errTooMany, maxStreams)
	}
	n := len(p.stat.clients)
	st := nginxStream{app: app, vod: vod, firstClient: n}
	if p.srv > 1 {
		st.vhost = p.in.string(fmt.Append(nil, p.srv))
	}
	if err := p.children(func(name []byte) error { return p.streamChild(name, &st) }); err != nil {
		return err
	}
	st.end = len(p.stat.clients)
	p.stat.streams = append(p.stat.streams, st)
	return nil
}

func (p *nginxParser) streamChild(name []byte, st *nginxStream) error {
	switch string(name) {
	case "name":
		return p.text(&st.name)
	case "time":
		return p.number(&st.timeMs, count)
	case "bytes_in":
		return p.number(&st.bytesIn, count)
	case "bytes_out":
		return p.number(&st.bytesOut, count)
	case "client":
		return p.client()
	case "meta":
		return p.children(func(name []byte) error { return p.metaChild(name, &st.media) })
	case "nclients":
		return p.number(&st.nclients, gauge)
	case "publishing":
		return p.flag(&st.publishing)
	case "active", "bw_in", "bw_out", "bw_audio", "bw_video", "bw_data", "recording", "records":
		return p.ignore()
	}
	return p.unknown()
}

func (p *nginxParser) client() error {
	if len(p.stat.clients) >= maxClients {
		return fmt.Errorf("%w: more than %d clients", errTooMany, maxClients)
	}
	var c nginxClient
	if err := p.children(func(name []byte) error { return p.clientChild(name, &c) }); err != nil {
		return err
	}
	p.stat.clients = append(p.stat.clients, c)
	return nil
}

func (p *nginxParser) clientChild(name []byte, c *nginxClient) error {
	switch string(name) {
	case "id":
		return p.text(&c.id)
	case "address":
		return p.text(&c.address)
	case "time":
		return p.number(&c.timeMs, count)
	case "flashver":
		return p.text(&c.flashver)
	case "dropped":
		return p.number(&c.dropped, count)
	case "bytes_in":
		return p.number(&c.bytesIn, count)
	case "bytes_out":
		return p.number(&c.bytesOut, count)
	case "publishing":
		return p.flag(&c.publishing)
	case "active", "avsync", "timestamp", "pageurl", "swfurl", "port", "recording":
		return p.ignore()
	}
	return p.unknown()
}

func (p *nginxParser) metaChild(name []byte, m *fleet.Media) error {
	switch string(name) {
	case "video":
		var level string
		if err := p.children(func(name []byte) error { return p.videoChild(name, m, &level) }); err != nil {
			return err
		}
		if level != "" && m.VideoProfile != "" {
			m.VideoProfile = p.in.string([]byte(m.VideoProfile + " " + level))
		}
		return nil
	case "audio":
		return p.children(func(name []byte) error { return p.audioChild(name, m) })
	}
	return p.unknown()
}

func (p *nginxParser) videoChild(name []byte, m *fleet.Media, level *string) error {
	switch string(name) {
	case "width":
		return p.number(&m.WidthPx, positive)
	case "height":
		return p.number(&m.HeightPx, positive)
	case "frame_rate":
		return p.number(&m.FpsMilli, milli)
	case "codec":
		return p.text(&m.VideoCodec)
	case "profile":
		return p.text(&m.VideoProfile)
	case "level":
		return p.text(level)
	case "compat":
		return p.ignore()
	}
	return p.unknown()
}

func (p *nginxParser) audioChild(name []byte, m *fleet.Media) error {
	switch string(name) {
	case "codec":
		return p.text(&m.AudioCodec)
	case "profile":
		return p.text(&m.AudioProfile)
	case "channels":
		return p.number(&m.Channels, positive)
	case "sample_rate":
		return p.number(&m.SampleRateHz, positive)
	}
	return p.unknown()
}
