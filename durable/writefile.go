package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// tempSuffix marks the file that WriteFile fills before it renames it.
const tempSuffix = ".tmp"

// WriteFile replaces the content of name so that after a power cut either the old
// or the new content is there, whole, and after it returned nil the new one: write
// name.tmp, sync it, rename it over name, sync the directory.
//
// What it does not promise: after an error from the last step the new content is in
// place but may be gone after a power cut, so an error means "old or new". Two
// concurrent calls for one name are the caller's mistake. And all of it holds as far
// as the disk tells the truth about its write cache.
//
// The order is the one that POSIX needs and that Pillai et al., "All File Systems
// Are Not Created Equal" (OSDI 2014) found missing in most applications; why a
// failed sync must not be tried again is in Rebello et al., "Can Applications
// Recover from fsync Failures?" (USENIX ATC 2020).
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	temp := name + tempSuffix
	// A temp file left by a crash holds nothing that anybody was promised.
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale %s: %w", temp, err)
	}
	if err := writeNew(fsys, temp, data, perm); err != nil {
		// Best effort: the next call removes it too.
		_ = fsys.Remove(temp)
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		_ = fsys.Remove(temp)
		return fmt.Errorf("rename %s: %w", temp, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("sync directory of %s: %w", name, err)
	}
	return nil
}

func writeNew(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.Create(name, perm)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// A close error after a good sync is reported all the same: better a needless
	// retry than a surprise.
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// ReadFile returns the whole content of name. The caller knows that it is small.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", name, err)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
