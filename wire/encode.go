package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"vigil/fleet"
)

// encoding is the scratch memory of one Encode.
type encoding struct {
	message   []byte // the whole packet
	body      []byte // its snapshots, made before the names are known
	part      []byte // one message inside a snapshot
	part2     []byte // one message inside that
	column    []byte
	rows      []uint64
	names     map[string]uint32
	nameList  []string
	nameBytes int
	media     map[fleet.Media]uint32
	mediaList []fleet.Media
	lim       Limits
	err       error // the first thing that cannot be written
}

func newEncoding() *encoding {
	return &encoding{names: make(map[string]uint32), media: make(map[fleet.Media]uint32)}
}

func (e *encoding) keepable() bool {
	size := cap(e.message) + cap(e.body) + cap(e.part) + cap(e.part2) + cap(e.column) +
		8*cap(e.rows) + 16*cap(e.nameList) + 160*cap(e.mediaList)
	e.forget()
	return size <= keepScratchBytes
}

// forget drops the packet's strings, so that the scratch does not keep them alive.
func (e *encoding) forget() {
	clear(e.names)
	clear(e.media)
	clear(e.nameList)
	clear(e.mediaList)
	e.nameList, e.mediaList, e.nameBytes = e.nameList[:0], e.mediaList[:0], 0
}

func (e *encoding) fail(err error) {
	if e.err == nil && err != nil {
		e.err = err
	}
}

func (e *encoding) packet(p *fleet.Packet, lim Limits) ([]byte, error) {
	e.forget()
	e.lim, e.err = lim, nil
	e.message, e.body = e.message[:0], e.body[:0]
	if err := checkEnvelope(p); err != nil {
		return nil, err
	}
	if err := checkCounts(p, lim); err != nil {
		return nil, err
	}
	e.ref("") // index 0
	for i := range p.Snapshots {
		e.part = e.snapshot(e.part[:0], &p.Snapshots[i])
		e.body = appendBytesField(e.body, 10, e.part)
	}
	e.envelope(p)
	if len(e.nameList) > lim.Names {
		e.fail(tooLarge("the packet has %d different names, %d are allowed", len(e.nameList), lim.Names))
	}
	return e.message, e.err
}

func (e *encoding) envelope(p *fleet.Packet) {
	b := e.message
	b = appendVarintField(b, 1, Schema)
	b = e.text(b, 2, p.ID.Agent)
	b = appendFixed64Field(b, 3, p.ID.Epoch)
	b = appendVarintField(b, 4, p.FirstSeq)
	b = appendVarintField(b, 5, p.ID.Seq)
	b = appendFixed64Field(b, 6, p.Boot)
	b = e.text(b, 7, p.AgentVersion)
	b = e.text(b, 8, p.Host)
	for _, name := range e.nameList {
		b = appendBytesField(b, 9, name)
	}
	b = append(b, e.body...)
	for i := range p.Gaps {
		e.part = e.gap(e.part[:0], &p.Gaps[i])
		b = appendBytesField(b, 11, e.part)
	}
	e.message = b
}

func checkCounts(p *fleet.Packet, lim Limits) error {
	if len(p.Snapshots) > lim.Snapshots {
		return tooLarge("the packet has %d snapshots, %d are allowed", len(p.Snapshots), lim.Snapshots)
	}
	if len(p.Gaps) > lim.Gaps {
		return tooLarge("the packet has %d gaps, %d are allowed", len(p.Gaps), lim.Gaps)
	}
	rows := 0
	seen := make(map[string]struct{}, len(p.Snapshots))
	for i := range p.Snapshots {
		s := &p.Snapshots[i]
		if s.Server.Key == "" {
			return invalid("a snapshot does not say which server it is of")
		}
		if _, twice := seen[s.Server.Key]; twice {
			return invalid("two snapshots of the packet are of the server %q", s.Server.Key)
		}
		seen[s.Server.Key] = struct{}{}
		rows += len(s.Streams) + len(s.Events) + len(s.Sessions)
		switch {
		case len(s.Streams) > lim.Streams:
			return tooLarge("the server %q has %d streams, %d are allowed", s.Server.Key, len(s.Streams), lim.Streams)
		case len(s.Events) > lim.Events:
			return tooLarge("the server %q has %d events, %d are allowed", s.Server.Key, len(s.Events), lim.Events)
		case len(s.Sessions) > lim.Sessions:
			return tooLarge("the server %q has %d sessions, %d are allowed", s.Server.Key, len(s.Sessions), lim.Sessions)
		}
	}
	if rows > lim.Rows {
		return tooLarge("the packet has %d streams, events and sessions, %d are allowed", rows, lim.Rows)
	}
	return nil
}

func (e *encoding) gap(b []byte, g *fleet.Gap) []byte {
	if g.FirstSeq == 0 || g.LastSeq < g.FirstSeq || g.LastSeq > MaxSeq {
		e.fail(invalid("a gap has the sequence numbers %d to %d, which is not a range", g.FirstSeq, g.LastSeq))
	}
	b = appendVarintField(b, 1, g.FirstSeq)
	b = appendVarintField(b, 2, g.LastSeq)
	b = appendVarintField(b, 3, e.timeN1(g.FromMs))
	b = appendVarintField(b, 4, e.timeN1(g.ToMs))
	return e.text(b, 5, g.Reason)
}

func (e *encoding) snapshot(b []byte, s *fleet.Snapshot) []byte {
	i := &s.Server
	b = e.text(b, 1, i.Key)
	b = e.text(b, 2, i.Product)
	b = e.text(b, 3, i.Version)
	b = e.text(b, 4, i.Collector)
	b = e.text(b, 5, i.Verified)
	b = e.text(b, 6, i.BootID)
	b = appendVarintField(b, 7, e.timeN1(i.StartedMs))
	for n, v := range []fleet.Int{
		i.Workers, i.ConnLimit, i.ConnsNow, i.StreamsNow, i.PublishersNow, i.ViewersNow, i.CPUMilliPct, i.MemRSSBytes,
	} {
		b = appendVarintField(b, uint32(8+n), e.intN1(v))
	}
	t := &s.Totals
	for n, v := range []fleet.Int{t.BytesIn, t.BytesOut, t.ConnsAccepted, t.ConnsRejected} {
		b = appendVarintField(b, uint32(20+n), e.intN1(v))
	}
	if _, err := wallTime(s.AtMs); err != nil {
		e.fail(err)
	}
	b = appendVarintField(b, 30, uint64(s.AtMs))
	b = appendVarintField(b, 31, e.whole(s.IntervalMs))
	b = appendVarintField(b, 32, e.whole(s.CoveredMs))
	b = appendVarintField(b, 33, e.intN1(s.ViewerMs))
	b = appendVarintField(b, 34, e.intN1(s.ViewersMax))
	b = appendVarintField(b, 35, uint64(s.Status))
	b = e.text(b, 36, s.Detail)
	b = appendVarintField(b, 37, e.whole(s.LatencyMs))
	b = appendVarintField(b, 38, e.whole(s.UnknownFields))
	b = appendVarintField(b, 39, uint64(s.Flags))
	b = e.streams(b, s)
	b = e.events(b, s)
	return e.sessions(b, s)
}

// text writes a string of the packet that is not in the dictionary.
func (e *encoding) text(b []byte, number uint32, s string) []byte {
	if s == "" {
		return b
	}
	s = printable(s)
	e.checkText(s)
	return appendBytesField(b, number, s)
}

func (e *encoding) checkText(s string) {
	if len(s) > e.lim.StringBytes {
		e.fail(tooLarge("a string has %d bytes, %d are allowed; it begins %q", len(s), e.lim.StringBytes, s[:min(64, len(s))]))
	}
}

// ref puts a string into the dictionary and returns its index.
func (e *encoding) ref(s string) uint64 {
	if i, ok := e.names[s]; ok {
		return uint64(i)
	}
	written := printable(s)
	e.checkText(written)
	i := uint32(len(e.nameList))
	e.names[s] = i
	e.nameList = append(e.nameList, written)
	return uint64(i)
}

// printable writes bytes that are not UTF-8 as \xHH. Replacing them all by one
// character would make two streams of different names the same.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

func (e *encoding) intN1(n fleet.Int) uint64 {
	v, known := n.Get()
	if !known {
		return 0
	}
	return e.whole(v) + 1
}

func (e *encoding) timeN1(n fleet.Int) uint64 {
	v, known := n.Get()
	if !known {
		return 0
	}
	if _, err := wallTime(v); err != nil {
		e.fail(err)
		return 0
	}
	return uint64(v) + 1
}

func (e *encoding) whole(v int64) uint64 {
	if v < 0 || v > maxNumber {
		e.fail(invalid("a number is %d, outside 0 to 2^53", v))
		return 0
	}
	return uint64(v)
}

// beforeMs is the zigzag form of how long before atMs a moment was.
func (e *encoding) beforeMs(atMs, ms int64) uint64 {
	if _, err := wallTime(ms); err != nil {
		e.fail(err)
		return 0
	}
	v := atMs - ms
	return uint64(v)<<1 ^ uint64(v>>63)
}

// agoN1 is how long before atMs a moment was, plus one, 0 when unknown. What lies in
// the future by a clock that is not ours counts as now.
func (e *encoding) agoN1(atMs int64, n fleet.Int) uint64 {
	ms, known := n.Get()
	if !known {
		return 0
	}
	if _, err := wallTime(ms); err != nil {
		e.fail(err)
		return 0
	}
	return uint64(max(0, atMs-ms)) + 1
}

func (e *encoding) key(server string, k *fleet.StreamKey) {
	if k.Server != "" && k.Server != server {
		e.fail(invalid("a stream of the server %q stands in the snapshot of %q", k.Server, server))
	}
}

// packed writes e.rows as one column. An absent column says 0 for every row, so one of
// zeros is left out unless it decides how many rows there are.
func (e *encoding) packed(b []byte, number uint32, always bool) []byte {
	e.column = e.column[:0]
	anything := always
	for _, v := range e.rows {
		if v < 0x80 {
			e.column = append(e.column, byte(v))
		} else {
			e.column = binary.AppendUvarint(e.column, v)
		}
		anything = anything || v != 0
	}
	if !anything || len(e.rows) == 0 {
		return b
	}
	return appendBytesField(b, number, e.column)
}
