package spool

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"vigil/durable"
)

// maxReportedDamage bounds the list in a Report.
const maxReportedDamage = 1000

// Open opens the spool in o.Dir, or makes a new one there. Damage never keeps it
// from opening: what cannot be read becomes a gap. It fails when the directory is
// locked, cannot be read, or the options are wrong.
func Open(o Options) (*Spool, error) {
	c, err := newCore(o)
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool directory: %w", err)
	}
	if c.lock, err = o.FS.Lock(o.Dir); err != nil {
		return nil, err
	}
	if err := c.open(); err != nil {
		_ = c.lock.Close()
		return nil, err
	}
	c.show()
	return &Spool{core: c}, nil
}

func (c *core) open() error {
	entries, err := c.opt.FS.ReadDir(c.opt.Dir)
	if err != nil {
		return fmt.Errorf("read spool directory: %w", err)
	}
	scans, err := scanAll(c.opt.FS, c.opt.Dir, entries)
	if err != nil {
		return err
	}
	r := recoverFrom(scans)
	if !r.found {
		if err := c.fresh(r); err != nil {
			return err
		}
	}
	c.nextSegment = r.highest + 1
	c.adopt(r, entries)
	c.keepDamage(r)
	c.begin(r)
	c.makeReport(r)
	return nil
}

// scanAll reads all segments of a directory, in the order of their numbers.
func scanAll(fsys durable.FS, dir string, entries []durable.Entry) ([]*scan, error) {
	var scans []*scan
	for _, e := range entries {
		number, ok := segmentNumber(e.Name)
		if !ok {
			continue
		}
		s, err := scanFile(fsys, dir, e, number)
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", e.Name, err)
		}
		scans = append(scans, s)
	}
	slices.SortFunc(scans, func(a, b *scan) int { return cmp.Compare(a.number, b.number) })
	return scans, nil
}

// scanFile scans one segment. A file that cannot even be opened is damage from end
// to end: it must not keep the others from being used.
func scanFile(fsys durable.FS, dir string, e durable.Entry, number uint64) (*scan, error) {
	f, err := fsys.Open(joinPath(dir, e.Name))
	if err != nil {
		return &scan{number: number, size: e.Size, damage: []Damage{
			{File: e.Name, Length: e.Size, Kind: DamageRead, Detail: err.Error()},
		}}, nil
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size: %w", err)
	}
	return scanSegment(f, size, number)
}

// fresh begins a new epoch, because there is nothing to continue.
func (c *core) fresh(r *recovered) error {
	epoch, err := newEpoch(c.opt.Rand)
	if err != nil {
		return err
	}
	r.epoch = epoch
	r.state = state{next: 1}
	r.packets = nil
	r.newGaps = nil
	c.report.Fresh = true
	return nil
}

// newEpoch is never 0: 0 stands for none.
func newEpoch(random io.Reader) (uint64, error) {
	var b [8]byte
	for range 8 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, fmt.Errorf("read random epoch: %w", err)
		}
		if epoch := binary.LittleEndian.Uint64(b[:]); epoch != 0 {
			return epoch, nil
		}
	}
	return 0, fmt.Errorf("read random epoch: %w", io.ErrNoProgress)
}

// adopt takes over what recovery found.
func (c *core) adopt(r *recovered, entries []durable.Entry) {
	c.epoch = r.epoch
	c.state = r.state
	if r.release {
		c.released = c.next
	}
	sizes := map[uint64]int64{}
	for _, e := range entries {
		if number, ok := segmentNumber(e.Name); ok {
			sizes[number] = e.Size
		}
		switch {
		case e.Name == deadLetterName:
			c.letterBytes = e.Size
		case strings.HasPrefix(e.Name, quarantinePrefix):
			c.quarantined += e.Size
		}
	}
	segments := map[uint64]*segment{}
	for _, s := range r.sealed {
		seg := &segment{number: s.number, end: s.end, size: sizes[s.number], damaged: r.dirty[s.number]}
		segments[s.number] = seg
		c.segments = append(c.segments, seg)
		c.bytes += seg.size
	}
	for _, w := range r.packets {
		e := entry{first: w.first, seq: w.seq, atMs: w.atMs, seg: segments[w.number], offset: w.offset, length: w.length, held: w.flags&flagHeld != 0}
		e.seg.place(e.size())
		c.index.add(e)
		if c.isHeld(&e) {
			c.held++
		}
	}
}

// keepDamage saves damaged bytes before the segments with them go.
func (c *core) keepDamage(r *recovered) {
	kept := 0
	for _, d := range r.damage {
		switch d.Kind {
		case DamageHeader, DamageRecord, DamageBytes, DamageTail, DamageState:
			if kept < maxQuarantines {
				c.quarantine(d)
				kept++
			}
		}
		c.met.damages.Inc()
	}
}

// begin makes what was found durable. First the state, in a new segment: it keeps the
// next number from ever going back. Then the old files: their torn tails are cut off
// and they are synced, because what the kernel still had in memory was counted too.
// If the disk takes nothing, Open does not fail: see unsafe.
func (c *core) begin(r *recovered) {
	c.unsafe = true
	c.keepReserve()
	if err := c.writeState(); err != nil {
		c.log.Error("spool cannot write to its directory, it will try again with the next packet", "error", err)
		c.report.Unwritten = true
		// Without anything to note, it is enough that the old files are on disk.
		c.unsafe = !c.syncOld() || len(r.damage) > 0
		return
	}
	for _, seg := range c.segments {
		if seg == c.active {
			continue
		}
		if err := c.settleFile(seg); err != nil {
			// What was read may not be on disk: store it once more.
			c.log.Warn("old spool segment cannot be synced, its records are stored again", "segment", seg.number, "error", err)
			seg.damaged = true
		}
	}
	for _, number := range r.obsolete {
		c.discard(number)
	}
	c.tidy()
	if err := c.drain(); err != nil {
		c.log.Warn("spool cannot give space back yet", "error", err)
	}
}

func (c *core) syncOld() bool {
	for _, seg := range c.segments {
		f, err := c.opt.FS.OpenAppend(c.path(segmentName(seg.number)))
		if err != nil {
			return false
		}
		err = f.Sync()
		_ = f.Close()
		if err != nil {
			return false
		}
	}
	return true
}

// settleFile cuts the torn tail off a segment and syncs the rest.
func (c *core) settleFile(seg *segment) error {
	f, err := c.opt.FS.OpenAppend(c.path(segmentName(seg.number)))
	if err != nil {
		return err
	}
	defer f.Close()
	if seg.end < seg.size {
		if err := f.Truncate(seg.end); err != nil {
			return err
		}
		c.bytes -= seg.size - seg.end
		seg.size = seg.end
	}
	return f.Sync()
}

func (c *core) makeReport(r *recovered) {
	c.report.Epoch = c.epoch
	c.report.NextSeq = c.next
	c.report.Segments = len(c.segments)
	c.report.Records = c.index.live()
	c.report.Held = c.held
	c.report.Damages = len(r.damage)
	c.report.Damage = r.damage[:min(len(r.damage), maxReportedDamage)]
	c.report.NewGaps = r.newGaps
	c.report.Released = r.release && !c.report.Fresh
	for _, g := range r.newGaps {
		c.report.Lost += g.LastSeq - g.FirstSeq + 1
	}
	if c.report.Lost > 0 {
		c.met.damaged.Add(float64(c.report.Lost))
		c.log.Warn("spool has lost packets to damage", "packets", c.report.Lost, "damaged_places", len(r.damage))
	}
	c.log.Info("spool opened", "epoch", fmt.Sprintf("%016x", c.epoch), "fresh", c.report.Fresh, "next_seq", c.next,
		"records", c.report.Records, "held", c.held, "segments", len(c.segments), "bytes", c.bytes)
}

func (c *core) close() error {
	err := c.writeState()
	c.seal()
	if lockErr := c.lock.Close(); err == nil {
		err = lockErr
	}
	if err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}

func (c *core) stats() Stats {
	s := Stats{
		Epoch: c.epoch, NextSeq: c.next, Records: c.index.live(), Held: c.held, InFlight: c.flying,
		Segments: len(c.segments), Bytes: c.bytes, MaxBytes: c.opt.MaxBytes, Gaps: len(c.gaps),
		GapSeqs: c.gaps.numbers(), DeadLetterBytes: c.letterBytes, QuarantinedBytes: c.quarantined,
	}
	for _, seg := range c.segments {
		s.LiveBytes += seg.liveBytes
	}
	oldest, newest := -1, -1
	for i := range c.index.entries {
		if !c.index.entries[i].dead {
			oldest = i
			break
		}
	}
	for i := len(c.index.entries) - 1; i >= 0 && newest < 0; i-- {
		if !c.index.entries[i].dead {
			newest = i
		}
	}
	if oldest >= 0 {
		s.OldestMs, s.NewestMs = c.index.entries[oldest].atMs, c.index.entries[newest].atMs
	}
	return s
}
