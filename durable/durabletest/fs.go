package durabletest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"vigil/durable"
)

// FS is a file system in memory. The zero value is not usable; see New.
type FS struct {
	mu       sync.Mutex
	names    map[string]*inode // what a reader sees
	onDisk   map[string]*inode // names that survive a power cut for certain
	pending  []nameChange      // changes of names since the SyncDir of their directory
	dirs     map[string]bool
	locks    map[string]*lock
	boot     int   // counts power cuts: handles of an earlier boot are dead
	capacity int64 // bytes; 0: no limit
	faults   faults
	rng      *rand.Rand
}

// inode is the content of a file, in two versions.
type inode struct {
	data  []byte  // what a reader sees
	disk  []byte  // what survives a power cut for certain
	dirty []write // what happened to data since the last Sync
}

// write is one change of a file that no Sync has covered.
type write struct {
	off      int64
	data     []byte
	truncate bool // to off
}

// nameChange is one change of a directory that no SyncDir has covered.
type nameChange struct {
	dir    string
	remove string // name that went away; empty: none
	add    string // name that appeared; empty: none
	node   *inode
}

// New returns an empty file system. The seed decides what a power cut leaves of
// whatever was not synced.
func New(seed uint64) *FS {
	return &FS{
		names:  map[string]*inode{},
		onDisk: map[string]*inode{},
		dirs:   map[string]bool{},
		locks:  map[string]*lock{},
		rng:    rand.New(rand.NewPCG(seed, 0x766967696c)),
	}
}

// SetCapacity bounds the sum of all file sizes in bytes; 0 takes the bound away.
// Writes over it store what fits and fail with ENOSPC.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Create is durable.FS.
func (f *FS) Create(name string, _ fs.FileMode) (durable.File, error) {
	name = filepath.Clean(name)
	return f.opened(OpCreate, name, func() (*inode, error) {
		if !f.dirs[filepath.Dir(name)] {
			return nil, pathError("create", name, fs.ErrNotExist)
		}
		if f.names[name] != nil {
			return nil, pathError("create", name, fs.ErrExist)
		}
		node := &inode{}
		f.names[name] = node
		f.pending = append(f.pending, nameChange{dir: filepath.Dir(name), add: name, node: node})
		return node, nil
	})
}

// Open is durable.FS.
func (f *FS) Open(name string) (durable.File, error) { return f.openExisting(name) }

// OpenAppend is durable.FS.
func (f *FS) OpenAppend(name string) (durable.File, error) { return f.openExisting(name) }

func (f *FS) openExisting(name string) (durable.File, error) {
	name = filepath.Clean(name)
	return f.opened(OpOpen, name, func() (*inode, error) {
		node := f.names[name]
		if node == nil {
			return nil, pathError("open", name, fs.ErrNotExist)
		}
		return node, nil
	})
}

func (f *FS) opened(op Op, name string, do func() (*inode, error)) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var node *inode
	err := f.call(op, name, func() (err error) {
		node, err = do()
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: node, name: name, boot: f.boot}, nil
}

// Rename is durable.FS.
func (f *FS) Rename(oldName, newName string) error {
	oldName, newName = filepath.Clean(oldName), filepath.Clean(newName)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.call(OpRename, newName, func() error {
		node := f.names[oldName]
		if node == nil {
			return pathError("rename", oldName, fs.ErrNotExist)
		}
		delete(f.names, oldName)
		f.names[newName] = node
		f.pending = append(f.pending, nameChange{dir: filepath.Dir(newName), remove: oldName, add: newName, node: node})
		return nil
	}, nil)
}

// Remove is durable.FS.
func (f *FS) Remove(name string) error {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	// A missing name is answered without counting: nothing is at stake.
	if f.names[name] == nil && !f.faults.dead {
		return pathError("remove", name, fs.ErrNotExist)
	}
	return f.call(OpRemove, name, func() error {
		delete(f.names, name)
		f.pending = append(f.pending, nameChange{dir: filepath.Dir(name), remove: name})
		return nil
	}, nil)
}

// ReadDir is durable.FS.
func (f *FS) ReadDir(dir string) ([]durable.Entry, error) {
	dir = filepath.Clean(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []durable.Entry
	err := f.call(OpReadDir, dir, func() error {
		if !f.dirs[dir] {
			return pathError("readdir", dir, fs.ErrNotExist)
		}
		for _, name := range slices.Sorted(maps.Keys(f.names)) {
			if filepath.Dir(name) == dir {
				entries = append(entries, durable.Entry{Name: filepath.Base(name), Size: int64(len(f.names[name].data))})
			}
		}
		return nil
	}, nil)
	return entries, err
}

// MkdirAll is durable.FS. Directories survive power cuts at once: the interface
// promises it.
func (f *FS) MkdirAll(dir string, _ fs.FileMode) error {
	dir = filepath.Clean(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirs[dir] && !f.faults.dead {
		return nil // nothing is at stake
	}
	return f.call(OpMkdir, dir, func() error {
		for ; !f.dirs[dir]; dir = filepath.Dir(dir) {
			f.dirs[dir] = true
		}
		return nil
	}, nil)
}

// SyncDir is durable.FS.
func (f *FS) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.call(OpSyncDir, dir, func() error {
		var rest []nameChange
		for _, c := range f.pending {
			if c.dir == dir {
				c.apply(f.onDisk)
			} else {
				rest = append(rest, c)
			}
		}
		f.pending = rest
		return nil
	}, nil)
}

func (c nameChange) apply(names map[string]*inode) {
	if c.remove != "" {
		delete(names, c.remove)
	}
	if c.add != "" {
		names[c.add] = c.node
	}
}

type lock struct {
	fs  *FS
	dir string
}

// Lock is durable.FS.
func (f *FS) Lock(dir string) (io.Closer, error) {
	dir = filepath.Clean(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults.dead {
		return nil, ErrPowerCut
	}
	if !f.dirs[dir] {
		return nil, pathError("lock", dir, fs.ErrNotExist)
	}
	if f.locks[dir] != nil {
		return nil, durable.ErrLocked
	}
	l := &lock{fs: f, dir: dir}
	f.locks[dir] = l
	return l, nil
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.fs.locks[l.dir] == l {
		delete(l.fs.locks, l.dir)
	}
	return nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// used is the sum of all file sizes.
func (f *FS) used() int64 {
	var sum int64
	seen := map[*inode]bool{}
	for _, node := range f.names {
		if !seen[node] {
			seen[node] = true
			sum += int64(len(node.data))
		}
	}
	return sum
}

// file is an open file. It dies with the power.
type file struct {
	fs     *FS
	node   *inode
	name   string
	boot   int
	closed bool
}

var errClosed = errors.New("durabletest: file is closed or the power was cut")

func (h *file) alive() error {
	if h.closed || h.boot != h.fs.boot {
		return pathError("use", h.name, errClosed)
	}
	return nil
}

// ReadAt is durable.File.
func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return 0, err
	}
	err = h.fs.call(OpRead, h.name, func() error {
		if off >= int64(len(h.node.data)) {
			return io.EOF
		}
		n = copy(p, h.node.data[off:])
		if n < len(p) {
			return io.EOF
		}
		return nil
	}, nil)
	return n, err
}

// Write is durable.File.
func (h *file) Write(p []byte) (n int, err error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return 0, err
	}
	store := func(part []byte) {
		h.node.dirty = append(h.node.dirty, write{off: int64(len(h.node.data)), data: slices.Clone(part)})
		h.node.data = append(h.node.data, part...)
		n = len(part)
	}
	err = h.fs.call(OpWrite, h.name, func() error {
		if c := h.fs.capacity; c > 0 && h.fs.used()+int64(len(p)) > c {
			store(p[:min(int64(len(p)), max(0, c-h.fs.used()))])
			return pathError("write", h.name, syscall.ENOSPC)
		}
		store(p)
		return nil
	}, func() { store(p[:h.fs.rng.IntN(len(p)+1)]) })
	return n, err
}

// Sync is durable.File.
func (h *file) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return err
	}
	synced := false
	err := h.fs.call(OpSync, h.name, func() error {
		for _, w := range h.node.dirty {
			h.node.disk = w.apply(h.node.disk)
		}
		synced = true
		return nil
	}, func() { h.node.disk = h.fs.scramble(h.node) })
	// Also after an error the kernel holds the pages for clean.
	if synced || !h.fs.faults.dead {
		h.node.dirty = nil
	}
	return err
}

// Truncate is durable.File.
func (h *file) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return err
	}
	return h.fs.call(OpTruncate, h.name, func() error {
		w := write{off: size, truncate: true}
		h.node.data = w.apply(h.node.data)
		h.node.dirty = append(h.node.dirty, w)
		return nil
	}, nil)
}

// Size is durable.File.
func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return 0, err
	}
	return int64(len(h.node.data)), nil
}

// Close is durable.File.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.alive(); err != nil {
		return err
	}
	h.closed = true
	return nil
}

// apply makes the change in content, which it may overwrite; holes are zeros.
func (w write) apply(content []byte) []byte {
	end := w.off + int64(len(w.data))
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	if w.truncate {
		return content[:w.off]
	}
	copy(content[w.off:], w.data)
	return content
}
