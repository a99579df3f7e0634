package wire

import (
	"errors"
	"math"
	"unicode/utf8"

	"vigil/fleet"
)

const (
	// maxNumber bounds every number that can be added up: 2^53 is more than a server can
	// count in any interval, and a thousand of them still fit into 64 bits.
	maxNumber = 1 << 53
	// maxTimeMs is the last millisecond of the year 9999.
	maxTimeMs = 253402300799999
	// sharedNameBytes is how much of the dictionary one kept name may keep alive.
	sharedNameBytes = 128
	// maxAgentBytes keeps agent names fit for a header.
	maxAgentBytes = 253
)

// decoding is the scratch memory of one Decode.
type decoding struct {
	message   []byte
	spans     []span // of the names in the message
	names     []string
	snapshots [][]byte
	streams   streamColumns
	events    [numEventColumns][]uint64
	sessions  [numSessionColumns][]uint64
	keys      map[string]struct{}
	lim       Limits
	rows      int // of all snapshots so far
	techs     int // rows of viewers by technology, of all snapshots so far
	unknown   int
}

// span is where a name stands in the message.
type span struct{ start, end int }

func (d *decoding) keepable() bool {
	size := cap(d.message) + 16*cap(d.spans) + 16*cap(d.names)
	for i := range d.streams.columns {
		size += 8 * cap(d.streams.columns[i])
	}
	for i := range d.events {
		size += 8 * cap(d.events[i])
	}
	for i := range d.sessions {
		size += 8 * cap(d.sessions[i])
	}
	// Strings belong to the packet: the scratch must not keep them alive.
	clear(d.names)
	clear(d.streams.media)
	d.spans, d.snapshots = d.spans[:0], d.snapshots[:0]
	clear(d.keys)
	return size <= keepScratchBytes
}

// packet reads the whole message in two passes: protobuf allows fields in any order,
// and everything refers to the names.
func (d *decoding) packet(message []byte, lim Limits) (*fleet.Packet, error) {
	d.lim, d.rows, d.techs, d.unknown = lim, 0, 0, 0
	d.spans, d.snapshots = d.spans[:0], d.snapshots[:0]
	p := new(fleet.Packet)
	schema, err := d.envelope(p, message)
	if err != nil {
		return nil, err
	}
	if schema != Schema {
		return nil, invalid("the packet has schema %d, and this version reads %d", schema, Schema)
	}
	if err := checkEnvelope(p); err != nil {
		return nil, err
	}
	if err := d.makeNames(message); err != nil {
		return nil, err
	}
	if len(d.snapshots) > 0 {
		p.Snapshots = make([]fleet.Snapshot, len(d.snapshots))
	}
	for i, b := range d.snapshots {
		if err := d.snapshot(&p.Snapshots[i], b); err != nil {
			return nil, err
		}
	}
	return p, d.checkServers(p)
}

func (d *decoding) envelope(p *fleet.Packet, b []byte) (schema uint64, err error) {
	var f field
	total := len(b)
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return 0, malformed("packet", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			schema = f.value
		case 2<<3 | typeBytes:
			p.ID.Agent, err = d.text(f.bytes, "agent")
		case 3<<3 | typeFixed64:
			p.ID.Epoch = f.value
		case 4<<3 | typeVarint:
			p.FirstSeq = f.value
		case 5<<3 | typeVarint:
			p.ID.Seq = f.value
		case 6<<3 | typeFixed64:
			p.Boot = f.value
		case 7<<3 | typeBytes:
			p.AgentVersion, err = d.text(f.bytes, "agent_version")
		case 8<<3 | typeBytes:
			p.Host, err = d.text(f.bytes, "host")
		case 9<<3 | typeBytes:
			if len(d.spans) >= d.lim.Names {
				return 0, tooLarge("the packet has more than %d names", d.lim.Names)
			}
			end := total - len(b)
			d.spans = append(d.spans, span{end - len(f.bytes), end})
		case 10<<3 | typeBytes:
			if len(d.snapshots) >= d.lim.Snapshots {
				return 0, tooLarge("the packet has more than %d snapshots", d.lim.Snapshots)
			}
			d.snapshots = append(d.snapshots, f.bytes)
		case 11<<3 | typeBytes:
			err = d.gap(p, f.bytes)
		default:
			d.unknown++
		}
		if err != nil {
			return 0, err
		}
	}
	return schema, nil
}

func checkEnvelope(p *fleet.Packet) error {
	if err := checkAgent(p.ID.Agent); err != nil {
		return err
	}
	switch {
	case p.ID.Epoch == 0:
		return invalid("the packet has no epoch")
	case p.ID.Seq == 0 || p.ID.Seq > MaxSeq:
		return invalid("the packet has sequence number %d, outside 1 to 2^62", p.ID.Seq)
	case p.FirstSeq == 0 || p.FirstSeq > p.ID.Seq:
		return invalid("the packet holds the sequence numbers %d to %d, which is not a range", p.FirstSeq, p.ID.Seq)
	}
	return nil
}

func checkAgent(name string) error {
	if name == "" {
		return invalid("the packet does not say which agent it is from")
	}
	if len(name) > maxAgentBytes {
		return tooLarge("the name of the agent has %d bytes, %d are allowed", len(name), maxAgentBytes)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c == 0x7f || c == '/' {
			return invalid("the name of the agent, %q, has a space, a slash or a control character", name)
		}
	}
	return nil
}

// makeNames makes the dictionary. Neighbours share one small string: one for each name
// would cost three times as much, and one for all of them would keep the whole
// dictionary alive for anybody who keeps a single name.
func (d *decoding) makeNames(message []byte) error {
	if cap(d.names) < len(d.spans) {
		d.names = make([]string, 0, len(d.spans)+len(d.spans)/8)
	}
	d.names = d.names[:0]
	for first := 0; first < len(d.spans); {
		start, end := d.spans[first].start, first
		for end < len(d.spans) && (end == first || d.spans[end].end-start <= sharedNameBytes) {
			end++
		}
		shared := ""
		for i := first; i < end; i++ {
			at := d.spans[i]
			if err := d.checkName(i, message[at.start:at.end]); err != nil {
				return err
			}
		}
		if last := d.spans[end-1].end; last > start {
			shared = string(message[start:last])
		}
		for i := first; i < end; i++ {
			at := d.spans[i]
			d.names = append(d.names, shared[at.start-start:at.end-start])
		}
		first = end
	}
	return nil
}

func (d *decoding) checkName(i int, b []byte) error {
	switch {
	case i == 0 && len(b) > 0:
		return invalid("the first name is %q, and must be empty", b[:min(len(b), 64)])
	case len(b) > d.lim.StringBytes:
		return tooLarge("a string of names has %d bytes, %d are allowed", len(b), d.lim.StringBytes)
	case !utf8.Valid(b):
		return invalid("a string of names is not UTF-8")
	}
	return nil
}

func (d *decoding) checkServers(p *fleet.Packet) error {
	if len(p.Snapshots) < 2 {
		return nil
	}
	if d.keys == nil {
		d.keys = make(map[string]struct{}, len(p.Snapshots))
	}
	for i := range p.Snapshots {
		d.keys[p.Snapshots[i].Server.Key] = struct{}{}
	}
	if len(d.keys) < len(p.Snapshots) {
		return invalid("two snapshots of the packet are of the same server")
	}
	return nil
}

func (d *decoding) gap(p *fleet.Packet, b []byte) (err error) {
	if len(p.Gaps) >= d.lim.Gaps {
		return tooLarge("the packet has more than %d gaps", d.lim.Gaps)
	}
	var g fleet.Gap
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("gap", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			g.FirstSeq = f.value
		case 2<<3 | typeVarint:
			g.LastSeq = f.value
		case 3<<3 | typeVarint:
			g.FromMs, err = timeN1(f.value)
		case 4<<3 | typeVarint:
			g.ToMs, err = timeN1(f.value)
		case 5<<3 | typeBytes:
			g.Reason, err = d.text(f.bytes, "reason")
		default:
			d.unknown++
		}
		if err != nil {
			return err
		}
	}
	if g.FirstSeq == 0 || g.LastSeq < g.FirstSeq || g.LastSeq > MaxSeq {
		return invalid("a gap has the sequence numbers %d to %d, which is not a range", g.FirstSeq, g.LastSeq)
	}
	p.Gaps = append(p.Gaps, g)
	return nil
}

// text copies a string out of the message.
func (d *decoding) text(b []byte, what string) (string, error) {
	if len(b) == 0 {
		return "", nil
	}
	if len(b) > d.lim.StringBytes {
		return "", tooLarge("a string of %s has %d bytes, %d are allowed", what, len(b), d.lim.StringBytes)
	}
	if !utf8.Valid(b) {
		return "", invalid("a string of %s is not UTF-8", what)
	}
	return string(b), nil
}

// name resolves a reference into the dictionary.
func (d *decoding) name(ref uint64) (string, error) {
	if ref >= uint64(len(d.names)) {
		if ref == 0 {
			return "", nil // no dictionary: 0 is still the empty string
		}
		return "", invalid("a name has index %d, and the packet has %d names", ref, len(d.names))
	}
	return d.names[ref], nil
}

// intN1 reads a number of which 0 means unknown and n+1 means n.
func intN1(v uint64) (fleet.Int, error) {
	if v == 0 {
		return fleet.Int{}, nil
	}
	if v-1 > maxNumber {
		return fleet.Int{}, invalid("a number is %d, and nothing can be more than 2^53", v-1)
	}
	return fleet.Of(int64(v - 1)), nil
}

func timeN1(v uint64) (fleet.Int, error) {
	if v > maxTimeMs+1 {
		return fleet.Int{}, invalid("a time is %d ms, after the year 9999", v-1)
	}
	return intN1(v)
}

func small(v uint64, what string) (int64, error) {
	if v > maxNumber {
		return 0, invalid("%s is %d, and nothing can be more than 2^53", what, v)
	}
	return int64(v), nil
}

func enum(v uint64, what string) (uint8, error) {
	if v > math.MaxUint8 {
		return 0, invalid("%s is %d, more than 255", what, v)
	}
	return uint8(v), nil
}

func malformed(what string, err error) error {
	if errors.Is(err, errColumn) {
		return tooLarge("%s", "a column of "+what+" has more rows than are allowed")
	}
	return &fleet.Error{Kind: fleet.KindInvalid, Message: "a " + what + " message is malformed", Err: err}
}
