package wire

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"vigil/fleet"
	"vigil/wire/wirepb"
)

// FuzzDecode feeds bodies and, wrapped into a frame, bare messages. Nothing may panic,
// errors are of two kinds, and what is accepted must survive being written again and be
// readable for the generated code.
func FuzzDecode(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "packet-v1.zst"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(good().bytes())
	for _, seed := range []uint64{1, 2} {
		message, err := newEncoding().packet(nginxPacket(3, seed), DefaultLimits())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{}, message...))
	}
	lim := DefaultLimits()
	lim.DecodedBytes, lim.Rows, lim.Streams, lim.Sessions, lim.Events = 1<<20, 2_000, 1_000, 1_000, 1_000
	c, err := NewCodec(lim)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for i, body := range [][]byte{data, storedFrame(data)} {
			p, err := c.Decode(body)
			if err != nil {
				if kind := fleet.KindOf(err); kind != fleet.KindInvalid && kind != fleet.KindTooLarge {
					t.Fatalf("Decode: kind %v: %v", kind, err)
				}
				continue
			}
			if i == 1 {
				var pb wirepb.Packet
				if err := proto.Unmarshal(data, &pb); err != nil {
					t.Fatalf("accepted what the generated code refuses: %v", err)
				}
			}
			again, err := c.Encode(p)
			if err != nil {
				// Enumerations and times are stricter on the way out only when the future is far:
				// online_for and ended_before cannot be negative on the wire, so nothing is left.
				t.Fatalf("cannot write what was read: %v", err)
			}
			got, err := c.Decode(again)
			if err != nil {
				t.Fatalf("cannot read what was written: %v", err)
			}
			if diff := cmp.Diff(p, got, intEqual); diff != "" {
				t.Fatalf("changed by writing and reading (-want +got):\n%s", diff)
			}
		}
	})
}

func FuzzReceipt(f *testing.F) {
	f.Add([]byte{})
	f.Add(EncodeReceipt(&fleet.Receipt{StoredKnown: true, Stored: 7, StoredAhead: []fleet.SeqRange{{First: 9, Last: 12}}, Settings: fleet.Settings{IntervalMs: 10_000}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeReceipt(data)
		if err != nil {
			if kind := fleet.KindOf(err); kind != fleet.KindInvalid && kind != fleet.KindTooLarge {
				t.Fatalf("DecodeReceipt: kind %v: %v", kind, err)
			}
			return
		}
		var pb wirepb.Receipt
		if err := proto.Unmarshal(data, &pb); err != nil {
			t.Fatalf("accepted what the generated code refuses: %v", err)
		}
		got, err := DecodeReceipt(EncodeReceipt(r))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Fatalf("changed by writing and reading (-want +got):\n%s", diff)
		}
	})
}
