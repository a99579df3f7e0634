package wire

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Protobuf wire types.
const (
	typeVarint  = 0
	typeFixed64 = 1
	typeBytes   = 2
	typeFixed32 = 5
)

// Groups are the only thing in protobuf that nests without a length. No version of
// packet.proto has any, so they are refused instead of followed.
var (
	errTruncated = errors.New("wire: message is truncated")
	errVarint    = errors.New("wire: varint has more than 64 bits")
	errFieldType = errors.New("wire: field has a wire type that does not exist")
	errFieldZero = errors.New("wire: field number is 0 or too large")
	errColumn    = errors.New("wire: column is over the limit")
)

// field is one field of a message.
type field struct {
	number uint32
	kind   uint8
	value  uint64 // of a varint or fixed field
	bytes  []byte // of a bytes field
}

// key combines number and wire type: a known number with another type is an unknown
// field, as the protobuf specification has it.
func (f *field) key() uint32 { return f.number<<3 | uint32(f.kind) }

// next reads the first field of b and returns what follows it.
func (f *field) next(b []byte) ([]byte, error) {
	tag, n := uvarint(b)
	if n <= 0 {
		return nil, varintError(n)
	}
	b = b[n:]
	if tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return nil, errFieldZero
	}
	f.number, f.kind, f.value, f.bytes = uint32(tag>>3), uint8(tag&7), 0, nil
	switch f.kind {
	case typeVarint:
		f.value, n = uvarint(b)
		if n <= 0 {
			return nil, varintError(n)
		}
		return b[n:], nil
	case typeFixed64:
		if len(b) < 8 {
			return nil, errTruncated
		}
		f.value = binary.LittleEndian.Uint64(b)
		return b[8:], nil
	case typeFixed32:
		if len(b) < 4 {
			return nil, errTruncated
		}
		f.value = uint64(binary.LittleEndian.Uint32(b))
		return b[4:], nil
	case typeBytes:
		size, n := uvarint(b)
		if n <= 0 {
			return nil, varintError(n)
		}
		b = b[n:]
		if size > uint64(len(b)) {
			return nil, errTruncated
		}
		f.bytes = b[:size]
		return b[size:], nil
	}
	return nil, errFieldType
}

// uvarint is binary.Uvarint with a fast path for one byte. n is 0 when b is too
// short and negative when the number has more than 64 bits.
func uvarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

func varintError(n int) error {
	if n < 0 {
		return errVarint
	}
	return errTruncated
}

// appendColumn appends the numbers of a repeated field, packed or not, to a column of
// at most limit rows.
func appendColumn(column []uint64, f *field, limit int) ([]uint64, error) {
	if f.kind == typeVarint {
		if len(column) >= limit {
			return column, errColumn
		}
		return append(column, f.value), nil
	}
	b := f.bytes
	// Every number has at least one byte, so b bounds how many there are.
	if free := cap(column) - len(column); free < len(b) {
		column = growColumn(column, min(len(b), limit-len(column)))
	}
	n, room := len(column), column[:min(cap(column), max(limit, len(column)))]
	for i := 0; i < len(b); n++ {
		if n >= len(room) {
			return column, errColumn
		}
		if c := b[i]; c < 0x80 {
			room[n] = uint64(c)
			i++
			continue
		}
		v, size := multiByteUvarint(b[i:])
		if size <= 0 {
			return column, varintError(size)
		}
		room[n] = v
		i += size
	}
	return room[:n], nil
}

func growColumn(column []uint64, more int) []uint64 {
	grown := make([]uint64, len(column), len(column)+max(more, 0))
	copy(grown, column)
	return grown
}

// multiByteUvarint reads a varint whose first byte has the continuation bit. Up to
// eight bytes are taken at once; the rest goes the slow way.
func multiByteUvarint(b []byte) (uint64, int) {
	if len(b) < 8 {
		return binary.Uvarint(b)
	}
	word := binary.LittleEndian.Uint64(b)
	stop := ^word & 0x8080808080808080
	if stop == 0 {
		return binary.Uvarint(b)
	}
	n := bits.TrailingZeros64(stop)/8 + 1
	word &= ^uint64(0) >> (64 - 8*n)
	// Squeeze out the continuation bits: 7 of 8 bits, in pairs, fours, eight.
	word = word&0x007f007f007f007f | word&0x7f007f007f007f00>>1
	word = word&0x00003fff00003fff | word&0x3fff00003fff0000>>2
	word = word&0x000000000fffffff | word&0x0fffffff00000000>>4
	return word, n
}

// zigzag decodes a sint64.
func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// appendTag, appendVarintField and appendBytesField write one field. Zero values are
// left out, as proto3 has it.
func appendTag(b []byte, number uint32, kind uint8) []byte {
	return binary.AppendUvarint(b, uint64(number)<<3|uint64(kind))
}

func appendVarintField(b []byte, number uint32, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, number, typeVarint), v)
}

func appendFixed64Field(b []byte, number uint32, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(appendTag(b, number, typeFixed64), v)
}

func appendBytesField[T string | []byte](b []byte, number uint32, v T) []byte {
	b = binary.AppendUvarint(appendTag(b, number, typeBytes), uint64(len(v)))
	return append(b, v...)
}
