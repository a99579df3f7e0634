package spool

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// mergeFanIn is how many packets of one coarseness become one of the next. With a
	// packet every 10 s the levels are a minute, 6 minutes, 36 minutes, 3.6 hours.
	mergeFanIn = 6
	// maxMergeLevel is the coarsest level that is made.
	maxMergeLevel = 4
	// maxRoomSteps ends an attempt to make room that gets nowhere.
	maxRoomSteps = 4096
)

// usable is what records may fill. The rest is for merging and moving, which write
// before they delete.
func (c *core) usable() int64 { return c.budget - 2*c.segmentBytes - c.payloadBytes }

// makeRoom frees bytes until need more fit. In this order: copy together what is
// left in segments that are mostly dead, merge held records, copy together more, drop
// the oldest. Each step frees something or is the last of its kind.
func (c *core) makeRoom(need int64) error {
	c.tidy()
	for range maxRoomSteps {
		if c.bytes+need <= c.usable() {
			return nil
		}
		done, err := c.roomStep(need)
		if err != nil {
			return err
		}
		if !done {
			return ErrFull
		}
	}
	return ErrFull
}

func (c *core) roomStep(need int64) (done bool, err error) {
	if done, err := c.evacuateWorst(2); done || err != nil {
		return done, err
	}
	if done, err := c.mergeBatch(); done || err != nil {
		return done, err
	}
	if done, err := c.evacuateWorst(5); done || err != nil {
		return done, err
	}
	if done, err := c.dropOldest(need); done || err != nil {
		return done, err
	}
	return c.evacuateWorst(1 << 20)
}

// tidy empties segments that hold damage and keeps the number of files bounded. What
// does not succeed is tried again with the next packet.
func (c *core) tidy() {
	for _, seg := range slices.Clone(c.segments) {
		if !seg.damaged || seg == c.active {
			continue
		}
		if _, err := c.evacuate(seg); err != nil {
			c.log.Warn("damaged spool segment stays for now", "segment", seg.number, "error", err)
			return
		}
	}
	for range 2 {
		if len(c.segments) < maxSegments {
			return
		}
		if err := c.evacuateSmallest(); err != nil {
			c.log.Warn("small spool segments stay for now", "error", err)
			return
		}
	}
}

func (c *core) evacuateSmallest() error {
	var smallest *segment
	for _, seg := range c.segments {
		if seg != c.active && (smallest == nil || seg.liveBytes < smallest.liveBytes) {
			smallest = seg
		}
	}
	if smallest == nil {
		return nil
	}
	_, err := c.evacuate(smallest)
	return err
}

// evacuateWorst empties the segment with the most dead bytes, if at least one in
// `part` of its bytes is dead.
func (c *core) evacuateWorst(part int64) (done bool, err error) {
	var worst *segment
	cost := c.overhead()
	for _, seg := range c.segments {
		// The gain must be worth it: a copy makes new dead bytes, of about the cost.
		if seg.dead()-cost > seg.size/16 && seg.dead()*part >= seg.size && (worst == nil || seg.dead() > worst.dead()) {
			worst = seg
		}
	}
	if worst == nil {
		return false, nil
	}
	if worst == c.active {
		c.seal()
	}
	return c.evacuate(worst)
}

// overhead is what moving records costs besides the records: a segment may begin, and
// the state is written once more before the old one is deleted.
func (c *core) overhead() int64 {
	size := int64(headerSize)
	for _, f := range c.stateFrames() {
		size += 2 * f.size()
	}
	return size
}

// evacuate copies the waiting records of a segment to the newest one and deletes it.
func (c *core) evacuate(seg *segment) (done bool, err error) {
	var positions []int
	var frames []frame
	batch := int64(0)
	flush := func() error {
		if err := c.rewrite(positions, frames); err != nil {
			return fmt.Errorf("move records out of segment %d: %w", seg.number, err)
		}
		positions, frames, batch = nil, nil, 0
		return nil
	}
	for i := 0; i < len(c.index.entries); i++ {
		e := &c.index.entries[i]
		if e.dead || e.seg != seg {
			continue
		}
		payload, err := c.readCounted(e)
		if errors.Is(err, errDamaged) {
			if err := flush(); err != nil {
				return false, err
			}
			if err := c.giveUpDamaged(i, err); err != nil {
				return false, err
			}
			i = -1 // positions have changed
			continue
		}
		if err != nil {
			return false, fmt.Errorf("move records out of segment %d: %w", seg.number, err)
		}
		positions = append(positions, i)
		frames = append(frames, e.frame(payload))
		if batch += e.size(); batch >= c.segmentBytes/2 {
			if err := flush(); err != nil {
				return false, err
			}
		}
	}
	if err := flush(); err != nil {
		return false, err
	}
	return true, c.drain()
}

func (e *entry) frame(payload []byte) frame {
	f := frame{kind: typePacket, first: e.first, seq: e.seq, atMs: e.atMs, payload: payload}
	if e.held {
		f.flags = flagHeld
	}
	return f
}

// rewrite stores the same records again and lets the entries point there.
func (c *core) rewrite(positions []int, frames []frame) error {
	if len(frames) == 0 {
		return nil
	}
	seg, offsets, err := c.write(frames)
	if err != nil {
		return err
	}
	for n, i := range positions {
		e := &c.index.entries[i]
		e.seg.leave(e.size())
		e.seg, e.offset = seg, offsets[n]
		seg.place(e.size())
	}
	return nil
}

// level is the coarseness of a record: how often mergeFanIn packets became one.
func (e *entry) level() int {
	level := 0
	for span := e.span(); span >= mergeFanIn && level < bits.UintSize; span /= mergeFanIn {
		level++
	}
	return level
}

// group is a run of entries, by position, that can become one record.
type group []int

// mergeBatch merges held records of the finest level that has any two in a row,
// oldest first, until about a segment's worth is read. It reports whether anything
// became smaller.
func (c *core) mergeBatch() (done bool, err error) {
	if c.opt.Merge == nil || c.held < 2 {
		return false, nil
	}
	for level := range maxMergeLevel {
		for _, groups := range c.batches(level) {
			if done, err := c.mergeGroups(groups); done || err != nil {
				return done, err
			}
		}
	}
	return false, nil
}

// batches cuts the groups of a level into pieces of about one segment.
func (c *core) batches(level int) [][]group {
	var batches [][]group
	var batch []group
	bytes := int64(0)
	for _, g := range c.groups(level) {
		batch = append(batch, g)
		for _, i := range g {
			bytes += c.index.entries[i].size()
		}
		if bytes >= c.segmentBytes {
			batches = append(batches, batch)
			batch, bytes = nil, 0
		}
	}
	if len(batch) > 0 {
		batches = append(batches, batch)
	}
	return batches
}

// groups are the runs of two to mergeFanIn held neighbours of a level. Records in
// flight are not held, so none of them is touched. Neighbours have no number between
// them: a merged record must not cover what is not in it.
func (c *core) groups(level int) []group {
	var groups []group
	var run group
	end := func() {
		if len(run) >= 2 {
			groups = append(groups, run)
		}
		run = nil
	}
	for i := range c.index.entries {
		e := &c.index.entries[i]
		if e.dead {
			continue
		}
		fits := c.isHeld(e) && !e.keep && !e.inFlight && e.level() == level
		if len(run) > 0 && (!fits || c.index.entries[run[len(run)-1]].seq+1 != e.first || len(run) == mergeFanIn) {
			end()
		}
		if fits {
			run = append(run, i)
		}
	}
	end()
	return groups
}

// mergeGroups writes one record for each group, with one sync, and deletes what is
// not needed any more.
func (c *core) mergeGroups(groups []group) (done bool, err error) {
	var frames []frame
	var merged []group
	for _, g := range groups {
		f, result, err := c.mergeGroup(g)
		if err != nil {
			return false, err
		}
		switch result {
		case memberLost:
			return true, nil // positions have changed
		case smaller:
			frames = append(frames, f)
			merged = append(merged, g)
		}
	}
	if len(frames) == 0 {
		return false, nil
	}
	seg, offsets, err := c.write(frames)
	if err != nil {
		return false, fmt.Errorf("store merged packets: %w", err)
	}
	for n, g := range merged {
		c.replace(g, entry{
			first: frames[n].first, seq: frames[n].seq, atMs: frames[n].atMs,
			seg: seg, offset: offsets[n], length: int64(len(frames[n].payload)), held: true,
		})
		c.met.merged.Add(float64(len(g)))
	}
	c.index.sweep()
	return true, c.drain()
}

// replace lets one entry stand for a group. It takes the place of the last member,
// which has its number.
func (c *core) replace(g group, e entry) {
	for _, i := range g[:len(g)-1] {
		c.forget(i)
	}
	last := &c.index.entries[g[len(g)-1]]
	last.seg.leave(last.size())
	*last = e
	e.seg.place(e.size())
}

type mergeResult uint8

const (
	smaller    mergeResult = iota
	notSmaller             // merging saves nothing
	memberLost             // a member was damaged and became a gap
)

// mergeGroup makes the record for one group.
func (c *core) mergeGroup(g group) (frame, mergeResult, error) {
	payloads := make([][]byte, 0, len(g))
	size := int64(0)
	for _, i := range g {
		payload, err := c.readCounted(&c.index.entries[i])
		if errors.Is(err, errDamaged) {
			return frame{}, memberLost, c.giveUpDamaged(i, err)
		}
		if err != nil {
			return frame{}, notSmaller, fmt.Errorf("read packet to merge: %w", err)
		}
		payloads = append(payloads, payload)
		size += headSize + int64(len(payload))
	}
	payload, err := c.opt.Merge(payloads)
	first, last := &c.index.entries[g[0]], &c.index.entries[g[len(g)-1]]
	if err != nil {
		c.log.Warn("packets in spool cannot be merged", "first_seq", first.first, "seq", last.seq, "error", err)
	}
	if err != nil || headSize+int64(len(payload)) >= size || int64(len(payload)) > c.payloadBytes {
		for _, i := range g {
			c.index.entries[i].keep = true
		}
		return frame{}, notSmaller, nil
	}
	f := frame{kind: typePacket, flags: flagHeld, first: first.first, seq: last.seq, atMs: last.atMs, payload: payload}
	return f, smaller, nil
}

// dropOldest gives up the oldest records: as many as are needed, or half a segment's
// worth, so that the next packets find room without another sync. Records in flight
// are left: their acknowledgement may be on its way.
func (c *core) dropOldest(need int64) (done bool, err error) {
	want := max(need, c.segmentBytes/2)
	var positions []int
	spans, bytes := uint64(0), int64(0)
	for i := range c.index.entries {
		e := &c.index.entries[i]
		if e.dead || e.inFlight {
			continue
		}
		positions = append(positions, i)
		spans += e.span()
		if bytes += e.size(); bytes >= want {
			break
		}
	}
	if len(positions) == 0 {
		return false, nil
	}
	first, last := c.index.entries[positions[0]].first, c.index.entries[positions[len(positions)-1]].seq
	if err := c.giveUp(positions, ReasonFull); err != nil {
		return false, fmt.Errorf("store the gap %d to %d: %w", first, last, err)
	}
	c.met.dropped.Add(float64(spans))
	c.log.Warn("spool is full, oldest packets are dropped", "first_seq", first, "last_seq", last, "packets", spans)
	return true, nil
}
