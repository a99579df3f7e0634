package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vigil/durable"
	"vigil/fleet"
)

func joinPath(dir, name string) string { return filepath.Join(dir, name) }

// CheckReport is what Check found.
type CheckReport struct {
	Stats   Stats    `json:"stats"`
	Damage  []Damage `json:"damage,omitempty"` // every damaged place
	Missing uint64   `json:"missing"`          // sequence numbers that nothing accounts for
	InUse   bool     `json:"in_use"`           // an agent has the spool open: a write under way is not reported as damage
}

// OK reports whether nothing is wrong.
func (r CheckReport) OK() bool { return len(r.Damage) == 0 && r.Missing == 0 }

// Check reads every byte of the spool in dir and reports every damage with its
// offset. It changes nothing but the lock. It may be used while an agent runs.
func Check(fsys durable.FS, dir string) (CheckReport, error) {
	var report CheckReport
	lock, err := fsys.Lock(dir)
	switch {
	case errors.Is(err, durable.ErrLocked):
		report.InUse = true
	case err != nil:
		return report, fmt.Errorf("lock spool: %w", err)
	default:
		defer lock.Close()
	}
	r, stats, err := look(fsys, dir)
	if err != nil {
		return report, err
	}
	report.Stats = stats
	report.Damage = r.damage
	for _, g := range r.newGaps {
		report.Missing += g.LastSeq - g.FirstSeq + 1
	}
	if report.InUse {
		newest := segmentName(r.highest)
		report.Damage = slices.DeleteFunc(report.Damage, func(d Damage) bool { return d.File == newest && d.Kind == DamageTail })
	}
	return report, nil
}

// ReadStats reads the state of the spool in dir without changing anything. It may be
// used while an agent runs; the numbers are then those of a moment.
func ReadStats(fsys durable.FS, dir string) (Stats, error) {
	_, stats, err := look(fsys, dir)
	return stats, err
}

// look is recovery without writing. A segment that disappears while an agent works
// makes it begin again.
func look(fsys durable.FS, dir string) (*recovered, Stats, error) {
	for attempt := 0; ; attempt++ {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			return nil, Stats{}, fmt.Errorf("read spool directory: %w", err)
		}
		scans, err := scanAll(fsys, dir, entries)
		if err != nil {
			return nil, Stats{}, err
		}
		again, err := fsys.ReadDir(dir)
		if err != nil {
			return nil, Stats{}, fmt.Errorf("read spool directory: %w", err)
		}
		if !slices.EqualFunc(entries, again, func(a, b durable.Entry) bool { return a.Name == b.Name }) && attempt < maxLooks {
			continue
		}
		r := recoverFrom(scans)
		return r, r.stats(entries), nil
	}
}

// maxLooks bounds how often look begins again.
const maxLooks = 5

func (r *recovered) stats(entries []durable.Entry) Stats {
	s := Stats{Epoch: r.epoch, NextSeq: r.next, Records: len(r.packets), Segments: len(r.sealed), Gaps: len(r.gaps), GapSeqs: r.gaps.numbers()}
	for _, e := range entries {
		_, segment := segmentNumber(e.Name)
		switch {
		case segment:
			s.Bytes += e.Size
		case e.Name == deadLetterName || e.Name == deadLetterOld:
			s.DeadLetterBytes += e.Size
		case strings.HasPrefix(e.Name, quarantinePrefix):
			s.QuarantinedBytes += e.Size
		}
	}
	for i, w := range r.packets {
		s.LiveBytes += headSize + w.length
		if w.flags&flagHeld != 0 && w.seq >= r.released {
			s.Held++
		}
		if i == 0 {
			s.OldestMs = w.atMs
		}
		s.NewestMs = w.atMs
	}
	return s
}

// Repair opens the spool in dir, which turns all damage into gaps, and stores every
// record that is left once more, in new segments. It returns what was found before.
// durable.ErrLocked when an agent uses the spool. Nothing is merged or dropped.
func Repair(fsys durable.FS, dir string) (Report, error) {
	// A wrong path must not become a new spool.
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return Report{}, fmt.Errorf("read spool directory: %w", err)
	}
	if !slices.ContainsFunc(entries, func(e durable.Entry) bool { _, ok := segmentNumber(e.Name); return ok }) {
		return Report{}, &fleet.Error{
			Kind: fleet.KindMissing, Message: dir + " holds no spool", Hint: "give the spool_dir of the agent's configuration",
		}
	}
	s, err := Open(Options{
		Dir: dir, MaxBytes: repairMaxBytes, FS: fsys, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return Report{}, err
	}
	report := s.OpenReport()
	err = s.core.rewriteAll()
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	return report, err
}

// repairMaxBytes lets Repair keep everything, however the agent is configured.
const repairMaxBytes = math.MaxInt64 / 2

// rewriteAll empties every segment that was there before.
func (c *core) rewriteAll() error {
	if c.report.Unwritten {
		return fmt.Errorf("repair spool: %w", fs.ErrPermission)
	}
	for _, seg := range slices.Clone(c.segments) {
		if seg == c.active {
			continue
		}
		if _, err := c.evacuate(seg); err != nil {
			return err
		}
	}
	return nil
}
