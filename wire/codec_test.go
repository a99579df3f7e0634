package wire

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"vigil/fleet"
	"vigil/wire/wirepb"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestRoundTripKeepsEveryField(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := anyPacket().Draw(rt, "packet")
		data, err := c.Encode(p)
		if err != nil {
			rt.Fatalf("Encode: %v", err)
		}
		got, info, err := c.DecodeInfo(data)
		if err != nil {
			rt.Fatalf("Decode: %v", err)
		}
		if diff := cmp.Diff(p, got, intEqual); diff != "" {
			rt.Fatalf("Decode(Encode(p)) (-want +got):\n%s", diff)
		}
		if info.UnknownFields != 0 || info.CompressedBytes != len(data) {
			rt.Fatalf("Info = %+v", info)
		}
	})
}

var intEqual = cmp.Comparer(func(a, b fleet.Int) bool { return a == b })

// The generated code is the second, independent reading of packet.proto: what we write
// it must read without unknown fields, and what it writes we must read as the same.
func TestGeneratedCodeAgrees(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := anyPacket().Draw(rt, "packet")
		e := newEncoding()
		message, err := e.packet(p, c.lim)
		if err != nil {
			rt.Fatal(err)
		}
		var pb wirepb.Packet
		if err := proto.Unmarshal(message, &pb); err != nil {
			rt.Fatalf("generated code cannot read our message: %v", err)
		}
		if n := unknownBytes(&pb); n != 0 {
			rt.Fatalf("generated code found %d bytes of unknown fields", n)
		}
		again, err := proto.Marshal(&pb)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := c.Decode(storedFrame(again))
		if err != nil {
			rt.Fatalf("decode what the generated code wrote: %v", err)
		}
		if diff := cmp.Diff(p, got, intEqual); diff != "" {
			rt.Fatalf("through the generated code (-want +got):\n%s", diff)
		}
	})
}

func unknownBytes(pb *wirepb.Packet) int {
	n := len(pb.ProtoReflect().GetUnknown())
	for _, s := range pb.Snapshots {
		n += len(s.ProtoReflect().GetUnknown())
		for _, m := range []proto.Message{s.Streams, s.Events, s.Sessions} {
			n += len(m.ProtoReflect().GetUnknown())
		}
	}
	return n
}

// The golden file is the first released form. It stays, and every later version reads it.
func TestGoldenPacket(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	want := nginxPacket(5, 1)
	want.FirstSeq = want.ID.Seq - 2
	want.Gaps = []fleet.Gap{{FirstSeq: 3, LastSeq: 9, FromMs: fleet.Of(1_789_999_000_000), Reason: "spool_full"}}
	s := &want.Snapshots[0]
	s.Streams[1].Tech, s.Streams[1].ByTech = fleet.TechMixed, []fleet.TechViewers{{Tech: fleet.TechRTMP, Viewers: 3}, {Tech: fleet.TechHLS, Viewers: 8}}
	s.Streams[2].Viewers, s.Streams[2].State = fleet.Int{}, fleet.StateOffline
	s.Events = []fleet.StreamEvent{{Key: s.Streams[2].Key, AtMs: s.AtMs - 4_000, State: fleet.StateOffline, Reason: "unpublish"}}
	s.Sessions = []fleet.Session{{
		ID: "17", Key: s.Streams[2].Key, Role: fleet.RolePublisher, Tech: fleet.TechRTMP, RemoteIP: "203.0.113.7", UserAgent: "FMLE/3.0",
		StartedMs: s.AtMs - 60_000, LastSeenMs: s.AtMs - 10_000, EndedMs: fleet.Of(s.AtMs - 4_000), EndReason: "closed", BytesIn: fleet.Of(1 << 30), Method: "native_connection",
	}}
	file := filepath.Join("testdata", "packet-v1.zst")
	if *update {
		data, err := c.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Decode(data)
	if err != nil {
		t.Fatalf("Decode(%s): %v", file, err)
	}
	if diff := cmp.Diff(want, got, intEqual); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestUnknownFieldsAreToleratedAndCounted(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	message, err := newEncoding().packet(nginxPacket(2, 1), c.lim)
	if err != nil {
		t.Fatal(err)
	}
	message = append([]byte{}, message...)
	message = protowire.AppendTag(message, 500, protowire.BytesType)
	message = protowire.AppendString(message, "from the future")
	message = protowire.AppendTag(message, 501, protowire.Fixed32Type)
	message = protowire.AppendFixed32(message, 7)
	message = protowire.AppendTag(message, 2, protowire.VarintType) // a known number with another type
	message = protowire.AppendVarint(message, 7)
	p, info, err := c.DecodeInfo(storedFrame(message))
	if err != nil {
		t.Fatal(err)
	}
	if info.UnknownFields != 3 || c.UnknownFields() != 3 {
		t.Errorf("unknown fields = %d, in all %d, want 3", info.UnknownFields, c.UnknownFields())
	}
	if p.ID.Agent != "edge-17" || len(p.Snapshots[0].Streams) != 2 {
		t.Errorf("packet = %+v", p)
	}
}

// Other writers may send columns unpacked, in pieces and in any order.
func TestForeignButLegalEncoding(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	var streams, snapshot, message []byte
	streams = appendBytesField(streams, 9, []byte{5}) // viewers, first piece
	streams = protowire.AppendVarint(protowire.AppendTag(streams, 4, protowire.VarintType), 2)
	streams = protowire.AppendVarint(protowire.AppendTag(streams, 4, protowire.VarintType), 1)
	streams = appendBytesField(streams, 9, []byte{9})
	streams = appendBytesField(streams, 7, []byte{0x81, 0x80, 0x00, 0}) // a varint longer than needed: 1
	snapshot = appendBytesField(snapshot, 50, streams)
	snapshot = appendVarintField(snapshot, 30, 1_000_000)
	snapshot = appendBytesField(snapshot, 1, "srv")
	message = appendBytesField(message, 10, snapshot)
	for _, name := range []string{"", "one", "two"} {
		message = appendBytesField(message, 9, name)
	}
	message = appendVarintField(message, 5, 1)
	message = appendVarintField(message, 4, 1)
	message = appendFixed64Field(message, 3, 8)
	message = appendBytesField(message, 2, "agent")
	message = appendVarintField(message, 1, 1)
	p, err := c.Decode(storedFrame(message))
	if err != nil {
		t.Fatal(err)
	}
	rows := p.Snapshots[0].Streams
	if len(rows) != 2 || rows[0].Key.Name != "two" || rows[1].Key.Name != "one" ||
		rows[0].Viewers != fleet.Of(4) || rows[1].Viewers != fleet.Of(8) || rows[0].OnlineSinceMs != fleet.Of(1_000_000) || rows[1].OnlineSinceMs.Known() {
		t.Errorf("rows = %+v", rows)
	}
}

func TestNamesThatAreNotUTF8StayDifferent(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	p := nginxPacket(2, 1)
	p.Snapshots[0].Streams[0].Key.Name = "caf\xe9"
	p.Snapshots[0].Streams[1].Key.Name = "caf\xe8"
	data, err := c.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	a, b := got.Snapshots[0].Streams[0].Key.Name, got.Snapshots[0].Streams[1].Key.Name
	if a != `caf\xe9` || b != `caf\xe8` {
		t.Errorf("names = %q, %q", a, b)
	}
}

// A packet as regular as an attack is sent in plain blocks, not refused.
func TestVeryRegularPacketIsNotTakenForABomb(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.Ratio = 20
	c, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	p := nginxPacket(1, 1)
	row := p.Snapshots[0].Streams[0]
	p.Snapshots[0].Streams = nil
	for range 49_000 {
		p.Snapshots[0].Streams = append(p.Snapshots[0].Streams, row)
	}
	data, err := c.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) < ratioFreeBytes {
		t.Fatalf("the test packet has only %d bytes", len(data))
	}
	if _, err := c.Decode(data); err != nil {
		t.Fatal(err)
	}
}

func TestCodecIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c := newTestCodec(t)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 20 {
				want := nginxPacket(10+i, uint64(worker*100+i))
				data, err := c.Encode(want)
				if err != nil {
					t.Errorf("Encode: %v", err)
					return
				}
				got, err := c.Decode(data)
				if err != nil || !cmp.Equal(want, got, intEqual) {
					t.Errorf("worker %d packet %d: %v", worker, i, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	p := nginxPacket(1, 1)
	p.Snapshots[0].AtMs = -5
	_, err := newTestCodec(t).Encode(p)
	if fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), "1970") {
		t.Errorf("Encode: %v", err)
	}
}
