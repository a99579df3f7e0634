package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// markerTTL is how long the sign that a key ended by itself stays readable.
const markerTTL = 1 * time.Hour

// Headers that the server puts on the end of a key.
const (
	headerOperation = "KV-Operation"       // DEL or PURGE
	headerMarker    = "Nats-Marker-Reason" // MaxAge, Purge, Remove
)

// BucketConfig says what a bucket is.
type BucketConfig struct {
	Name     string // letters, digits, dash and underscore
	MaxBytes int64  // 0: no limit
	Replicas int    // 0: 1
}

// Bucket is a small set of keys with one value each. Every change has a revision that
// is larger than all before it in the bucket.
type Bucket struct {
	name string
	bus  *Bus
	kv   jetstream.KeyValue
}

// Change is one change of a bucket.
type Change struct {
	Key      string
	Value    []byte
	Revision uint64
	Deleted  bool   // deleted or expired; Value is empty
	Pending  uint64 // changes behind this one that were there already: 0 when the watcher has caught up
}

// OpenBucket makes the bucket or opens it.
func (b *Bus) OpenBucket(ctx context.Context, cfg BucketConfig) (*Bucket, error) {
	kv, err := b.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:         cfg.Name,
		History:        1,
		Storage:        jetstream.FileStorage,
		Replicas:       max(cfg.Replicas, 1),
		MaxBytes:       cfg.MaxBytes,
		LimitMarkerTTL: markerTTL,
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Name, translate(err))
	}
	if err := syncDirectories(b.options.Dir); err != nil {
		return nil, err
	}
	return &Bucket{name: cfg.Name, bus: b, kv: kv}, nil
}

// Create stores a key that must not be there and returns its revision; ErrRevision
// when it is. With a ttl above zero (whole seconds) the key ends by itself.
func (k *Bucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	var opts []jetstream.KVCreateOpt
	if ttl > 0 {
		opts = append(opts, jetstream.KeyTTL(max(ttl.Truncate(time.Second), time.Second)))
	}
	revision, err := k.kv.Create(ctx, key, value, opts...)
	return revision, k.wrap("create", key, err)
}

// Update replaces the value of a key that must still have the given revision, and
// returns the new one; ErrRevision when it has another.
func (k *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := k.kv.Update(ctx, key, value, revision)
	return revision, k.wrap("update", key, err)
}

// Delete removes a key that must still have the given revision (0: any). Deleting
// what is not there is not an error.
func (k *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	var opts []jetstream.KVDeleteOpt
	if revision > 0 {
		opts = append(opts, jetstream.LastRevision(revision))
	}
	return k.wrap("delete", key, k.kv.Delete(ctx, key, opts...))
}

// Empty reports whether the bucket holds neither keys nor signs of deleted ones.
func (k *Bucket) Empty(ctx context.Context) (bool, error) {
	stream, err := k.bus.js.Stream(ctx, k.streamName())
	if err != nil {
		return false, fmt.Errorf("ask bucket %s: %w", k.name, translate(err))
	}
	return stream.CachedInfo().State.Msgs == 0, nil
}

// Watch calls fn with the newest change of every key after the given revision, oldest
// first, and then with every change as it happens, until ctx ends or fn fails. It
// waits out every failure of the server.
func (k *Bucket) Watch(ctx context.Context, after uint64, fn func(Change) error) error {
	prefix := "$KV." + k.name + "."
	return k.bus.follow(ctx, k.streamName(), after, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		c := Change{Key: strings.TrimPrefix(msg.Subject(), prefix), Value: msg.Data(), Revision: meta.Sequence.Stream, Pending: meta.NumPending}
		if h := msg.Headers(); h.Get(headerOperation) != "" || h.Get(headerMarker) != "" {
			c.Deleted, c.Value = true, nil
		}
		return fn(c)
	})
}

func (k *Bucket) streamName() string { return "KV_" + k.name }

func (k *Bucket) wrap(action, key string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrInvalidKey) {
		return fmt.Errorf("%s %s of bucket %s: %w", action, key, k.name, err)
	}
	return fmt.Errorf("%s %s of bucket %s: %w", action, key, k.name, translate(err))
}
