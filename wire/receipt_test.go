package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"vigil/fleet"
	"vigil/wire/wirepb"
)

func TestReceiptRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []fleet.Receipt{
		{},
		{StoredKnown: true},
		{StoredKnown: true, Stored: 41, StoredAhead: []fleet.SeqRange{{First: 43, Last: 43}, {First: 50, Last: 60}}},
		{Settings: fleet.Settings{IntervalMs: 5_000, ClientListEveryMs: 60_000}},
	} {
		data := EncodeReceipt(&want)
		got, err := DecodeReceipt(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("receipt (-want +got):\n%s", diff)
		}
		var pb wirepb.Receipt
		if err := proto.Unmarshal(data, &pb); err != nil {
			t.Fatal(err)
		}
		if pb.Stored != want.Stored || pb.StoredKnown != want.StoredKnown || len(pb.StoredAhead) != len(want.StoredAhead) ||
			int64(pb.IntervalMs) != want.Settings.IntervalMs || int64(pb.ClientListEveryMs) != want.Settings.ClientListEveryMs {
			t.Errorf("generated code reads %v as %v", want, &pb)
		}
	}
}

func TestReceiptRefuses(t *testing.T) {
	t.Parallel()
	f := func(r fleet.Receipt) {
		t.Helper()
		if _, err := DecodeReceipt(EncodeReceipt(&r)); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("DecodeReceipt(%+v): %v", r, err)
		}
	}
	f(fleet.Receipt{StoredKnown: true, Stored: MaxSeq + 1})
	f(fleet.Receipt{StoredKnown: true, Stored: 5, StoredAhead: []fleet.SeqRange{{First: 5, Last: 6}}})
	f(fleet.Receipt{StoredKnown: true, Stored: 5, StoredAhead: []fleet.SeqRange{{First: 8, Last: 7}}})
	f(fleet.Receipt{StoredKnown: true, Stored: 5, StoredAhead: []fleet.SeqRange{{First: 8, Last: 9}, {First: 9, Last: 10}}})
	if _, err := DecodeReceipt(make([]byte, maxReceiptBytes+1)); fleet.KindOf(err) != fleet.KindTooLarge {
		t.Errorf("huge receipt: %v", err)
	}
	if _, err := DecodeReceipt(appendVarintField(nil, 2, 5)); err == nil {
		t.Error("stored without stored_known was accepted")
	}
}
