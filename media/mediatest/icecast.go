package mediatest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// icecastText writes a text or attribute as libxml2 does for a document without an
// encoding: what is not ASCII becomes a character reference.
func icecastText(s string) string {
	if plain(s) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '<':
			out.WriteString("&lt;")
		case r == '>':
			out.WriteString("&gt;")
		case r == '&':
			out.WriteString("&amp;")
		case r >= 0x80:
			fmt.Fprintf(&out, "&#x%X;", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func icecastAttr(s string) string { return strings.ReplaceAll(icecastText(s), `"`, "&quot;") }

// latin1 reads the bytes of s as if each were a character: what Icecast does to the
// metadata of MP3 sources.
func latin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// icecastFields are the facts about one mount, in the order of the real one's pages:
// by name.
type icecastFields struct {
	names  []string
	values []string
	number []bool // JSON prints it without quotes
}

func (f *icecastFields) text(name, value string) {
	f.names, f.values, f.number = append(f.names, name), append(f.values, value), append(f.number, false)
}

func (f *icecastFields) int(name string, value int64) {
	f.names, f.values, f.number = append(f.names, name), append(f.values, strconv.FormatInt(value, 10)), append(f.number, true)
}

func rfcTime(atMs, skewMs int64) string {
	return time.UnixMilli(atMs + skewMs).UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")
}

func isoTime(atMs, skewMs int64) string {
	return time.UnixMilli(atMs + skewMs).UTC().Format("2006-01-02T15:04:05-0700")
}

// icecastServerName is what the source called its station, as Icecast passes it on.
func icecastServerName(v *view) string {
	name := "Radio " + strings.TrimPrefix(v.st.Name(), "/")
	if v.st.Media().AudioCodec == "" {
		return latin1(name)
	}
	return name
}

// fields puts the facts of a mount into f for the admin page or, with public set, for the JSON page.
func (v *view) fields(f *icecastFields, p *picture, host string, public bool) {
	f.names, f.values, f.number = f.names[:0], f.values[:0], f.number[:0]
	m := v.st.Media()
	if m.AudioCodec != "" { // Ogg is looked into; of MP3 only what the encoder declares is known
		f.int("audio_bitrate", m.BytesPerMs*8000)
		f.int("audio_channels", int64(m.Channels))
		f.int("audio_samplerate", int64(m.SampleRate))
	}
	f.text("genre", "various")
	if m.AudioCodec != "" {
		f.int("ice-bitrate", m.BytesPerMs*8)
	}
	f.int("listener_peak", v.peak)
	f.int("listeners", int64(len(v.sessions)))
	f.text("listenurl", "http://"+host+v.st.Name())
	if !public {
		f.text("max_listeners", "unlimited")
		f.int("public", 0)
	}
	f.text("server_description", "Unspecified description")
	f.text("server_name", icecastServerName(v))
	f.text("server_type", m.ContentType)
	if !public {
		f.int("slow_listeners", 0)
		f.text("source_ip", v.st.PublisherIP().String())
	}
	f.text("stream_start", rfcTime(v.sinceMs, p.skewMs))
	f.text("stream_start_iso8601", isoTime(v.sinceMs, p.skewMs))
	if m.AudioCodec != "" {
		f.text("subtype", m.AudioCodec)
	}
	if v.st.Index()%3 == 1 && m.AudioCodec != "" {
		f.text("title", "Artist & Co - Song <1>")
	}
	if !public {
		f.int("total_bytes_read", v.in)
		f.int("total_bytes_sent", v.out)
		f.text("user_agent", "Lavf/59.27.100")
	}
}

// renderStats appends /admin/stats.
func renderStats(b []byte, p *picture, host string, asked int64, faults Fault) []byte {
	w := page{b}
	w.raw("<?xml version=\"1.0\"?>\n<icestats>")
	for _, f := range p.global(host, asked) {
		w.text(f.name, f.value)
	}
	var f icecastFields
	for i := range p.streams {
		v := &p.streams[i]
		mount := v.st.Name()
		if faults.has(FaultDuplicate) && i == 1 {
			mount = p.streams[0].st.Name()
		}
		w.raw("<source mount=\"" + icecastAttr(mount) + "\">")
		v.fields(&f, p, host, false)
		for j, name := range f.names {
			if faults.has(FaultRenamed) && strings.HasPrefix(name, "total_bytes") {
				name = strings.Replace(name, "total_bytes", "bytes_total", 1)
			}
			w.text(name, icecastText(f.values[j]))
		}
		w.raw("</source>")
	}
	w.raw("</icestats>\n")
	return w.b
}

type namedValue struct{ name, value string }

// global lists the facts about the whole server. Connections count the requests of
// whoever asks, too.
func (p *picture) global(host string, asked int64) []namedValue {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	sources, listeners := int64(len(p.streams)), int64(p.viewers)
	hostname, _, _ := strings.Cut(host, ":")
	return []namedValue{
		{"admin", "icemaster@localhost"},
		{"client_connections", n(p.accepted + asked)},
		{"clients", n(sources + listeners)},
		{"connections", n(p.accepted + asked)},
		{"file_connections", "0"},
		{"host", hostname},
		{"listener_connections", n(p.accepted)},
		{"listeners", n(listeners)},
		{"location", "earth"},
		{"server_id", "Icecast 2.4.4"},
		{"server_start", rfcTime(p.startMs, p.skewMs)},
		{"server_start_iso8601", isoTime(p.startMs, p.skewMs)},
		{"source_client_connections", n(sources)},
		{"source_relay_connections", "0"},
		{"source_total_connections", n(sources)},
		{"sources", n(sources)},
		{"stats", "0"},
		{"stats_connections", "0"},
	}
}

// renderMounts appends /admin/listmounts.
func renderMounts(b []byte, p *picture) []byte {
	w := page{b}
	w.raw("<?xml version=\"1.0\"?>\n")
	if len(p.streams) == 0 {
		w.raw("<icestats/>\n")
		return w.b
	}
	w.raw("<icestats>")
	for i := range p.streams {
		v := &p.streams[i]
		w.raw("<source mount=\"" + icecastAttr(v.st.Name()) + "\"><fallback></fallback>")
		w.inline("listeners", int64(len(v.sessions)))
		w.inline("Connected", (p.atMs-v.sinceMs)/1000)
		w.text("content-type", v.st.Media().ContentType)
		w.raw("</source>")
	}
	w.raw("</icestats>\n")
	return w.b
}

// renderClients appends /admin/listclients of one mount; ok is false when there is no
// such mount.
func renderClients(b []byte, p *picture, mount string) (body []byte, ok bool) {
	w := page{b}
	for i := range p.streams {
		v := &p.streams[i]
		if v.st.Name() != mount {
			continue
		}
		w.raw("<?xml version=\"1.0\"?>\n<icestats><source mount=\"" + icecastAttr(mount) + "\">")
		w.inline("Listeners", int64(len(v.sessions)))
		for j := range v.sessions {
			s := &v.sessions[j]
			w.raw("<listener>")
			w.text("IP", s.IP().String())
			w.text("UserAgent", icecastText(s.UserAgent()))
			w.inline("Connected", (p.atMs-s.StartMs)/1000)
			w.inline("ID", int64(s.ID))
			w.raw("</listener>")
		}
		w.raw("</source></icestats>\n")
		return w.b, true
	}
	return nil, false
}

// renderJSON appends /status-json.xsl: the source is absent, an object, or an array.
func renderJSON(b []byte, p *picture, host string, faults Fault) []byte {
	w := page{b}
	if faults.has(FaultEarlyJSON) { // seen from the real one: the style sheet expects the field "admin" first
		w.raw(`{"icestats":"server_start":"` + rfcTime(p.startMs, p.skewMs) + `","server_start_iso8601":"` + isoTime(p.startMs, p.skewMs) + `","dummy":null}}`)
		return w.b
	}
	w.raw(`{"icestats":{`)
	for _, f := range p.global(host, 0) {
		switch f.name {
		case "admin", "host", "location", "server_id", "server_start", "server_start_iso8601":
			w.raw(strconv.Quote(f.name) + ":" + jsonText(f.value) + ",")
		}
	}
	switch len(p.streams) {
	case 0:
		w.raw(`"dummy":null`)
	case 1:
		w.raw(`"source":`)
		w.jsonSource(p, 0, host, faults)
	default:
		w.raw(`"source":[`)
		for i := range p.streams {
			if i > 0 {
				w.raw(",")
			}
			w.jsonSource(p, i, host, faults)
		}
		w.raw("]")
	}
	w.raw("}}")
	return w.b
}

func (w *page) jsonSource(p *picture, i int, host string, faults Fault) {
	var f icecastFields
	p.streams[i].fields(&f, p, host, true)
	w.raw("{")
	for j, name := range f.names {
		value := f.values[j]
		if name == "listenurl" && faults.has(FaultDuplicate) && i == 1 {
			value = "http://" + host + p.streams[0].st.Name()
		}
		if faults.has(FaultRenamed) && name == "listeners" {
			name = "listener_count"
		}
		w.raw(strconv.Quote(name) + ":")
		if f.number[j] {
			w.raw(value + ",")
		} else {
			w.raw(jsonText(value) + ",")
		}
	}
	if faults.has(FaultBadJSON) && i == 0 {
		w.raw(`"title":-,`) // the style sheet takes what looks like a number for one
	}
	w.raw(`"dummy":null}`)
}

// jsonText quotes as Icecast's style sheet does: only what must be escaped.
func jsonText(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < 0x20:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
