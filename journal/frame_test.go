package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vigil/fleet"
)

func pointers(entries []Entry) []*Entry {
	list := make([]*Entry, len(entries))
	for i := range entries {
		list[i] = &entries[i]
	}
	return list
}

func drawEntry(t *rapid.T) Entry {
	return Entry{
		ID: fleet.PacketID{
			Agent: rapid.StringN(0, 40, maxAgentBytes).Draw(t, "agent"),
			Epoch: rapid.Uint64().Draw(t, "epoch"),
			Seq:   rapid.Uint64().Draw(t, "seq"),
		},
		FirstSeq:   rapid.Uint64().Draw(t, "first"),
		ReceivedMs: rapid.Int64().Draw(t, "received"),
		Boot:       rapid.Uint64().Draw(t, "boot"),
		Payload:    rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
	}
}

func TestFrameGivesBackWhatWasPutIn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawEntry), 0, 20).Draw(t, "entries")
		got, err := decodeFrame(encodeFrame(pointers(want)))
		if err != nil {
			t.Fatalf("decodeFrame: %v", err)
		}
		if len(got) != len(want) {
			t.Fatalf("decodeFrame gave %d entries, want %d", len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i].Payload, want[i].Payload) {
				t.Fatalf("payload %d differs", i)
			}
			got[i].Payload, want[i].Payload = nil, nil
			if diff := cmp.Diff(want[i], got[i]); diff != "" {
				t.Fatalf("entry %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

// Every single flipped bit and every cut is noticed.
func TestFrameNoticesDamage(t *testing.T) {
	t.Parallel()
	frame := encodeFrame(pointers([]Entry{
		{ID: fleet.PacketID{Agent: "edge-1", Epoch: 7, Seq: 3}, FirstSeq: 3, ReceivedMs: 1, Boot: 2, Payload: []byte("first")},
		{ID: fleet.PacketID{Agent: "edge-2", Epoch: 8, Seq: 1}, FirstSeq: 1, ReceivedMs: 2, Boot: 3, Payload: []byte("second")},
	}))
	for i := range frame {
		for bit := range 8 {
			damaged := bytes.Clone(frame)
			damaged[i] ^= 1 << bit
			if _, err := decodeFrame(damaged); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d bit %d flipped: err = %v, want ErrDamaged", i, bit, err)
			}
		}
		if _, err := decodeFrame(frame[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: err = %v, want ErrDamaged", i, err)
		}
	}
	if _, err := decodeFrame(append(bytes.Clone(frame), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte too many: err = %v", err)
	}
}

// A golden frame: what version 1 wrote must stay readable for ever.
func TestFrameVersion1IsReadable(t *testing.T) {
	t.Parallel()
	e := Entry{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: 2}, FirstSeq: 3, ReceivedMs: 4, Boot: 5, Payload: []byte("hell")}
	if got := encodeFrame([]*Entry{&e}); !bytes.Equal(got, goldenV1()) {
		t.Errorf("encodeFrame = %q, want the golden frame", got)
	}
	got, err := decodeFrame(goldenV1())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Entry{e}, got); diff != "" {
		t.Errorf("decodeFrame of the golden frame (-want +got):\n%s", diff)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(encodeFrame(nil))
	f.Add(goldenV1())
	f.Add([]byte("VJ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeFrame(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error %v does not wrap ErrDamaged", err)
			}
			return
		}
		if again := encodeFrame(pointers(entries)); !bytes.Equal(again, data) {
			t.Fatalf("decoded frame encodes to other bytes:\n%q\n%q", data, again)
		}
	})
}

// goldenV1 was made by hand from the description of the format, not by encodeFrame.
func goldenV1() []byte {
	frame, err := hex.DecodeString("564a010001000000376ad2772f000000578698750100000000000000020000000000000003000000000000000400000000000000050000000000000001006168656c6c")
	if err != nil {
		panic(err)
	}
	return frame
}
