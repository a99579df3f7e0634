package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vigil/durable"
	"vigil/fleet"
	"vigil/lifecycle"
)

// The data directory.
const (
	markerFile  = "vigil.json" // Init writes it last; without it nothing starts
	runningFile = "running"    // there while a node runs
	busDir      = "bus"
	storeDir    = "store"
	storageDir  = "storage" // dead letters

	// layoutVersion is the version of what is in the data directory as a whole. The
	// parts inside have versions of their own.
	layoutVersion = 1

	dirPerm  = 0o700
	filePerm = 0o600
)

var errTorn = errors.New("node: marker makes no sense")

// marker is the content of the file that says that a directory was initialised.
type marker struct {
	Program string    `json:"program"` // always "vigil"
	Layout  int       `json:"layout"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`
}

func readMarker(dir string) (marker, error) {
	data, err := durable.ReadFile(durable.OS(), filepath.Join(dir, markerFile))
	if err != nil {
		return marker{}, fmt.Errorf("read %s: %w", markerFile, err)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return marker{}, fmt.Errorf("read %s: %w: %w", markerFile, errTorn, err)
	}
	return m, nil
}

func writeMarker(dir string, m marker) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", markerFile, err)
	}
	if err := durable.WriteFile(durable.OS(), filepath.Join(dir, markerFile), append(data, '\n'), filePerm); err != nil {
		return fmt.Errorf("write %s: %w", markerFile, err)
	}
	return nil
}

// checkMarker refuses a directory that is not this node's.
func checkMarker(dir, node string) error {
	m, err := readMarker(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fleet.Error{
			Kind:    fleet.KindMissing,
			Message: "the data directory " + dir + " was never initialised, so there is nothing to serve from it",
			Hint:    "check data_dir in the configuration; on a new machine run: vigil init",
		}
	case errors.Is(err, fs.ErrPermission):
		return &fleet.Error{
			Kind:    fleet.KindForbidden,
			Message: "this user may not use the data directory " + dir,
			Hint:    "run as the user who owns it",
			Err:     err,
		}
	case errors.Is(err, errTorn):
		return &fleet.Error{
			Kind:    fleet.KindInternal,
			Message: "the file " + markerFile + " in the data directory " + dir + " is damaged, and with it the proof that this is the right directory",
			Hint:    "restore that one file from a backup; the data beside it may be whole",
			Err:     err,
		}
	case err != nil:
		return &fleet.Error{
			Kind:    fleet.KindInternal,
			Message: "the data directory " + dir + " cannot be read",
			Hint:    "check that the user who runs vigil owns it, and that its disk works",
			Err:     err,
		}
	case m.Program != "vigil" || m.Layout < 1:
		return &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: "the directory " + dir + " is not a data directory of vigil, although it has a file " + markerFile,
			Hint:    "check data_dir in the configuration",
		}
	case m.Layout > layoutVersion:
		return &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: fmt.Sprintf("the data directory %s has layout %d; this program knows layout %d", dir, m.Layout, layoutVersion),
			Hint:    "a newer version wrote it, and there is no way back: install that version again",
		}
	case m.Node != node:
		return &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: fmt.Sprintf("the data directory %s belongs to the node %q and not to %q", dir, m.Node, node),
			Hint:    "give the node its own name back, or another data_dir",
		}
	}
	return nil
}

// lockDir makes sure that one process uses the directory.
func lockDir(dir string) (io.Closer, error) {
	lock, err := durable.Lock(dir)
	if errors.Is(err, durable.ErrLocked) {
		return nil, &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: "another process uses the data directory " + dir,
			Hint:    "stop it first, or use another data_dir",
			Err:     err,
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, &fleet.Error{
			Kind:    fleet.KindForbidden,
			Message: "this user may not use the data directory " + dir,
			Hint:    "run as the user who owns it",
			Err:     err,
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return lock, nil
}

// runMarker is the file that tells the next start about an unclean end.
func runMarker(dir string) lifecycle.Marker {
	name := filepath.Join(dir, runningFile)
	disk := durable.OS()
	return lifecycle.Marker{
		Read:  func() ([]byte, error) { return durable.ReadFile(disk, name) },
		Write: func(data []byte) error { return durable.WriteFile(disk, name, data, filePerm) },
		Remove: func() error {
			if err := disk.Remove(name); err != nil {
				return err
			}
			return disk.SyncDir(dir)
		},
	}
}

// isEmptyDir reports whether a directory holds nothing, or does not exist.
func isEmptyDir(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read data directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return false, nil
		}
	}
	return true, nil
}
