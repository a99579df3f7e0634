package wire

import "vigil/fleet"

// rowMerger adds up the streams of several snapshots of one server.
type rowMerger struct {
	rows  []fleet.StreamSample
	last  []*fleet.Snapshot // the newest snapshot in which each row was
	index map[fleet.StreamKey]int
}

func newRowMerger(parts []*fleet.Snapshot) *rowMerger {
	most := 0
	for _, part := range parts {
		most = max(most, len(part.Streams))
	}
	return &rowMerger{
		rows:  make([]fleet.StreamSample, 0, most),
		last:  make([]*fleet.Snapshot, 0, most),
		index: make(map[fleet.StreamKey]int, most),
	}
}

// add takes the streams of the next snapshot, in order of time.
func (m *rowMerger) add(part *fleet.Snapshot) {
	for i := range part.Streams {
		next := part.Streams[i]
		next.Key.Server = part.Server.Key
		next.CoveredMs = fleet.Of(next.CoveredMs.Or(part.IntervalMs))
		next.ViewerMs = viewerMs(next.ViewerMs, next.Viewers, part.IntervalMs)
		next.ViewersMax = orElse(next.ViewersMax, next.Viewers)
		next.Flags |= fleet.FlagMerged
		at, seen := m.index[next.Key]
		if !seen {
			m.index[next.Key] = len(m.rows)
			m.rows, m.last = append(m.rows, next), append(m.last, part)
			continue
		}
		m.rows[at] = addRows(&m.rows[at], next)
		m.last[at] = part
	}
}

// addRows adds an older row to a newer one, whose gauges stay.
func addRows(older *fleet.StreamSample, newer fleet.StreamSample) fleet.StreamSample {
	newer.CoveredMs = newer.CoveredMs.Plus(older.CoveredMs)
	newer.ViewerMs = newer.ViewerMs.Plus(older.ViewerMs)
	newer.ViewersMax = newer.ViewersMax.Max(older.ViewersMax)
	newer.BytesIn = newer.BytesIn.Plus(older.BytesIn)
	newer.BytesOut = newer.BytesOut.Plus(older.BytesOut)
	newer.FramesDropped = newer.FramesDropped.Plus(older.FramesDropped)
	newer.Flags |= older.Flags
	newer.NameCollision = newer.NameCollision || older.NameCollision
	if newer.Media == (fleet.Media{}) {
		newer.Media = older.Media
	}
	return newer
}

// finish returns the rows as they are at the end of the newest snapshot. What that
// snapshot does not list is not there any more, or cannot be known to be: its sums
// stay, its gauges go.
func (m *rowMerger) finish(newest *fleet.Snapshot) []fleet.StreamSample {
	state := fleet.StateUnknown
	switch newest.Status {
	case fleet.StatusOK:
		state = fleet.StateOffline
	case fleet.StatusPartial:
		state = fleet.StateHidden
	}
	for i := range m.rows {
		if m.last[i] == newest {
			continue
		}
		row := &m.rows[i]
		row.State, row.ByTech = state, nil
		row.Viewers, row.Publishers = fleet.Int{}, fleet.Int{}
	}
	if len(m.rows) == 0 {
		return nil
	}
	return m.rows
}
