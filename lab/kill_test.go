package lab_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/lab"
	"vigil/media/mediatest/real"
	"vigil/store"
)

// TestEveryProcessIsKilled kills and freezes every process in turn, with packets under
// way: the service, the agent, nginx, Icecast. After each the JSON of the pages is right
// within seconds, and at the end every acknowledged packet is stored once, and never
// more is stored than the media servers counted.
func TestEveryProcessIsKilled(t *testing.T) {
	t.Parallel()
	k := newVictims(t)
	k.awaitRight(t, "at the beginning", soon)

	// The agent is not touched, so what it tells must be whole: every byte that nginx
	// counted over all that happens to the service.
	k.serviceKilled(t)
	k.serviceFrozen(t)
	k.serviceStopped(t)
	k.countedToTheByte(t)

	// Now it is. What passes while it is away is nobody's, and nothing is counted twice.
	k.agentRestarted(t)
	k.agentKilled(t)

	k.nginxKilled(t)
	k.icecastKilled(t)

	k.checkDeltas(t, mostPerSecond)
	db := k.settle(t)
	traffic, err := db.StreamTraffic(t.Context(), lab.Everything())
	noErr(t, err)
	k.noGap(t, db)
	polls := k.polls("edge")
	t.Logf("%d polls in %v", len(polls), time.Duration(polls[len(polls)-1].AtMs-polls[0].AtMs)*time.Millisecond)
	in, out := k.counted("edge", "s")
	if got := traffic["edge"]; got.BytesIn != fleet.Of(in) || got.BytesOut != fleet.Of(out) {
		t.Errorf("stored: %v bytes in, %v out; told: %d and %d", got.BytesIn, got.BytesOut, in, out)
	}
}

// noGap: whatever happens to the service is not to be seen in the past.
func (k *victims) noGap(t *testing.T, db store.Reader) {
	t.Helper()
	const step = 10 * time.Second
	window := store.Window{From: k.since.Truncate(step).Add(step), To: k.until.Truncate(step)}
	series, err := db.ServerSeries(t.Context(), "edge", window, step)
	noErr(t, err)
	for _, p := range series.Points {
		// A poll that straddles the edge of a bucket belongs to one of them.
		if p.CoveredMs < step.Milliseconds()*7/10 || !p.BytesIn.Known() {
			t.Errorf("%v from %v: %d ms are covered, %v bytes in", step, time.UnixMilli(p.AtMs), p.CoveredMs, p.BytesIn)
		}
	}
	if len(series.Points) == 0 {
		t.Errorf("nothing is stored from %v to %v", window.From, window.To)
	}
}

// victims is a site with one agent that watches one nginx and one Icecast.
type victims struct {
	*site
	agent *lab.Agent
	nginx *real.Nginx
	ice   *real.Icecast
	video real.Clip
	mp3   real.Clip
	pub   *real.Process // of the stream s
	since time.Time     // both servers are watched
	until time.Time     // the agent was never touched
}

const streamViewers, mountListeners = 2, 1

func newVictims(t *testing.T) *victims {
	t.Helper()
	ctx := t.Context()
	k := &victims{site: newSite(t)}
	k.nginx = must[*real.Nginx](t)(k.real.StartNginx(ctx, real.NginxOptions{}))
	k.ice = must[*real.Icecast](t)(k.real.StartIcecast(ctx, real.IcecastOptions{}))
	k.video, k.mp3 = must[real.Clip](t)(k.real.VideoClip(ctx)), must[real.Clip](t)(k.real.MP3Clip(ctx))
	k.agent = k.watch(t, "victim", time.Second, rtmp("edge", k.nginx), icecast("radio", k.ice))
	k.awaitPoll(t, "edge", "it is read", 0, goodPoll)
	k.awaitPoll(t, "radio", "it is read", 0, goodPoll)
	k.since = time.Now()
	k.fillNginx(t)
	k.fillIcecast(t)
	return k
}

func (k *victims) fillNginx(t *testing.T) {
	t.Helper()
	k.pub = must[*real.Process](t)(k.real.PublishRTMP(t.Context(), k.nginx, "live", "s", k.video))
	for range streamViewers {
		must[*real.Process](t)(k.real.WatchRTMP(k.nginx, "live", "s"))
	}
}

func (k *victims) fillIcecast(t *testing.T) {
	t.Helper()
	must[*real.Process](t)(k.real.PublishIcecast(t.Context(), k.ice, "/a.mp3", k.mp3, real.SourceOptions{}))
	for range mountListeners {
		must[*real.Listener](t)(k.ice.Listen("/a.mp3", "Lab/1"))
	}
}

// awaitRight waits until the JSON of the pages shows both servers as they are, read
// after the call.
func (k *victims) awaitRight(t *testing.T, when string, within time.Duration) {
	t.Helper()
	began := time.Now()
	right := func(streams, publishers, viewers int64) func(lab.Server) bool {
		return func(r lab.Server) bool {
			return r.AtMs > began.UnixMilli() && r.State == "ok" && r.Streams == fleet.Of(streams) && r.Publishers == fleet.Of(publishers) && r.Viewers == fleet.Of(viewers)
		}
	}
	k.awaitServer(t, "edge", "is right "+when, within, func(r lab.Server) bool {
		return right(1, 1, streamViewers)(r) && r.InBps.Or(0) > 0 && r.OutBps.Or(0) > 0
	})
	k.awaitServer(t, "radio", "is right "+when, within, right(1, 1, mountListeners))
	t.Logf("%s the pages were right after %v", when, time.Since(began).Round(10*time.Millisecond))
}

// awaitBacklog waits until so many packets wait in the spool.
func (k *victims) awaitBacklog(t *testing.T, n float64) {
	t.Helper()
	noErr(t, lab.Await(t.Context(), soon, "packets wait", func(ctx context.Context) error {
		records, err := k.agent.Metric(ctx, "vigil_spool_records")
		if err == nil && records < n {
			err = fmt.Errorf("%g wait", records)
		}
		return err
	}))
}

func (k *victims) serviceKilled(t *testing.T) {
	t.Helper()
	k.service.Kill()
	k.awaitBacklog(t, 10)
	noErr(t, k.service.Start(t.Context()))
	k.awaitRight(t, "after the service was killed", pageSoon)
	noErr(t, k.agent.AwaitDrained(t.Context(), soon))
}

func (k *victims) serviceFrozen(t *testing.T) {
	t.Helper()
	noErr(t, k.service.Freeze())
	k.awaitBacklog(t, 4)
	noErr(t, k.service.Thaw())
	k.awaitRight(t, "after the service was frozen", pageSoon)
	noErr(t, k.agent.AwaitDrained(t.Context(), soon))
}

func (k *victims) serviceStopped(t *testing.T) {
	t.Helper()
	noErr(t, k.service.Restart(t.Context()))
	k.awaitRight(t, "after the service was restarted", pageSoon)
}

// freeze brings nginx's counters to rest and returns them.
func (k *victims) freeze(t *testing.T) (in, out int64) {
	t.Helper()
	noErr(t, k.pub.Freeze())
	in, out = k.awaitFrozen(t, k.nginx, "s")
	k.awaitPoll(t, "edge", "it is read once more", time.Now().UnixMilli(), goodPoll)
	return in, out
}

// countedToTheByte: no byte is missing or doubled after all that happened to the
// service.
func (k *victims) countedToTheByte(t *testing.T) {
	t.Helper()
	in, out := k.freeze(t)
	if gotIn, gotOut := k.counted("edge", "s"); gotIn != in || gotOut != out {
		t.Errorf("told: %d bytes in, %d out; nginx counted %d and %d", gotIn, gotOut, in, out)
	}
	k.until = time.Now()
	noErr(t, k.pub.Thaw())
	// The publisher makes up for lost time with a burst. Let it pass while it is watched.
	for range 2 {
		k.awaitPoll(t, "edge", "it is read once more", time.Now().UnixMilli(), goodPoll)
	}
}

// unseen is the time between the last poll of one run of the agent and the first of the
// next.
func (k *victims) unseen(t *testing.T) (sum time.Duration) {
	t.Helper()
	polls := k.polls("edge")
	for i, p := range polls {
		if st, ok := sample(p, "s"); ok && i > 0 && st.Flags&fleet.FlagBaseline != 0 {
			sum += time.Duration(p.AtMs-polls[i-1].AtMs) * time.Millisecond
		}
	}
	if sum == 0 {
		t.Error("no poll is marked as the first of a run")
	}
	return sum
}

func (k *victims) agentRestarted(t *testing.T) {
	t.Helper()
	noErr(t, k.agent.Restart(t.Context()))
	k.awaitRight(t, "after the agent was restarted", pageSoon)
}

func (k *victims) agentKilled(t *testing.T) {
	t.Helper()
	k.agent.Kill()
	noErr(t, k.agent.Start(t.Context()))
	k.awaitRight(t, "after the agent was killed", pageSoon)
}

func (k *victims) nginxKilled(t *testing.T) {
	t.Helper()
	in, out := k.freeze(t)
	// While the agent was away, twice, a few seconds passed that it cannot know. That is
	// all that may be missing, and nothing is there twice.
	gotIn, gotOut := k.counted("edge", "s")
	unseen := k.unseen(t)
	most := 1.2*payloadBps(t, k.video)/8*unseen.Seconds() + 1
	t.Logf("the agent was blind for %v: %d of %d bytes in are missing, at most %.0f", unseen, in-gotIn, in, most)
	if gotIn > in || gotOut > out || float64(in-gotIn) > most || float64(out-gotOut) > streamViewers*most {
		t.Errorf("told: %d bytes in, %d out; nginx counted %d and %d; blind for %v", gotIn, gotOut, in, out, unseen)
	}
	k.nginx.Kill()
	k.awaitServer(t, "edge", "is failed", pageSoon, func(r lab.Server) bool { return r.State == "failed" && r.Status == "unreachable" })
	k.awaitServer(t, "radio", "is well beside it", pageSoon, func(r lab.Server) bool { return r.State == "ok" })
	toldIn, toldOut := k.counted("edge", "s")
	k.awaitPoll(t, "edge", "it is read in vain", time.Now().UnixMilli(), anyPoll)
	noErr(t, k.nginx.Start(t.Context()))
	k.fillNginx(t)
	k.awaitRight(t, "after nginx was killed", pageSoon)
	in, out = k.freeze(t)
	gotIn, gotOut = k.counted("edge", "s")
	if gotIn-toldIn != in || gotOut-toldOut != out {
		t.Errorf("told of the new nginx: %d bytes in, %d out; it counted %d and %d", gotIn-toldIn, gotOut-toldOut, in, out)
	}
	noErr(t, k.pub.Thaw())
}

func (k *victims) icecastKilled(t *testing.T) {
	t.Helper()
	k.ice.Kill()
	k.awaitServer(t, "radio", "is failed", pageSoon, func(r lab.Server) bool { return r.State == "failed" && r.Status == "unreachable" })
	noErr(t, k.ice.Start(t.Context()))
	k.fillIcecast(t)
	k.awaitRight(t, "after icecast was killed", pageSoon)
}
