package wire

import "fmt"

// Limits bound what a packet may be. Over a limit is an error, never a cut.
type Limits struct {
	CompressedBytes int // of the body
	DecodedBytes    int // of the message after decompression
	Ratio           int // decoded to compressed bytes, for messages of more than ratioFreeBytes
	WindowBytes     int // memory a zstd frame may ask for; at least 1 KiB

	Names       int // strings in the dictionary
	StringBytes int // of one string, anywhere
	Snapshots   int // per packet
	Streams     int // per snapshot
	Events      int // per snapshot
	Sessions    int // per snapshot
	Rows        int // streams, events and sessions of all snapshots together
	Gaps        int // per packet
}

// A tiny message may compress as well as it likes.
const ratioFreeBytes = 1 << 20

// DefaultLimits are generous for one agent, which watches tens of servers with some
// hundred streams each. A row takes some 500 bytes of memory once it is decoded and may
// take one in the message, so Rows is what bounds memory.
func DefaultLimits() Limits {
	return Limits{
		CompressedBytes: 4 << 20,
		DecodedBytes:    64 << 20,
		Ratio:           200,
		WindowBytes:     8 << 20,
		Names:           400_000,
		StringBytes:     4 << 10,
		Snapshots:       1_000,
		Streams:         50_000,
		Events:          50_000,
		Sessions:        100_000,
		Rows:            200_000,
		Gaps:            10_000,
	}
}

func (l Limits) check() error {
	for _, part := range []struct {
		name  string
		value int
		least int
	}{
		{"compressed bytes", l.CompressedBytes, 1},
		{"decoded bytes", l.DecodedBytes, 1},
		{"ratio", l.Ratio, 1},
		{"window bytes", l.WindowBytes, 1 << 10},
		{"names", l.Names, 1},
		{"string bytes", l.StringBytes, 1},
		{"snapshots", l.Snapshots, 1},
		{"streams", l.Streams, 1},
		{"events", l.Events, 1},
		{"sessions", l.Sessions, 1},
		{"rows", l.Rows, 1},
		{"gaps", l.Gaps, 1},
	} {
		if part.value < part.least {
			return fmt.Errorf("limit of %s is %d, at least %d is needed", part.name, part.value, part.least)
		}
	}
	return nil
}
