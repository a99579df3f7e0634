package wire

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vigil/fleet"
)

func mergePart(seq uint64, snapshots ...fleet.Snapshot) *fleet.Packet {
	return &fleet.Packet{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: seq}, FirstSeq: seq, Boot: 1, Snapshots: snapshots}
}

func TestMergeAddsUpDeltasAndKeepsTheNewestGauges(t *testing.T) {
	t.Parallel()
	key := fleet.StreamKey{Server: "s", Name: "one"}
	gone := fleet.StreamKey{Server: "s", Name: "gone"}
	row := func(key fleet.StreamKey, viewers, in int64) fleet.StreamSample {
		return fleet.StreamSample{StreamInfo: fleet.StreamInfo{Key: key, State: fleet.StateOnline, Viewers: fleet.Of(viewers)}, BytesIn: fleet.Of(in)}
	}
	a := fleet.Snapshot{
		Server: fleet.ServerInfo{Key: "s", ViewersNow: fleet.Of(7)}, AtMs: 20_000, IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK,
		Totals: fleet.Totals{BytesIn: fleet.Of(100)}, Streams: []fleet.StreamSample{row(key, 4, 60), row(gone, 3, 40)},
		Events: []fleet.StreamEvent{{Key: key, AtMs: 19_000}},
	}
	b := fleet.Snapshot{
		Server: fleet.ServerInfo{Key: "s", ViewersNow: fleet.Of(2)}, AtMs: 30_000, IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK,
		Totals: fleet.Totals{BytesIn: fleet.Of(11)}, Streams: []fleet.StreamSample{row(key, 2, 9)},
		Sessions: []fleet.Session{{ID: "x", Key: gone}}, Flags: fleet.FlagCounterReset,
	}
	pa, pb := mergePart(4, a), mergePart(5, b)
	pa.Gaps = []fleet.Gap{{FirstSeq: 1, LastSeq: 2}}
	got, err := Merge([]*fleet.Packet{pa, pb})
	if err != nil {
		t.Fatal(err)
	}
	wantOne := row(key, 2, 69)
	wantOne.CoveredMs, wantOne.ViewerMs, wantOne.ViewersMax, wantOne.Flags = fleet.Of(20_000), fleet.Of(60_000), fleet.Of(4), fleet.FlagMerged
	wantGone := row(gone, 0, 40)
	wantGone.Viewers, wantGone.State = fleet.Int{}, fleet.StateOffline
	wantGone.CoveredMs, wantGone.ViewerMs, wantGone.ViewersMax, wantGone.Flags = fleet.Of(10_000), fleet.Of(30_000), fleet.Of(3), fleet.FlagMerged
	want := &fleet.Packet{
		ID: pb.ID, FirstSeq: 4, Boot: 1, Gaps: pa.Gaps,
		Snapshots: []fleet.Snapshot{{
			Server: b.Server, AtMs: 30_000, IntervalMs: 20_000, CoveredMs: 20_000, Status: fleet.StatusOK,
			ViewerMs: fleet.Of(90_000), ViewersMax: fleet.Of(7), Totals: fleet.Totals{BytesIn: fleet.Of(111)},
			Flags: fleet.FlagMerged | fleet.FlagCounterReset, Streams: []fleet.StreamSample{wantOne, wantGone},
			Events: a.Events, Sessions: b.Sessions,
		}},
	}
	if diff := cmp.Diff(want, got, intEqual); diff != "" {
		t.Errorf("Merge (-want +got):\n%s", diff)
	}
}

func TestMergeSaysHowMuchIsCovered(t *testing.T) {
	t.Parallel()
	at := func(ms, interval, covered int64, status fleet.PollStatus) fleet.Snapshot {
		return fleet.Snapshot{Server: fleet.ServerInfo{Key: "s"}, AtMs: ms, IntervalMs: interval, CoveredMs: covered, Status: status}
	}
	f := func(name string, wantInterval, wantCovered int64, wantStatus fleet.PollStatus, parts ...fleet.Snapshot) {
		t.Helper()
		var packets []*fleet.Packet
		for i, part := range parts {
			packets = append(packets, mergePart(uint64(i+1), part))
		}
		got, err := Merge(packets)
		if err != nil {
			t.Fatal(err)
		}
		s := got.Snapshots[0]
		if s.IntervalMs != wantInterval || s.CoveredMs != wantCovered || s.Status != wantStatus {
			t.Errorf("%s: interval %d, covered %d, %v; want %d, %d, %v", name, s.IntervalMs, s.CoveredMs, s.Status, wantInterval, wantCovered, wantStatus)
		}
	}
	const ok, away, part = fleet.StatusOK, fleet.StatusUnreachable, fleet.StatusPartial
	f("all polls good", 30_000, 30_000, ok, at(10_000, 10_000, 10_000, ok), at(20_000, 10_000, 10_000, ok), at(30_000, 10_000, 10_000, ok))
	f("one poll failed", 30_000, 20_000, ok, at(10_000, 10_000, 10_000, ok), at(20_000, 10_000, 0, away), at(30_000, 10_000, 10_000, ok))
	f("the last poll failed", 20_000, 10_000, part, at(10_000, 10_000, 10_000, ok), at(20_000, 10_000, 0, away))
	f("none succeeded", 20_000, 0, away, at(10_000, 10_000, 0, away), at(20_000, 10_000, 0, away))
	f("a hole between", 40_000, 20_000, ok, at(10_000, 10_000, 10_000, ok), at(40_000, 10_000, 10_000, ok))
	f("the clock was set back", 20_000, 20_000, ok, at(90_000, 10_000, 10_000, ok), at(40_000, 10_000, 10_000, ok))
	f("first sight", 10_000, 10_000, ok, at(10_000, 0, 0, ok), at(20_000, 10_000, 10_000, ok))
}

func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	f := func(name string, packets ...*fleet.Packet) {
		t.Helper()
		if _, err := Merge(packets); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("nothing")
	f("hole", mergePart(1), mergePart(3))
	f("wrong order", mergePart(2), mergePart(1))
	other := mergePart(2)
	other.ID.Epoch = 2
	f("epochs", mergePart(1), other)
	boots := mergePart(2)
	boots.Boot = 2
	f("boots", mergePart(1), boots)
}

// sums is what must not change by merging.
type sums struct {
	BytesIn, BytesOut, Accepted, Rejected, ViewerMs, CoveredMs int64
	Events, Sessions, Gaps                                     int
	Streams                                                    map[string]int64
}

func sumsOf(packets ...*fleet.Packet) sums {
	total := sums{Streams: map[string]int64{}}
	for _, p := range packets {
		total.Gaps += len(p.Gaps)
		for _, s := range p.Snapshots {
			total.BytesIn += s.Totals.BytesIn.Or(0)
			total.BytesOut += s.Totals.BytesOut.Or(0)
			total.Accepted += s.Totals.ConnsAccepted.Or(0)
			total.Rejected += s.Totals.ConnsRejected.Or(0)
			total.ViewerMs += viewerMs(s.ViewerMs, s.Server.ViewersNow, s.IntervalMs).Or(0)
			total.CoveredMs += s.CoveredMs
			total.Events += len(s.Events)
			total.Sessions += len(s.Sessions)
			for _, r := range s.Streams {
				name := fmt.Sprintf("%v", r.Key)
				total.Streams[name+" in"] += r.BytesIn.Or(0)
				total.Streams[name+" out"] += r.BytesOut.Or(0)
				total.Streams[name+" dropped"] += r.FramesDropped.Or(0)
				total.Streams[name+" viewer ms"] += viewerMs(r.ViewerMs, r.Viewers, s.IntervalMs).Or(0)
				total.Streams[name+" covered"] += r.CoveredMs.Or(s.IntervalMs)
			}
		}
	}
	return total
}

// However packets are grouped into merges, by hand or payload by payload, the sums stay.
func TestMergeKeepsSumsExactly(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "packets")
		var packets []*fleet.Packet
		for i := range n {
			packets = append(packets, mergePart(uint64(i+1), anyMergeable(rt, "s1", int64(i)), anyMergeable(rt, "s2", int64(i))))
		}
		want := sumsOf(packets...)
		whole, err := Merge(packets)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, sumsOf(whole)); diff != "" {
			rt.Fatalf("merged at once (-want +got):\n%s", diff)
		}
		if whole.FirstSeq != 1 || whole.ID.Seq != uint64(n) {
			rt.Fatalf("range %d to %d", whole.FirstSeq, whole.ID.Seq)
		}
		var payload []byte
		for i, p := range packets {
			next, err := c.Encode(p)
			if err != nil {
				rt.Fatal(err)
			}
			if i == 0 {
				payload = next
				continue
			}
			if payload, err = c.MergePayloads([][]byte{payload, next}); err != nil {
				rt.Fatal(err)
			}
		}
		again, err := c.Decode(payload)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, sumsOf(again)); diff != "" {
			rt.Fatalf("merged one by one (-want +got):\n%s", diff)
		}
	})
}

func anyMergeable(t *rapid.T, server string, i int64) fleet.Snapshot {
	count := func(label string) fleet.Int {
		if rapid.Bool().Draw(t, label+" known") {
			return fleet.Of(rapid.Int64Range(0, 1<<30).Draw(t, label))
		}
		return fleet.Int{}
	}
	s := fleet.Snapshot{
		Server:     fleet.ServerInfo{Key: server, ViewersNow: count("viewers")},
		Totals:     fleet.Totals{BytesIn: count("in"), BytesOut: count("out"), ConnsAccepted: count("accepted"), ConnsRejected: count("rejected")},
		AtMs:       1_790_000_000_000 + 10_000*i,
		IntervalMs: 10_000, CoveredMs: rapid.SampledFrom([]int64{0, 10_000}).Draw(t, "covered"),
		ViewerMs: count("viewer ms"), ViewersMax: count("most"),
		Status: rapid.SampledFrom([]fleet.PollStatus{fleet.StatusOK, fleet.StatusPartial, fleet.StatusUnreachable}).Draw(t, "status"),
	}
	for _, name := range []string{"a", "b", "c"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		s.Streams = append(s.Streams, fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{Key: fleet.StreamKey{Server: server, Name: name}, Viewers: count("viewers")},
			CoveredMs:  count("covered"), ViewerMs: count("viewer ms"), BytesIn: count("in"), BytesOut: count("out"), FramesDropped: count("dropped"),
		})
		s.Events = append(s.Events, fleet.StreamEvent{Key: s.Streams[len(s.Streams)-1].Key, AtMs: s.AtMs})
	}
	return s
}
