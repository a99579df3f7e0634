package wire

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"vigil/fleet"
)

// Matches are looked for this far back. Names stand once per packet and columns are
// regular, so a larger window gains nothing and costs an agent memory.
const encoderWindowBytes = 256 << 10

// Smaller messages gain nothing, and the compressor would leave out their size.
const minCompressBytes = 256

// Scratch memory that grew beyond this is not kept for the next packet.
const keepScratchBytes = 8 << 20

// Codec encodes and decodes packets. It keeps compressors and scratch memory, so one
// Codec serves a whole process. Safe for concurrent use.
type Codec struct {
	lim      Limits
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
	encoding sync.Pool // of *encoding
	decoding sync.Pool // of *decoding
	unknown  atomic.Uint64
}

// NewCodec returns a codec that keeps to the given limits. It is small until the
// first packet: tables are made when they are needed.
func NewCodec(lim Limits) (*Codec, error) {
	if err := lim.check(); err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	// A frame is small, so no work inside one is spread over goroutines: EncodeAll and
	// DecodeAll run on the caller's.
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
		zstd.WithDecodeAllCapLimit(true), // the caller sizes the output, and that is the end of it
	)
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	c := &Codec{lim: lim, encoder: encoder, decoder: decoder}
	c.encoding.New = func() any { return newEncoding() }
	c.decoding.New = func() any { return new(decoding) }
	return c, nil
}

// Limits returns the limits that the codec keeps to.
func (c *Codec) Limits() Limits { return c.lim }

// UnknownFields counts the fields, in all packets decoded so far, that this version
// does not know.
func (c *Codec) UnknownFields() uint64 { return c.unknown.Load() }

// Encode returns the packet as it is posted: one zstd frame. It refuses a packet that
// Decode with the same limits would refuse. Bytes that are not UTF-8 are written as
// \xHH, so that different names stay different. Errors are *fleet.Error.
func (c *Codec) Encode(p *fleet.Packet) ([]byte, error) {
	e := c.encoding.Get().(*encoding)
	defer c.putEncoding(e)
	message, err := e.packet(p, c.lim)
	if err != nil {
		return nil, err
	}
	if len(message) > c.lim.DecodedBytes {
		return nil, tooLarge("the packet has %d bytes before compression, %d are allowed", len(message), c.lim.DecodedBytes)
	}
	if len(message) < minCompressBytes {
		return storedFrame(message), nil
	}
	out := c.encoder.EncodeAll(message, make([]byte, 0, len(message)/3+128))
	if !ratioAllowed(len(out), uint64(len(message)), c.lim) {
		// So regular that the receiver would take it for a bomb. Plain blocks say the same.
		out = storedFrame(message)
	}
	if len(out) > c.lim.CompressedBytes {
		return nil, tooLarge("the packet has %d bytes, %d are allowed", len(out), c.lim.CompressedBytes)
	}
	return out, nil
}

// storedFrame is a zstd frame of uncompressed blocks (RFC 8878, 3.1.1).
func storedFrame(message []byte) []byte {
	const blockBytes = 128 << 10
	out := make([]byte, 0, len(message)+16+3*(len(message)/blockBytes+1))
	out = binary.LittleEndian.AppendUint32(out, 0xFD2FB528)
	out = append(out, 3<<6, 7<<3) // content size in 8 bytes, window of 128 KiB
	out = binary.LittleEndian.AppendUint64(out, uint64(len(message)))
	for {
		block := message[:min(blockBytes, len(message))]
		message = message[len(block):]
		head := uint32(len(block)) << 3
		if len(message) == 0 {
			head |= 1 // last
		}
		out = append(out, byte(head), byte(head>>8), byte(head>>16))
		out = append(out, block...)
		if len(message) == 0 {
			return out
		}
	}
}

// Decode reads a packet and checks everything that can be checked without a store.
// The packet shares no memory with data, and whoever keeps one of its strings keeps at
// most some hundred bytes of others alive. Errors are *fleet.Error with KindInvalid or KindTooLarge.
func (c *Codec) Decode(data []byte) (*fleet.Packet, error) {
	p, _, err := c.DecodeInfo(data)
	return p, err
}

// DecodeInfo is Decode and says what it cost.
func (c *Codec) DecodeInfo(data []byte) (*fleet.Packet, Info, error) {
	info := Info{CompressedBytes: len(data)}
	size, err := frameSize(data, c.lim)
	if err != nil {
		return nil, info, err
	}
	d := c.decoding.Get().(*decoding)
	defer c.putDecoding(d)
	if cap(d.message) < size {
		d.message = make([]byte, 0, size)
	}
	message, err := c.decoder.DecodeAll(data, d.message[:0:size])
	if err != nil {
		return nil, info, &fleet.Error{Kind: fleet.KindInvalid, Message: "the packet is not a whole zstd frame", Err: err}
	}
	if len(message) != size {
		return nil, info, invalid("the zstd frame says that it holds %d bytes and holds %d", size, len(message))
	}
	info.DecodedBytes = size
	p, err := d.packet(message, c.lim)
	info.UnknownFields = d.unknown
	if err != nil {
		return nil, info, err
	}
	if d.unknown > 0 {
		c.unknown.Add(uint64(d.unknown))
	}
	return p, info, nil
}

// frameSize reads what a zstd frame says about itself and refuses what is over a
// limit before anything is allocated.
func frameSize(data []byte, lim Limits) (int, error) {
	if len(data) == 0 {
		return 0, invalid("the packet is empty")
	}
	if len(data) > lim.CompressedBytes {
		return 0, tooLarge("the packet has %d bytes, %d are allowed", len(data), lim.CompressedBytes)
	}
	var head zstd.Header
	if err := head.Decode(data); err != nil {
		return 0, &fleet.Error{Kind: fleet.KindInvalid, Message: "the packet does not begin with a zstd frame", Err: err}
	}
	switch {
	case head.Skippable:
		return 0, invalid("the packet begins with a skippable zstd frame instead of data")
	case !head.HasFCS:
		return 0, invalid("the zstd frame does not say how many bytes it holds")
	case head.DictionaryID != 0:
		return 0, invalid("the zstd frame needs dictionary %d, and packets have none", head.DictionaryID)
	case head.FrameContentSize > uint64(lim.DecodedBytes):
		return 0, tooLarge("the packet has %d bytes after decompression, %d are allowed", head.FrameContentSize, lim.DecodedBytes)
	case head.WindowSize > uint64(lim.WindowBytes):
		return 0, tooLarge("the zstd frame asks for a window of %d bytes, %d are allowed", head.WindowSize, lim.WindowBytes)
	case !ratioAllowed(len(data), head.FrameContentSize, lim):
		return 0, tooLarge("the packet claims to grow more than %d times by decompression", lim.Ratio)
	}
	return int(head.FrameContentSize), nil
}

func ratioAllowed(compressed int, decoded uint64, lim Limits) bool {
	return decoded <= ratioFreeBytes || decoded/uint64(lim.Ratio) <= uint64(compressed)
}

func (c *Codec) putEncoding(e *encoding) {
	if e.keepable() {
		c.encoding.Put(e)
	}
}

func (c *Codec) putDecoding(d *decoding) {
	if d.keepable() {
		c.decoding.Put(d)
	}
}

func invalid(format string, args ...any) error {
	return &fleet.Error{
		Kind:    fleet.KindInvalid,
		Message: fmt.Sprintf(format, args...),
		Hint:    "compare the agent that made it with packet.proto",
	}
}

func tooLarge(format string, args ...any) error {
	return &fleet.Error{
		Kind:    fleet.KindTooLarge,
		Message: fmt.Sprintf(format, args...),
		Hint:    "send fewer servers or streams per packet, or raise the limit on both sides",
	}
}
