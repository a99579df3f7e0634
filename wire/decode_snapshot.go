package wire

import (
	"math"

	"vigil/fleet"
)

// snapshot reads one server. Its parts refer to at_ms, which may stand after them, so
// columns are gathered first and become rows at the end.
func (d *decoding) snapshot(s *fleet.Snapshot, b []byte) (err error) {
	d.resetColumns()
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("snapshot", err)
		}
		known, err := d.serverField(&s.Server, &f)
		if !known && err == nil {
			known, err = d.snapshotField(s, &f)
		}
		if err != nil {
			return err
		}
		if !known {
			d.unknown++
		}
	}
	if s.Server.Key == "" {
		return invalid("a snapshot does not say which server it is of")
	}
	d.rows += len(d.streams.columns[streamName]) + len(d.events[eventName]) + len(d.sessions[sessionID])
	if d.rows > d.lim.Rows {
		return tooLarge("the packet has more than %d streams, events and sessions", d.lim.Rows)
	}
	if err := d.streamRows(s); err != nil {
		return err
	}
	if err := d.eventRows(s); err != nil {
		return err
	}
	return d.sessionRows(s)
}

func (d *decoding) serverField(s *fleet.ServerInfo, f *field) (known bool, err error) {
	switch f.key() {
	case 1<<3 | typeBytes:
		s.Key, err = d.text(f.bytes, "server")
	case 2<<3 | typeBytes:
		s.Product, err = d.text(f.bytes, "product")
	case 3<<3 | typeBytes:
		s.Version, err = d.text(f.bytes, "version")
	case 4<<3 | typeBytes:
		s.Collector, err = d.text(f.bytes, "collector")
	case 5<<3 | typeBytes:
		s.Verified, err = d.text(f.bytes, "verified")
	case 6<<3 | typeBytes:
		s.BootID, err = d.text(f.bytes, "boot_id")
	case 7<<3 | typeVarint:
		s.StartedMs, err = timeN1(f.value)
	case 8<<3 | typeVarint:
		s.Workers, err = intN1(f.value)
	case 9<<3 | typeVarint:
		s.ConnLimit, err = intN1(f.value)
	case 10<<3 | typeVarint:
		s.ConnsNow, err = intN1(f.value)
	case 11<<3 | typeVarint:
		s.StreamsNow, err = intN1(f.value)
	case 12<<3 | typeVarint:
		s.PublishersNow, err = intN1(f.value)
	case 13<<3 | typeVarint:
		s.ViewersNow, err = intN1(f.value)
	case 14<<3 | typeVarint:
		s.CPUMilliPct, err = intN1(f.value)
	case 15<<3 | typeVarint:
		s.MemRSSBytes, err = intN1(f.value)
	default:
		return false, nil
	}
	return true, err
}

func (d *decoding) snapshotField(s *fleet.Snapshot, f *field) (known bool, err error) {
	var small8 uint8
	switch f.key() {
	case 20<<3 | typeVarint:
		s.Totals.BytesIn, err = intN1(f.value)
	case 21<<3 | typeVarint:
		s.Totals.BytesOut, err = intN1(f.value)
	case 22<<3 | typeVarint:
		s.Totals.ConnsAccepted, err = intN1(f.value)
	case 23<<3 | typeVarint:
		s.Totals.ConnsRejected, err = intN1(f.value)
	case 30<<3 | typeVarint:
		s.AtMs, err = wallTime(int64(f.value))
	case 31<<3 | typeVarint:
		s.IntervalMs, err = small(f.value, "interval_ms")
	case 32<<3 | typeVarint:
		s.CoveredMs, err = small(f.value, "covered_ms")
	case 33<<3 | typeVarint:
		s.ViewerMs, err = intN1(f.value)
	case 34<<3 | typeVarint:
		s.ViewersMax, err = intN1(f.value)
	case 35<<3 | typeVarint:
		small8, err = enum(f.value, "status")
		s.Status = fleet.PollStatus(small8)
	case 36<<3 | typeBytes:
		s.Detail, err = d.text(f.bytes, "detail")
	case 37<<3 | typeVarint:
		s.LatencyMs, err = small(f.value, "latency_ms")
	case 38<<3 | typeVarint:
		s.UnknownFields, err = small(f.value, "unknown_fields")
	case 39<<3 | typeVarint:
		s.Flags = d.flags(f.value)
	case 50<<3 | typeBytes:
		err = d.streams.read(d, f.bytes)
	case 51<<3 | typeBytes:
		err = d.plainColumns(d.events[:], f.bytes, d.lim.Events, "events")
	case 52<<3 | typeBytes:
		err = d.plainColumns(d.sessions[:], f.bytes, d.lim.Sessions, "sessions")
	default:
		return false, nil
	}
	return true, err
}

// flags keeps the bits that fit; others are from a newer version.
func (d *decoding) flags(v uint64) fleet.SampleFlags {
	if v > math.MaxUint16 {
		d.unknown++
	}
	return fleet.SampleFlags(v & math.MaxUint16)
}

func (d *decoding) resetColumns() {
	d.streams.reset()
	for i := range d.events {
		d.events[i] = d.events[i][:0]
	}
	for i := range d.sessions {
		d.sessions[i] = d.sessions[i][:0]
	}
}

// plainColumns reads a message of nothing but columns 1 to len(columns).
func (d *decoding) plainColumns(columns [][]uint64, b []byte, limit int, what string) (err error) {
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed(what, err)
		}
		i := int(f.number) - 1
		if i >= len(columns) || f.kind != typeBytes && f.kind != typeVarint {
			d.unknown++
			continue
		}
		if columns[i], err = appendColumn(columns[i], &f, limit); err != nil {
			return malformed(what, err)
		}
	}
	return nil
}

// checkColumns refuses a column that is neither absent nor as long as the one that
// decides the number of rows.
func checkColumns(columns [][]uint64, rows int, what string) error {
	for i := range columns {
		if n := len(columns[i]); n != 0 && n != rows {
			return invalid("column %d of %s has %d rows instead of %d", i+1, what, n, rows)
		}
	}
	return nil
}

// at returns a row of a column that may be absent.
func at(column []uint64, row int) uint64 {
	if row < len(column) {
		return column[row]
	}
	return 0
}

func wallTime(ms int64) (int64, error) {
	if ms < 0 || ms > maxTimeMs {
		return 0, invalid("a time is %d ms, outside the years 1970 to 9999", ms)
	}
	return ms, nil
}

// before returns the time that lies the given zigzag number of ms before atMs.
func before(atMs int64, v uint64) (int64, error) {
	ms := zigzag(v)
	if ms < -maxTimeMs || ms > maxTimeMs {
		return 0, invalid("a time lies %d ms from its snapshot", ms)
	}
	return wallTime(atMs - ms)
}

// The columns of Events and Sessions, by field number less one.
const (
	eventVHost = iota
	eventApp
	eventInstance
	eventName
	eventBefore
	eventState
	eventReason
	numEventColumns
)

const (
	sessionID = iota
	sessionVHost
	sessionApp
	sessionInstance
	sessionName
	sessionRole
	sessionTech
	sessionRemoteIP
	sessionUserAgent
	sessionStartedBefore
	sessionSeenBefore
	sessionEndedBefore
	sessionEndReason
	sessionBytesIn
	sessionBytesOut
	sessionMethod
	sessionUnobserved
	numSessionColumns
)

func (d *decoding) eventRows(s *fleet.Snapshot) error {
	c := &d.events
	rows := len(c[eventName])
	if err := checkColumns(c[:], rows, "events"); err != nil || rows == 0 {
		return err
	}
	s.Events = make([]fleet.StreamEvent, rows)
	for i := range s.Events {
		e := &s.Events[i]
		r := rowReader{d: d, row: i}
		e.Key = r.key(s.Server.Key, c[eventVHost], c[eventApp], c[eventInstance], c[eventName])
		e.AtMs = r.before(c[eventBefore], s.AtMs)
		e.State = fleet.StreamState(r.enum(c[eventState], "state"))
		e.Reason = r.name(c[eventReason])
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

func (d *decoding) sessionRows(s *fleet.Snapshot) error {
	c := &d.sessions
	rows := len(c[sessionID])
	if err := checkColumns(c[:], rows, "sessions"); err != nil || rows == 0 {
		return err
	}
	s.Sessions = make([]fleet.Session, rows)
	for i := range s.Sessions {
		e := &s.Sessions[i]
		r := rowReader{d: d, row: i}
		e.ID = r.name(c[sessionID])
		e.Key = r.key(s.Server.Key, c[sessionVHost], c[sessionApp], c[sessionInstance], c[sessionName])
		e.Role = fleet.Role(r.enum(c[sessionRole], "role"))
		e.Tech = fleet.Tech(r.enum(c[sessionTech], "tech"))
		e.RemoteIP = r.name(c[sessionRemoteIP])
		e.UserAgent = r.name(c[sessionUserAgent])
		e.StartedMs = r.before(c[sessionStartedBefore], s.AtMs)
		e.LastSeenMs = r.before(c[sessionSeenBefore], s.AtMs)
		e.EndedMs = r.agoN1(c[sessionEndedBefore], s.AtMs)
		e.EndReason = r.name(c[sessionEndReason])
		e.BytesIn = r.int(c[sessionBytesIn])
		e.BytesOut = r.int(c[sessionBytesOut])
		e.Method = r.name(c[sessionMethod])
		e.Unobserved = at(c[sessionUnobserved], i) != 0
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// rowReader reads one row of several columns and keeps the first error.
type rowReader struct {
	d   *decoding
	row int
	err error
}

func (r *rowReader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *rowReader) name(column []uint64) string {
	ref := at(column, r.row)
	if ref < uint64(len(r.d.names)) {
		return r.d.names[ref]
	}
	s, err := r.d.name(ref)
	r.keep(err)
	return s
}

func (r *rowReader) key(server string, vhost, app, instance, name []uint64) fleet.StreamKey {
	return fleet.StreamKey{Server: server, VHost: r.name(vhost), App: r.name(app), Instance: r.name(instance), Name: r.name(name)}
}

func (r *rowReader) int(column []uint64) fleet.Int {
	if r.row >= len(column) {
		return fleet.Int{}
	}
	v := column[r.row]
	if v-1 > maxNumber { // 0, which is unknown, wraps around
		return r.unusual(v)
	}
	return fleet.Of(int64(v - 1))
}

func (r *rowReader) unusual(v uint64) fleet.Int {
	n, err := intN1(v)
	r.keep(err)
	return n
}

func (r *rowReader) enum(column []uint64, what string) uint8 {
	v := at(column, r.row)
	if v > math.MaxUint8 {
		_, err := enum(v, what)
		r.keep(err)
	}
	return uint8(v)
}

func (r *rowReader) before(column []uint64, atMs int64) int64 {
	ms, err := before(atMs, at(column, r.row))
	if err != nil {
		r.keep(err)
	}
	return ms
}

// agoN1 is a time before atMs, unknown when 0.
func (r *rowReader) agoN1(column []uint64, atMs int64) fleet.Int {
	v := at(column, r.row)
	if v == 0 {
		return fleet.Int{}
	}
	ms := atMs - int64(min(v-1, maxTimeMs+1))
	if ms < 0 {
		r.keep(invalid("a time lies before 1970"))
	}
	return fleet.Of(ms)
}
