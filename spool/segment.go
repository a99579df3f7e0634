package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"syscall"
)

// maxSegments bounds the number of files. Many restarts make many small segments;
// above this the smallest are copied together.
const maxSegments = 256

// segment is one file of the spool. Only the newest one grows, and only by the
// process that made it.
type segment struct {
	number    uint64
	end       int64 // of what counts; bytes behind it are leftovers
	size      int64 // of the file, leftovers included
	live      int   // packets in it that wait
	liveBytes int64
	damaged   bool // holds damage: is emptied at the first occasion
}

// dead is the number of bytes that deleting the segment would win.
func (s *segment) dead() int64 { return s.size - s.liveBytes }

func (c *core) path(name string) string { return filepath.Join(c.opt.Dir, name) }

// write makes frames durable, one after the other in one segment, and returns their
// offsets. After an error none of them counts, whatever is on disk: the next state
// record says where the segment ends that the write went to, and the segment is not
// written to again.
func (c *core) write(frames []frame) (*segment, []int64, error) {
	if c.active != nil {
		offsets, err := c.tryActive(frames)
		if err == nil {
			return c.active, offsets, nil
		}
		if !errors.Is(err, errSegmentFull) {
			c.met.writeErrors.Inc()
			c.log.Warn("write to spool segment failed, a new segment is begun", "segment", c.active.number, "error", err)
			c.abandon()
		} else {
			c.seal()
		}
	}
	offsets, err := c.tryNew(frames)
	if err != nil && isNoSpace(err) && c.relieve() {
		offsets, err = c.tryNew(frames)
	}
	if err != nil {
		c.met.writeErrors.Inc()
		return nil, nil, err
	}
	return c.active, offsets, nil
}

var errSegmentFull = errors.New("segment is full")

func (c *core) tryActive(frames []frame) ([]int64, error) {
	need := int64(0)
	for _, f := range frames {
		need += f.size()
	}
	seg := c.active
	if seg.end+need > c.segmentBytes && seg.end > c.activeStart {
		return nil, errSegmentFull
	}
	buf, offsets := c.encode(nil, frames, seg.number, seg.end)
	n, err := c.activeFile.Write(buf)
	seg.size += int64(n)
	c.bytes += int64(n)
	if err == nil {
		err = c.sync()
	}
	if err != nil {
		return nil, fmt.Errorf("write segment %d: %w", seg.number, err)
	}
	seg.end = seg.size
	return offsets, nil
}

func (c *core) sync() error {
	started := c.opt.Now()
	err := c.activeFile.Sync()
	c.met.syncSeconds.Observe(c.opt.Now().Sub(started).Seconds())
	return err
}

// tryNew begins a segment with the state and the frames. On error nothing of it
// counts: no state record will ever list it.
func (c *core) tryNew(frames []frame) ([]int64, error) {
	number := c.nextSegment
	c.nextSegment++ // never used again, so that a leftover is never taken for its successor
	f, err := c.opt.FS.Create(c.path(segmentName(number)), 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment %d: %w", number, err)
	}
	c.activeFile = f
	h := header{epoch: c.epoch, number: number}
	if c.phase != normal {
		h.flags = headerDraft
	}
	buf := h.append(nil)
	if c.phase != drafting {
		states := c.stateFrames()
		buf, _ = c.encode(buf, states, number, int64(len(buf)))
	}
	start := int64(len(buf))
	buf, offsets := c.encode(buf, frames, number, start)
	if err = writeAll(f, buf); err == nil {
		err = c.sync()
	}
	if err == nil {
		err = c.opt.FS.SyncDir(c.opt.Dir)
	}
	if err != nil {
		_ = f.Close()
		c.activeFile = nil
		c.discard(number)
		return nil, fmt.Errorf("write segment %d: %w", number, err)
	}
	c.unsafe = false
	c.active = &segment{number: number, end: int64(len(buf)), size: int64(len(buf))}
	c.activeStart = start
	c.segments = append(c.segments, c.active)
	c.bytes += c.active.size
	return offsets, nil
}

func writeAll(w io.Writer, data []byte) error {
	n, err := w.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

func (c *core) encode(buf []byte, frames []frame, number uint64, offset int64) ([]byte, []int64) {
	offsets := make([]int64, 0, len(frames))
	for _, f := range frames {
		f.epoch = c.epoch
		offsets = append(offsets, offset)
		buf = f.append(buf, number, offset)
		offset += f.size()
	}
	return buf, offsets
}

// stateFrames is the state as it is now, twice: one damaged place must not take both.
func (c *core) stateFrames() []frame {
	snap := snapshot{state: c.state}
	for _, seg := range c.segments {
		if seg != c.active {
			snap.sealed = append(snap.sealed, sealed{number: seg.number, end: seg.end})
		}
	}
	f := frame{kind: typeState, first: c.next - 1, seq: c.next - 1, atMs: c.opt.Now().UnixMilli(), payload: snap.encode()}
	return []frame{f, f}
}

// discard removes the file of a segment that does not count. Failing to is harmless:
// Open does it again.
func (c *core) discard(number uint64) {
	if err := c.opt.FS.Remove(c.path(segmentName(number))); err != nil {
		c.log.Debug("leftover segment stays for now", "segment", number, "error", err)
	}
}

// seal ends the growth of the active segment.
func (c *core) seal() {
	if c.active == nil {
		return
	}
	_ = c.activeFile.Close() // all that counts is synced
	c.active, c.activeFile = nil, nil
}

// abandon ends the growth of the active segment after a failed write. Its tail counts
// for nothing and is cut off for the space; it does not matter when that fails too.
func (c *core) abandon() {
	seg := c.active
	c.seal()
	f, err := c.opt.FS.OpenAppend(c.path(segmentName(seg.number)))
	if err != nil {
		return
	}
	defer f.Close()
	if f.Truncate(seg.end) == nil {
		c.bytes -= seg.size - seg.end
		seg.size = seg.end
	}
}

// read returns the payload of an entry. errDamaged when the bytes on disk are not
// the ones that were written.
func (c *core) read(e *entry) ([]byte, error) {
	f, err := c.opt.FS.Open(c.path(segmentName(e.seg.number)))
	if err != nil {
		return nil, fmt.Errorf("open segment %d: %w", e.seg.number, err)
	}
	defer f.Close()
	data := make([]byte, e.size())
	n, err := f.ReadAt(data, e.offset)
	if n < len(data) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: segment %d is too short", errDamaged, e.seg.number)
		}
		return nil, fmt.Errorf("read segment %d at %d: %w", e.seg.number, e.offset, err)
	}
	h, ok := parseHead(data, e.seg.number, e.offset)
	if !ok || h.seq != e.seq || h.first != e.first || int64(h.length) != e.length ||
		h.bodySum != crc32.Checksum(data[headSize:], castagnoli) {
		return nil, fmt.Errorf("%w: segment %d at %d", errDamaged, e.seg.number, e.offset)
	}
	return data[headSize:], nil
}

var errDamaged = errors.New("record is damaged")

// drain deletes segments in which nothing waits. The state is written first, so that
// no number is unaccounted for at any moment.
func (c *core) drain() error {
	empty := func(s *segment) bool { return s.live == 0 && s != c.active }
	if !slices.ContainsFunc(c.segments, empty) {
		return nil
	}
	// The segments leave the list before the state is written, because the state
	// lists what stays.
	before := slices.Clone(c.segments)
	c.segments = slices.DeleteFunc(c.segments, empty)
	if err := c.writeState(); err != nil {
		c.segments = c.restore(before)
		return err
	}
	for _, seg := range before {
		if seg.live == 0 && !slices.Contains(c.segments, seg) {
			c.bytes -= seg.size
			c.discard(seg.number)
		}
	}
	// Not synced on purpose: after a power cut the files may be back, and the state
	// says that they do not count.
	return nil
}

// restore is the list of segments as it was, plus those that a failed attempt made.
func (c *core) restore(before []*segment) []*segment {
	for _, seg := range c.segments {
		if !slices.Contains(before, seg) {
			before = append(before, seg)
		}
	}
	return before
}

// writeState makes the present state durable in the active segment, or in a new one,
// which begins with it anyway.
func (c *core) writeState() error {
	if c.active != nil {
		if _, err := c.tryActive(c.stateFrames()); err == nil {
			return nil
		} else if !errors.Is(err, errSegmentFull) {
			c.met.writeErrors.Inc()
			c.abandon()
		}
	}
	c.seal()
	_, err := c.tryNew(nil)
	if err != nil && isNoSpace(err) && c.relieve() {
		_, err = c.tryNew(nil)
	}
	if err != nil {
		c.met.writeErrors.Inc()
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// place counts a record that was just written into its segment.
func (s *segment) place(size int64) {
	s.live++
	s.liveBytes += size
}

// leave counts a record out that does not wait any more.
func (s *segment) leave(size int64) {
	s.live--
	s.liveBytes -= size
}
