package wire

import "vigil/fleet"

const (
	// maxReceiptBytes and maxReceiptRanges bound what an agent reads from a service.
	maxReceiptBytes  = 256 << 10
	maxReceiptRanges = 10_000
)

// EncodeReceipt returns a receipt as it is answered. A receipt with more ranges than a
// reader accepts is cut to the oldest ones: each range is true by itself.
func EncodeReceipt(r *fleet.Receipt) []byte {
	var b, part []byte
	if r.StoredKnown {
		b = appendVarintField(b, 1, 1)
		b = appendVarintField(b, 2, r.Stored)
		for _, s := range r.StoredAhead[:min(len(r.StoredAhead), maxReceiptRanges)] {
			part = appendVarintField(part[:0], 1, s.First)
			part = appendVarintField(part, 2, s.Last)
			b = appendBytesField(b, 3, part)
		}
	}
	b = appendVarintField(b, 4, uint64(max(0, r.Settings.IntervalMs)))
	return appendVarintField(b, 5, uint64(max(0, r.Settings.ClientListEveryMs)))
}

// DecodeReceipt reads a receipt. An empty one is valid and says nothing. Ranges are
// checked to be sorted, disjoint and above Stored. Errors are *fleet.Error.
func DecodeReceipt(data []byte) (*fleet.Receipt, error) {
	if len(data) > maxReceiptBytes {
		return nil, tooLarge("the receipt has %d bytes, %d are allowed", len(data), maxReceiptBytes)
	}
	r := new(fleet.Receipt)
	var err error
	var f field
	for b := data; len(b) > 0; {
		if b, err = f.next(b); err != nil {
			return nil, malformed("receipt", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			r.StoredKnown = f.value != 0
		case 2<<3 | typeVarint:
			r.Stored = f.value
		case 3<<3 | typeBytes:
			err = readRange(r, f.bytes)
		case 4<<3 | typeVarint:
			r.Settings.IntervalMs, err = small(f.value, "interval_ms")
		case 5<<3 | typeVarint:
			r.Settings.ClientListEveryMs, err = small(f.value, "client_list_every_ms")
		}
		if err != nil {
			return nil, err
		}
	}
	return r, checkReceipt(r)
}

func readRange(r *fleet.Receipt, b []byte) (err error) {
	if len(r.StoredAhead) >= maxReceiptRanges {
		return tooLarge("the receipt has more than %d ranges", maxReceiptRanges)
	}
	var s fleet.SeqRange
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("range", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			s.First = f.value
		case 2<<3 | typeVarint:
			s.Last = f.value
		}
	}
	r.StoredAhead = append(r.StoredAhead, s)
	return nil
}

func checkReceipt(r *fleet.Receipt) error {
	if !r.StoredKnown && (r.Stored != 0 || len(r.StoredAhead) > 0) {
		return invalid("the receipt says what is stored and that it does not know")
	}
	if r.Stored > MaxSeq {
		return invalid("the receipt says that %d packets are stored, more than 2^62", r.Stored)
	}
	last := r.Stored
	for _, s := range r.StoredAhead {
		if s.First <= last || s.Last < s.First || s.Last > MaxSeq {
			return invalid("the receipt has the range %d to %d after %d", s.First, s.Last, last)
		}
		last = s.Last
	}
	return nil
}
