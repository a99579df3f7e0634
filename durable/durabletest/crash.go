package durabletest

import (
	"maps"
	"path/filepath"
	"slices"
)

// Crash takes the power and gives it back: what was synced is there, what was not is
// there, partly there or gone, by seed. Open files and locks are dead, faults are
// disarmed.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.pending {
		if f.rng.IntN(2) == 0 {
			c.apply(f.onDisk)
		}
	}
	contents := map[*inode][]byte{}
	// In the order of names, so that one seed gives one outcome.
	for _, name := range slices.Sorted(maps.Keys(f.onDisk)) {
		node := f.onDisk[name]
		if _, done := contents[node]; !done {
			contents[node] = f.scramble(node)
		}
	}
	f.restart()
	for node, content := range contents {
		*node = inode{data: slices.Clone(content), disk: content}
	}
	f.names = maps.Clone(f.onDisk)
}

// Kill ends the process without taking the power: all writes are there, open files
// and locks are dead, faults are disarmed. What was not synced still is not.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	pending := f.pending
	f.restart()
	f.pending = pending
}

func (f *FS) restart() {
	f.pending = nil
	f.boot++
	clear(f.locks)
	f.faults.armed = nil
	f.faults.dead = false
}

// scramble returns what is left of a file of which not everything was synced.
func (f *FS) scramble(node *inode) []byte {
	content := slices.Clone(node.disk)
	for _, w := range node.dirty {
		switch f.rng.IntN(4) {
		case 0: // lost
		case 1: // whole
			content = w.apply(content)
		case 2: // the beginning
			content = w.part(0, f.rng.IntN(len(w.data)+1)).apply(content)
		case 3: // the size arrived, of the bytes only the end: zeros before it
			if w.truncate {
				continue
			}
			content = write{off: w.off, data: make([]byte, len(w.data))}.apply(content)
			content = w.part(f.rng.IntN(len(w.data)+1), len(w.data)).apply(content)
		}
	}
	return content
}

func (w write) part(from, to int) write {
	return write{off: w.off + int64(from), data: w.data[from:to], truncate: w.truncate}
}

// Bytes returns the present content of a file, nil when there is none.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.names[filepath.Clean(name)]
	if node == nil {
		return nil
	}
	return slices.Clone(node.data)
}

// Put sets the content of a file, synced, behind everybody's back.
func (f *FS) Put(name string, content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	node := f.names[name]
	if node == nil {
		node = &inode{}
		f.names[name] = node
	}
	*node = inode{data: slices.Clone(content), disk: slices.Clone(content)}
	f.onDisk[name] = node
	for dir := filepath.Dir(name); !f.dirs[dir]; dir = filepath.Dir(dir) {
		f.dirs[dir] = true
	}
}

// Clone returns a copy of the present state of all files, synced, without open
// files, locks and faults: what a copied virtual machine has.
func (f *FS) Clone(seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := New(seed)
	for name, node := range f.names {
		copied := &inode{data: slices.Clone(node.data), disk: slices.Clone(node.data)}
		c.names[name], c.onDisk[name] = copied, copied
	}
	c.dirs = maps.Clone(f.dirs)
	return c
}

// Names returns the names of all files, sorted.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.names))
}
