package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// defaultStopTimeout is for parts that do not say how long stopping may take.
const defaultStopTimeout = 10 * time.Second

// ErrStuck means that a part did not stop before its deadline.
var ErrStuck = errors.New("lifecycle: part did not stop in time")

// Part is one thing that runs from start to stop.
type Part struct {
	Name string
	// Run blocks until ctx ends and the part has stopped, or until it fails. It calls
	// ready once the parts after it may start. Returning nil without calling ready
	// counts as ready: the part did its work and is done.
	Run func(ctx context.Context, ready func()) error
	// StopTimeout is how long stopping may take; 10 seconds when zero.
	StopTimeout time.Duration
}

// running is a part that was started. done is closed after err is set.
type running struct {
	part  Part
	stop  context.CancelFunc // ends the part's context
	abort context.CancelFunc // ends its drain context
	ready chan struct{}
	done  chan struct{}
	err   error
}

// Run starts the parts in order, each one when the one before it is ready. It blocks
// until ctx ends or a part fails, stops the parts in reverse and returns what failed:
// nil when ctx ended and every part stopped in time without an error.
func Run(ctx context.Context, log *slog.Logger, parts ...Part) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	failed := make(chan *running, len(parts))
	var started []*running
	var cause error
	for _, part := range parts {
		if cause = ctx.Err(); cause != nil {
			break
		}
		begin := time.Now()
		r := start(ctx, part, failed)
		started = append(started, r)
		if cause = waitReady(ctx, r, failed); cause != nil {
			break
		}
		log.Info("part started", "part", part.Name, "took_ms", time.Since(begin).Milliseconds())
	}
	if cause == nil {
		cause = waitEnd(ctx, failed)
	}
	if ctx.Err() != nil {
		cause = nil // being asked to stop is not a failure
	}
	errs := []error{cause}
	for i := len(started) - 1; i >= 0; i-- {
		errs = append(errs, started[i].halt(log, cause))
	}
	return errors.Join(errs...)
}

// start runs a part in its own goroutine. The part's context is cut off from ctx, so
// that stopping happens in reverse order and not everywhere at once.
func start(ctx context.Context, part Part, failed chan<- *running) *running {
	base := context.WithoutCancel(ctx)
	drain, abort := context.WithCancel(base)
	run, stop := context.WithCancel(context.WithValue(drain, drainKey{}, drain))
	r := &running{part: part, stop: stop, abort: abort, ready: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = part.Run(run, closeOnce(r.ready))
		if r.err != nil {
			r.err = fmt.Errorf("%s: %w", part.Name, r.err)
			failed <- r
		}
	}()
	return r
}

func closeOnce(c chan struct{}) func() {
	token := make(chan struct{}, 1)
	token <- struct{}{}
	return func() {
		select {
		case <-token:
			close(c)
		default:
		}
	}
}

func waitReady(ctx context.Context, r *running, failed <-chan *running) error {
	select {
	case <-r.ready:
		return nil
	case <-r.done:
		return r.err
	case f := <-failed:
		<-f.done
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func waitEnd(ctx context.Context, failed <-chan *running) error {
	select {
	case f := <-failed:
		<-f.done
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// halt stops one part and returns its error, unless that is the reported cause.
func (r *running) halt(log *slog.Logger, cause error) error {
	defer r.abort()
	limit := r.part.StopTimeout
	if limit <= 0 {
		limit = defaultStopTimeout
	}
	begin := time.Now()
	r.stop()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		log.Error("part did not stop in time", "part", r.part.Name, "timeout_ms", limit.Milliseconds())
		return fmt.Errorf("%s: %w", r.part.Name, ErrStuck)
	}
	if r.err == nil {
		log.Info("part stopped", "part", r.part.Name, "took_ms", time.Since(begin).Milliseconds())
	}
	if r.err == nil || errors.Is(cause, r.err) || errors.Is(r.err, context.Canceled) {
		return nil
	}
	return r.err
}

type drainKey struct{}

// Drain returns a context that outlives ctx: it ends when the part's deadline for
// stopping has passed. Work that must finish after ctx has ended uses it. When ctx
// does not come from a part, the result never ends and the caller sets its own limit.
func Drain(ctx context.Context) context.Context {
	if drain, ok := ctx.Value(drainKey{}).(context.Context); ok {
		return drain
	}
	return context.WithoutCancel(ctx)
}
