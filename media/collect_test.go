package media

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
)

func collector(t *testing.T, cfg config.MediaServer) Collector {
	t.Helper()
	cfg.Name = "srv"
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func body(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(data) }
}

func TestNewRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	_, err := New(config.MediaServer{Name: "x", Product: "quicktime", URL: "http://h/"}, Deps{})
	fe, ok := errors.AsType[*fleet.Error](err)
	if !ok || fe.Kind != fleet.KindInvalid || !strings.Contains(fe.Hint, "icecast, nginx-rtmp") {
		t.Errorf("unknown product: %v, want an invalid error that lists the products", err)
	}
	for _, bad := range []string{"", "stat", "ftp://h/", "http://", "http://u:secret@h:99999999/%zz"} {
		_, err := New(config.MediaServer{Name: "x", Product: ProductIcecast, URL: bad}, Deps{})
		if fe, ok := errors.AsType[*fleet.Error](err); !ok || fe.Kind != fleet.KindInvalid {
			t.Errorf("url %q: %v, want an invalid error", bad, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("url %q: the error shows the password: %v", bad, err)
		}
	}
}

func TestCollectNginx(t *testing.T) {
	t.Parallel()
	page := fixture(t, "nginx-busy.xml")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stat" || !r.Close {
			t.Errorf("asked for %s, close %v", r.URL.Path, r.Close)
		}
		w.Write(page)
	})
	r := collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: url}).Collect(t.Context())
	if r.Status != fleet.StatusOK || len(r.Streams) != 10 || r.Server.Verified != "real" {
		t.Errorf("status %v (%s), %d streams, verified %s", r.Status, r.Detail, len(r.Streams), r.Server.Verified)
	}
}

func TestFailuresAreReadingsInWordsForTheOperator(t *testing.T) {
	t.Parallel()
	half := fixture(t, "nginx-busy.xml")[:3000]
	f := func(name string, h http.HandlerFunc, want fleet.PollStatus, word string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: serve(t, h) + "/stat", Timeout: 2 * time.Second})
			r := c.Collect(t.Context())
			if r.Status != want || !strings.Contains(r.Detail, word) {
				t.Errorf("status %v, detail %q; want %v and %q", r.Status, r.Detail, want, word)
			}
			if len(r.Streams) > 0 || r.Totals.BytesIn.Known() || r.Server.ViewersNow.Known() {
				t.Error("a failed poll has numbers")
			}
			if r.AtMs == 0 || r.Server.Key != "srv" {
				t.Error("a failed poll has no time or no name")
			}
		})
	}
	code := func(n int) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) } }
	f("unauthorized", code(401), fleet.StatusAuthFailed, "password_file")
	f("forbidden", code(403), fleet.StatusAuthFailed, "allow")
	f("missing", code(404), fleet.StatusParseError, "/stat")
	f("error", code(500), fleet.StatusUnreachable, "500")
	f("redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/login?token=secret", http.StatusFound)
	}, fleet.StatusParseError, "/login?...")
	f("html", body([]byte("\n<!DOCTYPE html><html></html>")), fleet.StatusParseError, "web page")
	f("empty", body(nil), fleet.StatusParseError, "empty")
	f("truncated", body(half), fleet.StatusParseError, "ends in the middle")
	f("shorter than promised", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "999999")
		w.Write(half)
	}, fleet.StatusParseError, "ends in the middle")
	f("json", body([]byte(`{"http-flv":{}}`)), fleet.StatusParseError, "cannot be read")
	f("other xml", body([]byte(`<icestats></icestats>`)), fleet.StatusParseError, "<icestats>")
	f("no statistics", body([]byte(`<rtmp></rtmp>`)), fleet.StatusParseError, "rtmp_stat all")
	f("damaged", body([]byte(`<rtmp><pid>1</rtmp>`)), fleet.StatusParseError, "</rtmp> closes <pid>")
	f("not gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(half)
	}, fleet.StatusParseError, "gzip")
	f("reset", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}, fleet.StatusUnreachable, "closed the connection")
}

func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := collector(t, config.MediaServer{Product: ProductIcecast, URL: "http://" + l.Addr().String()}).Collect(t.Context())
	if r.Status != fleet.StatusUnreachable || !strings.Contains(r.Detail, "refuses connections") {
		t.Errorf("status %v, detail %q", r.Status, r.Detail)
	}
}

func TestServerThatHangsIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<rtmp>"))
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	c := collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: url, Timeout: 50 * time.Millisecond})
	start := time.Now()
	r := c.Collect(t.Context())
	if r.Status != fleet.StatusUnreachable || !strings.Contains(r.Detail, "50ms") || time.Since(start) > 5*time.Second {
		t.Errorf("status %v, detail %q after %v", r.Status, r.Detail, time.Since(start))
	}
}

func TestOneRequestInFlight(t *testing.T) {
	t.Parallel()
	page := fixture(t, "nginx-busy.xml")
	var now, most atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		w.Write(page)
	})
	c := collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: url})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { c.Collect(context.Background()) })
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests at once, want 1", most.Load())
	}
}

func TestGzipIsReadAndBounded(t *testing.T) {
	t.Parallel()
	page := fixture(t, "nginx-busy.xml")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(page)
		z.Close()
	})
	r := collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: url}).Collect(t.Context())
	if r.Status != fleet.StatusOK || len(r.Streams) != 10 {
		t.Errorf("gzip: status %v (%s), %d streams", r.Status, r.Detail, len(r.Streams))
	}
	// Comments: they are cheap to read, so that any machine reaches the limit long before
	// the time is up.
	member := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		return b.Bytes()
	}
	const commentBytes = 128 << 10
	comment := member("<!--" + strings.Repeat("x", commentBytes) + "-->")
	packed := slices.Concat(member("<rtmp>"), bytes.Repeat(comment, maxBodyBytes/commentBytes+1))
	bomb := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed)
	})
	r = collector(t, config.MediaServer{Product: ProductNginxRTMP, URL: bomb, Timeout: 10 * time.Minute}).Collect(t.Context())
	if r.Status != fleet.StatusParseError || !strings.Contains(r.Detail, "larger than 64 MiB") {
		t.Errorf("bomb: status %v, detail %q", r.Status, r.Detail)
	}
}

// fakeIcecast answers from the fixtures, with the passwords and errors of the real one.
func fakeIcecast(t *testing.T, asked *[]string) string {
	t.Helper()
	var mu sync.Mutex
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*asked = append(*asked, r.URL.RequestURI())
		mu.Unlock()
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/admin/") && (user != "admin" || password != "hackme") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case r.URL.Path == "/admin/stats":
			w.Write(fixture(t, "icecast-busy.xml"))
		case r.URL.Path == "/status-json.xsl":
			w.Write(fixture(t, "icecast-busy.json"))
		case r.URL.Query().Get("mount") == "/one.mp3":
			w.Write(fixture(t, "icecast-listclients.xml"))
		case r.URL.Query().Get("mount") == "/two.ogg":
			w.Write(fixture(t, "icecast-listclients-two.xml"))
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	})
}

func TestIcecastWithoutCredentialsReadsThePublicJSON(t *testing.T) {
	t.Parallel()
	var asked []string
	r := collector(t, config.MediaServer{Product: ProductIcecast, URL: fakeIcecast(t, &asked), ClientListEvery: time.Minute}).Collect(t.Context())
	if r.Status != fleet.StatusOK || len(r.Streams) != 3 || len(asked) != 1 || asked[0] != "/status-json.xsl" {
		t.Errorf("status %v (%s), %d streams, asked %v", r.Status, r.Detail, len(r.Streams), asked)
	}
}

func TestIcecastPasswordIsReadAtEveryPoll(t *testing.T) {
	t.Parallel()
	var asked []string
	file := filepath.Join(t.TempDir(), "password")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := collector(t, config.MediaServer{Product: ProductIcecast, URL: fakeIcecast(t, &asked) + "/admin/stats", Username: "admin", PasswordFile: file})
	if r := c.Collect(t.Context()); r.Status != fleet.StatusAuthFailed || !strings.Contains(r.Detail, file) {
		t.Errorf("without the file: %v %q", r.Status, r.Detail)
	}
	write("wrong\n")
	if r := c.Collect(t.Context()); r.Status != fleet.StatusAuthFailed || !strings.Contains(r.Detail, "refused") {
		t.Errorf("wrong password: %v %q", r.Status, r.Detail)
	}
	write("hackme\n")
	if r := c.Collect(t.Context()); r.Status != fleet.StatusOK {
		t.Errorf("right password: %v %q", r.Status, r.Detail)
	}
}

func TestIcecastListsListenersAtALowerRate(t *testing.T) {
	t.Parallel()
	var asked []string
	var mono int64
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hackme"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(config.MediaServer{
		Name: "srv", Product: ProductIcecast, URL: fakeIcecast(t, &asked), Username: "admin", PasswordFile: file, ClientListEvery: time.Minute,
	}, Deps{Mono: func() int64 { return mono }, Now: func() time.Time { return recordedAt }})
	if err != nil {
		t.Fatal(err)
	}
	lists := func() int {
		asked = nil
		mono += 10_000
		r := c.Collect(t.Context())
		viewers := 0
		for _, s := range r.Sessions {
			if s.Role == fleet.RoleViewer {
				viewers++
				if s.StartedMs != recordedAt.UnixMilli()-9_000 || s.UserAgent == "" || s.RemoteIP != "127.0.0.1" {
					t.Errorf("listener %+v", s)
				}
			}
		}
		if len(asked) > 1 && (viewers != 4 || !r.SessionsComplete || len(r.SessionScope) != 3) {
			t.Errorf("listed: %d listeners, complete %v, scope %v, %s", viewers, r.SessionsComplete, r.SessionScope, r.Detail)
		}
		return len(asked) - 1
	}
	var got []int
	for range 8 {
		got = append(got, lists())
	}
	want := []int{2, 0, 0, 0, 0, 0, 2, 0} // a mount without listeners is not asked for
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("lists per poll = %v, want %v", got, want)
		}
	}
	c.(ClientLister).SetClientListEvery(0)
	mono += 1_000_000
	if n := lists(); n != 0 {
		t.Errorf("%d lists after they were turned off", n)
	}
}
