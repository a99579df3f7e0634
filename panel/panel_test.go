package panel_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vigil/panel/paneltest"
	"vigil/report/reporttest"
)

func newSite(t *testing.T, cfg reporttest.Config) *paneltest.Site {
	t.Helper()
	cfg.Now = time.Now
	site, err := paneltest.NewSite(reporttest.New(cfg), time.Now, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = site.Down() })
	return site
}

// person is somebody with a browser of their own; stay: redirects are not followed.
func person(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: secureJar{jar}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// secureJar treats 127.0.0.1 as browsers do: as safe for Secure cookies.
type secureJar struct{ *cookiejar.Jar }

func (j secureJar) SetCookies(u *url.URL, c []*http.Cookie) { j.Jar.SetCookies(asHTTPS(u), c) }
func (j secureJar) Cookies(u *url.URL) []*http.Cookie       { return j.Jar.Cookies(asHTTPS(u)) }

func asHTTPS(u *url.URL) *url.URL {
	safe := *u
	safe.Scheme = "https"
	return &safe
}

func signIn(t *testing.T, site *paneltest.Site) *http.Client {
	t.Helper()
	c := person(t)
	res, err := c.PostForm(site.URL("/login"), url.Values{"name": {paneltest.Name}, "password": {paneltest.Password}, "next": {"/servers"}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/servers" {
		t.Fatalf("login: %d to %q, want 303 to /servers", res.StatusCode, res.Header.Get("Location"))
	}
	return c
}

func get(t *testing.T, c *http.Client, address string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestNothingIsShownBeforeTheLogin(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	c := person(t)
	for _, path := range append(slices.Clone(everyPage), "/nothing") {
		res, body := get(t, c, site.URL(path))
		if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/login") {
			t.Errorf("GET %s: %d to %q, want 303 to the login", path, res.StatusCode, res.Header.Get("Location"))
		}
		if strings.Contains(body, "nginx-rtmp") {
			t.Errorf("GET %s: the body names a server", path)
		}
	}
	for _, path := range []string{"/box/chart?of=fleet", "/box/history?server=a&name=b", "/live/now", "/live/servers", "/live/servers/a", "/live/streams", "/live/stream?server=a&name=b", "/api/v1/now", "/api/v1/openapi.json"} {
		res, _ := get(t, c, site.URL(path))
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET %s: %d, want 401", path, res.StatusCode)
		}
	}
}

func TestEveryAnswerIsHardened(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	c := signIn(t, site)
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|<style|\sstyle="|\son[a-z]+="|javascript:`)
	for _, path := range append(slices.Clone(everyPage), "/login", "/nothing", "/box/chart?of=fleet") {
		res, body := get(t, c, site.URL(path))
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin"} {
			if got := res.Header.Get(header); got != want {
				t.Errorf("%s: %s %q, want %q", path, header, got, want)
			}
		}
		if found := inline.FindString(body); found != "" {
			t.Errorf("%s: inline script or style: %s", path, found)
		}
		if strings.Contains(body, "//") && regexp.MustCompile(`(src|href)="(https?:)?//`).MatchString(body) {
			t.Errorf("%s: refers to another origin", path)
		}
	}
}

func TestRequestsFromOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	c := signIn(t, site)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.URL("/logout"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("POST /logout from another site: %d, want 403", res.StatusCode)
	}
	if res, _ := get(t, c, site.URL("/")); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards GET /: %d, want 200", res.StatusCode)
	}
}

func TestAssetsAreKeptForEver(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	_, page := get(t, person(t), site.URL("/login"))
	links := regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(links) < 5 {
		t.Fatalf("the page links %d assets, want at least 5", len(links))
	}
	for _, link := range links {
		res, body := get(t, person(t), site.URL(link[1]), "Accept-Encoding", "gzip")
		if res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %q, want 200 and immutable", link[1], res.StatusCode, res.Header.Get("Cache-Control"))
		}
		if strings.HasSuffix(link[1], ".js") {
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Errorf("%s is not compressed: %v", link[1], err)
				continue
			}
			if _, err := io.Copy(io.Discard, z); err != nil {
				t.Errorf("%s: %v", link[1], err)
			}
		}
	}
	old := regexp.MustCompile(`/static/[0-9a-f]+/`).ReplaceAllString(links[0][1], "/static/0123456789ab/")
	if res, _ := get(t, person(t), site.URL(old)); res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("an asset under another build's address may be kept: %q", res.Header.Get("Cache-Control"))
	}
	if res, _ := get(t, person(t), site.URL("/static/x/../panel.go")); res.StatusCode == http.StatusOK {
		t.Error("a file outside the assets was served")
	}
}

func TestVendoredFiles(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile(filepath.Join("static", "vendor", "VENDORED.txt"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"VENDORED.txt": true}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		name, want := fields[0], fields[len(fields)-1]
		listed[name] = true
		data, err := os.ReadFile(filepath.Join("static", "vendor", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has sha256 %x, VENDORED.txt says %s", name, sum, want)
		}
	}
	entries, err := os.ReadDir(filepath.Join("static", "vendor"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !listed[e.Name()] && !strings.HasSuffix(e.Name(), ".LICENSE") {
			t.Errorf("%s is not in VENDORED.txt", e.Name())
		}
	}
}

// event is one server-sent event.
type event struct {
	Name string
	ID   string
	Data map[string]any
}

func listen(t *testing.T, c *http.Client, address string) <-chan event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("GET %s: %d %q", address, res.StatusCode, got)
	}
	events := make(chan event, 16)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer close(events)
		defer res.Body.Close()
		var e event
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.Name = value
			case "id":
				e.ID = value
			case "data":
				if json.Unmarshal([]byte(value), &e.Data) != nil {
					return
				}
			case "":
				select {
				case events <- e:
				case <-ctx.Done():
					return
				}
				e = event{}
			}
		}
	}()
	return events
}

func next(t *testing.T, events <-chan event, want string) event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the stream ended, want %s", want)
			}
			if e.Name == want {
				return e
			}
		case <-timeout:
			t.Fatalf("no %s within 20 s", want)
		}
	}
}

func TestEventStreamSendsWhatChanged(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	events := listen(t, signIn(t, site), site.URL("/live/now"))
	hello := next(t, events, "hello")
	if hello.Data["build"] == "" || hello.Data["beat_ms"] != 3000.0 {
		t.Errorf("hello = %v", hello.Data)
	}
	first := next(t, events, "patch")
	boxes := first.Data["boxes"].(map[string]any)
	for _, id := range []string{"totals", "top-streams", "top-servers"} {
		if text, _ := boxes[id].(string); !strings.HasPrefix(text, `<section id="`+id+`"`) {
			t.Errorf("first patch: box %s begins %.40q", id, text)
		}
	}
	if first.ID == "" || first.Data["as_of_ms"].(float64) <= 0 {
		t.Errorf("first patch: id %q, as of %v", first.ID, first.Data["as_of_ms"])
	}
	site.World.Set(reporttest.Gaps)
	second := next(t, events, "patch")
	if text, _ := second.Data["boxes"].(map[string]any)["totals"].(string); !strings.Contains(text, "unreachable") {
		t.Errorf("second patch does not say that a server is unreachable")
	}
	if second.ID == first.ID {
		t.Errorf("both patches have the id %s", first.ID)
	}
	next(t, events, "beat")
	if err := site.Down(); err != nil {
		t.Fatal(err)
	}
	for range events { //nolint:revive // until it ends
	}
}

// The limits of a server on reading and writing are for requests, not for streams.
func TestEventStreamOutlivesTheLimitsOfItsServer(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	events := listen(t, signIn(t, site), site.URL("/live/now"))
	for began := time.Now(); time.Since(began) < paneltest.ReadTimeout+4*time.Second; {
		next(t, events, "beat")
	}
}

func TestAQuestionWithoutAnswerIsNoStream(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	c := signIn(t, site)
	f := func(path string, status int) {
		t.Helper()
		res, body := get(t, c, site.URL(path))
		if res.StatusCode != status || !strings.Contains(body, `class="problem"`) && !strings.Contains(body, "error-card") {
			t.Errorf("GET %s: %d, want %d and an explanation", path, res.StatusCode, status)
		}
	}
	f("/live/streams?sort=colour", 400)
	f("/live/streams?offset=x", 400)
	f("/live/stream", 400)
	f("/streams?state=fine", 400)
	f("/servers?q="+strings.Repeat("x", 300), 400)
	f("/servers/nobody", 404)
	f("/stream?server=nobody&name=x", 404)
	f("/stream", 400)
	f("/?range=2h", 400)
	f("/box/chart?of=moon", 400)
	f("/nothing", 404)
}

func TestNamesFromServersAreTextOnly(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	c := signIn(t, site)
	for _, path := range []string{
		"/streams?q=" + url.QueryEscape(`"><script>alert(1)</script>`),
		"/stream?server=edge-fra-01&name=" + url.QueryEscape("<img src=x onerror=alert(1)>\xff"),
		"/servers/" + url.PathEscape("<b>x</b>"),
	} {
		if _, body := get(t, c, site.URL(path)); strings.Contains(body, "<script>alert") || strings.Contains(body, "<img") || strings.Contains(body, "<b>x") {
			t.Errorf("%s: a name became markup", path)
		}
	}
}
