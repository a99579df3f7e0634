package spool

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vigil/durable/durabletest"
	"vigil/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenFrames is one record of each type of format v1, and one of a type to come.
func goldenFrames() []frame {
	state := snapshot{state: state{next: 42, released: 7, previous: 0x1122334455667788}, sealed: []sealed{{number: 2, end: 4096}}}
	fill(&state.settled, fleet.SeqRange{First: 1, Last: 30})
	fill(&state.settled, fleet.SeqRange{First: 33, Last: 35})
	state.gaps = state.gaps.add(fleet.Gap{FirstSeq: 31, LastSeq: 32, FromMs: fleet.Of(1_700_000_000_000), Reason: ReasonFull})
	const epoch = 0x0102030405060708
	return []frame{
		{kind: typeState, epoch: epoch, first: 41, seq: 41, atMs: 1_700_000_000_001, payload: state.encode()},
		{kind: typePacket, epoch: epoch, first: 42, seq: 42, atMs: 1_700_000_000_002, payload: []byte("a packet")},
		{kind: typePacket, flags: flagHeld, epoch: epoch, first: 43, seq: 48, atMs: 1_700_000_000_003, payload: []byte("six packets in one")},
		{kind: typeRelease, epoch: epoch, first: 49, seq: 49, atMs: 1_700_000_000_004},
		{kind: 200, epoch: epoch, first: 49, seq: 49, payload: []byte("of a version to come")},
		func() frame {
			f := gapFrame(fleet.Gap{FirstSeq: 36, LastSeq: 41, FromMs: fleet.Of(5), ToMs: fleet.Of(6), Reason: ReasonRejected})
			f.epoch = epoch
			return f
		}(),
	}
}

func goldenSegment() []byte {
	buf := header{epoch: 0x0102030405060708, number: 3}.append(nil)
	for _, f := range goldenFrames() {
		buf = f.append(buf, 3, int64(len(buf)))
	}
	return buf
}

// TestGoldenV1: the format of the first release is read for ever.
func TestGoldenV1(t *testing.T) {
	t.Parallel()
	name := filepath.Join("testdata", "v1.seg")
	if *update {
		if err := os.WriteFile(name, goldenSegment(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, goldenSegment()) {
		t.Error("v1 is written in another way than in the first release")
	}
	s, err := scanSegment(bytes.NewReader(golden), int64(len(golden)), 3)
	if err != nil || len(s.damage) != 0 || s.tail() != 0 {
		t.Fatalf("scan: %v, %+v", err, s)
	}
	var got []string
	for _, p := range s.places {
		got = append(got, fmt.Sprintf("type %d flags %d %d-%d at %d", p.kind, p.flags, p.first, p.seq, p.atMs))
	}
	want := []string{
		"type 4 flags 0 41-41 at 1700000000001",
		"type 1 flags 0 42-42 at 1700000000002",
		"type 1 flags 1 43-48 at 1700000000003",
		"type 2 flags 0 49-49 at 1700000000004",
		"type 200 flags 0 49-49 at 0",
		"type 3 flags 0 36-41 at 6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	r := recoverFrom([]*scan{s})
	if r.epoch != 0x0102030405060708 || r.next != 49 || r.released != 49 || len(r.packets) != 2 || r.previous != 0x1122334455667788 {
		t.Errorf("recovered %+v", r)
	}
	var gaps []fleet.Gap
	for _, g := range r.gaps {
		gaps = append(gaps, g.Gap)
	}
	if got := gapText(gaps); got != "31-32 spool_full, 36-41 rejected" {
		t.Errorf("gaps %q", got)
	}
}

func TestStateIsReadAsWritten(t *testing.T) {
	t.Parallel()
	payload := goldenFrames()[0].payload
	snap, err := decodeState(payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snap.encode(), payload) {
		t.Error("encode(decode(x)) is not x")
	}
	for n := range payload {
		if _, err := decodeState(payload[:n]); err == nil {
			t.Errorf("%d bytes of %d were taken for a state", n, len(payload))
		}
	}
	if _, err := decodeState(append(bytes.Clone(payload), 0)); err == nil {
		t.Error("a byte too many was not noticed")
	}
	wrong := snapshot{state: state{next: 5}}
	wrong.gaps = gapList{{Gap: fleet.Gap{FirstSeq: 3, LastSeq: 5}}}
	if _, err := decodeState(wrong.encode()); err == nil {
		t.Error("a gap above next was not noticed")
	}
	wrong.gaps = nil
	fill(&wrong.settled, fleet.SeqRange{First: 1, Last: 5})
	if _, err := decodeState(wrong.encode()); err == nil {
		t.Error("a settled number above next was not noticed")
	}
}

func TestSegmentNames(t *testing.T) {
	t.Parallel()
	for _, number := range []uint64{0, 1, 0xdeadbeef, ^uint64(0)} {
		if got, ok := segmentNumber(segmentName(number)); !ok || got != number {
			t.Errorf("segmentNumber(%q) = %d, %v", segmentName(number), got, ok)
		}
	}
	for _, name := range []string{"", "lock", ".seg", "1.seg", "00000000000000FF.seg", "000000000000000g.seg", "0000000000000001.seg.tmp"} {
		if _, ok := segmentNumber(name); ok {
			t.Errorf("segmentNumber(%q) is ok", name)
		}
	}
}

func TestClipKeepsWholeCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"abc": "abc", "abcdefg": "abcde", "abcdäx": "abcd", "a\xffc": "a?c"} {
		if got := clip(text, 5); got != want {
			t.Errorf("clip(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestHostileRecords: valid checksums around nonsense.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	const epoch = 9
	for name, f := range map[string]frame{
		"numbers backwards": {kind: typePacket, epoch: epoch, first: 5, seq: 4},
		"huge number":       {kind: typePacket, epoch: epoch, first: 1, seq: ^uint64(0)},
		"number zero":       {kind: typePacket, epoch: epoch},
		"other epoch":       {kind: typePacket, epoch: epoch + 1, first: 1, seq: 1},
		"empty gap":         {kind: typeGap, epoch: epoch, first: 1, seq: 2},
		"gap from zero":     {kind: typeGap, epoch: epoch, seq: 2, payload: []byte{0, 0}},
		"endless reason":    {kind: typeGap, epoch: epoch, first: 1, seq: 2, payload: append([]byte{0, 0}, make([]byte, 100)...)},
		"bad state":         {kind: typeState, epoch: epoch, payload: []byte{9}},
		"huge state":        {kind: typeState, epoch: epoch, payload: append([]byte{1}, bytes.Repeat([]byte{0xff}, 40)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := durabletest.New(1)
			buf := header{epoch: epoch, number: 1}.append(nil)
			for _, f := range []frame{{kind: typePacket, epoch: epoch, first: 1, seq: 1, payload: payloadOf(1, 16)}, f} {
				buf = f.append(buf, 1, int64(len(buf)))
			}
			fs.Put(testDir+"/"+segmentName(1), buf)
			s := open(t, options(fs, MinMaxBytes))
			if s.Epoch() != epoch {
				t.Errorf("epoch %x", s.Epoch())
			}
			add(t, s, 16, false)
			drainAll(t, s)
		})
	}
}

// TestStrangeFilesStay: what this version did not write, it does not touch.
func TestStrangeFilesStay(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 20, false)
	epoch := s.Epoch()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	newer := []byte(magicPrefix + "002" + strings.Repeat("x", 5000))
	fs.Put(testDir+"/"+segmentName(7), newer)
	other := header{epoch: epoch + 1, number: 1}.append(nil)
	// A lower number than the newest state, so that it cannot be taken for it.
	fs.Put(testDir+"/"+segmentName(0), header{epoch: epoch + 1, number: 0}.append(nil))
	fs.Put(testDir+"/notes.txt", []byte("do not delete"))
	s = open(t, options(fs, MinMaxBytes))
	if s.Epoch() != epoch || s.OpenReport().Damages != 2 {
		t.Errorf("epoch %x, report %+v", s.Epoch(), s.OpenReport())
	}
	if got := numbers(drainAll(t, s)); got != "1" {
		t.Errorf("got %q", got)
	}
	if !bytes.Equal(fs.Bytes(testDir+"/"+segmentName(7)), newer) || len(fs.Bytes(testDir+"/"+segmentName(0))) != len(other) || fs.Bytes(testDir+"/notes.txt") == nil {
		t.Error("a strange file was changed")
	}
}

// FuzzSegment: whatever a file holds, scanning and opening end, and what comes out is
// consistent.
func FuzzSegment(f *testing.F) {
	golden := goldenSegment()
	f.Add(golden)
	f.Add(golden[:len(golden)-7])
	f.Add(append(bytes.Clone(golden[:headerSize]), golden[headerSize+9:]...))
	f.Add(append(bytes.Clone(golden), make([]byte, 500)...))
	f.Add(bytes.Repeat([]byte(marker), 300))
	f.Add([]byte(magicPrefix + "002"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scanSegment(bytes.NewReader(data), int64(len(data)), 3)
		if err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		for _, p := range s.places {
			if p.offset < end || p.end() > int64(len(data)) {
				t.Fatalf("record at %d after %d of %d", p.offset, end, len(data))
			}
			end = p.end()
		}
		fs := durabletest.New(1)
		fs.Put(testDir+"/"+segmentName(3), data)
		spool, err := Open(options(fs, MinMaxBytes))
		if err != nil {
			t.Fatal(err)
		}
		if err := spool.core.check(); err != nil {
			t.Fatal(err)
		}
		if err := spool.Append(Record{Seq: spool.NextSeq(), Payload: []byte("next")}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzState: a state record of any bytes is refused or makes sense.
func FuzzState(f *testing.F) {
	f.Add(goldenFrames()[0].payload)
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		snap, err := decodeState(data)
		if err != nil {
			return
		}
		again, err := decodeState(snap.encode())
		if err != nil || again.next != snap.next || again.gaps.numbers() != snap.gaps.numbers() {
			t.Fatalf("encoded again: %+v, %v", again, err)
		}
	})
}
