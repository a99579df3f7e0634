package media

import (
	"strings"
	"testing"

	"vigil/fleet"
)

// wall0 is the wall clock at second 0 of these tests; the monotonic clock is 0 there.
const wall0 = int64(1_800_000_000_000)

// server is a media server told second by second: what it would answer.
type server struct {
	product string
	at      int64 // seconds
	boot    string
	started int64 // seconds
	status  fleet.PollStatus
	totals  fleet.Totals
	streams []fleet.StreamReading
	clients []fleet.Session
	wallOff int64 // ms by which the wall clock was set
}

func nginx(at int64, pid string, started int64, streams ...fleet.StreamReading) *server {
	return &server{product: ProductNginxRTMP, at: at, boot: pid, started: started, status: fleet.StatusOK, streams: streams}
}

func ice(at int64, boot string, started int64, streams ...fleet.StreamReading) *server {
	return &server{product: ProductIcecast, at: at, boot: boot, started: started, status: fleet.StatusOK, streams: streams}
}

func down(at int64) *server {
	return &server{product: ProductNginxRTMP, at: at, status: fleet.StatusUnreachable}
}

func (s *server) with(clients ...fleet.Session) *server {
	s.clients = clients
	return s
}

func (s *server) bytes(in, out int64) *server {
	s.totals.BytesIn, s.totals.BytesOut = fleet.Of(in), fleet.Of(out)
	return s
}

func (s *server) reading() *fleet.Reading {
	r := &fleet.Reading{
		Server: fleet.ServerInfo{Key: "srv", Product: s.product}, AtMs: wall0 + s.at*1000 + s.wallOff, MonoMs: s.at * 1000, Status: s.status,
	}
	if !r.Status.HasNumbers() {
		return r
	}
	r.Server.BootID, r.Server.StartedMs = s.boot, fleet.Of(wall0+s.wallOff+s.started*1000)
	r.Totals, r.Streams, r.Sessions = s.totals, s.streams, s.clients
	for i := range r.Streams {
		if v, ok := r.Streams[i].BeginMs.Get(); ok {
			r.Streams[i].BeginMs = fleet.Of(v + s.wallOff)
		}
	}
	r.SessionsComplete = s.product == ProductNginxRTMP
	return r
}

// stream is a live stream with a publisher and two viewers.
func live(name string, began, in, out int64) fleet.StreamReading {
	s := fleet.StreamReading{BeginMs: fleet.Of(wall0 + began*1000), BytesIn: fleet.Of(in), BytesOut: fleet.Of(out)}
	s.Key = fleet.StreamKey{Server: "srv", App: "live", Name: name}
	s.State, s.Viewers, s.Publishers = fleet.StateOnline, fleet.Of(2), fleet.Of(1)
	s.OnlineSinceMs = s.BeginMs
	return s
}

func abandoned(name string, began, in, out int64) fleet.StreamReading {
	s := live(name, began, in, out)
	s.State, s.Publishers, s.OnlineSinceMs = fleet.StateOffline, fleet.Of(0), fleet.Int{}
	return s
}

func mount(name string, began, in, out int64, printed string) fleet.StreamReading {
	s := live(name, began, in, out)
	s.Key.App, s.Incarnation = "", printed
	return s
}

func client(id, stream string, role fleet.Role, started, seen int64) fleet.Session {
	return fleet.Session{
		ID: id, Key: fleet.StreamKey{Server: "srv", App: "live", Name: stream}, Role: role,
		StartedMs: wall0 + started*1000, LastSeenMs: wall0 + seen*1000, Method: "native_connection",
	}
}

// follow feeds a new tracker and returns the last snapshot.
func follow(t *testing.T, polls ...*server) fleet.Snapshot {
	t.Helper()
	tracker := NewTracker(TrackerOptions{})
	var out fleet.Snapshot
	for _, p := range polls {
		out = tracker.Step(p.reading())
	}
	return out
}

func row(t *testing.T, snap fleet.Snapshot, name string) fleet.StreamSample {
	t.Helper()
	for _, s := range snap.Streams {
		if s.Key.Name == name {
			return s
		}
	}
	t.Fatalf("no sample of %s in %v", name, snap.Streams)
	return fleet.StreamSample{}
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func reasons(snap fleet.Snapshot) string {
	var out []string
	for _, e := range snap.Events {
		out = append(out, e.Key.Name+":"+e.Reason+":"+e.State.String())
	}
	return strings.Join(out, " ")
}

func ends(snap fleet.Snapshot) string {
	var out []string
	for _, s := range snap.Sessions {
		end := "start"
		if s.EndedMs.Known() {
			end = s.EndReason
		}
		out = append(out, s.ID+":"+end+":"+s.BytesIn.String()+":"+s.BytesOut.String())
	}
	return strings.Join(out, " ")
}

func TestFirstPollIsABaseline(t *testing.T) {
	t.Parallel()
	snap := follow(t, nginx(1000, "7", 0, live("a", 10, 5_000_000_000, 9_000_000_000)).bytes(6_000_000_000, 9_500_000_000))
	a := row(t, snap, "a")
	expect(t, "IntervalMs", snap.IntervalMs, int64(0))
	expect(t, "BytesIn known", a.BytesIn.Known() || a.BytesOut.Known() || snap.Totals.BytesIn.Known(), false)
	expect(t, "baseline", a.Flags, fleet.FlagBaseline)
	expect(t, "snapshot flags", snap.Flags, fleet.FlagBaseline)
	expect(t, "CoveredMs", a.CoveredMs, fleet.Of(0))
	expect(t, "events", reasons(snap), "a:first_sight:online")
}

func TestDeltasOfOneIncarnation(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 5000)).bytes(2000, 6000),
		nginx(1010, "7", 0, live("a", 10, 1500, 9000)).bytes(2600, 10100))
	a := row(t, snap, "a")
	expect(t, "IntervalMs", snap.IntervalMs, int64(10_000))
	expect(t, "CoveredMs", snap.CoveredMs, int64(10_000))
	expect(t, "stream covered known", a.CoveredMs.Known(), false)
	expect(t, "BytesIn", a.BytesIn, fleet.Of(500))
	expect(t, "BytesOut", a.BytesOut, fleet.Of(4000))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(600))
	expect(t, "Totals.BytesOut", snap.Totals.BytesOut, fleet.Of(4100))
	expect(t, "flags", a.Flags|snap.Flags, fleet.SampleFlags(0))
	expect(t, "events", reasons(snap), "")
}

func TestStreamThatBeganSinceTheLastPollCountsFromZero(t *testing.T) {
	t.Parallel()
	snap := follow(t, nginx(1000, "7", 0), nginx(1010, "7", 0, live("a", 1004, 700, 800)))
	a := row(t, snap, "a")
	expect(t, "BytesIn", a.BytesIn, fleet.Of(700))
	expect(t, "CoveredMs", a.CoveredMs, fleet.Of(6000))
	expect(t, "ViewerMs", a.ViewerMs, fleet.Of(12_000))
	expect(t, "flags", a.Flags, fleet.FlagNewIncarnation)
	expect(t, "events", reasons(snap), "a:publish:online")
	expect(t, "event time", snap.Events[0].AtMs, wall0+1004_000)
}

func TestStreamThatBeganEarlierAndWasNotSeenIsABaseline(t *testing.T) {
	t.Parallel()
	snap := follow(t, nginx(1000, "7", 0), nginx(1010, "7", 0, live("a", 500, 700, 800)))
	expect(t, "BytesIn known", row(t, snap, "a").BytesIn.Known(), false)
	expect(t, "flags", row(t, snap, "a").Flags, fleet.FlagBaseline)
}

func TestSmallerValueInOneIncarnationIsAResetAndFlagged(t *testing.T) {
	t.Parallel()
	snap := follow(t, nginx(1000, "7", 0, live("a", 10, 9000, 9000)), nginx(1010, "7", 0, live("a", 10, 300, 9100)))
	a := row(t, snap, "a")
	expect(t, "BytesIn", a.BytesIn, fleet.Of(300))
	expect(t, "BytesOut", a.BytesOut, fleet.Of(100))
	expect(t, "flags", a.Flags, fleet.FlagCounterReset)
}

func TestAgesThatWobbleAreOneIncarnation(t *testing.T) {
	t.Parallel()
	a, b := live("a", 10, 1000, 0), live("a", 10, 1400, 0)
	b.BeginMs = fleet.Of(wall0 + 11_900)
	snap := follow(t, nginx(1000, "7", 0, a), nginx(1010, "7", 1, b))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(400))
	expect(t, "incarnation", row(t, snap, "a").Incarnation, "1800000010000")
}

func TestWallClockSetByAnHourIsNoRestart(t *testing.T) {
	t.Parallel()
	later := nginx(1010, "7", 0, live("a", 10, 1400, 0)).bytes(500, 0)
	later.wallOff = -3_600_000
	snap := follow(t, nginx(1000, "7", 0, live("a", 10, 1000, 0)).bytes(400, 0), later)
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(400))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(100))
	expect(t, "IntervalMs", snap.IntervalMs, int64(10_000))
	expect(t, "flags", snap.Flags, fleet.SampleFlags(0))
}

func TestStreamPublishedAnewIsANewIncarnation(t *testing.T) {
	t.Parallel()
	snap := follow(t, nginx(1000, "7", 0, live("a", 10, 9000, 9000)), nginx(1010, "7", 0, live("a", 1005, 9500, 9500)))
	a := row(t, snap, "a")
	expect(t, "BytesIn", a.BytesIn, fleet.Of(9500))
	expect(t, "flags", a.Flags, fleet.FlagNewIncarnation|fleet.FlagTailUnobserved)
	expect(t, "events", reasons(snap), "a:replaced:online")
}

func TestFailedPollGivesNoNumbersAndTheNextCoversTheGap(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("a", 10, 1000, 1000)).reading())
	failed := tracker.Step(down(1010).reading())
	expect(t, "failed interval", failed.IntervalMs, int64(0))
	expect(t, "failed streams", len(failed.Streams), 0)
	expect(t, "failed viewers", failed.Server.ViewersNow.Known(), false)
	expect(t, "failed events", reasons(failed), "")
	snap := tracker.Step(nginx(1020, "7", 0, live("a", 10, 3000, 4000)).reading())
	expect(t, "IntervalMs", snap.IntervalMs, int64(20_000))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(2000))
}

func TestGapWithARestartCoversOnlyTheNewRun(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000)).bytes(5000, 5000),
		down(1010),
		nginx(1030, "8", 1025, live("a", 1026, 300, 400)).bytes(350, 450))
	expect(t, "IntervalMs", snap.IntervalMs, int64(5_000))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(350))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(300))
	expect(t, "status", snap.Status, fleet.StatusOK)
	expect(t, "events", reasons(snap), "a:server_restart:offline a:publish:online")
	expect(t, "restart time", snap.Events[0].AtMs, wall0+1025_000)
}

func TestRestartOfAContainerWithTheSameProcessNumber(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000)).bytes(9000, 9000),
		nginx(1010, "7", 1006).bytes(10, 20))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(10))
	expect(t, "events", reasons(snap), "a:server_restart:offline")
	expect(t, "status", snap.Status, fleet.StatusOK)
	expect(t, "flags", snap.Flags, fleet.FlagNewIncarnation|fleet.FlagTailUnobserved)
}

func TestAgentRestartMakesNoSpike(t *testing.T) {
	t.Parallel()
	// The stream began two seconds before the new agent looked for the first time: the
	// agent before may have counted that already.
	snap := follow(t, nginx(1000, "7", 999, live("a", 998, 1_000_000, 0)).bytes(2_000_000, 0))
	expect(t, "BytesIn known", row(t, snap, "a").BytesIn.Known(), false)
	expect(t, "Totals known", snap.Totals.BytesIn.Known(), false)
}

func TestServerThatStartsWhileTheAgentWatchesCountsFromZero(t *testing.T) {
	t.Parallel()
	snap := follow(t, down(1000), down(1010), nginx(1020, "7", 1012, live("a", 1013, 500, 0)).bytes(600, 0))
	expect(t, "IntervalMs", snap.IntervalMs, int64(8_000))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(600))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(500))
}

func TestReloadHidesStreamsAndInventsNothing(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("a", 10, 1000, 1000)).bytes(5000, 5000).
		with(client("7-20", "a", fleet.RolePublisher, 10, 1000)).reading())
	snap := tracker.Step(nginx(1010, "9", 1008).bytes(0, 0).reading())
	expect(t, "status", snap.Status, fleet.StatusPartial)
	expect(t, "detail", strings.Contains(snap.Detail, "reloaded"), true)
	expect(t, "state", row(t, snap, "a").State, fleet.StateHidden)
	expect(t, "bytes known", row(t, snap, "a").BytesIn.Known(), false)
	expect(t, "viewers known", row(t, snap, "a").Viewers.Known(), false)
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(0))
	expect(t, "events", reasons(snap), "a:reload:hidden")
	expect(t, "sessions", ends(snap), "7-20:hidden:1000:-")

	snap = tracker.Step(nginx(1020, "9", 1008, live("a", 1015, 200, 300)).bytes(220, 320).
		with(client("9-23", "a", fleet.RolePublisher, 1015, 1020)).reading())
	expect(t, "status after it came back", snap.Status, fleet.StatusOK)
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(200))
	expect(t, "events", reasons(snap), "a:publish:online")
	expect(t, "samples", len(snap.Streams), 1)
}

func TestHiddenStreamsAreGivenUpAfterAWhile(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000)),
		nginx(1010, "9", 1008), nginx(1700, "9", 1008))
	expect(t, "status", snap.Status, fleet.StatusOK)
	expect(t, "events", reasons(snap), "a:vanished:offline")
}

func TestLowConnectionNumbersTellARestartFromAReload(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000), live("b", 10, 1, 1)).with(client("7-20", "a", fleet.RolePublisher, 10, 1000)),
		nginx(1010, "9", 1008),
		nginx(1020, "9", 1008, live("a", 1015, 200, 300)).with(client("9-3", "a", fleet.RolePublisher, 1015, 1020)))
	expect(t, "status", snap.Status, fleet.StatusOK)
	expect(t, "events", reasons(snap), "a:publish:online b:server_restart:offline")
}

func TestPublisherReplacedWithoutCounterReset(t *testing.T) {
	t.Parallel()
	first := client("7-1", "a", fleet.RolePublisher, 10, 1000)
	second := client("7-9", "a", fleet.RolePublisher, 1005, 1010)
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000)).with(first),
		nginx(1010, "7", 0, live("a", 10, 1600, 1000)).with(second))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(600))
	expect(t, "flags", row(t, snap, "a").Flags, fleet.SampleFlags(0))
	expect(t, "events", reasons(snap), "a:replaced:online")
	expect(t, "sessions", ends(snap), "7-9:start:-:- 7-1:closed:1000:-")
}

func TestPublisherGoneWithViewersWaiting(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("a", 10, 1000, 1000)).with(client("7-1", "a", fleet.RolePublisher, 10, 1000)).reading())
	snap := tracker.Step(nginx(1010, "7", 0, abandoned("a", 10, 1100, 1200)).reading())
	expect(t, "state", row(t, snap, "a").State, fleet.StateOffline)
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(100))
	expect(t, "events", reasons(snap), "a:unpublish:offline")
	expect(t, "sessions", ends(snap), "7-1:closed:1000:-")
	for at := int64(1020); at < 1060; at += 10 {
		snap = tracker.Step(nginx(at, "7", 0, abandoned("a", 10, 1100, 1200)).reading())
		expect(t, "status", snap.Status, fleet.StatusOK) // its publisher was here: no other worker is suspected
	}
	snap = tracker.Step(nginx(1060, "7", 0, live("a", 10, 1500, 1900)).with(client("7-8", "a", fleet.RolePublisher, 1055, 1060)).reading())
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(400))
	expect(t, "events", reasons(snap), "a:publish:online")
	expect(t, "the new publisher's own bytes", ends(snap), "7-8:start:400:-")
}

func TestIcecastSourceReplacedCountsFromZero(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		ice(1000, "b1", 0, mount("/a", 10, 9000, 9000, "t10")),
		ice(1010, "b1", 0, mount("/a", 1004, 9500, 0, "t1004")))
	a := row(t, snap, "/a")
	expect(t, "BytesIn", a.BytesIn, fleet.Of(9500))
	expect(t, "incarnation", a.Incarnation, "t1004")
	expect(t, "events", reasons(snap), "/a:replaced:online")
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(9500))
}

func TestIcecastRestartEndsEverything(t *testing.T) {
	t.Parallel()
	listener := client("9", "/a", fleet.RoleViewer, 20, 1000)
	listener.Key.App = ""
	snap := follow(t,
		ice(1000, "b1", 0, mount("/a", 10, 9000, 9000, "t10"), mount("/b", 10, 9000, 9000, "t10")).with(listener),
		ice(1010, "b2", 1005, mount("/a", 1006, 100, 0, "t1006")))
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(100))
	expect(t, "events", reasons(snap), "/a:server_restart:offline /b:server_restart:offline /a:publish:online")
	expect(t, "sessions", ends(snap), "9:server_restart:-:-")
	expect(t, "status", snap.Status, fleet.StatusOK)
}

func TestSeveralWorkersArePartialAndMakeNoGarbage(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("a", 10, 1_000_000, 2_000_000)).bytes(1_100_000, 2_100_000).reading())
	snap := tracker.Step(nginx(1010, "8", 0, live("b", 10, 77_000_000, 0)).bytes(77_100_000, 0).reading())
	expect(t, "status", snap.Status, fleet.StatusPartial)
	expect(t, "detail", strings.Contains(snap.Detail, "worker_processes 1"), true)
	expect(t, "workers", snap.Server.Workers, fleet.Of(2))
	expect(t, "Totals known", snap.Totals.BytesIn.Known(), false)
	expect(t, "b known", row(t, snap, "b").BytesIn.Known(), false)
	expect(t, "a", row(t, snap, "a").State, fleet.StateHidden)
	snap = tracker.Step(nginx(1020, "7", 0, live("a", 10, 1_000_500, 2_000_700)).bytes(1_100_600, 2_100_800).reading())
	expect(t, "status", snap.Status, fleet.StatusPartial)
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(600))
	expect(t, "BytesIn", row(t, snap, "a").BytesIn, fleet.Of(500))
	expect(t, "CoveredMs", row(t, snap, "a").CoveredMs, fleet.Of(20_000))
	expect(t, "events", reasons(snap), "")
}

func TestWorkersThatBeganTogetherAreNoReload(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 900, live("a", 910, 10, 10)),
		nginx(1010, "8", 1009).bytes(5, 5), // a reload
		nginx(1020, "9", 1009, live("b", 1015, 700, 0)).bytes(800, 0))
	expect(t, "workers", snap.Server.Workers, fleet.Of(2))
	expect(t, "detail", strings.Contains(snap.Detail, "several worker"), true)
	expect(t, "Totals.BytesIn", snap.Totals.BytesIn, fleet.Of(800)) // all since it began: nobody had counted it
	expect(t, "BytesIn", row(t, snap, "b").BytesIn, fleet.Of(700))
	expect(t, "events", reasons(snap), "b:publish:online")
}

func TestViewersWithoutAnyPublisherAreSuspicious(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	snap := tracker.Step(nginx(1000, "7", 0, abandoned("a", 10, 0, 0)).reading())
	expect(t, "status at first", snap.Status, fleet.StatusOK)
	snap = tracker.Step(nginx(1010, "7", 0, abandoned("a", 10, 0, 0)).reading())
	expect(t, "status", snap.Status, fleet.StatusPartial)
	expect(t, "detail", strings.Contains(snap.Detail, "no publisher"), true)
	snap = tracker.Step(nginx(1020, "7", 0, abandoned("a", 10, 0, 0), live("b", 1015, 1, 0)).reading())
	expect(t, "status with a publisher", snap.Status, fleet.StatusOK)
}

func TestPublisherWithoutNewBytesIsIdle(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	at := func(sec, in int64) fleet.Snapshot {
		return tracker.Step(nginx(sec, "7", 0, live("a", 10, in, 0)).reading())
	}
	at(1000, 500)
	at(1010, 600)
	expect(t, "after one poll", row(t, at(1020, 600), "a").State, fleet.StateOnline)
	snap := at(1030, 600)
	expect(t, "after two polls", row(t, snap, "a").State, fleet.StateIdle)
	expect(t, "events", reasons(snap), "a:no_data:idle")
	expect(t, "no event twice", reasons(at(1040, 600)), "")
	snap = at(1050, 700)
	expect(t, "with data again", row(t, snap, "a").State, fleet.StateOnline)
	expect(t, "events", reasons(snap), "a:data:online")
}

func TestIcecastCountersThatStandForFiveSecondsAreNotIdle(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	for sec, in := int64(1000), int64(0); sec < 1030; sec++ {
		if sec%5 == 0 {
			in += 40_000
		}
		snap := tracker.Step(ice(sec, "b1", 0, mount("/a", 10, in, 0, "t10")).reading())
		expect(t, "state", row(t, snap, "/a").State, fleet.StateOnline)
	}
}

func TestImpossibleDeltaIsLeftOutAndFlagged(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1000, 1000)),
		nginx(1010, "7", 0, live("a", 10, 1<<61, 2000)))
	a := row(t, snap, "a")
	expect(t, "BytesIn known", a.BytesIn.Known(), false)
	expect(t, "BytesOut", a.BytesOut, fleet.Of(1000))
	expect(t, "flags", a.Flags, fleet.FlagClamped)
}

func TestNameCollisionIsMergedAndFlagged(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("  1", 10, 1000, 10), live("  1", 100, 5000, 20)).reading())
	snap := tracker.Step(nginx(1010, "7", 0, live("  1", 100, 5500, 40), live("  1", 10, 1100, 30)).reading())
	a := row(t, snap, "  1")
	expect(t, "samples", len(snap.Streams), 1)
	expect(t, "BytesIn", a.BytesIn, fleet.Of(600))
	expect(t, "BytesOut", a.BytesOut, fleet.Of(40))
	expect(t, "viewers", a.Viewers, fleet.Of(4))
	expect(t, "collision", a.NameCollision, true)
	expect(t, "flags", a.Flags, fleet.FlagNameCollision)
	// One of them ends: the sum falls, and that is no reset.
	snap = tracker.Step(nginx(1020, "7", 0, live("  1", 10, 1150, 30)).reading())
	a = row(t, snap, "  1")
	expect(t, "BytesIn", a.BytesIn, fleet.Of(50))
	expect(t, "flags", a.Flags, fleet.FlagTailUnobserved)
}

func TestVanishedStreamIsSaidOnceWithItsTailUnknown(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(nginx(1000, "7", 0, live("a", 10, 1000, 1000)).reading())
	snap := tracker.Step(nginx(1010, "7", 0).reading())
	a := row(t, snap, "a")
	expect(t, "state", a.State, fleet.StateOffline)
	expect(t, "flags", a.Flags, fleet.FlagTailUnobserved)
	expect(t, "bytes known", a.BytesIn.Known(), false)
	expect(t, "viewers", a.Viewers, fleet.Of(0))
	expect(t, "events", reasons(snap), "a:vanished:offline")
	snap = tracker.Step(nginx(1020, "7", 0).reading())
	expect(t, "samples later", len(snap.Streams), 0)
}

func TestSessionsAreReportedOnceAndEndWhenLastSeen(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	pub, v := client("7-1", "a", fleet.RolePublisher, 10, 1000), client("7-2", "a", fleet.RoleViewer, 20, 1000)
	snap := tracker.Step(nginx(1000, "7", 0, live("a", 10, 1000, 1000)).with(pub, v).reading())
	expect(t, "sessions at first", ends(snap), "7-1:start:1000:-") // viewers are reported when they end
	pub.LastSeenMs, v.LastSeenMs = wall0+1010_000, wall0+1010_000
	snap = tracker.Step(nginx(1010, "7", 0, live("a", 10, 1500, 1000)).with(pub, v).reading())
	expect(t, "sessions under way", ends(snap), "")
	pub.LastSeenMs = wall0 + 1020_000
	snap = tracker.Step(nginx(1020, "7", 0, live("a", 10, 1600, 1000)).with(pub).reading())
	expect(t, "sessions at the end", ends(snap), "7-2:closed:-:-")
	expect(t, "end", snap.Sessions[0].EndedMs, fleet.Of(wall0+1010_000))
	expect(t, "unobserved", snap.Sessions[0].Unobserved, true)
	snap = tracker.Step(nginx(1030, "7", 0).reading())
	expect(t, "publisher of a stream that is gone", ends(snap), "7-1:vanished:1600:-")
}

func TestSessionBytesOfForksAreKeptAcross32Bits(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	v := client("7-2", "a", fleet.RoleViewer, 20, 1000)
	for i, raw := range []int64{4_000_000_000, 4_294_000_000, 1_000_000} {
		v.BytesOut, v.LastSeenMs = fleet.Of(raw), wall0+1000_000+int64(i)*10_000
		tracker.Step(nginx(1000+int64(i)*10, "7", 0, live("a", 10, 1, 1)).with(v).reading())
	}
	snap := tracker.Step(nginx(1030, "7", 0, live("a", 10, 1, 1)).reading())
	expect(t, "sessions", ends(snap), "7-2:closed:-:4295967296")
}

func TestListsThatCoverSomeStreamsEndNobodyElse(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(TrackerOptions{})
	a, b := mount("/a", 10, 1, 1, "t"), mount("/b", 10, 1, 1, "t")
	la, lb := client("1", "/a", fleet.RoleViewer, 20, 1000), client("2", "/b", fleet.RoleViewer, 20, 1000)
	la.Key.App, lb.Key.App = "", ""
	r := ice(1000, "b", 0, a, b).with(la, lb).reading()
	r.SessionsComplete, r.SessionScope = true, []fleet.StreamKey{a.Key, b.Key}
	tracker.Step(r)
	snap := tracker.Step(ice(1010, "b", 0, a, b).reading()) // no lists this time
	expect(t, "sessions without lists", ends(snap), "")
	r = ice(1020, "b", 0, a, b).reading()
	r.SessionsComplete, r.SessionScope = true, []fleet.StreamKey{a.Key}
	expect(t, "sessions with one list", ends(tracker.Step(r)), "1:closed:-:-")
	expect(t, "mount gone", ends(tracker.Step(ice(1030, "b", 0, a).reading())), "2:vanished:-:-")
}

func TestConnectionThatTurnsToAnotherStreamIsAnotherSession(t *testing.T) {
	t.Parallel()
	snap := follow(t,
		nginx(1000, "7", 0, live("a", 10, 1, 1), live("b", 10, 1, 1)).with(client("7-5", "a", fleet.RoleViewer, 20, 1000)),
		nginx(1010, "7", 0, live("a", 10, 1, 1), live("b", 10, 1, 1)).with(client("7-5", "b", fleet.RoleViewer, 20, 1010)))
	expect(t, "sessions", ends(snap), "7-5:closed:-:-")
	expect(t, "stream", snap.Sessions[0].Key.Name, "a")
}
