// Package wire is the public language between agents and the service: one packet
// in, one receipt out. packet.proto describes the messages; this package turns them
// into the words of package fleet and back, and refuses everything that is over a
// limit or contradicts itself before it can cost memory.
//
// A packet is one protobuf message in one zstd frame. Inside, streams, events and
// sessions are columns: a column of small numbers compresses far better than rows,
// and a reader can decode it without an allocation per row. Strings stand once per
// packet in a dictionary.
//
// The messages are read and written by hand, field by field. The code that protoc
// makes from packet.proto is package wirepb; the tests use it as the independent
// second implementation. DESIGN.md says why, and how to write your own agent.
//
// A Codec is safe for concurrent use. The package does no I/O and never asks for the
// time.
package wire

import "vigil/fleet"

// Where packets go and what they are called there.
const (
	// PacketPath is where a packet is posted to.
	PacketPath = "/v1/packets"
	// PingPath answers whether a token is good for an agent (?agent=NAME): GET, 200 with
	// {"ok":true} or an error as for packets. Nothing is counted by it.
	PingPath = "/v1/ping"
	// ContentTypePacket is the media type of a request: a packet in one zstd frame.
	ContentTypePacket = "application/vnd.vigil.packet+zstd"
	// ContentTypeReceipt is the media type of the answer to a packet that is durable.
	ContentTypeReceipt = "application/vnd.vigil.receipt"
	// HeaderIdempotencyKey carries fleet.PacketID.String(): the same key means the same
	// packet, so that a repeat on another connection is safe.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderBoot carries, as 16 hexadecimal digits, the boot of the process that sends;
	// the packet itself carries the boot of the one that recorded it. Two senders with one
	// epoch show a cloned spool.
	HeaderBoot = "Vigil-Boot"
	// HeaderHost carries the host name of the sender.
	HeaderHost = "Vigil-Host"
)

// Schema is the version of the packet that this package writes and reads.
const Schema = 1

// MaxSeq is the largest sequence number. It leaves room for arithmetic without
// overflow.
const MaxSeq uint64 = 1 << 62

// Info describes one decoding.
type Info struct {
	CompressedBytes int
	DecodedBytes    int
	UnknownFields   int // fields that this version does not know: the sender is newer
}

// Encode makes a packet ready to be sent. It builds a Codec for this one call;
// whoever encodes more than once keeps a Codec.
func Encode(p *fleet.Packet) ([]byte, error) {
	c, err := NewCodec(DefaultLimits())
	if err != nil {
		return nil, err
	}
	return c.Encode(p)
}

// Decode reads a packet. It builds a Codec for this one call; whoever decodes more
// than once keeps a Codec.
func Decode(data []byte, lim Limits) (*fleet.Packet, error) {
	c, err := NewCodec(lim)
	if err != nil {
		return nil, err
	}
	return c.Decode(data)
}
