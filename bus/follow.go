package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Limits of following a stream.
const (
	followMessages  = 512 // fetched ahead at most
	followBytes     = 2 * MaxMessageBytes
	followHeartbeat = 1 * time.Second // two missed: the server has forgotten us
	followExpiry    = 10 * time.Second
	followForgotten = 1 * time.Minute // the server drops the state of a reader that went away
	followBackoff   = 50 * time.Millisecond
	followMaxWait   = 2 * time.Second
)

// errHandler marks an error that came from the caller's function.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// follow calls fn for every message of a stream after the given number until ctx ends
// or fn fails. The reader's position lives here, not in the server: whatever happens
// to the server's consumer, a new one begins behind the last message that fn took.
func (b *Bus) follow(ctx context.Context, stream string, after uint64, fn func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	backoff := followBackoff
	for {
		before := after
		err := b.followOnce(ctx, stream, &after, fn)
		if failed, ok := errors.AsType[*handlerError](err); ok {
			return failed.err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.isClosed() {
			return ErrClosed
		}
		if after != before {
			backoff = followBackoff
		}
		b.log.Debug("stream reader begins anew", "stream", stream, "after", after, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, followMaxWait)
	}
}

func (b *Bus) followOnce(ctx context.Context, stream string, after *uint64, fn func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	// One attempt to begin anew inside the client; then this package decides.
	consumer, err := b.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       *after + 1,
		InactiveThreshold: followForgotten,
		MaxResetAttempts:  1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(followMessages, followBytes),
		jetstream.PullHeartbeat(followHeartbeat), jetstream.PullExpiry(followExpiry))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream <= *after {
			continue // a new consumer repeated it
		}
		if err := fn(msg, meta); err != nil {
			return &handlerError{err}
		}
		*after = meta.Sequence.Stream
	}
}

func (b *Bus) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}
