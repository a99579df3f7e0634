package mediatest_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vigil/fleetsim"
	"vigil/media/mediatest"
	"vigil/media/mediatest/real"
)

// shapeXML lists the paths of all elements and attributes of a page with the kind of
// their text: int, time, text or none.
func shapeXML(t *testing.T, page []byte) map[string]string {
	t.Helper()
	shape := map[string]string{}
	decoder := xml.NewDecoder(strings.NewReader(string(page)))
	var path []string
	text := ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return shape
		}
		if err != nil {
			t.Fatalf("page is not XML: %v\n%s", err, page)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path, text = append(path, token.Name.Local), ""
			for _, a := range token.Attr {
				note(shape, strings.Join(path, "/")+"@"+a.Name.Local, a.Value)
			}
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			note(shape, strings.Join(path, "/"), strings.TrimSpace(text))
			path, text = path[:len(path)-1], ""
		}
	}
}

func note(shape map[string]string, path, value string) {
	kind := "text"
	if value == "" {
		kind = "none"
	} else if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		kind = "int"
	} else if _, err := time.Parse("2006-01-02T15:04:05-0700", value); err == nil {
		kind = "iso time"
	} else if _, err := time.Parse("Mon, 02 Jan 2006 15:04:05 -0700", value); err == nil {
		kind = "time"
	}
	if have, ok := shape[path]; ok && have != kind {
		kind = "mixed"
	}
	shape[path] = kind
}

func shapeJSON(shape map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, one := range v {
			shapeJSON(shape, path+"/"+k, one)
		}
	case []any:
		for _, one := range v {
			shapeJSON(shape, path+"[]", one)
		}
	case string:
		note(shape, path, v)
		shape[path] = "quoted " + shape[path]
	default:
		shape[path] = fmt.Sprintf("%T", v)
	}
}

func ask(t *testing.T, e *mediatest.Emulator, path string) (http.Header, []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8000"+path, nil)
	r.SetBasicAuth(e.Credentials())
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d", path, w.Code)
	}
	return w.Result().Header, w.Body.Bytes()
}

func get(t *testing.T, url string) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(real.IcecastAdmin, real.IcecastPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header
}

func headers(h http.Header) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"Server", "Content-Type", "Cache-Control", "Pragma", "Expires"} {
		if v := h.Get(name); v != "" {
			out[name] = v
		}
	}
	return out
}

// lines reduces a page to its layout: every number becomes 0, repeated blocks stay.
func lines(page []byte) map[string]bool {
	out := map[string]bool{}
	for line := range strings.SplitSeq(string(page), "\n") {
		var b strings.Builder
		digits := false
		for _, c := range line {
			if c >= '0' && c <= '9' {
				if !digits {
					b.WriteByte('0')
				}
				digits = true
				continue
			}
			digits = false
			b.WriteRune(c)
		}
		out[b.String()] = true
	}
	return out
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

func simulated(mix fleetsim.Mix, streams int) *mediatest.Emulator {
	fleet := fleetsim.New(fleetsim.Config{Seed: 5, Servers: 1, Streams: streams, Viewers: 100, Mix: mix})
	return mediatest.New(mediatest.Options{Truth: fleet.Server(0), Now: func() time.Time { return time.UnixMilli(fleet.StartMs()) }})
}

// check stops at the first error of a chain of calls that set up real servers.
func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestEmulatorMatchesRealNginx(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), real.ForTest(t)
	n, err := lab.StartNginx(ctx, real.NginxOptions{Apps: []string{"live", "events", "spare"}})
	check(t, err)
	clip, err := lab.VideoClip(ctx)
	check(t, err)
	for _, name := range []string{"s1", "é1", "è1", "a&b<c>\"d'", "новости"} {
		_, err := lab.PublishRTMP(ctx, n, "live", name, clip)
		check(t, err)
	}
	_, err = lab.WatchRTMP(n, "live", "s1")
	check(t, err)
	_, err = lab.WatchRTMP(n, "events", "nobody-publishes")
	check(t, err)
	check(t, n.AwaitStreams(ctx, "viewers are connected", func(streams []real.Stream) bool {
		watched, waiting := false, false
		for _, s := range streams {
			watched = watched || s.Name == "s1" && s.BytesOut > 0
			waiting = waiting || s.App == "events" && s.NClients == 1
		}
		return watched && waiting
	}))
	page, err := n.Stat(ctx)
	check(t, err)

	e := simulated(fleetsim.MixNginx, 30)
	e.KillPublisher(e.Truth().Streams()[0]) // leaves viewers that wait
	header, emulated := ask(t, e, "/stat")
	if diff := cmp.Diff(headers(get(t, n.StatURL)), headers(header)); diff != "" {
		t.Errorf("headers: -real +emulated\n%s", diff)
	}
	want, got := shapeXML(t, page), shapeXML(t, emulated)
	for _, optional := range []string{"pageurl", "swfurl"} { // ffmpeg sends neither
		delete(got, "rtmp/server/application/live/stream/client/"+optional)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("elements: -real +emulated\n%s", diff)
	}
	// The layout: the same kinds of lines, with the same line ends.
	own := func(line string) bool { // lines whose text differs from case to case
		return !strings.Contains(line, "<name>") && !strings.Contains(line, "<client>") && !strings.Contains(line, "<meta>")
	}
	filter := func(page []byte) (out []string) {
		for _, line := range sorted(lines(page)) {
			if own(line) {
				out = append(out, line)
			}
		}
		return out
	}
	if diff := cmp.Diff(filter(page), filter(emulated)); diff != "" {
		t.Errorf("lines: -real +emulated\n%s", diff)
	}
	for _, name := range []string{"  1", "a&amp;b&lt;c&gt;&quot;d'"} {
		if !strings.Contains(string(page), "<name>"+name+"</name>") {
			t.Errorf("the real nginx does not print the name %q as the emulator does", name)
		}
	}
	if strings.Count(string(page), "<name>  1</name>") != 2 {
		t.Error("the real nginx tells é1 and è1 apart")
	}
}

func TestEmulatorMatchesRealIcecast(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), real.ForTest(t)
	ice, err := lab.StartIcecast(ctx, real.IcecastOptions{})
	check(t, err)
	pages := func(mounts int) map[string][]byte {
		out := map[string][]byte{}
		for _, path := range []string{"/admin/stats", "/status-json.xsl", "/admin/listmounts"} {
			page, err := ice.Get(ctx, path)
			check(t, err)
			out[fmt.Sprintf("%s with %d mounts", path, mounts)] = page
		}
		return out
	}
	none := pages(0)
	mp3, err := lab.MP3Clip(ctx)
	check(t, err)
	ogg, err := lab.OggClip(ctx)
	check(t, err)
	_, err = lab.PublishIcecast(ctx, ice, "/é1.mp3", mp3, real.SourceOptions{Name: `Radio /é1 & <"x">`, Genre: "various"})
	check(t, err)
	check(t, ice.AwaitMounts(ctx, "the first mount runs", func(m []real.Mount) bool { return len(m) == 1 && m[0].Read > 0 }))
	one := pages(1)
	_, err = lab.PublishIcecast(ctx, ice, "/b.ogg", ogg, real.SourceOptions{Name: "Radio b"})
	check(t, err)
	listener, err := ice.Listen("/b.ogg", `Test <&> "x"`)
	check(t, err)
	defer listener.Close()
	check(t, ice.AwaitMounts(ctx, "both mounts run", func(m []real.Mount) bool {
		return len(m) == 2 && m[0].Read > 0 && m[1].Read > 0 && m[0].Listeners+m[1].Listeners == 1
	}))
	two := pages(2)

	shapes := func(all map[string][]byte) map[string]map[string]string {
		out := map[string]map[string]string{}
		for name, page := range all {
			if !strings.HasPrefix(name, "/status") {
				out[name] = shapeXML(t, page)
				continue
			}
			var v any
			if err := json.Unmarshal(page, &v); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, page)
			}
			out[name] = map[string]string{}
			shapeJSON(out[name], "", v)
		}
		return out
	}
	emulated := func(mounts int, pick ...string) map[string][]byte {
		e := simulated(fleetsim.MixIcecast, 40)
		left := append([]string(nil), pick...)
		for _, st := range e.Truth().Streams() {
			if len(left) > 0 && st.Media().ContentType == left[0] && st.Index()%3 != 1 {
				left = left[1:]
				continue
			}
			e.KillPublisher(st)
		}
		out := map[string][]byte{}
		for _, path := range []string{"/admin/stats", "/status-json.xsl", "/admin/listmounts"} {
			_, out[fmt.Sprintf("%s with %d mounts", path, mounts)] = ask(t, e, path)
		}
		return out
	}
	compare := func(want, got map[string][]byte) {
		t.Helper()
		// What ffmpeg's source does not send at all, or only with this genre.
		if diff := cmp.Diff(shapes(want), shapes(got)); diff != "" {
			t.Errorf("-real +emulated\n%s", diff)
		}
	}
	compare(none, emulated(0))
	compare(one, emulated(1, "audio/mpeg"))
	compare(two, emulated(2, "audio/mpeg", "application/ogg"))

	e := simulated(fleetsim.MixIcecast, 3)
	header, _ := ask(t, e, "/admin/stats")
	if diff := cmp.Diff(headers(get(t, ice.URL+"/admin/stats")), headers(header)); diff != "" {
		t.Errorf("headers: -real +emulated\n%s", diff)
	}
	realClients, err := ice.Get(ctx, "/admin/listclients?mount=/b.ogg")
	check(t, err)
	_, clients := ask(t, e, "/admin/listclients?mount="+e.Truth().Streams()[0].Name())
	if diff := cmp.Diff(shapeXML(t, realClients), shapeXML(t, clients)); diff != "" {
		t.Errorf("clients: -real +emulated\n%s", diff)
	}
	for _, want := range []string{"Radio /&#xC3;&#xA9;1 &amp; &lt;", `mount="/&#xE9;1.mp3"`} {
		if page := string(two["/admin/stats with 2 mounts"]); !strings.Contains(page, want) {
			t.Errorf("the real Icecast does not print %s: %s", want, page)
		}
	}
}
