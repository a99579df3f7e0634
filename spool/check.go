package spool

import "vigil/durable"

// CheckReport is what Check found.
type CheckReport struct {
	Stats   Stats    `json:"stats"`
	Damage  []Damage `json:"damage,omitempty"` // every damaged place
	Missing uint64   `json:"missing"`          // sequence numbers that nothing accounts for
}

// OK reports whether nothing is wrong.
func (r CheckReport) OK() bool { return len(r.Damage) == 0 && r.Missing == 0 }

// Check reads every byte of the spool in dir and reports every damage with its
// offset. It changes nothing. durable.ErrLocked when an agent uses the spool.
func Check(fsys durable.FS, dir string) (CheckReport, error) { panic("todo") }

// Repair opens the spool in dir, which turns all damage into gaps, and rewrites what
// is left into new segments. It returns what was found before.
func Repair(fsys durable.FS, dir string) (Report, error) { panic("todo") }

// ReadStats reads the state of the spool in dir without changing it.
func ReadStats(fsys durable.FS, dir string) (Stats, error) { panic("todo") }
