package mediatest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/fleetsim"
)

// TestCountersNeverGoBackInAnyStory lets anything happen to a server in any order: as
// long as it is the same life, or the same stream object, counters only grow, and no
// faster than the simulation allows.
func TestCountersNeverGoBackInAnyStory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mix := rapid.SampledFrom([]fleetsim.Mix{fleetsim.MixNginx, fleetsim.MixIcecast}).Draw(t, "product")
		cfg := fleetsim.Config{
			Seed: rapid.Uint64().Draw(t, "seed"), Servers: 1, Streams: 6, Viewers: 12, Start: time.UnixMilli(1_790_000_000_000),
			Churn: true, Day: 40 * time.Second, Watch: 2 * time.Second, Mix: mix,
		}
		if rapid.Bool().Draw(t, "restarts") {
			cfg.RestartEvery, cfg.RestartDown = 15*time.Second, time.Second
		}
		fleet := fleetsim.New(cfg)
		c := &clock{}
		c.ms.Store(fleet.StartMs())
		e := New(Options{Truth: fleet.Server(0), Now: c.now, Record: RecordStreams, StepMs: rapid.SampledFrom([]int64{0, 700}).Draw(t, "step")})
		streams := e.Truth().Streams()
		events := map[string]func(*fleetsim.Stream){
			"nothing": func(*fleetsim.Stream) {}, "kill": e.KillPublisher, "stall": e.StallPublisher, "revive": e.RevivePublisher,
			"replace": e.ReplacePublisher, "restart": func(*fleetsim.Stream) { e.Restart() }, "reload": func(*fleetsim.Stream) { e.Reload() },
		}
		names := []string{"nothing", "kill", "stall", "revive", "replace", "restart", "reload"}
		var last *Poll
		for range rapid.IntRange(1, 25).Draw(t, "polls") {
			what := rapid.SampledFrom(names).Draw(t, "event")
			events[what](streams[rapid.IntRange(0, len(streams)-1).Draw(t, "stream")])
			stepMs := rapid.Int64Range(1, 4000).Draw(t, "wait")
			c.ms.Add(stepMs)
			now, ok := pollQuietly(e)
			if !ok {
				last = nil // it is down
				continue
			}
			if last != nil {
				compare(t, e, last, &now)
			}
			last = &now
		}
	})
}

func pollQuietly(e *Emulator) (p Poll, ok bool) {
	path := "/stat"
	if e.Product() == fleetsim.ProductIcecast {
		path = "/admin/stats"
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.SetBasicAuth(e.Credentials())
	func() {
		defer func() { ok = recover() == nil }() // a cut connection is a panic to net/http
		e.ServeHTTP(httptest.NewRecorder(), r)
	}()
	polls := e.Polls()
	p = polls[len(polls)-1]
	return p, ok && p.Whole
}

func compare(t *rapid.T, e *Emulator, last, now *Poll) {
	from, to := last.At.UnixMilli(), now.At.UnixMilli()
	truth := e.Truth().Between(from, to)
	if sameLife(last, now) {
		in, out := now.BytesIn-last.BytesIn, now.BytesOut-last.BytesOut
		if in < 0 || out < 0 || now.Accepted < last.Accepted || in > truth.WireIn || out > truth.WireOut {
			t.Fatalf("server moved by %d in and %d out, truth %+v", in, out, truth)
		}
	}
	for _, st := range now.PerStream {
		for _, old := range last.PerStream {
			if old.Name != st.Name || old.App != st.App || old.SinceMs != st.SinceMs || !sameLife(last, now) {
				continue
			}
			if st.BytesIn < old.BytesIn || st.BytesOut < old.BytesOut {
				t.Fatalf("stream went back from %+v to %+v", old, st)
			}
		}
		if st.SinceMs > to || st.SinceMs < now.StartMs || st.BytesIn < 0 || st.BytesOut < 0 {
			t.Fatalf("at %d: %+v", to, st)
		}
		for _, one := range e.Truth().Streams() {
			if one.Name() == st.Name && one.App() == st.App {
				if most := one.Between(st.SinceMs, to); st.BytesIn > most.BytesIn || st.BytesOut > most.BytesOut {
					t.Fatalf("%+v has more than the truth since its beginning, %+v", st, most)
				}
			}
		}
	}
}
