// Package durable writes files that survive a power cut. It is the only place in
// Vigil that calls fsync, so the rules about it are kept in one piece of code:
//
//   - Data is durable after File.Sync returned nil, not before.
//   - A new, renamed or removed name is durable after FS.SyncDir of its directory
//     returned nil, not before.
//   - After a failed Sync nobody knows what is on disk: Linux marks the pages clean
//     and the next fsync reports success although the bytes are lost. The file is
//     therefore poisoned. Whoever needs the bytes writes them into a new file.
//
// Everything goes through the FS and File seams, so that package durabletest can
// take the power away, fill the disk or break a single call.
//
// What remains is stated where it remains: see WriteFile.
package durable

import (
	"errors"
	"io"
	"io/fs"
)

// Errors that callers branch on.
var (
	// ErrPoisoned means that an earlier Sync of this file failed. What the file
	// holds is unknown; write the data that matters into a new file.
	ErrPoisoned = errors.New("durable: file is poisoned by a failed sync")
	// ErrLocked means that another process holds the lock of the directory.
	ErrLocked = errors.New("durable: directory is locked by another process")
)

// File is an open file. It is not safe for concurrent use, except for ReadAt, which
// may run beside everything else.
type File interface {
	io.ReaderAt
	// Write appends: every file is opened so that it grows at its end. After an
	// error any prefix of p may have been written.
	io.Writer
	// Sync returns nil only when all that was written is on stable storage. After
	// an error the file is poisoned.
	Sync() error
	// Truncate cuts the file to size bytes. It is durable after the next Sync.
	Truncate(size int64) error
	// Size is the present length in bytes.
	Size() (int64, error)
	// Close does not sync.
	Close() error
}

// FS is the part of a file system that durable state needs. Names are paths as the
// operating system knows them. Safe for concurrent use.
type FS interface {
	// Create makes a new file for appending; fs.ErrExist when the name is taken.
	Create(name string, perm fs.FileMode) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenAppend opens an existing file for reading and for appending.
	OpenAppend(name string) (File, error)
	// Rename replaces newName. It is atomic at once, and durable after SyncDir.
	Rename(oldName, newName string) error
	// Remove is durable after SyncDir.
	Remove(name string) error
	// ReadDir lists the files of a directory, sorted by name, without the
	// directories in it.
	ReadDir(dir string) ([]Entry, error)
	// MkdirAll makes a directory and its parents and makes their names durable.
	MkdirAll(dir string, perm fs.FileMode) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes the exclusive lock of a directory without waiting: ErrLocked when
	// somebody has it. The lock ends with Close or with the process.
	Lock(dir string) (io.Closer, error)
}

// Entry is one file of a directory.
type Entry struct {
	Name string // without the directory
	Size int64  // bytes
}
