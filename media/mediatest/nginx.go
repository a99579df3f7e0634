package mediatest

import (
	"net/netip"
	"strconv"

	"vigil/fleetsim"
)

// flashVersionBytes is what nginx-rtmp keeps of a client's flash version.
const flashVersionBytes = 32

// bandwidthWarmupMs is how long nginx-rtmp shows no rate for a new stream: it counts
// for 11 s, and divides by 10.
const bandwidthWarmupMs = 11_000

// page writes XML by appending; it knows nothing of nesting.
type page struct{ b []byte }

func (p *page) raw(s string) { p.b = append(p.b, s...) }

// field writes one element and the end of the line.
func (p *page) field(name string, v int64) {
	p.inline(name, v)
	p.raw("\r\n")
}

func (p *page) inline(name string, v int64) {
	p.b = append(p.b, '<')
	p.raw(name)
	p.b = append(p.b, '>')
	p.b = strconv.AppendInt(p.b, v, 10)
	p.raw("</")
	p.raw(name)
	p.b = append(p.b, '>')
}

func (p *page) text(name, v string) {
	p.b = append(p.b, '<')
	p.raw(name)
	p.b = append(p.b, '>')
	p.raw(v)
	p.raw("</")
	p.raw(name)
	p.b = append(p.b, '>')
}

// nginxShown is a name as nginx-rtmp prints it, before HTML escaping: a space for
// each byte that is not printable ASCII.
func nginxShown(name string) string {
	shown := []byte(name)
	for i, c := range shown {
		if c < 0x20 || c >= 0x7f {
			shown[i] = ' '
		}
	}
	return string(shown)
}

// nginxText escapes as nginx does: four characters, the apostrophe not among them.
func nginxText(s string) string {
	var out []byte
	for i := range len(s) {
		switch s[i] {
		case '<':
			out = append(out, "&lt;"...)
		case '>':
			out = append(out, "&gt;"...)
		case '&':
			out = append(out, "&amp;"...)
		case '"':
			out = append(out, "&quot;"...)
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

// renderNginx appends the statistics page.
func renderNginx(b []byte, p *picture, apps []string, faults Fault) []byte {
	w := page{b}
	bytesIn, bytesOut := "bytes_in", "bytes_out"
	if faults.has(FaultRenamed) {
		bytesIn, bytesOut = "received_bytes", "sent_bytes"
	}
	w.raw("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\r\n<rtmp>\r\n")
	w.raw("<nginx_version>1.22.1</nginx_version>\r\n<nginx_rtmp_version>1.1.4</nginx_rtmp_version>\r\n")
	w.raw("<built>Feb 13 2023 11:56:56</built>\r\n")
	w.field("pid", int64(p.pid))
	w.field("uptime", (p.atMs-p.startMs)/1000)
	w.field("naccepted", p.accepted)
	in, out := p.bandwidth()
	w.field("bw_in", in)
	w.field(bytesIn, p.in)
	w.field("bw_out", out)
	w.field(bytesOut, p.out)
	w.raw("<server>\r\n")
	for _, app := range apps {
		w.raw("<application>\r\n<name>" + app + "</name>\r\n<live>\r\n")
		clients := 0
		for i := range p.streams {
			v := &p.streams[i]
			if v.st.App() != app {
				continue
			}
			shown := nginxShown(v.st.Name())
			if faults.has(FaultDuplicate) && i == 1 {
				shown = nginxShown(p.streams[0].st.Name())
			}
			clients += w.nginxStream(p, v, nginxText(shown), bytesIn, bytesOut)
		}
		w.field("nclients", int64(clients))
		w.raw("</live>\r\n</application>\r\n")
	}
	w.raw("</server>\r\n</rtmp>\r\n")
	return w.b
}

// bandwidth is the server's own rate, as wrong as the real one's.
func (p *picture) bandwidth() (in, out int64) {
	for i := range p.streams {
		a, b := p.streams[i].bandwidth(p.atMs)
		in, out = in+a, out+b
	}
	return in, out
}

func (v *view) bandwidth(atMs int64) (in, out int64) {
	if !v.flowing || atMs-v.sinceMs < bandwidthWarmupMs {
		return 0, 0
	}
	in = v.st.BytesPerMs() * bandwidthWarmupMs / 10 * 8
	return in, in * int64(len(v.sessions))
}

func (w *page) nginxStream(p *picture, v *view, name, bytesIn, bytesOut string) (clients int) {
	in, out := v.bandwidth(p.atMs)
	w.raw("<stream>\r\n<name>")
	w.raw(name)
	w.raw("</name>\r\n")
	w.inline("time", p.atMs-v.sinceMs)
	w.field("bw_in", in)
	w.field(bytesIn, v.in)
	w.field("bw_out", out)
	w.field(bytesOut, v.out)
	audio := int64(0)
	if in > 0 {
		audio = v.st.Media().AudioBytesPerMs * bandwidthWarmupMs / 10 * 8
	}
	w.field("bw_audio", audio)
	w.field("bw_video", in-audio)
	// The real one lists the newest connection first.
	for i := len(v.sessions) - 1; i >= 0; i-- {
		w.nginxViewer(p, v, &v.sessions[i])
	}
	clients = len(v.sessions)
	if v.publishing {
		clients++
		w.nginxPublisher(p, v)
		w.nginxMeta(v.st.Media())
	}
	w.field("nclients", int64(clients))
	if v.publishing {
		w.raw("<publishing/>\r\n<active/>\r\n")
	}
	w.raw("</stream>\r\n")
	return clients
}

func (w *page) nginxClient(id uint64, ip netip.Addr, ms int64, flashver string) {
	w.raw("<client><id>")
	w.b = strconv.AppendUint(w.b, id, 10)
	w.raw("</id><address>")
	w.b = ip.AppendTo(w.b)
	w.raw("</address>")
	w.inline("time", ms)
	w.text("flashver", flashver)
}

func (w *page) nginxViewer(p *picture, v *view, s *fleetsim.Session) {
	w.nginxClient(s.ID, s.IP(), p.atMs-s.StartMs, "LNX 9,0,124,2")
	if s.ID%8 == 0 {
		w.raw("<pageurl>http://player.example/watch?a=1&amp;b=2</pageurl><swfurl>http://player.example/p.swf</swfurl>")
	}
	w.raw("<dropped>0</dropped>")
	timestamp := p.atMs - v.publisherMs
	if !v.publishing {
		timestamp = 0
	}
	w.inline("avsync", int64(s.ID%41)-20)
	w.inline("timestamp", timestamp)
	if v.publishing {
		w.raw("<active/>")
	}
	w.raw("</client>\r\n")
}

func (w *page) nginxPublisher(p *picture, v *view) {
	const lavf = "FMLE/3.0 (compatible; Lavf59.27.100)"
	w.nginxClient(v.publisherID, v.st.PublisherIP(), p.atMs-v.publisherMs, lavf[:flashVersionBytes])
	w.raw("<dropped>0</dropped>")
	w.inline("avsync", int64(v.publisherID%41)-20)
	w.inline("timestamp", p.atMs-v.publisherMs)
	w.raw("<publishing/><active/></client>\r\n")
}

func (w *page) nginxMeta(m *fleetsim.Media) {
	w.raw("<meta><video>")
	w.inline("width", int64(m.Width))
	w.inline("height", int64(m.Height))
	w.inline("frame_rate", int64(m.Fps))
	w.text("codec", m.VideoCodec)
	w.text("profile", m.VideoProfile)
	w.inline("compat", int64(m.VideoCompat))
	w.text("level", m.VideoLevel)
	w.raw("</video><audio>")
	w.text("codec", m.AudioCodec)
	w.text("profile", m.AudioProfile)
	w.inline("channels", int64(m.Channels))
	w.inline("sample_rate", int64(m.SampleRate))
	w.raw("</audio></meta>\r\n")
}
