package media

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"vigil/fleet"
)

// iceStats is what Icecast says about itself, whichever page it came from.
type iceStats struct {
	serverID                   string
	serverStart                string // as printed, the ISO form where there is one
	listenerConns, sourceConns fleet.Int
	relayConns                 fleet.Int
	listeners                  fleet.Int
	sources                    []iceSource
	unknown                    int64
	repaired                   bool // the JSON was invalid as it came
}

type iceSource struct {
	mount                 string
	start                 string
	listeners             fleet.Int
	bytesRead, bytesSent  fleet.Int
	sourceIP, userAgent   string
	serverType, subtype   string
	bitrate, iceBitrate   fleet.Int // bit/s; kbit/s
	channels, sampleRate  fleet.Int
	videoWidth, videoRate fleet.Int
	videoHeight           fleet.Int
}

// iceListener is one line of listclients.
type iceListener struct {
	id, ip, userAgent string
	connectedS        fleet.Int
}

// iceParser reads the XML pages of Icecast. A result is valid until the next parse.
type iceParser struct {
	xml   xmlScanner
	in    interner
	stats iceStats
	list  []iceListener
	name  []byte // of the element whose text is being read
}

func (p *iceParser) open(r io.Reader) error {
	p.xml.reset(r)
	kind, err := p.xml.next()
	if err != nil {
		return err
	}
	if kind != xmlStart {
		return fmt.Errorf("%w: no root element", errXMLSyntax)
	}
	if string(p.xml.name) != "icestats" {
		return &failure{fleet.StatusParseError, "the answer is XML with the root <" + clipText(string(p.xml.name)) + ">, not the statistics of Icecast", nil}
	}
	return nil
}

// parseStats reads /admin/stats.
func (p *iceParser) parseStats(r io.Reader) (*iceStats, error) {
	p.stats = iceStats{sources: p.stats.sources[:0]}
	if err := p.open(r); err != nil {
		return nil, err
	}
	for {
		kind, err := p.xml.next()
		if err != nil {
			return nil, err
		}
		if kind == xmlText {
			continue
		}
		if kind == xmlEnd {
			break
		}
		if string(p.xml.name) == "source" {
			if err := p.source(); err != nil {
				return nil, err
			}
			continue
		}
		if err := p.global(); err != nil {
			return nil, err
		}
	}
	if p.stats.serverID == "" && p.stats.serverStart == "" && len(p.stats.sources) == 0 {
		return nil, &failure{fleet.StatusParseError, "the answer has no statistics of Icecast in it", nil}
	}
	return &p.stats, nil
}

func (p *iceParser) global() error {
	p.name = append(p.name[:0], p.xml.name...)
	value, err := p.xml.leaf()
	if err != nil {
		return err
	}
	if !p.stats.setGlobal(string(p.name), value, &p.in) {
		p.stats.unknown++
	}
	return nil
}

// setGlobal takes one value of the server. It reports false for names nobody knows.
func (s *iceStats) setGlobal(name string, value []byte, in *interner) bool {
	switch name {
	case "server_id":
		s.serverID = in.string(value)
	case "server_start_iso8601":
		s.serverStart = in.string(value)
	case "server_start":
		if s.serverStart == "" {
			s.serverStart = in.string(value)
		}
	case "listeners":
		s.setGauge(&s.listeners, value)
	case "listener_connections":
		s.setCount(&s.listenerConns, value)
	case "source_client_connections":
		s.setCount(&s.sourceConns, value)
	case "source_relay_connections":
		s.setCount(&s.relayConns, value)
	case "admin", "host", "location", "build", "client_connections", "clients", "connections", "file_connections",
		"source_total_connections", "sources", "stats", "stats_connections", "dummy", "banned_IPs", "outgoing_kbitrate",
		"stream_kbytes_read", "stream_kbytes_sent", "server", "server_time", "server_time_iso8601", "role", "authentication":
	default:
		return false
	}
	return true
}

func (s *iceStats) setGauge(to *fleet.Int, value []byte) {
	if *to = gauge(value); !to.Known() && len(value) > 0 {
		s.unknown++
	}
}

func (s *iceStats) setCount(to *fleet.Int, value []byte) {
	if *to = count(value); !to.Known() && len(value) > 0 {
		s.unknown++
	}
}

func (p *iceParser) source() error {
	if len(p.stats.sources) >= maxStreams {
		return fmt.Errorf("%w: more than %d mounts", errTooMany, maxStreams)
	}
	mount, ok := p.xml.attr("mount")
	src := iceSource{mount: p.in.string(mount)}
	if !ok {
		p.stats.unknown++
		return p.xml.skip()
	}
	err := p.eachLeaf(func(name, value []byte) {
		if !p.stats.setSource(&src, string(name), value, &p.in) {
			p.stats.unknown++
		}
	})
	if err != nil {
		return err
	}
	p.stats.sources = append(p.stats.sources, src)
	return nil
}

// eachLeaf reads what is left of the element whose start was just returned, and calls
// take with the name and the text of each element in it. Both are valid until take
// returns.
func (p *iceParser) eachLeaf(take func(name, value []byte)) error {
	for {
		kind, err := p.xml.next()
		switch {
		case err != nil:
			return err
		case kind == xmlEnd:
			return nil
		case kind != xmlStart:
			continue
		}
		p.name = append(p.name[:0], p.xml.name...)
		value, err := p.xml.leaf()
		if err != nil {
			return err
		}
		take(p.name, value)
	}
}

// setSource takes one value of a mount. It reports false for names nobody knows.
func (s *iceStats) setSource(src *iceSource, name string, value []byte, in *interner) bool {
	switch name {
	case "listeners":
		s.setGauge(&src.listeners, value)
	case "total_bytes_read":
		s.setCount(&src.bytesRead, value)
	case "total_bytes_sent":
		s.setCount(&src.bytesSent, value)
	case "stream_start_iso8601":
		src.start = in.string(value)
	case "stream_start":
		if src.start == "" {
			src.start = in.string(value)
		}
	case "source_ip":
		src.sourceIP = in.string(value)
	case "user_agent":
		src.userAgent = in.string(value)
	case "server_type", "content-type":
		src.serverType = in.string(value)
	case "subtype":
		src.subtype = in.string(value)
	case "audio_bitrate":
		src.bitrate = count(value)
	case "ice-bitrate", "bitrate":
		src.iceBitrate = count(value)
	case "audio_channels", "channels", "ice-channels":
		src.channels = positive(value)
	case "audio_samplerate", "samplerate", "ice-samplerate":
		src.sampleRate = positive(value)
	case "frame_size", "frame_width", "video_width", "width":
		src.videoWidth = positive(value)
	case "frame_height", "video_height", "height":
		src.videoHeight = positive(value)
	case "frame_rate", "framerate":
		src.videoRate = milli(value)
	case "audio_info", "genre", "listener_peak", "listenurl", "max_listeners", "public", "server_description", "server_name",
		"server_url", "slow_listeners", "title", "artist", "metadata_updated", "video_bitrate", "video_quality", "dummy",
		"ice-quality", "quality", "authenticator", "queue_size", "burst_size", "incoming_bitrate", "outgoing_kbitrate",
		"connected", "listener_connections", "mpeg_channels", "mpeg_samplerate", "total_mbytes_sent", "yp_currently_playing",
		"display-title", "metadata_url", "metadata", "playlist", "content", "max_bandwidth", "fallback":
	default:
		return false
	}
	return true
}

// parseListeners reads /admin/listclients of one mount.
func (p *iceParser) parseListeners(r io.Reader) ([]iceListener, error) {
	p.list = p.list[:0]
	if err := p.open(r); err != nil {
		return nil, err
	}
	for {
		kind, err := p.xml.next()
		switch {
		case errors.Is(err, io.EOF):
			return p.list, nil
		case err != nil:
			return nil, err
		case kind != xmlStart:
			continue
		}
		switch string(p.xml.name) {
		case "source", "icestats":
		case "listener":
			if err := p.listener(); err != nil {
				return nil, err
			}
		default:
			if err := p.xml.skip(); err != nil {
				return nil, err
			}
		}
	}
}

func (p *iceParser) listener() error {
	if len(p.list) >= maxClients {
		return fmt.Errorf("%w: more than %d listeners", errTooMany, maxClients)
	}
	var l iceListener
	if id, ok := p.xml.attr("id"); ok { // later versions and forks
		l.id = p.in.string(id)
	}
	err := p.eachLeaf(func(name, value []byte) {
		switch strings.ToLower(string(name)) {
		case "id":
			l.id = p.in.string(value)
		case "ip":
			l.ip = p.in.string(value)
		case "useragent":
			l.userAgent = p.in.string(value)
		case "connected":
			l.connectedS = count(value)
		}
	})
	if err != nil {
		return err
	}
	p.list = append(p.list, l)
	return nil
}

// iceTime reads the times that Icecast prints. The zone is part of both forms.
func iceTime(s string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05-0700", time.RFC3339, time.RFC1123Z, "02/Jan/2006:15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
