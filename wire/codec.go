package wire

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"vigil/fleet"
)

// Codec encodes and decodes packets. It keeps compressors and scratch memory, so one
// Codec serves a whole process. Safe for concurrent use.
type Codec struct {
	lim      Limits
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
	encoding sync.Pool // of *encodeScratch
	decoding sync.Pool // of *decodeScratch
	unknown  atomic.Uint64
}

// NewCodec returns a codec that keeps to the given limits.
func NewCodec(lim Limits) (*Codec, error) {
	if err := lim.check(); err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	// One frame is small: work inside a frame is never spread over goroutines, and
	// EncodeAll and DecodeAll run on the caller's.
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(encoderWindowBytes),
		zstd.WithLowerEncoderMem(true),
	)
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	decoder, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(uint64(lim.DecodedBytes)),
		zstd.WithDecoderMaxWindow(uint64(lim.WindowBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	c := &Codec{lim: lim, encoder: encoder, decoder: decoder}
	c.encoding.New = func() any { return new(encodeScratch) }
	c.decoding.New = func() any { return new(decodeScratch) }
	return c, nil
}

// Limits returns the limits that the codec keeps to.
func (c *Codec) Limits() Limits { return c.lim }

// UnknownFields counts the fields in all decoded packets that this version does not
// know.
func (c *Codec) UnknownFields() uint64 { return c.unknown.Load() }

// Encode returns the packet as it is posted: one zstd frame. It refuses a packet that
// Decode would refuse. Errors are *fleet.Error.
func (c *Codec) Encode(p *fleet.Packet) ([]byte, error) { panic("todo") }

// Decode reads a packet and checks everything that can be checked without a store.
// The packet shares no memory with data. Errors are *fleet.Error with KindInvalid or
// KindTooLarge.
func (c *Codec) Decode(data []byte) (*fleet.Packet, error) {
	p, _, err := c.DecodeInfo(data)
	return p, err
}

// DecodeInfo is Decode and says what it cost.
func (c *Codec) DecodeInfo(data []byte) (*fleet.Packet, Info, error) { panic("todo") }

// Merge makes one coarser packet of several that follow each other without a hole,
// oldest first. Sums are exact: every delta, viewer-millisecond, event, session and gap
// of the parts is in the whole; gauges are those of the newest, maxima the largest.
func Merge(packets []*fleet.Packet) (*fleet.Packet, error) { panic("todo") }

// EncodeReceipt returns a receipt as it is answered.
func EncodeReceipt(r *fleet.Receipt) []byte { panic("todo") }

// DecodeReceipt reads a receipt. Errors are *fleet.Error.
func DecodeReceipt(data []byte) (*fleet.Receipt, error) { panic("todo") }

const encoderWindowBytes = 512 << 10

type encodeScratch struct{}
type decodeScratch struct{}
