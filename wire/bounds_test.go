package wire

import (
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"vigil/fleet"
)

// message builds a valid minimal message and lets a test spoil it.
type message struct {
	schema, seq, first uint64
	epoch              uint64
	agent              string
	names              []string
	streams            []byte
	snapshotExtra      []byte
	extra              []byte
}

func (m message) bytes() []byte {
	var snapshot, b []byte
	snapshot = appendBytesField(snapshot, 1, "srv")
	snapshot = appendVarintField(snapshot, 30, 1_000_000)
	snapshot = appendBytesField(snapshot, 50, m.streams)
	snapshot = append(snapshot, m.snapshotExtra...)
	b = appendVarintField(b, 1, m.schema)
	b = appendBytesField(b, 2, m.agent)
	b = appendFixed64Field(b, 3, m.epoch)
	b = appendVarintField(b, 4, m.first)
	b = appendVarintField(b, 5, m.seq)
	for _, name := range m.names {
		b = appendBytesField(b, 9, name)
	}
	b = appendBytesField(b, 10, snapshot)
	return append(b, m.extra...)
}

func good() message {
	return message{schema: 1, seq: 5, first: 5, epoch: 1, agent: "a", names: []string{"", "n"}, streams: appendBytesField(nil, 4, []byte{1})}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.Streams, lim.Names, lim.StringBytes, lim.Gaps, lim.Snapshots, lim.Sessions, lim.Events = 4, 8, 16, 2, 2, 3, 3
	c, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, kind fleet.Kind, words string, spoil func(*message)) {
		t.Helper()
		m := good()
		spoil(&m)
		_, err := c.Decode(storedFrame(m.bytes()))
		if err == nil {
			t.Errorf("%s: accepted", name)
			return
		}
		if fleet.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got %v (%v), want %v with %q", name, err, fleet.KindOf(err), kind, words)
		}
	}
	column := func(number uint32, values ...byte) []byte { return appendBytesField(nil, number, values) }
	gap := func(first, last uint64) []byte {
		return appendBytesField(nil, 11, appendVarintField(appendVarintField(nil, 1, first), 2, last))
	}
	const invalid, tooLarge = fleet.KindInvalid, fleet.KindTooLarge
	f("schema of the future", invalid, "schema 2", func(m *message) { m.schema = 2 })
	f("no agent", invalid, "which agent", func(m *message) { m.agent = "" })
	f("agent with a space", invalid, "space", func(m *message) { m.agent = "a b" })
	f("agent that is long", tooLarge, "agent has", func(m *message) { m.agent = strings.Repeat("a", 17) })
	f("no epoch", invalid, "epoch", func(m *message) { m.epoch = 0 })
	f("no sequence number", invalid, "sequence number 0", func(m *message) { m.seq, m.first = 0, 0 })
	f("huge sequence number", invalid, "2^62", func(m *message) { m.seq = MaxSeq + 1 })
	f("range backwards", invalid, "not a range", func(m *message) { m.first = 6 })
	f("first name not empty", invalid, "first name", func(m *message) { m.names[0] = "x" })
	f("too many names", tooLarge, "8 names", func(m *message) { m.names = make([]string, 9) })
	f("long name", tooLarge, "17 bytes", func(m *message) { m.names[1] = strings.Repeat("x", 17) })
	f("name not UTF-8", invalid, "UTF-8", func(m *message) { m.names[1] = "\xff" })
	f("reference out of range", invalid, "index 2", func(m *message) { m.streams = column(4, 2) })
	f("reference without dictionary", invalid, "0 names", func(m *message) { m.names = nil })
	f("column too short", invalid, "column 9 of streams has 1 rows instead of 2", func(m *message) {
		m.streams = append(column(4, 1, 1), column(9, 1)...)
	})
	f("column without rows", invalid, "instead of 0", func(m *message) { m.streams = column(9, 1) })
	f("too many streams", tooLarge, "streams", func(m *message) { m.streams = column(4, 1, 1, 1, 1, 1) })
	f("too many streams, unpacked", tooLarge, "streams", func(m *message) {
		m.streams = nil
		for range 5 {
			m.streams = append(m.streams, 4<<3, 1)
		}
	})
	f("too many sessions", tooLarge, "sessions", func(m *message) {
		m.snapshotExtra = appendBytesField(nil, 52, column(1, 1, 1, 1, 1))
	})
	f("too many events", tooLarge, "events", func(m *message) {
		m.snapshotExtra = appendBytesField(nil, 51, column(4, 1, 1, 1, 1))
	})
	f("media out of range", invalid, "media kind", func(m *message) { m.streams = append(column(4, 1), column(19, 1)...) })
	f("by_tech out of range", invalid, "row 1", func(m *message) {
		m.streams = append(column(4, 1), appendBytesField(nil, 21, appendVarintField(nil, 1, 1))...)
	})
	f("number above 2^53", invalid, "2^53", func(m *message) {
		m.streams = append(column(4, 1), column(9, 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)...)
	})
	f("varint of 11 bytes", invalid, "malformed", func(m *message) {
		m.streams = append(column(4, 1), column(9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)...)
	})
	f("truncated varint", invalid, "malformed", func(m *message) { m.streams = column(4, 0x80) })
	f("state above 255", invalid, "state is 256", func(m *message) { m.streams = append(column(4, 1), column(6, 0x80, 2)...) })
	f("online before 1970", invalid, "1970", func(m *message) {
		m.streams = append(column(4, 1), column(7, 0xff, 0xff, 0xff, 0x7f)...)
	})
	f("same server twice", invalid, "same server", func(m *message) { m.extra = appendBytesField(nil, 10, appendBytesField(nil, 1, "srv")) })
	f("server without key", invalid, "which server", func(m *message) { m.extra = appendBytesField(nil, 10, "") })
	f("too many snapshots", tooLarge, "2 snapshots", func(m *message) {
		m.extra = append(appendBytesField(nil, 10, ""), appendBytesField(nil, 10, "")...)
	})
	f("gap backwards", invalid, "gap", func(m *message) { m.extra = gap(4, 3) })
	f("gap from 0", invalid, "gap", func(m *message) { m.extra = gap(0, 3) })
	f("too many gaps", tooLarge, "2 gaps", func(m *message) { m.extra = append(append(gap(1, 1), gap(2, 2)...), gap(3, 3)...) })
	f("group", invalid, "malformed", func(m *message) { m.extra = []byte{20<<3 | 3} })
	f("field number 0", invalid, "malformed", func(m *message) { m.extra = []byte{0, 0} })
	f("length beyond the end", invalid, "malformed", func(m *message) { m.extra = []byte{9<<3 | 2, 5, 'x'} })
	f("time after 9999", invalid, "9999", func(m *message) { m.snapshotExtra = appendVarintField(nil, 30, maxTimeMs+1) })
	f("time before 1970", invalid, "1970", func(m *message) { m.snapshotExtra = appendVarintField(nil, 30, ^uint64(0)) })
	if _, err := c.Decode(storedFrame(good().bytes())); err != nil {
		t.Errorf("the message that the cases spoil is refused itself: %v", err)
	}
}

func TestDecodeRefusesFrames(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.CompressedBytes, lim.DecodedBytes, lim.WindowBytes, lim.Ratio = 1<<20, 16<<20, 1<<20, 50
	c, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, kind fleet.Kind, words string, data []byte) {
		t.Helper()
		_, err := c.Decode(data)
		if err == nil || fleet.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got %v (%v), want %v with %q", name, err, fleet.KindOf(err), kind, words)
		}
	}
	compress := func(b []byte, opts ...zstd.EOption) []byte {
		w, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	}
	var stream strings.Builder
	w, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(good().bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	frame := storedFrame(good().bytes())
	lying := storedFrame(good().bytes())
	lying[6]++ // the content size
	f("nothing", fleet.KindInvalid, "empty", nil)
	f("noise", fleet.KindInvalid, "zstd frame", []byte("GET / HTTP/1.1\r\n"))
	f("over the compressed limit", fleet.KindTooLarge, "are allowed", make([]byte, 1<<20+1))
	f("bomb", fleet.KindTooLarge, "50 times", compress(make([]byte, 8<<20)))
	f("over the decoded limit", fleet.KindTooLarge, "after decompression", compress(make([]byte, 17<<20)))
	f("window", fleet.KindTooLarge, "window", compress(make([]byte, 5<<20), zstd.WithWindowSize(4<<20)))
	f("no content size", fleet.KindInvalid, "how many bytes", []byte(stream.String()))
	f("cut", fleet.KindInvalid, "whole zstd frame", frame[:len(frame)-3])
	f("lying content size", fleet.KindInvalid, "zstd frame", lying)
	f("two frames", fleet.KindInvalid, "zstd frame", append(append([]byte{}, frame...), frame...))
	f("skippable frame", fleet.KindInvalid, "skippable", []byte{0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 0})
}

func TestRowLimitCoversTheWholePacket(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.Rows = 3
	strict, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	p := nginxPacket(2, 1)
	p.Snapshots = append(p.Snapshots, p.Snapshots[0])
	p.Snapshots[1].Server.Key = "other"
	p.Snapshots[1].Streams = append([]fleet.StreamSample{}, p.Snapshots[0].Streams...)
	for i := range p.Snapshots[1].Streams {
		p.Snapshots[1].Streams[i].Key.Server = "other"
	}
	data, err := newTestCodec(t).Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strict.Decode(data); fleet.KindOf(err) != fleet.KindTooLarge {
		t.Errorf("Decode: %v", err)
	}
	if _, err := strict.Encode(p); fleet.KindOf(err) != fleet.KindTooLarge {
		t.Errorf("Encode: %v", err)
	}
}

// What Encode accepts Decode accepts: a packet that cannot be read must not get into
// the spool.
func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.StringBytes, lim.Names = 64, 40
	c, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, spoil func(*fleet.Packet)) {
		t.Helper()
		p := nginxPacket(3, 1)
		spoil(p)
		_, err := c.Encode(p)
		if kind := fleet.KindOf(err); err == nil || kind != fleet.KindInvalid && kind != fleet.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("agent", func(p *fleet.Packet) { p.ID.Agent = "a/b" })
	f("seq", func(p *fleet.Packet) { p.ID.Seq = 0 })
	f("first", func(p *fleet.Packet) { p.FirstSeq = p.ID.Seq + 1 })
	f("server", func(p *fleet.Packet) { p.Snapshots[0].Server.Key = "" })
	f("twice", func(p *fleet.Packet) { p.Snapshots = append(p.Snapshots, p.Snapshots[0]) })
	f("stream of another server", func(p *fleet.Packet) { p.Snapshots[0].Streams[1].Key.Server = "other" })
	f("long", func(p *fleet.Packet) { p.Snapshots[0].Detail = strings.Repeat("x", 65) })
	f("long name", func(p *fleet.Packet) { p.Snapshots[0].Streams[0].Key.Name = strings.Repeat("x", 65) })
	f("negative", func(p *fleet.Packet) { p.Snapshots[0].Streams[0].BytesIn = fleet.Of(-1) })
	f("huge", func(p *fleet.Packet) { p.Snapshots[0].Totals.BytesIn = fleet.Of(maxNumber + 1) })
	f("interval", func(p *fleet.Packet) { p.Snapshots[0].IntervalMs = -1 })
	f("gap", func(p *fleet.Packet) { p.Gaps = []fleet.Gap{{FirstSeq: 2, LastSeq: 1}} })
	f("started", func(p *fleet.Packet) { p.Snapshots[0].Server.StartedMs = fleet.Of(-1) })
	f("since", func(p *fleet.Packet) { p.Snapshots[0].Streams[0].OnlineSinceMs = fleet.Of(-1) })
	f("event", func(p *fleet.Packet) { p.Snapshots[0].Events = []fleet.StreamEvent{{AtMs: maxTimeMs + 1}} })
	f("names", func(p *fleet.Packet) {
		for range 50 {
			p.Snapshots[0].Streams = append(p.Snapshots[0].Streams, nginxPacket(50, 1).Snapshots[0].Streams...)
		}
	})
}

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := NewCodec(Limits{}); err == nil {
		t.Error("NewCodec(Limits{}): no error")
	}
	if _, err := Decode(storedFrame(good().bytes()), DefaultLimits()); err != nil {
		t.Errorf("Decode: %v", err)
	}
	if _, err := Decode(nil, Limits{}); err == nil {
		t.Error("Decode with empty limits: no error")
	}
}

// Viewers by technology take three bytes in a message and five times as much in memory:
// without a bound for the whole packet, a body of 300 kB becomes 300 MB.
func TestViewersByTechnologyAreBoundedOverThePacket(t *testing.T) {
	t.Parallel()
	lim := DefaultLimits()
	lim.Rows, lim.Streams = 3, 2
	c, err := NewCodec(lim)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(snapshots, techs int) error {
		m := good()
		m.streams = nil
		for i := range snapshots {
			streams := appendBytesField(nil, 4, []byte{1})
			for range techs {
				streams = append(appendTag(streams, 21, typeBytes), 0)
			}
			s := appendBytesField(nil, 1, string(rune('a'+i)))
			s = appendVarintField(s, 30, 1_000_000)
			m.extra = appendBytesField(m.extra, 10, appendBytesField(s, 50, streams))
		}
		_, err := c.Decode(storedFrame(m.bytes()))
		return err
	}
	most := lim.Streams * int(fleet.TechMaxKnown) // of one snapshot
	if err := decode(1, most); err != nil {
		t.Errorf("one full snapshot: %v", err)
	}
	if err := decode(2, most); fleet.KindOf(err) != fleet.KindTooLarge {
		t.Errorf("two full snapshots: %v, want too large", err)
	}
}
