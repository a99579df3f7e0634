package media

import (
	"time"

	"vigil/fleet"
)

// TrackerOptions tune a Tracker. Zero values mean the defaults.
type TrackerOptions struct {
	LineRateBps int64         // bit/s that no server can exceed; larger deltas are impossible. Default 400 Gbit/s
	HiddenFor   time.Duration // how long streams stay hidden after a reload before they count as gone. Default 10 min
}

// Tracker turns successive readings of one media server into snapshots: counters
// become deltas, changes of state become events, connections become sessions. It is
// the only home of the counter rules. Not safe for concurrent use.
type Tracker struct {
	opts TrackerOptions
}

// NewTracker returns a tracker that has seen nothing: the first good reading is a
// baseline.
func NewTracker(opts TrackerOptions) *Tracker { return &Tracker{opts: opts} }

// Step takes the next reading, in order of time, and returns what happened since
// the last one. The reading may be reused afterwards; the snapshot is the caller's.
func (t *Tracker) Step(r *fleet.Reading) fleet.Snapshot {
	return fleet.Snapshot{Server: r.Server, AtMs: r.AtMs, Status: r.Status, Detail: r.Detail}
}
