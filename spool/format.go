package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"
)

// Format v1. All numbers are little endian.
//
// A segment is a file named by its number, 16 hexadecimal digits and ".seg". It
// begins with a header:
//
//	16 magic "VIGIL-SPOOL v001"
//	 8 epoch
//	 8 number of the segment, as in its name
//	 4 flags: 1 = draft of a new epoch
//	 4 CRC-32C of the bytes before
//
// Records follow without padding:
//
//	4 marker "\xf5VSR"
//	4 CRC-32C of (number of the segment, offset of the record, bytes 8 to 51)
//	4 CRC-32C of the payload
//	4 length of the payload
//	1 type
//	1 flags: 1 = held
//	2 zero
//	8 epoch
//	8 first sequence number
//	8 last sequence number
//	8 time, UTC ms
//	n payload
//
// The head has a checksum of its own, so that a record with a damaged payload can
// still be named and stepped over, and so that the search for the next record after
// damage costs little however the bytes look. Number and offset are part of it: a
// record at a place where it was not written is not a record.
const (
	magicPrefix   = "VIGIL-SPOOL v"
	magic         = magicPrefix + "001"
	headerSize    = 40
	headSize      = 52
	segmentSuffix = ".seg"

	headerDraft = 1 // flag of a segment header
	flagHeld    = 1 // flag of a record
)

// marker begins every record.
const marker = "\xf5VSR"

// The types of records. Unknown types are stepped over: a later version may add some.
const (
	typePacket  = 1
	typeRelease = 2 // held records with a number below seq may be sent
	typeGap     = 3 // payload: reason; first and last number
	typeState   = 4 // payload: see state.go
)

// maxPayloadBytes bounds the payload of any record in any spool.
const maxPayloadBytes = 16 << 20

// castagnoli never changes; crc32 uses the processor's instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the beginning of a segment.
type header struct {
	epoch  uint64
	number uint64
	flags  uint32
}

func (h header) append(buf []byte) []byte {
	start := len(buf)
	buf = append(buf, magic...)
	buf = binary.LittleEndian.AppendUint64(buf, h.epoch)
	buf = binary.LittleEndian.AppendUint64(buf, h.number)
	buf = binary.LittleEndian.AppendUint32(buf, h.flags)
	return binary.LittleEndian.AppendUint32(buf, crc32.Checksum(buf[start:], castagnoli))
}

// parseHeader returns the header, or what is wrong with it ("" when nothing is).
func parseHeader(data []byte, number uint64) (header, DamageKind) {
	if len(data) < headerSize {
		return header{}, DamageHeader
	}
	data = data[:headerSize]
	if bytes.HasPrefix(data, []byte(magicPrefix)) && string(data[:len(magic)]) != magic && isVersion(data[len(magicPrefix):len(magic)]) {
		return header{}, DamageVersion
	}
	h := header{
		epoch:  binary.LittleEndian.Uint64(data[16:]),
		number: binary.LittleEndian.Uint64(data[24:]),
		flags:  binary.LittleEndian.Uint32(data[32:]),
	}
	sum := binary.LittleEndian.Uint32(data[36:])
	if string(data[:len(magic)]) != magic || sum != crc32.Checksum(data[:36], castagnoli) || h.number != number {
		return header{}, DamageHeader
	}
	return h, ""
}

// isVersion reports whether the digits are a version number. A newer version is
// expected to count on from 001; a flipped bit seldom yields digits, and when it
// does, the records of the file still carry this version's marker (see scan).
func isVersion(digits []byte) bool {
	_, err := strconv.ParseUint(string(digits), 10, 16)
	return err == nil
}

// frame is a record without its place.
type frame struct {
	kind    byte
	flags   byte
	epoch   uint64
	first   uint64
	seq     uint64
	atMs    int64
	payload []byte
}

func (f frame) size() int64 { return headSize + int64(len(f.payload)) }

// append writes the frame for one place: it is not valid at another.
func (f frame) append(buf []byte, number uint64, offset int64) []byte {
	start := len(buf)
	buf = append(buf, marker...)
	buf = append(buf, 0, 0, 0, 0) // checksum of the head, below
	buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(f.payload, castagnoli))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(f.payload)))
	buf = append(buf, f.kind, f.flags, 0, 0)
	buf = binary.LittleEndian.AppendUint64(buf, f.epoch)
	buf = binary.LittleEndian.AppendUint64(buf, f.first)
	buf = binary.LittleEndian.AppendUint64(buf, f.seq)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(f.atMs))
	head := buf[start:]
	binary.LittleEndian.PutUint32(head[4:], headSum(head, number, offset))
	return append(buf, f.payload...)
}

// head is a record's head as it stands in a segment.
type head struct {
	frame
	bodySum uint32
	length  uint32
}

// parseHead returns the head at an offset of a segment, and whether it is valid.
func parseHead(data []byte, number uint64, offset int64) (head, bool) {
	if len(data) < headSize || string(data[:4]) != marker {
		return head{}, false
	}
	data = data[:headSize]
	if binary.LittleEndian.Uint32(data[4:]) != headSum(data, number, offset) {
		return head{}, false
	}
	h := head{
		bodySum: binary.LittleEndian.Uint32(data[8:]),
		length:  binary.LittleEndian.Uint32(data[12:]),
		frame: frame{
			kind:  data[16],
			flags: data[17],
			epoch: binary.LittleEndian.Uint64(data[20:]),
			first: binary.LittleEndian.Uint64(data[28:]),
			seq:   binary.LittleEndian.Uint64(data[36:]),
			atMs:  int64(binary.LittleEndian.Uint64(data[44:])),
		},
	}
	return h, h.length <= maxPayloadBytes
}

func headSum(head []byte, number uint64, offset int64) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], number)
	binary.LittleEndian.PutUint64(place[8:], uint64(offset))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, head[8:headSize])
}

// segmentName is the file name of a segment.
func segmentName(number uint64) string {
	digits := strconv.FormatUint(number, 16)
	return strings.Repeat("0", 16-len(digits)) + digits + segmentSuffix
}

// segmentNumber is the reverse; false for other files.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, err == nil && segmentName(number) == name
}
