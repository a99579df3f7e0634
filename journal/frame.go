package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"vigil/bus"
	"vigil/fleet"
)

// The frame of a message, version 1. All numbers are little endian.
//
//	0  2  magic "VJ"
//	2  1  version
//	3  1  zero
//	4  4  number of entries
//	8  4  CRC32C of bytes 0 to 7
//	then for every entry
//	0  4  length of the body in bytes
//	4  4  CRC32C of the body
//	8     body: epoch 8, seq 8, first seq 8, received ms 8, boot 8, length of the
//	      agent name 2, agent name, payload (the rest)
//
// The checksums are our own: the server has some too, but an entry must be known to be
// what ingest accepted however it came here, from a file, a peer or a backup.
const (
	frameVersion     = 1
	frameHeaderBytes = 12
	entryHeaderBytes = 8
	entryFixedBytes  = 5*8 + 2
)

// Limits of a frame.
const (
	maxAgentBytes   = 1 << 10
	maxFrameBytes   = bus.MaxMessageBytes
	maxFrameEntries = 4_096
)

// MaxPayloadBytes is the largest payload that Append takes.
const MaxPayloadBytes = maxFrameBytes - frameHeaderBytes - entryHeaderBytes - entryFixedBytes - maxAgentBytes

// encodedBytes is what an entry takes in a frame.
func encodedBytes(e *Entry) int {
	return entryHeaderBytes + entryFixedBytes + len(e.ID.Agent) + len(e.Payload)
}

func checkEntry(e *Entry) error {
	if len(e.ID.Agent) > maxAgentBytes {
		return fmt.Errorf("%w: agent name of %d bytes", ErrTooLarge, len(e.ID.Agent))
	}
	if len(e.Payload) > MaxPayloadBytes {
		return fmt.Errorf("%w: payload of %d bytes, at most %d", ErrTooLarge, len(e.Payload), MaxPayloadBytes)
	}
	return nil
}

// encodeFrame writes the entries, which were checked and fit, into one message.
func encodeFrame(entries []*Entry) []byte {
	size := frameHeaderBytes
	for _, e := range entries {
		size += encodedBytes(e)
	}
	buf := make([]byte, 0, size)
	buf = append(buf, 'V', 'J', frameVersion, 0)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(entries)))
	buf = binary.LittleEndian.AppendUint32(buf, checksum(buf))
	for _, e := range entries {
		buf = appendEntry(buf, e)
	}
	return buf
}

func appendEntry(buf []byte, e *Entry) []byte {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	buf = binary.LittleEndian.AppendUint64(buf, e.ID.Epoch)
	buf = binary.LittleEndian.AppendUint64(buf, e.ID.Seq)
	buf = binary.LittleEndian.AppendUint64(buf, e.FirstSeq)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(e.ReceivedMs))
	buf = binary.LittleEndian.AppendUint64(buf, e.Boot)
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(e.ID.Agent)))
	buf = append(buf, e.ID.Agent...)
	buf = append(buf, e.Payload...)
	body := buf[at+entryHeaderBytes:]
	binary.LittleEndian.PutUint32(buf[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(buf[at+4:], checksum(body))
	return buf
}

// decodeFrame reads a message. The payloads point into data. Every error wraps
// ErrDamaged.
func decodeFrame(data []byte) ([]Entry, error) {
	if len(data) < frameHeaderBytes || data[0] != 'V' || data[1] != 'J' {
		return nil, fmt.Errorf("%w: not a frame", ErrDamaged)
	}
	if binary.LittleEndian.Uint32(data[8:]) != checksum(data[:8]) {
		return nil, fmt.Errorf("%w: header checksum", ErrDamaged)
	}
	if data[2] != frameVersion || data[3] != 0 {
		return nil, fmt.Errorf("%w: version %d is not known", ErrDamaged, data[2])
	}
	count := binary.LittleEndian.Uint32(data[4:])
	rest := data[frameHeaderBytes:]
	if count > maxFrameEntries || int(count)*(entryHeaderBytes+entryFixedBytes) > len(rest) {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrDamaged, count, len(data))
	}
	entries := make([]Entry, 0, count)
	for i := range count {
		e, after, err := decodeEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		entries, rest = append(entries, e), after
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last entry", ErrDamaged, len(rest))
	}
	return entries, nil
}

func decodeEntry(data []byte) (e Entry, rest []byte, err error) {
	if len(data) < entryHeaderBytes {
		return e, nil, fmt.Errorf("%w: cut short", ErrDamaged)
	}
	length, sum := binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])
	data = data[entryHeaderBytes:]
	if uint64(length) > uint64(len(data)) || length < entryFixedBytes {
		return e, nil, fmt.Errorf("%w: length %d of %d", ErrDamaged, length, len(data))
	}
	body, rest := data[:length:length], data[length:]
	if checksum(body) != sum {
		return e, nil, fmt.Errorf("%w: entry checksum", ErrDamaged)
	}
	agentBytes := int(binary.LittleEndian.Uint16(body[40:]))
	if agentBytes > maxAgentBytes || entryFixedBytes+agentBytes > len(body) {
		return e, nil, fmt.Errorf("%w: agent name of %d bytes", ErrDamaged, agentBytes)
	}
	return Entry{
		ID: fleet.PacketID{
			Agent: string(body[entryFixedBytes : entryFixedBytes+agentBytes]),
			Epoch: binary.LittleEndian.Uint64(body),
			Seq:   binary.LittleEndian.Uint64(body[8:]),
		},
		FirstSeq:   binary.LittleEndian.Uint64(body[16:]),
		ReceivedMs: int64(binary.LittleEndian.Uint64(body[24:])),
		Boot:       binary.LittleEndian.Uint64(body[32:]),
		Payload:    body[entryFixedBytes+agentBytes:],
	}, rest, nil
}

func checksum(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) // the table is made once inside the package
}
