package spool

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
)

// scanChunkBytes is how much the search for the next record reads at once.
const scanChunkBytes = 64 << 10

// maxSeq is far above any number that is given out. It keeps sums from overflowing.
const maxSeq = 1 << 62

// place is where a valid record stands in a segment. Control records bring their
// payload along; packets are read when they are taken.
type place struct {
	frame
	offset int64
	length int64 // of the payload
}

func (p place) end() int64 { return p.offset + headSize + p.length }

// scan is what one segment file holds.
type scan struct {
	number    uint64
	size      int64
	header    header
	headerOK  bool
	newer     bool // another version's: nothing else is known
	places    []place
	damage    []Damage
	broken    []place // heads of records whose payload is damaged
	tailStart int64   // end of the last valid record (or broken head's record)
	tailZero  bool    // what follows it is nothing but zeros
}

// epoch is the epoch of the segment, from its header or else from its records.
func (s *scan) epoch() (uint64, bool) {
	if s.headerOK {
		return s.header.epoch, true
	}
	if len(s.places) > 0 {
		return s.places[0].epoch, true
	}
	return 0, false
}

// tail is the length of what follows the last valid record.
func (s *scan) tail() int64 { return s.size - s.tailStart }

// scanSegment reads a whole segment. It needs memory for the largest record, and
// time in proportion to the size whatever the bytes are. Only errors of reading that
// are not about single places are returned.
func scanSegment(r io.ReaderAt, size int64, number uint64) (*scan, error) {
	s := &scan{number: number, size: size}
	z := &scanner{r: r, scan: s, name: segmentName(number)}
	z.readHeader()
	if s.newer {
		return s, nil
	}
	for offset := s.tailStart; offset < size; {
		next, ok := z.record(offset)
		if ok {
			offset = next
			s.tailStart = offset
			continue
		}
		next, err := z.search(offset)
		if err != nil {
			return nil, err
		}
		if next < 0 {
			z.tail(offset)
			break
		}
		z.damaged(offset, next-offset, DamageBytes, "")
		offset = next
		s.tailStart = offset
	}
	return s, nil
}

type scanner struct {
	r    io.ReaderAt
	scan *scan
	name string
	body []byte // reused for every payload
}

func (z *scanner) damaged(offset, length int64, kind DamageKind, detail string) {
	z.scan.damage = append(z.scan.damage, Damage{File: z.name, Offset: offset, Length: length, Kind: kind, Detail: detail})
}

func (z *scanner) readHeader() {
	s := z.scan
	data := make([]byte, min(headerSize, s.size))
	if _, err := z.r.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		z.damaged(0, int64(len(data)), DamageRead, err.Error())
		return
	}
	h, kind := parseHeader(data, s.number)
	if kind == DamageVersion && !z.hasRecordAt(headerSize) {
		s.newer = true
		z.damaged(0, s.size, DamageVersion, string(data[:len(magic)]))
		return
	}
	if kind == "" {
		s.header, s.headerOK = h, true
		s.tailStart = headerSize
		return
	}
	if z.hasRecordAt(headerSize) {
		z.damaged(0, headerSize, DamageHeader, "")
		s.tailStart = headerSize
	}
	// Otherwise the search begins at 0, and says what it finds.
}

func (z *scanner) hasRecordAt(offset int64) bool {
	_, ok := z.headAt(offset)
	return ok
}

func (z *scanner) headAt(offset int64) (head, bool) {
	var data [headSize]byte
	if offset+headSize > z.scan.size {
		return head{}, false
	}
	if _, err := z.r.ReadAt(data[:], offset); err != nil && !errors.Is(err, io.EOF) {
		return head{}, false
	}
	return parseHead(data[:], z.scan.number, offset)
}

// record reads the record at an offset and returns where the next one begins. False
// when there is no valid head there.
func (z *scanner) record(offset int64) (next int64, ok bool) {
	h, ok := z.headAt(offset)
	if !ok {
		return 0, false
	}
	p := place{frame: h.frame, offset: offset, length: int64(h.length)}
	if p.end() > z.scan.size {
		// The head arrived, the payload did not: a write cut short. The head still
		// tells the number.
		z.breaks(p)
		return 0, false
	}
	body, err := z.read(p)
	switch {
	case err != nil:
		z.damaged(offset, p.end()-offset, DamageRead, err.Error())
		z.breaks(p)
	case crc32.Checksum(body, castagnoli) != h.bodySum:
		z.damaged(offset, p.end()-offset, DamageRecord, "")
		z.breaks(p)
	case !z.sameEpoch(h.epoch) || h.first > h.seq || h.seq > maxSeq:
		z.damaged(offset, p.end()-offset, DamageEpoch, "")
	default:
		if h.kind == typeState || h.kind == typeGap {
			p.payload = bytes.Clone(body)
		}
		z.scan.places = append(z.scan.places, p)
	}
	return p.end(), true
}

// breaks notes a record of which only the head is good.
func (z *scanner) breaks(p place) {
	if z.sameEpoch(p.epoch) && p.first <= p.seq && p.seq <= maxSeq {
		z.scan.broken = append(z.scan.broken, p)
	}
}

func (z *scanner) sameEpoch(epoch uint64) bool {
	have, known := z.scan.epoch()
	return !known || have == epoch
}

func (z *scanner) read(p place) ([]byte, error) {
	if int64(cap(z.body)) < p.length {
		z.body = make([]byte, p.length)
	}
	body := z.body[:p.length]
	_, err := z.r.ReadAt(body, p.offset+headSize)
	if errors.Is(err, io.EOF) && p.end() == z.scan.size {
		err = nil // ReaderAt may say so at the very end
	}
	return body, err
}

// search returns the offset of the next valid head after from, or -1. A place that
// cannot be read is stepped over chunk by chunk.
func (z *scanner) search(from int64) (int64, error) {
	z.scan.tailZero = true
	chunk := make([]byte, scanChunkBytes)
	for offset := from; offset < z.scan.size; {
		part := chunk[:min(int64(len(chunk)), z.scan.size-offset)]
		n, err := z.r.ReadAt(part, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			z.damaged(offset, int64(len(part)), DamageRead, err.Error())
			z.scan.tailZero = false
			offset += int64(len(part))
			continue
		}
		part = part[:n]
		if n == 0 {
			return -1, nil // the file became shorter while it was read
		}
		if at := z.searchIn(part, offset, from); at >= 0 {
			return at, nil
		}
		if offset+int64(n) >= z.scan.size {
			return -1, nil
		}
		// A marker may lie across the border.
		offset += max(1, int64(n)-int64(len(marker))+1)
	}
	return -1, nil
}

func (z *scanner) searchIn(part []byte, offset, from int64) int64 {
	if z.scan.tailZero && len(bytes.Trim(part, "\x00")) > 0 {
		z.scan.tailZero = false
	}
	for i := 0; ; i++ {
		j := bytes.Index(part[i:], []byte(marker))
		if j < 0 {
			return -1
		}
		i += j
		if at := offset + int64(i); at > from && z.hasRecordAt(at) {
			return at
		}
	}
}

// tail notes that nothing valid follows offset.
func (z *scanner) tail(offset int64) {
	z.scan.tailStart = offset
	z.damaged(offset, z.scan.size-offset, DamageTail, "")
}
