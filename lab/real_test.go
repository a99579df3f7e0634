package lab_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/lab"
	"vigil/media/mediatest/real"
)

// What measurements may differ by, as measured with these servers: rates by 3 %, and
// what a server counts itself is up to 3 % more than the payload of its streams.
const (
	rateTolerance = 0.03
	protocolShare = 0.03
	mostPerSecond = 2_000_000 // bytes that no server here passes in a second
)

// TestRealServers runs real nginx with its rtmp module, real Icecast and real players
// against the real programs, from the media server to the JSON of the pages and to the
// store. Scenarios share one service and run beside each other.
func TestRealServers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	truth := &facts{out: map[string]int64{}}
	t.Run("scenarios", func(t *testing.T) {
		for _, scenario := range []struct {
			name string
			run  func(*testing.T, *site, *facts)
		}{
			{"rates of steady streams", steadyRates}, // takes longest
			{"icecast to the byte", icecastToTheByte},
			{"publisher killed", publisherKilled},
			{"publisher frozen", publisherFrozen},
			{"nginx reloaded", nginxReloaded},
			{"two workers", twoWorkers},
			{"names", names},
			{"check says what is wrong", checkSaysWhatIsWrong},
		} {
			t.Run(scenario.name, func(t *testing.T) {
				t.Parallel()
				scenario.run(t, s, truth)
			})
		}
	})
	s.checkDeltas(t, mostPerSecond)
	db := s.settle(t)
	traffic, err := db.StreamTraffic(t.Context(), lab.Everything())
	noErr(t, err)
	for server, want := range truth.out {
		if got := traffic[server].BytesOut; got != fleet.Of(want) {
			t.Errorf("server %s: %v bytes out are stored, %d were sent", server, got, want)
		}
	}
}

// facts is what is known of the media servers from outside, to be compared with what is
// stored at the end.
type facts struct {
	mu  sync.Mutex
	out map[string]int64 // bytes out of all streams of a server
}

func (f *facts) set(server string, out int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out[server] = out
}

// steadyRates: the rate of a stream is that of its clip, out is viewers times in, and
// publishers are not viewers. It reads stored buckets through the API.
func steadyRates(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{}))
	s.watch(t, "steady", time.Second, rtmp("steady", nginx))
	viewers := map[string]int64{"s1": 3, "s2": 1}
	for name, n := range viewers {
		must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", name, clip))
		for range n {
			must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", name))
		}
	}
	for name, n := range viewers {
		page := s.awaitStream(t, live("steady", name), "is live with its viewers", soon, isLive(n))
		if m := page.Stream.Media; m.WidthPx != fleet.Of(320) || m.HeightPx != fleet.Of(180) || !strings.HasPrefix(m.VideoCodec, "H264") || !strings.HasPrefix(m.AudioCodec, "AAC") {
			t.Errorf("%s: media %+v, want H264 320x180 with AAC", name, m)
		}
		if page.Stream.Tech != "rtmp" {
			t.Errorf("%s: technology %q, want rtmp", name, page.Stream.Tech)
		}
	}
	steadyMs := time.Now().UnixMilli()
	s.awaitServer(t, "steady", "counts viewers without publishers", soon, func(r lab.Server) bool {
		return r.State == "ok" && r.Viewers == fleet.Of(4) && r.Publishers == fleet.Of(2) && r.Streams == fleet.Of(2)
	})
	want := payloadBps(t, clip)
	var sumIn, sumOut float64
	for name, n := range viewers {
		at, chart := s.awaitBucket(t, steadyMs, func(ctx context.Context) (lab.Page, error) {
			return s.client.StreamPage(ctx, lab.StreamQuery(live("steady", name)))
		})
		p := chart.Points[at]
		in, out := float64(p.InBps.Or(0)), float64(p.OutBps.Or(0))
		t.Logf("%s: %.0f bit/s in, the clip has %.0f; %.3f times that out to %d viewers", name, in, want, out/in, n)
		if !near(in, want, rateTolerance) {
			t.Errorf("%s: %.0f bit/s in, the clip has %.0f", name, in, want)
		}
		if !near(out, float64(n)*in, rateTolerance) {
			t.Errorf("%s: %.0f bit/s out, want %d times %.0f", name, out, n, in)
		}
		if p.ViewersAvg == nil || *p.ViewersAvg != float64(n) || p.ViewersMax != fleet.Of(n) {
			t.Errorf("%s: viewers on average %v, at most %v, want %d", name, p.ViewersAvg, p.ViewersMax, n)
		}
		for _, line := range chart.ByTech {
			if got := line.ViewersAvg[at]; line.Tech == "rtmp" != (got != nil && *got == float64(n)) {
				t.Errorf("%s: %v viewers by %s", name, got, line.Tech)
			}
		}
		sumIn, sumOut = sumIn+in, sumOut+out
	}
	at, chart := s.awaitBucket(t, steadyMs, func(ctx context.Context) (lab.Page, error) { return s.client.ServerPage(ctx, "steady") })
	p := chart.Points[at]
	in, out := float64(p.InBps.Or(0)), float64(p.OutBps.Or(0))
	t.Logf("server: %.4f of its streams in, %.4f out", in/sumIn, out/sumOut)
	if in < sumIn || in > sumIn*(1+protocolShare) || out < sumOut || out > sumOut*(1+protocolShare) {
		t.Errorf("server: %.0f bit/s in and %.0f out, its streams have %.0f and %.0f", in, out, sumIn, sumOut)
	}
	if p.ViewersAvg == nil || *p.ViewersAvg != 4 {
		t.Errorf("server: %v viewers, want 4", p.ViewersAvg)
	}
}

// awaitBucket waits for a bucket of a chart that began after a time and is covered.
func (s *site) awaitBucket(t *testing.T, afterMs int64, ask func(context.Context) (lab.Page, error)) (int, *lab.Chart) {
	t.Helper()
	const bucketSoon = 2 * time.Minute // up to half a minute to its beginning, half a minute, then settling
	var at int
	var page lab.Page
	noErr(t, lab.Await(t.Context(), bucketSoon, "a whole bucket is drawn", func(ctx context.Context) (err error) {
		if page, err = ask(ctx); err != nil {
			return err
		}
		if page.Chart == nil {
			return fmt.Errorf("there is no chart")
		}
		for i, p := range page.Chart.Points {
			if p.AtMs > afterMs+1000 && p.CoveredMs >= page.Chart.StepMs*8/10 {
				at = i
				return nil
			}
		}
		return fmt.Errorf("no bucket since %d is covered", afterMs)
	}))
	return at, page.Chart
}

// icecastToTheByte: what the log says of listeners, what a mount counts and what is
// stored is one number.
func icecastToTheByte(t *testing.T, s *site, truth *facts) {
	ctx := t.Context()
	ice := must[*real.Icecast](t)(s.real.StartIcecast(ctx, real.IcecastOptions{}))
	s.watch(t, "icecast", time.Second, icecast("icecast", ice))
	s.awaitPoll(t, "icecast", "it is read", 0, goodPoll)
	mp3, ogg := must[real.Clip](t)(s.real.MP3Clip(ctx)), must[real.Clip](t)(s.real.OggClip(ctx))
	must[*real.Process](t)(s.real.PublishIcecast(ctx, ice, "/a.mp3", mp3, real.SourceOptions{Name: "A"}))
	source := must[*real.Process](t)(s.real.PublishIcecast(ctx, ice, "/b.ogg", ogg, real.SourceOptions{Name: "B"}))
	agents := map[string]string{"Lab/1 (first)": "/a.mp3", "Lab/2": "/a.mp3", "Lab/3": "/a.mp3", "Lab/4": "/b.ogg"}
	var listeners []*real.Listener
	for agent, path := range agents {
		listeners = append(listeners, must[*real.Listener](t)(ice.Listen(path, agent)))
	}
	for path, n := range map[string]int64{"/a.mp3": 3, "/b.ogg": 1} {
		page := s.awaitStream(t, mount("icecast", path), "is live with its listeners", soon, isLive(n))
		if page.Stream.Tech != "icecast" {
			t.Errorf("%s: technology %q, want icecast", path, page.Stream.Tech)
		}
	}
	s.awaitServer(t, "icecast", "counts listeners without sources", soon, func(r lab.Server) bool {
		return r.State == "ok" && r.Viewers == fleet.Of(4) && r.Publishers == fleet.Of(2) && r.Streams == fleet.Of(2)
	})
	for _, l := range listeners {
		l.Close()
	}
	counters := s.awaitStill(t, ice)
	logged := map[string]int64{}
	for _, a := range must[[]real.Access](t)(ice.Accesses()) {
		if agents[a.UserAgent] == a.Path {
			logged[a.Path] += a.Bytes
		}
	}
	stillMs := time.Now().UnixMilli()
	s.awaitPoll(t, "icecast", "it is read once more", stillMs, goodPoll)
	for path, sent := range counters {
		_, counted := s.counted("icecast", path)
		if logged[path] != sent || counted != sent || sent == 0 {
			t.Errorf("%s: %d bytes in the log, %d in the mount's counter, %d told by the agent", path, logged[path], sent, counted)
		}
	}
	truth.set("icecast", counters["/a.mp3"]+counters["/b.ogg"])
	s.icecastSessions(t, agents)

	killedMs := time.Now().UnixMilli()
	source.Kill()
	if n := s.pollsUntil(t, "icecast", "/b.ogg", killedMs, fleet.StateOffline); n > 2 {
		t.Errorf("the mount of a killed source is offline after %d polls, want 2 at most", n)
	}
}

// awaitStill waits until nobody listens and the counters, which move every 5 s, have
// come to rest.
func (s *site) awaitStill(t *testing.T, ice *real.Icecast) map[string]int64 {
	t.Helper()
	const rest = 7 * time.Second
	var counters map[string]int64
	var since time.Time
	noErr(t, lab.Await(t.Context(), time.Minute, "counters rest", func(ctx context.Context) error {
		mounts, err := ice.Mounts(ctx)
		if err != nil {
			return err
		}
		now, listening := map[string]int64{}, 0
		for _, m := range mounts {
			now[m.Name] = m.Sent
			listening += m.Listeners
		}
		if listening > 0 || fmt.Sprint(now) != fmt.Sprint(counters) {
			counters, since = now, time.Now()
		}
		if time.Since(since) < rest {
			return fmt.Errorf("%d listen, counters %v", listening, counters)
		}
		return nil
	}))
	return counters
}

// icecastSessions: every listener is a session that ended, with what it said of itself.
func (s *site) icecastSessions(t *testing.T, agents map[string]string) {
	t.Helper()
	for agent, path := range agents {
		noErr(t, lab.Await(t.Context(), soon, "the session of "+agent+" is shown", func(ctx context.Context) error {
			page, err := s.client.StreamPage(ctx, lab.StreamQuery(mount("icecast", path)))
			if err != nil {
				return err
			}
			if page.History == nil {
				return fmt.Errorf("there is no history")
			}
			for _, session := range page.History.Sessions {
				if session.UserAgent == agent && session.Role == "viewer" && session.Tech == "icecast" && !session.Running {
					return nil
				}
			}
			return fmt.Errorf("sessions %+v", page.History.Sessions)
		}))
	}
}

// publisherKilled: the stream is offline within two polls although its viewers stay,
// nothing goes backwards, and the next publisher goes on counting.
func publisherKilled(t *testing.T, s *site, truth *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{}))
	s.watch(t, "killed", time.Second, rtmp("killed", nginx))
	s.awaitPoll(t, "killed", "it is read", 0, goodPoll)
	first := must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "k", clip))
	for range 2 {
		must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", "k"))
	}
	key := live("killed", "k")
	s.awaitStream(t, key, "is live", soon, isLive(2))
	killedMs := time.Now().UnixMilli()
	first.Kill()
	if n := s.pollsUntil(t, "killed", "k", killedMs, fleet.StateOffline); n > 2 {
		t.Errorf("a stream without publisher is offline after %d polls, want 2 at most", n)
	}
	s.awaitStream(t, key, "is offline and its viewers wait", pageSoon, func(r lab.Stream) bool {
		return r.State == "offline" && r.Viewers == fleet.Of(2) && r.InBps.Or(0) == 0
	})
	second := must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "k", clip))
	s.awaitStream(t, key, "is live again", soon, isLive(2))
	noErr(t, second.Freeze())
	in, out := s.awaitFrozen(t, nginx, "k")
	s.awaitPoll(t, "killed", "it is read once more", time.Now().UnixMilli(), goodPoll)
	if gotIn, gotOut := s.counted("killed", "k"); gotIn != in || gotOut != out {
		t.Errorf("told: %d bytes in and %d out; nginx counted %d and %d", gotIn, gotOut, in, out)
	}
	truth.set("killed", out)
	page := must[lab.Page](t)(s.client.StreamPage(ctx, lab.StreamQuery(key)))
	var states []string
	for _, e := range slices.Backward(page.History.Events) {
		states = append(states, e.State+" "+e.Reason)
	}
	if got := strings.Join(states, ", "); !strings.HasPrefix(got, "online publish, offline unpublish, online publish") {
		t.Errorf("history: %s", got)
	}
}

// awaitFrozen waits until the counters of a stream with a frozen publisher rest.
func (s *site) awaitFrozen(t *testing.T, nginx *real.Nginx, name string) (in, out int64) {
	t.Helper()
	const rest = 1500 * time.Millisecond
	var since time.Time
	noErr(t, lab.Await(t.Context(), soon, "counters rest", func(ctx context.Context) error {
		page, err := nginx.Stat(ctx)
		if err != nil {
			return err
		}
		streams, err := real.ParseStat(page)
		if err != nil {
			return err
		}
		for _, st := range streams {
			if st.Name != name {
				continue
			}
			if st.BytesIn != in || st.BytesOut != out {
				in, out, since = st.BytesIn, st.BytesOut, time.Now()
			}
			if time.Since(since) > rest {
				return nil
			}
		}
		return fmt.Errorf("%d in, %d out", in, out)
	}))
	return in, out
}

// publisherFrozen: a publisher that is connected and sends nothing makes its stream
// idle within three polls, and online again when it goes on.
func publisherFrozen(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{}))
	s.watch(t, "frozen", 2*time.Second, rtmp("frozen", nginx))
	publisher := must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "f", clip))
	key := live("frozen", "f")
	s.awaitStream(t, key, "is live", soon, isLive(0))
	// Right after a poll, so that no poll is under way.
	s.awaitPoll(t, "frozen", "it is read", time.Now().UnixMilli(), anyPoll)
	noErr(t, publisher.Freeze())
	frozenMs := time.Now().UnixMilli()
	if n := s.pollsUntil(t, "frozen", "f", frozenMs, fleet.StateIdle); n > 3 {
		t.Errorf("a stream without data is idle after %d polls, want 3 at most", n)
	}
	s.awaitStream(t, key, "is idle", pageSoon, func(r lab.Stream) bool { return r.State == "idle" && r.InBps.Or(0) == 0 })
	noErr(t, publisher.Thaw())
	s.awaitStream(t, key, "is live again", pageSoon, isLive(0))
}

// nginxReloaded: old workers go on where nobody sees them. That is said, nothing is
// invented, and never more is told than the log has at the end.
func nginxReloaded(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{}))
	started := time.Now()
	s.watch(t, "reloaded", time.Second, rtmp("reloaded", nginx))
	s.awaitPoll(t, "reloaded", "it is read", 0, goodPoll)
	publisher := must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "r", clip))
	viewer := must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", "r"))
	key := live("reloaded", "r")
	s.awaitStream(t, key, "is live", soon, isLive(1))
	// Workers that began within moments of each other cannot be told from workers of one
	// start: nginx tells its age in seconds.
	const apart = 6 * time.Second
	noErr(t, lab.Await(ctx, soon, "nginx is older than a moment", func(context.Context) error {
		if age := time.Since(started); age < apart {
			return fmt.Errorf("it is %v old", age)
		}
		return nil
	}))
	seenIn, seenOut := s.counted("reloaded", "r")
	noErr(t, nginx.Reload(ctx))
	reloadedMs := time.Now().UnixMilli()
	s.pollsUntil(t, "reloaded", "r", reloadedMs, fleet.StateHidden)
	s.awaitStream(t, key, "is hidden", pageSoon, func(r lab.Stream) bool { return r.State == "hidden" && !r.InBps.Known() && !r.Viewers.Known() })
	s.awaitServer(t, "reloaded", "is partial and says why", pageSoon, func(r lab.Server) bool {
		return r.State == "partial" && strings.Contains(r.Detail, "reloaded")
	})
	hiddenIn, hiddenOut := s.counted("reloaded", "r")
	viewer.Kill()
	publisher.Kill()
	sessions := must[[]real.Session](t)(nginx.AwaitSessions(ctx, 2))
	if in, out := s.counted("reloaded", "r"); in != hiddenIn || out != hiddenOut {
		t.Errorf("traffic was told of what nobody sees: %d and %d bytes, then %d and %d", hiddenIn, hiddenOut, in, out)
	}
	again := must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "r", clip))
	s.awaitStream(t, key, "is live in the new worker", soon, isLive(0))
	s.awaitServer(t, "reloaded", "is whole again", pageSoon, func(r lab.Server) bool {
		return r.State == "ok" && r.Publishers == fleet.Of(1) && r.Viewers == fleet.Of(0)
	})
	again.Kill()
	sessions = must[[]real.Session](t)(nginx.AwaitSessions(ctx, len(sessions)+1))
	s.awaitPoll(t, "reloaded", "it is read once more", time.Now().UnixMilli(), goodPoll)
	var logIn, logOut int64
	for _, session := range sessions {
		logIn, logOut = logIn+session.Received, logOut+session.Sent
	}
	in, out := s.counted("reloaded", "r")
	t.Logf("reload: %d of %d bytes in, %d of %d out were seen", in, logIn, out, logOut)
	if in > logIn || out > logOut || in < seenIn || out < seenOut {
		t.Errorf("told: %d bytes in, %d out; seen before the reload: %d and %d; in the log: %d and %d", in, out, seenIn, seenOut, logIn, logOut)
	}
	if in, out := s.counted("reloaded", ""); in > logIn || out > logOut {
		t.Errorf("the server's own counters: %d bytes in and %d out are more than the %d and %d of the log", in, out, logIn, logOut)
	}
}

// twoWorkers: each poll shows one of the workers. That is said, and what is told is
// never more than there is.
func twoWorkers(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{Workers: 2}))
	s.watch(t, "workers", time.Second, rtmp("workers", nginx))
	s.awaitPoll(t, "workers", "it is read", 0, goodPoll)
	clients := []*real.Process{must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "w", clip))}
	const viewers = 4
	for range viewers {
		clients = append(clients, must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", "w")))
	}
	s.awaitPoll(t, "workers", "the stream is seen", 0, func(p fleet.Snapshot) bool {
		_, ok := sample(p, "w")
		return ok
	})
	// Which worker answers is chance, and may be the same for a long time. Each is made
	// busy for a moment, so that the other one answers.
	for range 2 {
		worker := must[int](t)(workerPID(ctx, nginx))
		noErr(t, syscall.Kill(worker, syscall.SIGSTOP))
		s.awaitPoll(t, "workers", "the other worker answers", time.Now().UnixMilli(), goodPoll)
		noErr(t, syscall.Kill(worker, syscall.SIGCONT))
	}
	row := s.awaitServer(t, "workers", "is partial", soon, func(r lab.Server) bool { return r.State == "partial" })
	if row.Workers != fleet.Of(2) || !strings.Contains(row.Detail, "worker_processes 1") {
		t.Errorf("the page shows %v workers: %s", row.Workers, row.Detail)
	}
	for _, p := range clients {
		p.Kill()
	}
	sessions := s.awaitLogged(t, nginx)
	var logIn, logOut int64
	for _, session := range sessions {
		logIn, logOut = logIn+session.Received, logOut+session.Sent
	}
	in, out := s.counted("workers", "w")
	t.Logf("two workers: %d of %d bytes in, %d of %d out were seen", in, logIn, out, logOut)
	if in > logIn || out > logOut {
		t.Errorf("told: %d bytes in, %d out; there were %d and %d", in, out, logIn, logOut)
	}
	for _, p := range s.polls("workers") {
		if st, ok := sample(p, "w"); ok && st.Viewers.Or(0) > viewers {
			t.Errorf("%v viewers are told, there were %d", st.Viewers, viewers)
		}
	}
}

// awaitLogged waits until the log has the publisher's session and has come to rest. A
// player that was killed before it played has no line in it.
func (s *site) awaitLogged(t *testing.T, nginx *real.Nginx) (sessions []real.Session) {
	t.Helper()
	const rest = 2 * time.Second
	var since time.Time
	noErr(t, lab.Await(t.Context(), soon, "sessions are logged", func(context.Context) error {
		now, err := nginx.Sessions()
		if err != nil {
			return err
		}
		if len(now) != len(sessions) || since.IsZero() {
			sessions, since = now, time.Now()
		}
		published := slices.ContainsFunc(now, func(l real.Session) bool { return l.Command == "PUBLISH" })
		if !published || time.Since(since) < rest {
			return fmt.Errorf("%d sessions, publisher %v", len(now), published)
		}
		return nil
	}))
	return sessions
}

// workerPID is the process id of the worker that answers.
func workerPID(ctx context.Context, nginx *real.Nginx) (pid int, err error) {
	page, err := nginx.Stat(ctx)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(page), "<pid>")
	_, err = fmt.Sscanf(rest, "%d", &pid)
	return pid, err
}

// names: what is special in XML, JSON or addresses survives; what the server cannot
// tell apart is told to be so.
func names(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{Apps: []string{"live", "a-b"}}))
	s.watch(t, "names", time.Second, rtmp("names", nginx))
	const special = `a<b>&"c'd;+%41=x`
	for _, name := range []string{special, "é1", "è1"} {
		must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", name, clip))
	}
	must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "a-b", special, clip))
	must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", special))
	s.awaitStream(t, live("names", special), "survives", soon, isLive(1))
	other := live("names", special)
	other.App = "a-b"
	s.awaitStream(t, other, "is another stream in another application", soon, isLive(0))
	// nginx shows a space for each byte of é and è.
	s.awaitStream(t, live("names", "  1"), "is flagged", soon, func(r lab.Stream) bool {
		return r.State == "online" && slices.Contains(r.Notes, "name_collision")
	})
	rows := must[[]lab.Stream](t)(s.client.Streams(ctx, "names"))
	if len(rows) != 3 {
		t.Errorf("the list has %d streams, want 3: %+v", len(rows), rows)
	}
	for _, row := range rows {
		page := must[lab.Page](t)(s.client.StreamPage(ctx, row.Query))
		if page.Stream == nil || page.Stream.Key != row.Key {
			t.Errorf("the address %q of %+v leads to %+v", row.Query, row.Key, page.Stream)
		}
	}
}

// checkSaysWhatIsWrong: vigil-agent check against real servers.
func checkSaysWhatIsWrong(t *testing.T, s *site, _ *facts) {
	ctx := t.Context()
	clip := must[real.Clip](t)(s.real.VideoClip(ctx))
	nginx := must[*real.Nginx](t)(s.real.StartNginx(ctx, real.NginxOptions{Username: "stat", Password: "right"}))
	ice := must[*real.Icecast](t)(s.real.StartIcecast(ctx, real.IcecastOptions{}))
	must[*real.Process](t)(s.real.PublishRTMP(ctx, nginx, "live", "c", clip))
	must[*real.Process](t)(s.real.WatchRTMP(nginx, "live", "c"))
	noErr(t, nginx.AwaitStreams(ctx, "the viewer is there", func(st []real.Stream) bool { return len(st) == 1 && st[0].NClients == 2 }))
	server := func(password string) lab.MediaServer {
		return lab.MediaServer{Name: "edge", Product: "nginx-rtmp", URL: nginx.StatURL, Username: "stat", Password: password}
	}
	f := func(name, service string, servers []lab.MediaServer, isGood bool, want ...string) {
		t.Helper()
		agent := must[*lab.Agent](t)(s.NewAgent(lab.AgentOptions{Name: name, Service: service, TokenFile: s.service.TokenFile, Servers: servers}))
		out, err := agent.Command(ctx, "check")
		if (err == nil) != isGood {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: it says nothing of %q:\n%s", name, w, out)
			}
		}
	}
	good := s.service.Ingest
	f("check-good", good, []lab.MediaServer{server("right"), icecast("radio", ice)}, true,
		"ok   media server edge (nginx-rtmp), ok", "version 1.", "1 streams, 1 publishers, 1 viewers, 2 connections", "live/c",
		"ok   media server radio (icecast), ok", "version 2.4.", "0 streams, 0 publishers, 0 viewers", "ok   service "+good)
	f("check-password", good, []lab.MediaServer{server("wrong")}, false, "FAIL media server edge (nginx-rtmp), auth_failed", "password")
	f("check-page", good, []lab.MediaServer{{Name: "edge", Product: "nginx-rtmp", URL: ice.URL}}, false, "FAIL media server edge (nginx-rtmp)", "404")
	nobody := fmt.Sprintf("http://127.0.0.1:%d", must[[]int](t)(real.FreePorts(1))[0])
	f("check-nobody", nobody, []lab.MediaServer{{Name: "edge", Product: "icecast", URL: nobody}},
		false, "FAIL media server edge (icecast), unreachable", "FAIL service "+nobody, "try: ")
}
