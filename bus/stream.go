package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"vigil/durable"
)

// messageOverheadBytes is what a stored message takes besides its data: its record
// header, subject and checksum.
const messageOverheadBytes = 128

// headerRoomBytes is added to the size limits that the server enforces, because it
// counts the headers of a message too.
const headerRoomBytes = 4 << 10

// StreamConfig says what a stream is.
type StreamConfig struct {
	Name            string // letters, digits, dash and underscore
	MaxBytes        int64  // publishing more is refused with ErrFull; nothing is ever discarded
	MaxMessageBytes int    // at most MaxMessageBytes of the package; 0: that
	Replicas        int    // 0: 1
	// Metadata is stored when the stream is made and never changed after.
	Metadata map[string]string
}

// Stream is an ordered, durable list of messages, numbered from 1.
type Stream struct {
	name     string
	subject  string
	maxBytes int64
	maxData  int
	metadata map[string]string
	bus      *Bus
	js       jetstream.JetStream // own connection, so that streams do not wait for each other
	handle   jetstream.Stream
}

// StreamState is what a stream holds.
type StreamState struct {
	FirstSeq uint64    // first kept message; LastSeq+1 when there is none
	LastSeq  uint64    // newest message ever; 0: none
	Messages uint64    // kept
	Bytes    uint64    // kept
	MaxBytes uint64    // limit
	FirstAt  time.Time // when the first kept message was stored; zero when there is none
}

// Message is one message of a stream.
type Message struct {
	Seq  uint64
	At   time.Time // when it was stored
	Data []byte
}

// OpenStream makes the stream, or opens it and brings its limits in line.
func (b *Bus) OpenStream(ctx context.Context, cfg StreamConfig) (*Stream, error) {
	if !namePattern.MatchString(cfg.Name) {
		return nil, fmt.Errorf("stream name %q: want letters, digits, dash, underscore", cfg.Name)
	}
	conn, err := b.connect("stream " + cfg.Name)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		return nil, fmt.Errorf("use bus: %w", err)
	}
	s := &Stream{name: cfg.Name, subject: "vigil.stream." + cfg.Name, maxBytes: cfg.MaxBytes, maxData: MaxMessageBytes, bus: b, js: js}
	if cfg.MaxMessageBytes > 0 {
		s.maxData = min(cfg.MaxMessageBytes, MaxMessageBytes)
	}
	want := jetstream.StreamConfig{
		Name:       cfg.Name,
		Subjects:   []string{s.subject},
		Storage:    jetstream.FileStorage,
		Replicas:   max(cfg.Replicas, 1),
		Retention:  jetstream.LimitsPolicy,
		Discard:    jetstream.DiscardNew,
		MaxBytes:   cfg.MaxBytes,
		MaxMsgSize: int32(s.maxData + headerRoomBytes),
		Metadata:   maps.Clone(cfg.Metadata),
	}
	have, err := js.Stream(ctx, cfg.Name)
	switch {
	case err == nil:
		want.Metadata = have.CachedInfo().Config.Metadata
		s.handle, err = js.UpdateStream(ctx, want)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		s.handle, err = js.CreateStream(ctx, want)
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, translate(err))
	}
	s.metadata = maps.Clone(s.handle.CachedInfo().Config.Metadata)
	if err := syncDirectories(b.options.Dir); err != nil {
		return nil, err
	}
	return s, nil
}

// StreamNames returns the names of all streams, in alphabetical order. The streams
// behind buckets are among them, with the prefix KV_.
func (b *Bus) StreamNames(ctx context.Context) ([]string, error) {
	list := b.js.StreamNames(ctx)
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", translate(err))
	}
	slices.Sort(names)
	return names, nil
}

// syncDirectories makes the names of new files durable: the server syncs what it
// writes into files, but not the directories it makes for a stream.
func syncDirectories(dir string) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return durable.OS().SyncDir(path)
	})
	if err != nil {
		return fmt.Errorf("sync bus directories: %w", err)
	}
	return nil
}

// Metadata returns what was stored when the stream was made.
func (s *Stream) Metadata() map[string]string { return maps.Clone(s.metadata) }

// Publish appends a message and returns its number after it is fsynced. ErrFull and
// ErrTooLarge mean that it was not stored; after any other error it may be.
func (s *Stream) Publish(ctx context.Context, data []byte) (uint64, error) {
	if len(data) > s.maxData {
		return 0, fmt.Errorf("publish %d bytes to %s: %w", len(data), s.name, ErrTooLarge)
	}
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: s.subject, Data: data},
		jetstream.WithExpectStream(s.name), jetstream.WithRetryAttempts(0))
	if err == nil {
		return ack.Sequence, nil
	}
	return 0, fmt.Errorf("publish to %s: %w", s.name, s.translatePublish(ctx, err, len(data)))
}

// translatePublish finds out whether the stream refused because it is full: the server
// has one code for that and for everything else that kept it from storing.
func (s *Stream) translatePublish(ctx context.Context, err error, size int) error {
	if _, refused := errors.AsType[*jetstream.APIError](err); refused && s.maxBytes > 0 {
		state, stateErr := s.State(ctx)
		if stateErr == nil && state.Bytes+uint64(size)+messageOverheadBytes > uint64(s.maxBytes) {
			return ErrFull
		}
	}
	return translate(err)
}

// State returns what the stream holds.
func (s *Stream) State(ctx context.Context) (StreamState, error) {
	info, err := s.handle.Info(ctx)
	if err != nil {
		return StreamState{}, fmt.Errorf("ask for state of %s: %w", s.name, translate(err))
	}
	st := info.State
	state := StreamState{FirstSeq: st.FirstSeq, LastSeq: st.LastSeq, Messages: st.Msgs, Bytes: st.Bytes, MaxBytes: uint64(max(s.maxBytes, 0)), FirstAt: st.FirstTime}
	if st.Msgs == 0 {
		state.FirstSeq, state.FirstAt = st.LastSeq+1, time.Time{}
	}
	return state, nil
}

// At returns when a message was stored; ErrMissing when it is not kept.
func (s *Stream) At(ctx context.Context, seq uint64) (time.Time, error) {
	msg, err := s.handle.GetMsg(ctx, seq)
	if err != nil {
		return time.Time{}, fmt.Errorf("get message %d of %s: %w", seq, s.name, translate(err))
	}
	return msg.Time, nil
}

// PurgeThrough drops all messages up to and including seq.
func (s *Stream) PurgeThrough(ctx context.Context, seq uint64) error {
	if seq == 0 {
		return nil
	}
	if err := s.handle.Purge(ctx, jetstream.WithPurgeSequence(seq+1)); err != nil {
		return fmt.Errorf("purge %s through %d: %w", s.name, seq, translate(err))
	}
	return nil
}

// Read calls fn for every message after the given number, in order, and goes on with
// new ones until ctx ends or fn fails. It returns ctx.Err() or the error of fn. It
// waits out every failure of the server, counting on what fn has seen. Messages that
// are not kept any more are left out: the caller sees that by their numbers.
func (s *Stream) Read(ctx context.Context, after uint64, fn func(Message) error) error {
	return s.bus.follow(ctx, s.name, after, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return fn(Message{Seq: meta.Sequence.Stream, At: meta.Timestamp, Data: msg.Data()})
	})
}

// translate hides the many errors of the client behind the few of this package, and
// keeps the cause for the log.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case errors.Is(err, jetstream.ErrKeyExists), isWrongRevision(err):
		return fmt.Errorf("%w: %w", ErrRevision, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func isWrongRevision(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
