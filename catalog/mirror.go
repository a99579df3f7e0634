package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"vigil/bus"
)

// emptyCheckEvery is how often a mirror that has seen nothing asks whether there is
// anything.
const emptyCheckEvery = 50 * time.Millisecond

// mirror is a copy of a bucket in memory. Its own writes go into memory at once, so
// that a process reads what it wrote; the watch brings those of others.
type mirror struct {
	bucket *bus.Bucket
	decode func(key string, value []byte, revision uint64) (any, bool)

	mu      sync.RWMutex
	records map[string]record // guarded by mu
	seen    uint64            // guarded by mu; revision up to which the watch has come

	syncOnce sync.Once
	synced   chan struct{}
}

// record is a value or, when value is nil, the memory of a deletion that the watch has
// not seen yet (or of a record that cannot be read).
type record struct {
	value    any
	revision uint64
}

func newMirror(b *bus.Bucket, decode func(string, []byte, uint64) (any, bool)) *mirror {
	return &mirror{bucket: b, decode: decode, records: map[string]record{}, synced: make(chan struct{})}
}

// watch follows the bucket until ctx ends.
func (m *mirror) watch(ctx context.Context) {
	_ = m.bucket.Watch(ctx, 0, func(c bus.Change) error { // ends only with ctx or the bus
		m.observe(c)
		if c.Pending == 0 {
			m.syncOnce.Do(func() { close(m.synced) })
		}
		return nil
	})
}

// wait returns when memory has everything that was in the bucket.
func (m *mirror) wait(ctx context.Context) error {
	for {
		empty, err := m.bucket.Empty(ctx)
		if err != nil && !errors.Is(err, bus.ErrUnavailable) {
			return err
		}
		if err == nil && empty {
			return nil
		}
		select {
		case <-m.synced:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(emptyCheckEvery):
		}
	}
}

func (m *mirror) observe(c bus.Change) {
	value, ok := any(nil), false
	if !c.Deleted {
		value, ok = m.decode(c.Key, c.Value, c.Revision)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = c.Revision
	switch have := m.records[c.Key]; {
	case c.Revision <= have.revision: // we wrote it ourselves
	case ok:
		m.records[c.Key] = record{value: value, revision: c.Revision}
	default:
		delete(m.records, c.Key)
	}
}

func (m *mirror) get(key string) (any, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.records[key]
	return r.value, r.value != nil
}

func (m *mirror) each(fn func(key string, value any)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for key, r := range m.records {
		if r.value != nil {
			fn(key, r.value)
		}
	}
}

// all returns the values of one type.
func all[T any](m *mirror) []T {
	var list []T
	m.each(func(_ string, value any) {
		if v, ok := value.(T); ok {
			list = append(list, v)
		}
	})
	return list
}

func (m *mirror) create(ctx context.Context, key string, value any, ttl time.Duration) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	revision, err := m.bucket.Create(ctx, key, data, ttl)
	if err != nil {
		return err
	}
	m.wrote(key, data, revision)
	return nil
}

func (m *mirror) update(ctx context.Context, key string, value any, revision uint64) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	revision, err = m.bucket.Update(ctx, key, data, revision)
	if err != nil {
		return err
	}
	m.wrote(key, data, revision)
	return nil
}

// wrote puts an own write into memory, unless the watch has already come past it: then
// memory may hold something newer.
func (m *mirror) wrote(key string, data []byte, revision uint64) {
	value, ok := m.decode(key, data, revision)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok && revision > m.seen && revision > m.records[key].revision {
		m.records[key] = record{value: value, revision: revision}
	}
}

// remove deletes a key that must have the given revision (0: any).
func (m *mirror) remove(ctx context.Context, key string, revision uint64) error {
	m.mu.RLock()
	have := m.records[key]
	m.mu.RUnlock()
	if err := m.bucket.Delete(ctx, key, revision); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Only what was there before: somebody may have made it anew since.
	if now, ok := m.records[key]; ok && now.revision == have.revision {
		m.records[key] = record{revision: have.revision}
	}
	return nil
}
