package duckdb

import (
	"math/bits"

	"vigil/fleet"
)

// Numbers beyond these limits come from a broken or hostile agent. They are stored as
// unknown and flagged, so that no sum of a day can overflow.
const (
	maxCount      = 1 << 31       // viewers, connections, frames
	maxBytes      = 1 << 47       // in one interval
	maxIntervalMs = 24 * dayMs    // of one snapshot; more does not fit into 32 bits
	maxViewerMs   = 1 << 50       // in one interval
	maxGauge      = 1 << 53       // anything else
	minTimeMs     = 0             // 1970
	maxTimeMs     = 4102444800000 // 2100
)

// maxCutRows bounds the rows that the cuts of one packet make. A small packet may hold
// two hundred thousand streams and say that it covers a day: cut into 97 pieces each
// it would keep the store busy for a minute.
const maxCutRows = 400_000

// A cut divides an interval that is longer than a minute at the borders of buckets, so
// that a merged packet fills the minutes it stands for instead of one spike. Borders
// are minutes, for intervals over fifteen minutes quarters of an hour, and over a day days,
// which bounds the number of pieces to 97. Where that would be too many rows, borders
// are coarser, and in the end there is one piece.
type cut struct {
	endMs   int64
	totalMs int64
	edges   []int64 // ends of the pieces, the last one is endMs
}

// cutOf cuts an interval into at most so many pieces. edges is memory to use.
func cutOf(endMs, intervalMs int64, most int, edges []int64) cut {
	c := cut{endMs: endMs, totalMs: intervalMs, edges: edges[:0]}
	if width := cutWidth(intervalMs, most); width > 0 {
		for edge := floorTo(endMs-intervalMs, width) + width; edge < endMs; edge += width {
			c.edges = append(c.edges, edge)
		}
	}
	c.edges = append(c.edges, endMs)
	return c
}

// cutWidth is the distance of the borders in an interval; 0: it stays whole.
func cutWidth(intervalMs int64, most int) int64 {
	if intervalMs <= minuteMs {
		return 0
	}
	for _, w := range [...]struct{ widthMs, upToMs int64 }{{minuteMs, quarterMs}, {quarterMs, dayMs}, {dayMs, maxIntervalMs}} {
		pieces := (intervalMs-1)/w.widthMs + 2 // wherever the interval begins
		if intervalMs <= w.upToMs && pieces <= int64(most) {
			return w.widthMs
		}
	}
	return 0
}

// mostPieces is into how many pieces the snapshots of a packet may be cut.
func mostPieces(p *fleet.Packet) int {
	rows := 0
	for i := range p.Snapshots {
		s := &p.Snapshots[i]
		rows += len(s.Streams) + 1
		for j := range s.Streams {
			rows += len(s.Streams[j].ByTech)
		}
	}
	return maxCutRows / max(rows, 1)
}

// share is the part of a total that belongs to piece i. The shares of all pieces add
// up to the total exactly, because each is the difference of two rounded running sums.
func (c *cut) share(total fleet.Int, i int) fleet.Int {
	v, known := total.Get()
	if !known || len(c.edges) == 1 {
		return total
	}
	before := int64(0)
	if i > 0 {
		before = c.until(v, c.edges[i-1])
	}
	return fleet.Of(c.until(v, c.edges[i]) - before)
}

func (c *cut) until(total, edge int64) int64 {
	hi, lo := bits.Mul64(uint64(total), uint64(edge-(c.endMs-c.totalMs)))
	q, _ := bits.Div64(hi, lo, uint64(c.totalMs))
	return int64(q)
}

func floorTo(ms, width int64) int64 {
	if r := ms % width; r < 0 {
		return ms - r - width
	} else {
		return ms - r
	}
}

// within returns n, or unknown when no honest server could say it.
func within(n fleet.Int, limit int64, clamped *bool) fleet.Int {
	if v, known := n.Get(); known && (v < 0 || v > limit) {
		*clamped = true
		return fleet.Int{}
	}
	return n
}

// A measured sample has its defaults filled in and its numbers bounded.
type measured struct {
	coveredMs  int64
	viewers    fleet.Int
	viewersMax fleet.Int
	viewerMs   fleet.Int
	bytesIn    fleet.Int
	bytesOut   fleet.Int
	dropped    fleet.Int
	flags      fleet.SampleFlags
}

// measure says what a stream sample means: unknown covered time is all of the interval,
// unknown viewer time is viewers times the interval.
func measure(s *fleet.StreamSample, intervalMs int64) measured {
	clamped := false
	m := measured{
		viewers:    within(s.Viewers, maxCount, &clamped),
		viewersMax: within(s.ViewersMax, maxCount, &clamped),
		viewerMs:   within(s.ViewerMs, maxViewerMs, &clamped),
		bytesIn:    within(s.BytesIn, maxBytes, &clamped),
		bytesOut:   within(s.BytesOut, maxBytes, &clamped),
		dropped:    within(s.FramesDropped, maxCount, &clamped),
		flags:      s.Flags,
	}
	m.coveredMs = min(max(s.CoveredMs.Or(intervalMs), 0), intervalMs)
	if v, known := m.viewers.Get(); known && !m.viewerMs.Known() {
		m.viewerMs = fleet.Of(v * intervalMs)
	}
	if s.NameCollision {
		m.flags |= fleet.FlagNameCollision
	}
	if clamped {
		m.flags |= fleet.FlagClamped
	}
	return m
}
