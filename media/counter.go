package media

import "vigil/fleet"

// Rules of time. Ages are printed by servers with a resolution of up to a second and
// are a little old when they arrive.
const (
	beginToleranceMs   = 2_000
	defaultLineRateBps = 400_000_000_000
	wrap32             = int64(1) << 32
)

// origin is when counters began: what tells one incarnation of them from the next.
type origin struct {
	name    string // printed by the server and exact, such as a start time; may be empty
	monoMs  int64  // on the agent's monotonic clock
	wallMs  int64  // on the agent's wall clock
	isKnown bool   // of the times
}

func originOf(name string, beginMs fleet.Int, r *fleet.Reading) origin {
	o := origin{name: name}
	if begin, ok := beginMs.Get(); ok {
		o.wallMs, o.monoMs, o.isKnown = begin, begin-r.AtMs+r.MonoMs, true
	}
	return o
}

// same reports whether two origins are one, seen at different polls. Names decide
// where there are names. Times may differ by the tolerance, on either clock: servers
// derive some ages from a wall clock that is set while they run, others do not.
func (o origin) same(p origin, toleranceMs int64) bool {
	if o.name != "" && p.name != "" {
		return o.name == p.name
	}
	if !o.isKnown || !p.isKnown {
		return true // nothing says otherwise; a reset shows in the counters
	}
	return near(o.monoMs, p.monoMs, toleranceMs) || near(o.wallMs, p.wallMs, toleranceMs)
}

func near(a, b, tolerance int64) bool { return a-b <= tolerance && b-a <= tolerance }

// basis says what the new value of a counter may be compared with.
type basis uint8

const (
	basisNone     basis = iota // nothing: the value is only remembered
	basisPrevious              // the previous value of the same incarnation
	basisZero                  // the incarnation began after the last good poll: it counted from zero
)

// counting turns counters into deltas for one thing over one span of time.
type counting struct {
	basis   basis
	spanMs  int64
	maxRate int64 // bit/s
	flags   fleet.SampleFlags
}

// delta applies the counter rules to one counter.
func (c *counting) delta(previous, now fleet.Int) fleet.Int {
	value, ok := now.Get()
	if !ok {
		return fleet.Int{}
	}
	var d int64
	switch c.basis {
	case basisNone:
		return fleet.Int{}
	case basisZero:
		d = value
	case basisPrevious:
		before, known := previous.Get()
		if !known {
			return fleet.Int{}
		}
		d = value - before
		if value < before {
			// The counter began anew without saying so. What it shows now is what
			// certainly passed since.
			c.flags |= fleet.FlagCounterReset
			d = value
		}
	}
	if d < 0 || d > c.most() {
		c.flags |= fleet.FlagClamped
		return fleet.Int{}
	}
	return fleet.Of(d)
}

// most is the largest delta that the line can carry. The tolerance is added, because
// short spans are measured badly.
func (c *counting) most() int64 {
	return c.maxRate / 8 * (c.spanMs/1000 + beginToleranceMs/1000 + 1)
}
