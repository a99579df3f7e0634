package real

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests pin the rules by which the real servers keep and drop counters. The
// emulators of the parent package follow them, and collectors depend on them.

// TestNginxKeepsCountersWhileSomebodyIsConnected: a stream and its counters live as
// long as anybody, publisher or viewer, is connected to it.
func TestNginxKeepsCountersWhileSomebodyIsConnected(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{}))
	publisher := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	viewer := must[*Process](t)(lab.WatchRTMP(n, "live", "s1"))
	noErr(t, n.AwaitStreams(ctx, "the viewer gets data", func(s []Stream) bool { return stream(s, "s1").BytesOut > 20_000 }))

	publisher.Kill()
	noErr(t, n.AwaitStreams(ctx, "the publisher is gone and the stream is not", func(s []Stream) bool {
		one := stream(s, "s1")
		return one.NClients == 1 && one.Publishing == nil
	}))
	page := must[[]byte](t)(n.Stat(ctx))
	if strings.Contains(string(page), "<active/>") || strings.Contains(string(page), "<meta>") {
		t.Errorf("a stream without publisher is active or has codecs: %s", page)
	}
	dead := stream(streamsOf(t, n), "s1")
	time.Sleep(300 * time.Millisecond)
	if still := stream(streamsOf(t, n), "s1"); still.BytesIn != dead.BytesIn || still.BytesOut != dead.BytesOut || still.TimeMs <= dead.TimeMs {
		t.Errorf("without publisher from %+v to %+v", dead, still)
	}

	second := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	if revived := stream(streamsOf(t, n), "s1"); revived.BytesIn < dead.BytesIn || revived.TimeMs < dead.TimeMs || revived.Publishing == nil {
		t.Errorf("counters began anew with the next publisher: %+v, then %+v", dead, revived)
	}
	second.Kill()
	viewer.Kill()
	noErr(t, n.AwaitStreams(ctx, "the stream is gone", func(s []Stream) bool { return len(s) == 0 }))
	must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	if fresh := stream(streamsOf(t, n), "s1"); fresh.TimeMs > dead.TimeMs {
		t.Errorf("a stream that nobody held on to continues: %+v", fresh)
	}
}

// TestNginxViewersWaitAfterReload: who comes after a reload meets a new worker, which
// does not know the publisher.
func TestNginxViewersWaitAfterReload(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{}))
	publisher := must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	noErr(t, n.Reload(ctx))
	must[*Process](t)(lab.WatchRTMP(n, "live", "s1"))
	noErr(t, n.AwaitStreams(ctx, "the viewer waits", func(s []Stream) bool {
		one := stream(s, "s1")
		return one.NClients == 1 && one.Publishing == nil && one.BytesIn == 0 && one.BytesOut == 0
	}))
	publisher.Kill()
	sessions := must[[]Session](t)(n.AwaitSessions(ctx, 1))
	if s := sessions[0]; s.Command != "PUBLISH" || s.Name != "s1" || s.Received == 0 {
		t.Errorf("the old worker's session is logged as %+v", s)
	}
}

// TestNginxTwoWorkersSplitAStream: with two workers viewers land where no publisher is,
// and each answer shows one worker.
func TestNginxTwoWorkersSplitAStream(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.VideoClip(ctx))
	n := must[*Nginx](t)(lab.StartNginx(ctx, NginxOptions{Workers: 2}))
	must[*Process](t)(lab.PublishRTMP(ctx, n, "live", "s1", clip))
	for range 6 {
		must[*Process](t)(lab.WatchRTMP(n, "live", "s1"))
	}
	time.Sleep(time.Second)
	views := map[int]Stream{}
	for range 300 {
		page := must[[]byte](t)(n.Stat(ctx))
		views[must[int](t)(workerOf(page))] = stream(must[[]Stream](t)(ParseStat(page)), "s1")
		if len(views) == 2 {
			break
		}
	}
	clients, publishers := 0, 0
	for _, v := range views {
		clients += v.NClients
		if v.Publishing != nil {
			publishers++
		} else if v.BytesIn != 0 || v.BytesOut != 0 {
			t.Errorf("a worker without the publisher moved bytes: %+v", v)
		}
	}
	if len(views) != 2 || publishers != 1 || clients > 7 {
		t.Errorf("views of the workers: %+v", views)
	}
}

// TestIcecastForgetsAMountWithItsSource: whatever comes back begins at zero.
func TestIcecastForgetsAMountWithItsSource(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.MP3Clip(ctx))
	ice := must[*Icecast](t)(lab.StartIcecast(ctx, IcecastOptions{SourceTimeout: 2 * time.Second}))
	source := must[*Process](t)(lab.PublishIcecast(ctx, ice, "/a.mp3", clip, SourceOptions{}))
	noErr(t, ice.AwaitMounts(ctx, "bytes move", func(m []Mount) bool { return len(m) == 1 && m[0].Read > 30_000 }))
	source.Kill()
	gone := func(m []Mount) bool { return len(m) == 0 }
	noErr(t, ice.AwaitMounts(ctx, "the mount is gone", gone))
	again := must[*Process](t)(lab.PublishIcecast(ctx, ice, "/a.mp3", clip, SourceOptions{}))
	if mounts := must[[]Mount](t)(ice.Mounts(ctx)); len(mounts) != 1 || mounts[0].Read > 30_000 {
		t.Errorf("the next source goes on counting: %+v", mounts)
	}
	noErr(t, again.Freeze())
	noErr(t, ice.AwaitMounts(ctx, "the silent source is dropped", gone))
}

// TestIcecastCountersMoveInSteps: about every 5 s, not with each packet.
func TestIcecastCountersMoveInSteps(t *testing.T) {
	t.Parallel()
	ctx, lab := t.Context(), ForTest(t)
	clip := must[Clip](t)(lab.MP3Clip(ctx))
	ice := must[*Icecast](t)(lab.StartIcecast(ctx, IcecastOptions{}))
	must[*Process](t)(lab.PublishIcecast(ctx, ice, "/a.mp3", clip, SourceOptions{}))
	var values []int64
	for begin := time.Now(); time.Since(begin) < 7*time.Second; time.Sleep(100 * time.Millisecond) {
		if m := must[[]Mount](t)(ice.Mounts(ctx)); len(m) == 1 && !slices.Contains(values, m[0].Read) {
			values = append(values, m[0].Read)
		}
	}
	if len(values) < 2 || len(values) > 5 {
		t.Errorf("in 7 s the counter took the values %v", values)
	}
}
