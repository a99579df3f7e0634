package agent

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vigil/fleet"
)

// pingService answers /v1/ping.
type pingService struct{ status int }

func (p pingService) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
	}
	switch {
	case req.Method != http.MethodGet || req.URL.Path != "/v1/ping" || req.URL.Query().Get("agent") != "edge-1":
		return answer(404, "text/plain", []byte("not found")), nil
	case p.status == 200:
		return answer(200, "application/json", []byte(`{"ok":true,"token":"t1"}`)), nil
	case p.status == 401:
		return answer(401, "application/json", []byte(`{"kind":"unauthenticated","message":"the token is not known","hint":"make one"}`)), nil
	}
	return answer(p.status, "text/html", []byte("hello")), nil
}

func TestCheck(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.build(w.fs)
		a.service = pingService{200}
		r := a.Check(w.Context())
		text := render(w, r)
		if !r.OK() || !strings.Contains(text, "channel-2") || !strings.Contains(text, "knows the token") {
			w.Errorf("report:\n%s", text)
		}
		if len(w.fs.Names()) != 0 {
			w.Errorf("a check wrote files: %v", w.fs.Names())
		}

		a.service = pingService{401}
		if r := a.Check(w.Context()); r.OK() || r.Service.Message != "the token is not known" || r.Service.Hint != "make one" {
			w.Errorf("service %+v", r.Service)
		}
		a.service = pingService{200 + 4}
		if r := a.Check(w.Context()); r.Service.OK || !strings.Contains(r.Service.Message, "not a Vigil service") {
			w.Errorf("service %+v", r.Service)
		}
		w.servers["s2"].set(func(s *fakeServer) { s.fail = fleet.StatusAuthFailed })
		r = a.Check(w.Context())
		if text := render(w, r); r.OK() || !strings.Contains(text, "FAIL media server s2") || strings.Contains(text, "hackme") || strings.Contains(text, "token=abc") {
			w.Errorf("report:\n%s", text)
		}
	})
}

// A check beside a running agent neither fails nor disturbs it.
func TestCheckBesideARunningAgent(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(time.Minute)
		a := w.build(w.fs)
		a.service = pingService{200}
		if r := a.Check(w.Context()); !r.OK() {
			w.Errorf("report:\n%s", render(w, r))
		}
		w.run(time.Minute)
		w.accountedFor()
	})
}

func render(w *world, r *CheckReport) string {
	w.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		w.Fatal(err)
	}
	return b.String()
}
