package durabletest

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrPowerCut is the error of every call between a power cut by FailAt and Restart.
var ErrPowerCut = errors.New("durabletest: no power")

// Op is a kind of call.
type Op uint16

// The kinds of calls. Changing ones come first.
const (
	OpCreate Op = 1 << iota
	OpWrite
	OpSync
	OpTruncate
	OpRename
	OpRemove
	OpSyncDir
	OpMkdir
	OpOpen
	OpRead
	OpReadDir

	// Changes are all calls that change something on disk.
	Changes = OpCreate | OpWrite | OpSync | OpTruncate | OpRename | OpRemove | OpSyncDir | OpMkdir
)

// Mode is how a call fails.
type Mode uint8

// The modes of failure.
const (
	// NotDone: EIO, and nothing happened. A Sync leaves the bytes readable, off the
	// disk, and out of reach of later Syncs.
	NotDone Mode = iota + 1
	// Done: EIO, although the work was done.
	Done
	// Torn: EIO, and a part of the bytes was written or synced. Calls that cannot be
	// torn are not done.
	Torn
	// NoSpace: ENOSPC. A Write stores a part.
	NoSpace
	// PowerCut: the call is not done, and neither is any later one until Crash or Kill.
	PowerCut
)

// String names the mode in test output.
func (m Mode) String() string {
	names := [...]string{"none", "not done", "done", "torn", "no space", "power cut"}
	return names[m]
}

// Fault says which call fails and how.
type Fault struct {
	Ops  Op     // kinds of calls that count; 0 means Changes
	Path string // only calls whose file name contains it; empty: all
	N    int    // the n-th such call from now on, from 1
	Mode Mode
	// Times is how many calls fail from the n-th on; 0 means one, a negative number
	// all of them.
	Times int
}

type faults struct {
	counted map[Op]int
	armed   []*armed
	dead    bool
}

type armed struct {
	Fault
	seen int
}

// Inject arms a fault. Several may be armed; the first one that matches decides.
func (f *FS) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.Ops == 0 {
		fault.Ops = Changes
	}
	if fault.Times == 0 {
		fault.Times = 1
	}
	f.faults.armed = append(f.faults.armed, &armed{Fault: fault})
}

// FailAt arms a fault at the n-th changing call from now on.
func (f *FS) FailAt(n int, mode Mode) { f.Inject(Fault{N: n, Mode: mode}) }

// Heal disarms all faults. It does not bring the power back.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults.armed = nil
}

// Ops returns how many calls of these kinds there were since New.
func (f *FS) Ops(kinds Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for op, count := range f.faults.counted {
		if op&kinds != 0 {
			n += count
		}
	}
	return n
}

// Dead reports whether a fault has cut the power.
func (f *FS) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults.dead
}

// call runs one call, or lets it fail. Caller holds f.mu. torn does a part of the
// work; nil when there is no such thing.
func (f *FS) call(op Op, name string, do func() error, torn func()) error {
	if f.faults.dead {
		return ErrPowerCut
	}
	if f.faults.counted == nil {
		f.faults.counted = map[Op]int{}
	}
	f.faults.counted[op]++
	switch f.decide(op, name) {
	case NotDone:
		return injected(op, name, syscall.EIO)
	case Done:
		if err := do(); err != nil {
			return err
		}
		return injected(op, name, syscall.EIO)
	case Torn:
		if torn != nil {
			torn()
		}
		return injected(op, name, syscall.EIO)
	case NoSpace:
		if torn != nil && op == OpWrite {
			torn()
		}
		return injected(op, name, syscall.ENOSPC)
	case PowerCut:
		f.faults.dead = true
		if torn != nil && op == OpWrite {
			torn()
		}
		return ErrPowerCut
	}
	return do()
}

func (f *FS) decide(op Op, name string) Mode {
	decided := Mode(0)
	for _, a := range f.faults.armed {
		if a.Ops&op == 0 || !strings.Contains(filepath.Base(name), a.Path) {
			continue
		}
		a.seen++
		if decided == 0 && a.seen >= a.N && (a.Times < 0 || a.seen < a.N+a.Times) {
			decided = a.Mode
		}
	}
	return decided
}

func injected(op Op, name string, err error) error {
	return fmt.Errorf("injected into %s of %s: %w", op, filepath.Base(name), err)
}

// String names the kind of call.
func (o Op) String() string {
	names := map[Op]string{
		OpCreate: "create", OpWrite: "write", OpSync: "sync", OpTruncate: "truncate", OpRename: "rename",
		OpRemove: "remove", OpSyncDir: "syncdir", OpMkdir: "mkdir", OpOpen: "open", OpRead: "read", OpReadDir: "readdir",
	}
	if name, ok := names[o]; ok {
		return name
	}
	return fmt.Sprintf("ops %#x", uint16(o))
}
