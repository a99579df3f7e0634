package wire

import (
	"slices"

	"vigil/fleet"
)

// The columns of Streams, by field number less one.
const (
	streamVHost = iota
	streamApp
	streamInstance
	streamName
	streamIncarnation
	streamState
	streamOnlineFor
	streamTech
	streamViewers
	streamPublishers
	streamCovered
	streamViewerMs
	streamViewersMax
	streamBytesIn
	streamBytesOut
	streamFramesDropped
	streamFlags
	streamPublisherIP
	streamMedia
	numStreamColumns
)

// streamColumns gathers one Streams message.
type streamColumns struct {
	columns [numStreamColumns][]uint64
	media   []fleet.Media
	byTech  []techRow
}

type techRow struct {
	row int
	fleet.TechViewers
}

func (c *streamColumns) reset() {
	for i := range c.columns {
		c.columns[i] = c.columns[i][:0]
	}
	clear(c.media)
	c.media, c.byTech = c.media[:0], c.byTech[:0]
}

func (c *streamColumns) read(d *decoding, b []byte) (err error) {
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("streams", err)
		}
		i := int(f.number) - 1
		switch {
		case i < numStreamColumns && (f.kind == typeBytes || f.kind == typeVarint):
			if c.columns[i], err = appendColumn(c.columns[i], &f, d.lim.Streams); err != nil {
				return malformed("streams", err)
			}
		case f.key() == 20<<3|typeBytes:
			err = c.readMedia(d, f.bytes)
		case f.key() == 21<<3|typeBytes:
			err = c.readTech(d, f.bytes)
		default:
			d.unknown++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *streamColumns) readMedia(d *decoding, b []byte) (err error) {
	if len(c.media) >= d.lim.Streams {
		return tooLarge("a snapshot has more than %d kinds of media", d.lim.Streams)
	}
	var m fleet.Media
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("media", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			m.VideoCodec, err = d.name(f.value)
		case 2<<3 | typeVarint:
			m.VideoProfile, err = d.name(f.value)
		case 3<<3 | typeVarint:
			m.AudioCodec, err = d.name(f.value)
		case 4<<3 | typeVarint:
			m.AudioProfile, err = d.name(f.value)
		case 5<<3 | typeVarint:
			m.WidthPx, err = intN1(f.value)
		case 6<<3 | typeVarint:
			m.HeightPx, err = intN1(f.value)
		case 7<<3 | typeVarint:
			m.FpsMilli, err = intN1(f.value)
		case 8<<3 | typeVarint:
			m.Channels, err = intN1(f.value)
		case 9<<3 | typeVarint:
			m.SampleRateHz, err = intN1(f.value)
		case 10<<3 | typeVarint:
			m.DeclaredBps, err = intN1(f.value)
		default:
			d.unknown++
		}
		if err != nil {
			return err
		}
	}
	c.media = append(c.media, m)
	return nil
}

func (c *streamColumns) readTech(d *decoding, b []byte) (err error) {
	// A stream has at most one row per technology. They are few bytes in the message and
	// many in memory, so they are counted over all snapshots, as rows are.
	if len(c.byTech) >= d.lim.Streams*int(fleet.TechMaxKnown) || d.techs >= d.lim.Rows*int(fleet.TechMaxKnown) {
		return tooLarge("the packet has more than %d rows of viewers by technology", d.lim.Rows*int(fleet.TechMaxKnown))
	}
	d.techs++
	var t techRow
	var tech uint8
	var f field
	for len(b) > 0 {
		if b, err = f.next(b); err != nil {
			return malformed("by_tech", err)
		}
		switch f.key() {
		case 1<<3 | typeVarint:
			if f.value >= uint64(d.lim.Streams) {
				return invalid("viewers by technology are of row %d, which does not exist", f.value)
			}
			t.row = int(f.value)
		case 2<<3 | typeVarint:
			tech, err = enum(f.value, "tech")
			t.Tech = fleet.Tech(tech)
		case 3<<3 | typeVarint:
			t.Viewers, err = small(f.value, "viewers")
		default:
			d.unknown++
		}
		if err != nil {
			return err
		}
	}
	c.byTech = append(c.byTech, t)
	return nil
}

func (d *decoding) streamRows(s *fleet.Snapshot) error {
	c := &d.streams.columns
	rows := len(c[streamName])
	if err := checkColumns(c[:], rows, "streams"); err != nil {
		return err
	}
	if rows > 0 {
		s.Streams = make([]fleet.StreamSample, rows)
	}
	for i := range s.Streams {
		if err := d.streamRow(&s.Streams[i], s, i); err != nil {
			return err
		}
	}
	return d.streams.placeTech(s.Streams)
}

// streamRow fills one row. It runs once per stream and packet of the whole fleet:
// the checks are in the usual path only as one comparison each.
func (d *decoding) streamRow(e *fleet.StreamSample, s *fleet.Snapshot, i int) error {
	c := &d.streams.columns
	r := rowReader{d: d, row: i}
	e.Key.Server = s.Server.Key
	e.Key.VHost = r.name(c[streamVHost])
	e.Key.App = r.name(c[streamApp])
	e.Key.Instance = r.name(c[streamInstance])
	e.Key.Name = r.name(c[streamName])
	e.Incarnation = r.name(c[streamIncarnation])
	e.State = fleet.StreamState(r.enum(c[streamState], "state"))
	e.OnlineSinceMs = r.agoN1(c[streamOnlineFor], s.AtMs)
	e.Tech = fleet.Tech(r.enum(c[streamTech], "tech"))
	e.Viewers = r.int(c[streamViewers])
	e.Publishers = r.int(c[streamPublishers])
	e.CoveredMs = r.int(c[streamCovered])
	e.ViewerMs = r.int(c[streamViewerMs])
	e.ViewersMax = r.int(c[streamViewersMax])
	e.BytesIn = r.int(c[streamBytesIn])
	e.BytesOut = r.int(c[streamBytesOut])
	e.FramesDropped = r.int(c[streamFramesDropped])
	e.Flags = d.flags(at(c[streamFlags], i))
	e.NameCollision = e.Flags&fleet.FlagNameCollision != 0
	e.PublisherIP = r.name(c[streamPublisherIP])
	if kind := at(c[streamMedia], i); kind != 0 {
		if kind > uint64(len(d.streams.media)) {
			return invalid("a stream has media kind %d, and the snapshot has %d", kind, len(d.streams.media))
		}
		e.Media = d.streams.media[kind-1]
	}
	return r.err
}

// placeTech hands every stream its part of one array.
func (c *streamColumns) placeTech(rows []fleet.StreamSample) error {
	if len(c.byTech) == 0 {
		return nil
	}
	// In order of rows already, unless another agent wrote it.
	slices.SortStableFunc(c.byTech, func(a, b techRow) int { return a.row - b.row })
	if last := c.byTech[len(c.byTech)-1].row; last >= len(rows) {
		return invalid("viewers by technology are of row %d, and there are %d streams", last, len(rows))
	}
	all := make([]fleet.TechViewers, len(c.byTech))
	for first := 0; first < len(all); {
		row := c.byTech[first].row
		end := first
		for end < len(all) && c.byTech[end].row == row {
			all[end] = c.byTech[end].TechViewers
			end++
		}
		rows[row].ByTech = all[first:end:end]
		first = end
	}
	return nil
}
