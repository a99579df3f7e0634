package live

import (
	"fmt"
	"math"
	"testing"
	"time"

	"vigil/fleet"
)

func snapshotAt(server string, at time.Time, viewers int64) *fleet.Snapshot {
	s := &fleet.Snapshot{AtMs: at.UnixMilli(), IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK}
	s.Server.Key, s.Server.ViewersNow = server, fleet.Of(viewers)
	return s
}

// A clock that was wrong for one packet, or an agent that lies, must not hide what comes
// after it until that time is reached.
func TestSnapshotFromTheFutureDoesNotHideTheNext(t *testing.T) {
	t.Parallel()
	v := New()
	v.Apply("x", start, snapshotAt("a", start.Add(23*time.Hour), 7))
	if got := v.Totals(start).AsOfMs; got > start.Add(time.Minute).UnixMilli() {
		t.Errorf("the view says that it is of %s", time.UnixMilli(got).UTC())
	}
	later := start.Add(2 * time.Minute)
	v.Apply("x", later, snapshotAt("a", later, 3))
	row, _ := v.Server(later, "a")
	if row.Viewers != fleet.Of(3) || row.AtMs != later.UnixMilli() {
		t.Errorf("two minutes after a snapshot from tomorrow the view shows %v viewers of %s", row.Viewers, time.UnixMilli(row.AtMs).UTC())
	}
}

func TestHugeIntervalDoesNotKeepAServerFromBeingSilent(t *testing.T) {
	t.Parallel()
	for _, interval := range []int64{maxIntervalMs, 1 << 53, math.MaxInt64} {
		v := New()
		s := snapshotAt("a", start, 1)
		s.IntervalMs = interval
		v.Apply("x", start, s)
		if row, _ := v.Server(start.Add(time.Second), "a"); row.Silent {
			t.Errorf("interval %d: silent after a second", interval)
		}
		if row, _ := v.Server(start.Add(4*time.Hour), "a"); !row.Silent {
			t.Errorf("interval %d: not silent after four hours", interval)
		}
	}
}

// Whoever names ever new servers and streams fills the view to its limit and no further,
// and what is on air now is never what is forgotten.
func TestViewForgetsTheSilentWhenThereAreTooManyStreams(t *testing.T) {
	t.Parallel()
	v := New()
	v.most, v.sweepAbove = 1000, 1000
	now := start
	for i := range 200 {
		now = now.Add(time.Second)
		s := snapshotAt(fmt.Sprintf("server-%03d", i), now, 1)
		for j := range 20 {
			x := fleet.StreamSample{}
			x.Key, x.State = fleet.StreamKey{Server: s.Server.Key, Name: fmt.Sprint(j)}, fleet.StateOnline
			s.Streams = append(s.Streams, x)
		}
		v.Apply("x", now, s)
		if v.count > 1000+1000/4+20 {
			t.Fatalf("%d streams after %d servers, at most 1000 and a quarter are to be kept", v.count, i+1)
		}
	}
	if v.Dropped() == 0 {
		t.Error("nothing was counted as dropped")
	}
	for i := 170; i < 200; i++ { // these are not silent yet
		if _, found := v.Server(now, fmt.Sprintf("server-%03d", i)); !found {
			t.Errorf("server %d is on air and was forgotten", i)
		}
	}
	page, err := v.Streams(now, StreamQuery{Limit: 1000, Sort: "name"})
	if err != nil || page.Matched != int64(v.count) || len(page.Rows) != 1000 {
		t.Errorf("%d rows of %d, %v; want 1000 of %d", len(page.Rows), page.Matched, err, v.count)
	}
}

// Ended streams are forgotten when there are too many, not only once a minute.
func TestEndedStreamsAreBoundedAtAnyTime(t *testing.T) {
	t.Parallel()
	v := New()
	for i := range 8 {
		at := start.Add(time.Duration(i) * time.Second)
		s := snapshotAt("a", at, 1)
		for j := range 30_000 {
			x := fleet.StreamSample{}
			x.Key, x.State = fleet.StreamKey{Server: "a", Name: fmt.Sprint(i, "/", j)}, fleet.StateOnline
			s.Streams = append(s.Streams, x)
		}
		v.Apply("x", at, s)
		if v.offline > 2*maxOffline {
			t.Fatalf("%d ended streams are kept", v.offline)
		}
	}
}
