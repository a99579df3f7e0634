package media

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"vigil/fleet"
)

// Limits and waits of the tracker.
const (
	defaultHiddenFor = 10 * time.Minute
	maxBoots         = 64 // worker processes of one server that are remembered
	idlePolls        = 2  // polls without a new byte before a publisher is idle
	waitingPolls     = 2  // polls with viewers and no publisher before workers are suspected
)

// TrackerOptions tune a Tracker. Zero values mean the defaults.
type TrackerOptions struct {
	LineRateBps int64         // bit/s that no server can exceed; larger deltas are impossible. Default 400 Gbit/s
	HiddenFor   time.Duration // how long streams stay hidden after a reload before they count as gone. Default 10 min
}

// productRules are the few things in which the counters of products differ.
type productRules struct {
	workers   bool  // a boot id names one of several processes, and a reload makes new ones
	idleMinMs int64 // counters may stand still for this long although data flows
}

func rulesFor(product string) productRules {
	if product == ProductNginxRTMP {
		return productRules{workers: true, idleMinMs: 3_000}
	}
	return productRules{idleMinMs: 12_000} // Icecast moves its counters every 5 s
}

// Tracker turns successive readings of one media server into snapshots: counters
// become deltas, changes of state become events, connections become sessions. It is
// the only home of the counter rules:
//
//   - A delta is the difference of two values of one incarnation. An incarnation
//     that began after the last good poll counts from zero; one that began earlier,
//     and was not seen, is only remembered.
//   - A value that went back inside one incarnation began anew: the delta is the new
//     value, and is flagged.
//   - A delta that the line cannot have carried is left out, and is flagged.
//   - A failed poll gives no numbers. The next good one covers the time since the
//     last good one, if the server kept its counters.
//   - What a poll cannot see (old workers after a reload, other workers) is hidden,
//     not gone, and the status is partial.
//
// Not safe for concurrent use.
type Tracker struct {
	opts TrackerOptions

	stepped     bool
	sinceMs     int64 // mono of the first Step: what began later is ours from zero
	polled      bool
	lastMonoMs  int64 // of the last good reading
	lastAtMs    int64
	toleranceMs int64 // for origins in this step; grows with slow answers
	lastLatency int64
	unreachable bool // since the last good reading

	poll    uint64 // number of this step
	boots   []*boot
	waiting int
}

// boot is one run of a server, or of one worker process, and all it counted.
type boot struct {
	origin
	label     string    // the boot id that snapshots carry
	startedMs fleet.Int // UTC, as first seen: later answers differ by a second or so
	totals    fleet.Totals
	lastMs    int64 // mono
	poll      uint64
	streams   map[fleet.StreamKey]*stream
	sessions  map[string]*session
	retired   bool // replaced by a newer generation; may still serve unseen
	maxConn   int64
}

// NewTracker returns a tracker that has seen nothing: the first good reading is a
// baseline.
func NewTracker(opts TrackerOptions) *Tracker {
	if opts.LineRateBps <= 0 {
		opts.LineRateBps = defaultLineRateBps
	}
	if opts.HiddenFor <= 0 {
		opts.HiddenFor = defaultHiddenFor
	}
	return &Tracker{opts: opts}
}

// step is the work on one reading.
type step struct {
	*Tracker
	r     *fleet.Reading
	rules productRules
	b     *boot
	basis basis
	out   fleet.Snapshot
	first bool // no good reading came before

	reloaded int // streams that a reload hid
}

// Step takes the next reading, in order of time, and returns what happened since the
// last good one. The reading must not be changed afterwards, because the snapshot
// shares its strings and lists; the snapshot is the caller's.
func (t *Tracker) Step(r *fleet.Reading) fleet.Snapshot {
	if !t.stepped {
		t.stepped, t.sinceMs = true, r.MonoMs
	}
	t.poll++
	s := &step{Tracker: t, r: r, rules: rulesFor(r.Server.Product), first: !t.polled}
	s.out = fleet.Snapshot{
		Server: r.Server, AtMs: r.AtMs, Status: r.Status, Detail: r.Detail,
		LatencyMs: r.LatencyMs, UnknownFields: r.UnknownFields,
	}
	if !r.Status.HasNumbers() {
		t.unreachable = t.unreachable || r.Status == fleet.StatusUnreachable
		s.out.Server.BootID, s.out.Server.StartedMs = "", fleet.Int{}
		return s.out
	}
	t.toleranceMs = beginToleranceMs + max(r.LatencyMs, t.lastLatency)
	s.findBoot()
	s.measureInterval()
	s.countStreams()
	s.countTotals()
	s.trackSessions()
	s.showHidden()
	s.judge()
	s.remember()
	return s.out
}

func (s *step) remember() {
	s.polled, s.unreachable = true, false
	s.lastMonoMs, s.lastAtMs, s.lastLatency = s.r.MonoMs, s.r.AtMs, s.r.LatencyMs
	s.b.lastMs, s.b.poll = s.r.MonoMs, s.poll
	if o := originOf(s.r.Server.BootID, s.r.Server.StartedMs, s.r); o.isKnown {
		s.b.origin = o
	}
}

// beganUnseen reports whether something began after the last good poll, so that all
// it counted is new. Before the first good poll the start of the tracker takes its
// place, with the tolerance on the safe side: what an earlier run of the agent may
// have counted is not counted again.
func (t *Tracker) beganUnseen(o origin) bool {
	if !o.isKnown {
		return false
	}
	if !t.polled {
		return o.monoMs >= t.sinceMs+t.toleranceMs
	}
	return o.monoMs >= t.lastMonoMs-t.toleranceMs
}

// measureInterval fills the length of the interval and what of it is covered.
func (s *step) measureInterval() {
	sinceLast := max(0, s.r.MonoMs-s.lastMonoMs)
	if s.first {
		sinceLast = max(0, s.r.MonoMs-s.sinceMs)
	}
	switch {
	case s.basis == basisZero:
		// The time before the server began is not covered by anybody.
		s.out.IntervalMs = min(sinceLast, max(0, s.r.MonoMs-s.b.monoMs))
		s.out.CoveredMs = s.out.IntervalMs
		s.out.Flags |= fleet.FlagNewIncarnation
	case s.basis == basisPrevious:
		s.out.IntervalMs = sinceLast
		s.out.CoveredMs = min(sinceLast, max(0, s.r.MonoMs-s.b.lastMs))
	default:
		if !s.first && s.liveBoots() > 1 {
			s.out.IntervalMs = sinceLast
		}
		s.out.Flags |= fleet.FlagBaseline
	}
}

// countTotals makes deltas of the server's own counters. Where the server has none
// for bytes, the sum over its streams takes their place.
func (s *step) countTotals() {
	c := counting{basis: s.basis, spanMs: s.spanSince(s.b.lastMs, s.b.origin), maxRate: s.opts.LineRateBps}
	before, now := s.b.totals, s.r.Totals
	s.out.Totals = fleet.Totals{
		BytesIn:       c.delta(before.BytesIn, now.BytesIn),
		BytesOut:      c.delta(before.BytesOut, now.BytesOut),
		ConnsAccepted: c.delta(before.ConnsAccepted, now.ConnsAccepted),
		ConnsRejected: c.delta(before.ConnsRejected, now.ConnsRejected),
	}
	s.b.totals = now
	s.out.Flags |= c.flags
	if s.basis == basisNone {
		return
	}
	if !now.BytesIn.Known() && !before.BytesIn.Known() {
		s.out.Totals.BytesIn = s.sumStreams(func(st *fleet.StreamSample) fleet.Int { return st.BytesIn })
	}
	if !now.BytesOut.Known() && !before.BytesOut.Known() {
		s.out.Totals.BytesOut = s.sumStreams(func(st *fleet.StreamSample) fleet.Int { return st.BytesOut })
	}
}

func (s *step) sumStreams(of func(*fleet.StreamSample) fleet.Int) fleet.Int {
	var sum fleet.Int
	if len(s.out.Streams) == 0 {
		sum = fleet.Of(0)
	}
	for i := range s.out.Streams {
		sum = sum.Plus(of(&s.out.Streams[i]))
	}
	return sum
}

// spanSince is the time over which a counter of the current boot was counted.
func (s *step) spanSince(lastMs int64, o origin) int64 {
	if s.basis == basisZero && o.isKnown {
		return max(0, s.r.MonoMs-o.monoMs)
	}
	return max(0, s.r.MonoMs-lastMs)
}

// judge sets status and detail for what only the succession of readings shows.
func (s *step) judge() {
	if s.rules.workers {
		s.out.Server.Workers = fleet.Of(int64(s.liveBoots()))
	}
	switch {
	case s.rules.workers && s.liveBoots() > 1:
		s.partial(fmt.Sprintf("nginx has several worker processes (%d seen) and each poll shows only one of them: "+
			"the numbers are true of that worker alone; run the rtmp part with worker_processes 1", s.liveBoots()))
	case s.reloaded > 0:
		s.partial(fmt.Sprintf("nginx was reloaded: its statistics do not show the old workers, in which streams that were live may go on (%d); "+
			"they come back when they reconnect", s.reloaded))
	case s.suspectWorkers():
		s.partial("viewers wait for streams and no publisher is to be seen anywhere: either all publishers are gone, " +
			"or nginx has several worker processes and the publishers are in another one; run the rtmp part with worker_processes 1")
	}
}

func (s *step) partial(detail string) {
	s.out.Status = fleet.StatusPartial
	if s.out.Detail != "" {
		detail += "; " + s.out.Detail
	}
	s.out.Detail = detail
}

// suspectWorkers finds the picture that several workers give from the side of one
// without publishers: viewers of streams that never had a publisher here.
func (s *step) suspectWorkers() bool {
	suspicious := false
	if s.rules.workers {
		for i := range s.r.Streams {
			st := &s.r.Streams[i]
			if st.Publishers.Or(0) > 0 || (st.State == fleet.StateOffline && s.b.streams[st.Key].published) {
				s.waiting = 0
				return false
			}
			suspicious = suspicious || (st.State == fleet.StateOffline && st.Viewers.Or(0) > 0)
		}
	}
	if !suspicious {
		s.waiting = 0
		return false
	}
	s.waiting++
	return s.waiting >= waitingPolls
}

func (s *step) event(key fleet.StreamKey, atMs int64, state fleet.StreamState, reason string) {
	s.out.Events = append(s.out.Events, fleet.StreamEvent{Key: key, AtMs: atMs, State: state, Reason: reason})
}

func sortedKeys[V any](m map[fleet.StreamKey]V) []fleet.StreamKey {
	keys := make([]fleet.StreamKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b fleet.StreamKey) int {
	return cmp.Or(cmp.Compare(a.VHost, b.VHost), cmp.Compare(a.App, b.App), cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Name, b.Name))
}
