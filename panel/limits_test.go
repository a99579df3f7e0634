package panel_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"vigil/auth"
	"vigil/config"
	"vigil/panel"
	"vigil/report"
	"vigil/report/reporttest"
)

// A stolen or revoked login must not go on reading through a page that is open.
func TestEventStreamEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	person := signIn(t, site)
	events := listen(t, person, site.URL("/live/now"))
	next(t, events, "patch")
	site.SignOutAll()
	next(t, events, "bye")
	if res, _ := get(t, person, site.URL("/live/now")); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("connecting again after the logout: %d, want 401", res.StatusCode)
	}
}

func TestOnePersonCannotTakeAllEventStreams(t *testing.T) {
	t.Parallel()
	site := newSite(t, reporttest.Config{})
	person := signIn(t, site)
	const most = 100 // of one person
	for range most {
		next(t, listen(t, person, site.URL("/live/now")), "hello")
	}
	if res, _ := get(t, person, site.URL("/live/now")); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("stream number %d: %d, want 503", most+1, res.StatusCode)
	}
	if res, _ := get(t, person, site.URL("/")); res.StatusCode != http.StatusOK {
		t.Errorf("a page, with all streams taken: %d", res.StatusCode)
	}
}

// deadlines is a ResponseWriter that remembers its deadline.
type deadlines struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.write = at; return nil }

// Whoever asks and never reads the answer holds a connection: for a minute, not for
// ever. This needs no login.
func TestAnswersHaveATimeLimit(t *testing.T) {
	t.Parallel()
	world := reporttest.New(reporttest.Config{})
	nobody := noAccounts{}
	logins, err := auth.New(auth.Options{Users: nobody, Sessions: nobody})
	if err != nil {
		t.Fatal(err)
	}
	p, err := panel.New(config.Panel{}, panel.Deps{Reports: report.New(world, world, time.Now), Auth: logins})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/login", "/", "/static/x/panel.css", "/nothing"} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if left := time.Until(w.write); left <= 0 || left > time.Minute {
			t.Errorf("GET %s: writing may take until %v from now", path, left)
		}
	}
}

type noAccounts struct{ auth.Sessions }

func (noAccounts) User(string) (auth.User, error) { return auth.User{}, auth.ErrMissing }
