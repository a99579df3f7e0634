package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"vigil/durable"
	"vigil/fleet"
	"vigil/observe"
)

// Limits. How MaxBytes is shared out: segments may take all of it but what quarantine
// and dead letters may take; a part of that stays free, so that merging and moving
// records never needs more than MaxBytes.
const (
	MinMaxBytes = 256 << 10 // of Options.MaxBytes

	segmentShare    = 64      // a segment grows to MaxBytes/64 ...
	maxSegmentBytes = 4 << 20 // ... and no further
	payloadShare    = 16      // a payload may have MaxBytes/16, and not over maxPayloadBytes
	deadLetterShare = 32
	quarantineShare = 32

	// maxReadErrors is how often a record is read in vain before it counts as damaged.
	maxReadErrors = 3
)

// core is the spool without lock: a state machine that one caller at a time drives.
// All it asks of the world goes through Options.
type core struct {
	state // what the next state record will say

	opt   Options
	log   *slog.Logger
	met   *metrics
	lock  io.Closer
	epoch uint64

	index    index
	held     int // live entries that are held
	flying   int // live entries that are in flight
	segments []*segment
	bytes    int64 // of all segment files

	active      *segment // nil: the next write begins a segment
	activeFile  durable.File
	activeStart int64 // where records begin after header and state
	nextSegment uint64
	phase       phase

	segmentBytes int64
	payloadBytes int64 // largest payload
	budget       int64 // of all segment files
	// unsafe: nothing was written since Open, and what was read may not be on disk, so
	// sending it could use a number twice after a power cut.
	unsafe      bool
	lowDisk     bool  // the reserve was given away
	letterBytes int64 // of the dead-letter file
	letterBegun bool  // this process has written to it, and its last line is whole
	quarantined int64 // bytes in quarantine
	report      Report
	closed      bool
}

func newCore(o Options) (*core, error) {
	if o.MaxBytes < MinMaxBytes {
		return nil, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("the spool may use %d bytes, which is too little to be of use", o.MaxBytes),
			Hint:    fmt.Sprintf("set spool_max_bytes to at least %d", MinMaxBytes),
		}
	}
	if o.FS == nil || o.Now == nil || o.Rand == nil || o.Dir == "" {
		return nil, errors.New("spool: options are incomplete: Dir, FS, Now and Rand are needed")
	}
	log := o.Log
	if log == nil {
		log = observe.Discard()
	}
	c := &core{
		opt:          o,
		log:          log,
		met:          newMetrics(o.Metrics),
		segmentBytes: min(o.MaxBytes/segmentShare, maxSegmentBytes),
		payloadBytes: min(o.MaxBytes/payloadShare, maxPayloadBytes),
		budget:       o.MaxBytes - o.MaxBytes/deadLetterShare - o.MaxBytes/quarantineShare - reserveBytes(o.MaxBytes),
	}
	c.next = 1
	c.nextSegment = 1
	return c, nil
}

// isHeld reports whether a live entry may be merged and must not be sent.
func (c *core) isHeld(e *entry) bool { return e.held && e.seq >= c.released }

func (c *core) append(rec Record) error {
	if rec.FirstSeq == 0 {
		rec.FirstSeq = rec.Seq
	}
	if rec.Seq != c.next || rec.FirstSeq != rec.Seq {
		return fmt.Errorf("%w: append of %d to %d, next is %d", ErrSeq, rec.FirstSeq, rec.Seq, c.next)
	}
	if int64(len(rec.Payload)) > c.payloadBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(rec.Payload), c.payloadBytes)
	}
	f := frame{kind: typePacket, first: rec.FirstSeq, seq: rec.Seq, atMs: rec.AtMs, payload: rec.Payload}
	if rec.Held {
		f.flags = flagHeld
	}
	if err := c.makeRoom(f.size()); err != nil {
		return fmt.Errorf("make room for packet %d: %w", rec.Seq, err)
	}
	c.refill()
	seg, offsets, err := c.write([]frame{f})
	if err != nil && isNoSpace(err) {
		// Others have filled the disk. Merging is the only way to make room that costs
		// no data.
		if merged, mergeErr := c.mergeBatch(); merged && mergeErr == nil {
			seg, offsets, err = c.write([]frame{f})
		}
	}
	if err != nil {
		return fmt.Errorf("store packet %d: %w", rec.Seq, err)
	}
	seg.place(f.size())
	e := entry{first: rec.FirstSeq, seq: rec.Seq, atMs: rec.AtMs, seg: seg, offset: offsets[0], length: int64(len(rec.Payload)), held: rec.Held}
	c.index.add(e)
	if rec.Held {
		c.held++
	}
	c.next = rec.Seq + 1
	c.met.appended.Inc()
	return nil
}

// pick finds the newest or oldest record that may be sent and reads it. A record
// that turns out to be damaged becomes a gap, and the search goes on.
func (c *core) pick(newest bool) (Record, *entry, error) {
	if c.unsafe {
		if err := c.writeState(); err != nil {
			return Record{}, nil, err
		}
	}
	for {
		i := c.sendable(newest)
		if i < 0 {
			return Record{}, nil, nil
		}
		e := &c.index.entries[i]
		payload, err := c.readCounted(e)
		if errors.Is(err, errDamaged) {
			if err := c.giveUpDamaged(i, err); err != nil {
				return Record{}, nil, err
			}
			continue
		}
		if err != nil {
			return Record{}, nil, fmt.Errorf("read packet %d: %w", e.seq, err)
		}
		return Record{FirstSeq: e.first, Seq: e.seq, AtMs: e.atMs, Held: e.held, Payload: payload}, e, nil
	}
}

// readCounted is read, except that a place the disk refuses to read for the third
// time counts as damaged.
func (c *core) readCounted(e *entry) ([]byte, error) {
	payload, err := c.read(e)
	if err == nil {
		e.readErrors = 0
		return payload, nil
	}
	if e.readErrors++; e.readErrors >= maxReadErrors && !errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil, err
}

func (c *core) sendable(newest bool) int {
	ok := func(e *entry) bool { return !e.dead && !e.inFlight && !c.isHeld(e) }
	entries := c.index.entries
	if c.index.live() <= c.held {
		return -1
	}
	if newest {
		for i := len(entries) - 1; i >= 0; i-- {
			if ok(&entries[i]) {
				return i
			}
		}
		return -1
	}
	for i := range entries {
		if ok(&entries[i]) {
			return i
		}
	}
	return -1
}

func (c *core) giveUpDamaged(i int, cause error) error {
	e := c.index.entries[i]
	c.log.Warn("packet in spool is damaged and given up", "seq", e.seq, "error", cause)
	c.met.damaged.Add(float64(e.span()))
	if err := c.giveUp([]int{i}, ReasonDamaged); err != nil {
		return fmt.Errorf("give up damaged packet %d: %w", e.seq, err)
	}
	return nil
}

func (c *core) take(newest bool) (Record, bool, error) {
	rec, e, err := c.pick(newest)
	if e == nil {
		return Record{}, false, err
	}
	e.inFlight = true
	c.flying++
	return rec, true, nil
}

func (c *core) giveBack(seq uint64) {
	if i := c.index.find(seq); i >= 0 && c.index.entries[i].inFlight {
		c.index.entries[i].inFlight = false
		c.flying--
	}
}

// release makes held records sendable, durably: once one of them has been sent it
// must never be merged again, whatever happens in between.
func (c *core) release() error {
	if c.held == 0 {
		return nil
	}
	if err := c.makeRoom(headSize); err != nil {
		return fmt.Errorf("make room for the release marker: %w", err)
	}
	if c.held == 0 {
		return nil // making room dropped them
	}
	if _, _, err := c.write([]frame{{kind: typeRelease, first: c.next, seq: c.next, atMs: c.opt.Now().UnixMilli()}}); err != nil {
		return fmt.Errorf("store the release marker: %w", err)
	}
	c.released = c.next
	c.held = 0
	return nil
}

// forget takes an entry out of the index. Positions stay until the next sweep.
func (c *core) forget(i int) {
	e := &c.index.entries[i]
	if c.isHeld(e) {
		c.held--
	}
	if e.inFlight {
		c.flying--
	}
	e.seg.leave(e.size())
	c.index.kill(i)
}

func (c *core) ack(seq uint64) error {
	if seq >= c.next {
		return fmt.Errorf("%w: acknowledgement of %d, next is %d", ErrSeq, seq, c.next)
	}
	if i := c.index.find(seq); i >= 0 {
		c.acked(i)
	}
	c.index.sweep()
	return c.drain()
}

func (c *core) acked(i int) {
	e := c.index.entries[i]
	r := fleet.SeqRange{First: e.first, Last: e.seq}
	c.forget(i)
	c.settle(r)
	var carried []fleet.SeqRange
	c.gaps, carried = c.gaps.settle(r)
	for _, g := range carried {
		c.settle(g)
	}
	c.met.acked.Inc()
}

func (c *core) settle(r fleet.SeqRange) {
	if _, err := c.settled.Fill(r); err != nil {
		panic(fmt.Sprintf("spool: settle %d to %d: %v", r.First, r.Last, err))
	}
}

func (c *core) ackStored(high uint64, ahead []fleet.SeqRange) error {
	ranges := make([]fleet.SeqRange, 0, len(ahead)+1)
	if high > 0 {
		ranges = append(ranges, fleet.SeqRange{First: 1, Last: high})
	}
	ranges = append(ranges, ahead...)
	for _, r := range ranges {
		if r.First == 0 || r.Last < r.First {
			return fmt.Errorf("%w: stored %d to %d", ErrSeq, r.First, r.Last)
		}
		if r.Last >= c.next {
			return fmt.Errorf("%w: stored up to %d, next here is %d", ErrRewound, r.Last, c.next)
		}
	}
	for _, r := range ranges {
		c.storedRange(r)
	}
	c.index.sweep()
	return c.drain()
}

func (c *core) storedRange(r fleet.SeqRange) {
	for i := c.index.from(r.First); i < len(c.index.entries); i++ {
		e := &c.index.entries[i]
		if e.first > r.Last {
			break
		}
		if !e.dead && e.first >= r.First && e.seq <= r.Last {
			c.acked(i)
		}
	}
	// What was given up and is there all the same needs no gap.
	for _, g := range c.gaps {
		both := fleet.SeqRange{First: max(g.FirstSeq, r.First), Last: min(g.LastSeq, r.Last)}
		if both.First <= both.Last {
			c.settle(both)
		}
	}
	c.gaps = c.gaps.without(r)
}

func (c *core) gapsCarried(seq uint64, gaps []fleet.Gap) error {
	if c.index.find(seq) < 0 {
		return fmt.Errorf("%w: packet %d is not in the spool", ErrSeq, seq)
	}
	for _, g := range gaps {
		// A gap that is gone was settled in the meantime: nothing to remember.
		c.gaps, _ = c.gaps.carried(seq, g)
	}
	return nil
}

// giveUp turns entries into gaps. The gaps are durable before anything is deleted.
func (c *core) giveUp(positions []int, reason string) error {
	gaps := c.gapsOf(positions, reason)
	frames := make([]frame, 0, len(gaps))
	for _, g := range gaps {
		frames = append(frames, gapFrame(g))
	}
	if _, _, err := c.write(frames); err != nil {
		return err
	}
	for _, i := range positions {
		e := &c.index.entries[i]
		c.gaps.uncarry(fleet.SeqRange{First: e.first, Last: e.seq})
		c.forget(i)
	}
	for _, g := range gaps {
		c.gaps = c.gaps.add(g)
	}
	c.index.sweep()
	// The gaps are safe. Space that cannot be given back now will be later.
	if err := c.drain(); err != nil {
		c.log.Warn("spool cannot give space back yet", "error", err)
	}
	return nil
}

// gapsOf makes one gap of each run of entries without a hole between them.
func (c *core) gapsOf(positions []int, reason string) []fleet.Gap {
	var gaps []fleet.Gap
	for _, i := range positions {
		e := &c.index.entries[i]
		if n := len(gaps); n > 0 && gaps[n-1].LastSeq+1 == e.first {
			gaps[n-1].LastSeq = e.seq
			gaps[n-1].ToMs = fleet.Of(e.atMs)
			continue
		}
		gaps = append(gaps, fleet.Gap{
			FirstSeq: e.first, LastSeq: e.seq, FromMs: fleet.Of(e.atMs), ToMs: fleet.Of(e.atMs), Reason: reason,
		})
	}
	return gaps
}
