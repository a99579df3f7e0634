package real

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stream(streams []Stream, name string) Stream {
	for _, s := range streams {
		if s.Name == name {
			return s
		}
	}
	return Stream{}
}

func streamsOf(t *testing.T, n *Nginx) []Stream {
	t.Helper()
	return must[[]Stream](t)(ParseStat(must[[]byte](t)(n.Stat(t.Context()))))
}

// TestNginxCountsAndLogs proves the whole chain: a publisher, two viewers, the page,
// and the access log with the bytes of ended sessions.
func TestNginxCountsAndLogs(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{Apps: []string{"live", "events"}}))
	publisher := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1?token=x", clip))
	viewers := []*Process{must[*Process](t)(lab.WatchRTMP(n, "live", "s1")), must[*Process](t)(lab.WatchRTMP(n, "live", "s1"))}
	noErr(t, n.AwaitStreams(ctx, "both viewers get data", func(s []Stream) bool {
		one := stream(s, "s1")
		return one.NClients == 3 && one.BytesOut > one.BytesIn
	}))
	after := awaitRate(t, n, clip)
	for _, v := range viewers {
		v.Kill()
	}
	publisher.Kill()
	sessions := must[[]Session](t)(n.AwaitSessions(ctx, 3))
	var played, published int64
	for _, s := range sessions {
		switch {
		case s.Command == "PLAY" && s.App == "live" && s.Name == "s1":
			played += s.Sent
		case s.Command == "PUBLISH" && s.Args == "token=x" && s.Seconds >= 4:
			published += s.Received
		default:
			t.Errorf("unexpected session %+v", s)
		}
	}
	if played < after.BytesOut || published < after.BytesIn {
		t.Errorf("log has %d bytes out and %d in, page had %+v", played, published, after)
	}
}

// awaitRate waits for four seconds in which the stream s1 runs at the rate of its clip,
// in once and out twice, and returns how it stands then. A busy machine holds a
// publisher up and lets it catch up, so it may take several tries.
func awaitRate(t *testing.T, n *Nginx, clip Clip) Stream {
	t.Helper()
	const tries = 8
	for try := 1; ; try++ {
		before, begin := stream(streamsOf(t, n), "s1"), time.Now()
		time.Sleep(4 * time.Second)
		after, took := stream(streamsOf(t, n), "s1"), time.Since(begin)
		in, out := after.BytesIn-before.BytesIn, after.BytesOut-before.BytesOut
		rate := float64(in) * 8 / took.Seconds() / float64(clip.BitsPerSec)
		copies := float64(out) / float64(in)
		if rate > 0.75 && rate < 1.25 && copies > 1.8 && copies < 2.2 {
			return after
		}
		if try == tries {
			t.Fatalf("stream runs at %.2f of the clip's rate, with %.2f bytes out for one in, %d times in a row", rate, copies, tries)
		}
	}
}

func TestNginxReloadAndRestart(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{}))
	publisher := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	noErr(t, n.Reload(ctx))
	if got := streamsOf(t, n); len(got) != 0 {
		t.Errorf("after a reload the page shows %+v", got)
	}
	if !publisher.Running() {
		t.Error("the reload cut the publisher")
	}
	noErr(t, n.Restart(ctx))
	select {
	case <-publisher.Ended():
	case <-time.After(time.Minute):
		t.Error("the publisher survived a restart")
	}
}

func TestNginxTwoWorkers(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{Workers: 2}))
	workers := map[int]bool{}
	for range 200 {
		workers[must[int](t)(n.workerPID(ctx))] = true
		if len(workers) == 2 {
			return
		}
	}
	t.Errorf("200 polls were all answered by %v", workers)
}

func TestFrozenPublisherIsSilent(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{}))
	publisher := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	noErr(t, publisher.Freeze())
	time.Sleep(300 * time.Millisecond)
	frozen := stream(streamsOf(t, n), "s1")
	time.Sleep(1200 * time.Millisecond)
	still := stream(streamsOf(t, n), "s1")
	if still.Publishing == nil || still.BytesIn != frozen.BytesIn {
		t.Errorf("frozen at %+v, then %+v", frozen, still)
	}
	noErr(t, publisher.Thaw())
	noErr(t, n.AwaitStreams(ctx, "bytes move again", func(s []Stream) bool { return stream(s, "s1").BytesIn > frozen.BytesIn }))
}

func TestNginxPassword(t *testing.T) {
	t.Parallel()
	n := must[*Nginx](t)(ForTest(t).StartNginx(t.Context(), NginxOptions{Username: "u", Password: "p"}))
	if _, err := fetch(t.Context(), n.StatURL, "", ""); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a password: %v", err)
	}
}

func TestIcecastCountsAndLogs(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	mp3, ogg := must[Clip](t)(lab.MP3Clip(ctx)), must[Clip](t)(lab.OggClip(ctx))
	ice := must[*Icecast](t)(lab.StartIcecast(ctx, IcecastOptions{}))
	source := must[*Process](t)(lab.PublishIcecast(ctx, ice, "/a.mp3", mp3, SourceOptions{Name: "Radio ü", Genre: "test"}))
	must[*Process](t)(lab.PublishIcecast(ctx, ice, "/b.ogg", ogg, SourceOptions{}))
	first := must[*Listener](t)(ice.Listen("/a.mp3", "Test/1 (first)"))
	second := must[*Listener](t)(ice.Listen("/a.mp3", "Test/2"))
	noErr(t, ice.AwaitMounts(ctx, "listeners are counted", func(mounts []Mount) bool {
		for _, m := range mounts {
			if m.Name == "/a.mp3" && m.Listeners == 2 && m.Read > 0 && m.Sent > 0 {
				return true
			}
		}
		return false
	}))
	first.Close()
	source.Kill()
	select {
	case <-second.Ended():
	case <-time.After(time.Minute):
		t.Error("the listener survived its source")
	}
	noErr(t, ice.AwaitMounts(ctx, "the mount is gone", func(m []Mount) bool { return len(m) == 1 && m[0].Name == "/b.ogg" }))
	for _, a := range must[[]Access](t)(ice.Accesses()) {
		want, ok := map[string]*Listener{"Test/1 (first)": first, "Test/2": second}[a.UserAgent]
		if !ok {
			continue
		}
		// The log counts what was sent, headers included; the first listener left some of
		// it unread.
		if a.Bytes < want.Received() || a.Path != "/a.mp3" || a.Status != 200 {
			t.Errorf("log has %+v, listener received %d", a, want.Received())
		}
	}
	noErr(t, ice.Restart(ctx))
	if mounts := must[[]Mount](t)(ice.Mounts(ctx)); len(mounts) != 0 {
		t.Errorf("mounts after a restart: %+v", mounts)
	}
}

func TestCloseKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	lab := ForTest(t)
	n := must[*Nginx](t)(lab.StartNginx(t.Context(), NginxOptions{Workers: 2}))
	group := n.PID()
	if alive := members(t, group); alive < 3 {
		t.Fatalf("%d processes of nginx", alive)
	}
	lab.Close()
	for range 100 { // the kernel takes a moment
		if members(t, group) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process group %d lives on", group)
}

// members counts the processes of a group; those that are dead and not yet buried by
// the system do not count.
func members(t *testing.T, group int) (n int) {
	t.Helper()
	stats := must[[]string](t)(filepath.Glob("/proc/[0-9]*/stat"))
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) && fields[0] != "Z" {
			n++
		}
	}
	return n
}

func TestMissingToolSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	_, err := tool("no-such-media-server")
	if !errors.Is(err, ErrMissingTool) || !strings.Contains(err.Error(), InstallCommand) {
		t.Errorf("%v", err)
	}
}
