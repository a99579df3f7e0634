package agent

import (
	"strings"
	"testing"
	"unicode/utf8"

	"vigil/fleet"
	"vigil/wire"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
	f("", "")
	f("plain text", "plain text")
	f("http://admin:secret@host/stat", "http://***@host/stat")
	f("http://token@host/", "http://***@host/")
	f("rtmp://h/app/name?user=a&pass=b refused", "rtmp://h/app/name?*** refused")
	f(`get "http://a:b@h/x?y=z": EOF`, `get "http://***@h/x?***": EOF`)
	f("mail@example.com", "mail@example.com")
}

func TestClipKeepsCharactersWhole(t *testing.T) {
	t.Parallel()
	for n := 4; n < 20; n++ {
		got := clip(strings.Repeat("ж", 20), n)
		if len(got) > n || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
			t.Errorf("clip to %d: %q", n, got)
		}
	}
	if got := clip("short", 5); got != "short" {
		t.Errorf("got %q", got)
	}
}

// Whatever a media server reports, the cleaned snapshot can be sent and holds no
// query of a stream name.
func TestCleanedSnapshotCanAlwaysBeEncoded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	s := fleet.Snapshot{
		Server:     fleet.ServerInfo{Key: "s", Version: long, StartedMs: fleet.Of(-7), ConnsNow: fleet.Of(-1), MemRSSBytes: fleet.Of(1 << 60)},
		Totals:     fleet.Totals{BytesIn: fleet.Of(-5)},
		AtMs:       -1,
		IntervalMs: -1, CoveredMs: 1 << 60, LatencyMs: -3, Detail: long,
		Status: fleet.StatusOK,
		Streams: []fleet.StreamSample{
			{StreamInfo: fleet.StreamInfo{Key: fleet.StreamKey{Name: "live?token=one"}, Viewers: fleet.Of(3), OnlineSinceMs: fleet.Of(-1), Tech: fleet.TechRTMP}, BytesIn: fleet.Of(5)},
			{StreamInfo: fleet.StreamInfo{Key: fleet.StreamKey{Name: "live?token=two"}, Viewers: fleet.Of(4), Tech: fleet.TechHLS}, BytesIn: fleet.Of(6), BytesOut: fleet.Of(-1)},
			{StreamInfo: fleet.StreamInfo{Key: fleet.StreamKey{Name: long}, ByTech: []fleet.TechViewers{{Viewers: -1}}}},
		},
		Events:   []fleet.StreamEvent{{Key: fleet.StreamKey{Name: "live?token=one"}, AtMs: -1, Reason: long}},
		Sessions: []fleet.Session{{ID: long, UserAgent: long, RemoteIP: long, StartedMs: -1, LastSeenMs: 1 << 60, EndedMs: fleet.Of(-1), BytesIn: fleet.Of(-1), Key: fleet.StreamKey{Name: "a?b"}}},
	}
	cleanSnapshot(&s)
	p := &fleet.Packet{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: 1}, FirstSeq: 1, Snapshots: []fleet.Snapshot{s}}
	data, err := wire.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Decode(data, wire.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if len(s.Streams) != 2 {
		t.Fatalf("%d streams, want the two with one name joined", len(s.Streams))
	}
	r := s.Streams[0]
	if r.Key.Name != "live" || r.Viewers != fleet.Of(7) || r.BytesIn != fleet.Of(11) || !r.NameCollision || r.BytesOut.Known() || r.Flags&fleet.FlagClamped == 0 {
		t.Errorf("joined row %+v", r)
	}
	if s.Totals.BytesIn.Known() || s.Server.ConnsNow.Known() || s.Flags&fleet.FlagClamped == 0 {
		t.Errorf("impossible numbers were kept: %+v", s)
	}
}
