package report

import (
	"context"
	"errors"
	"time"

	"vigil/fleet"
	"vigil/live"
	"vigil/store"
)

// questionTimeout bounds how long the store may think about one question.
const questionTimeout = 10 * time.Second

// Reports answers questions. Safe for concurrent use.
type Reports struct {
	store store.Reader
	live  live.Reader
	now   func() time.Time
}

// New returns reports over a store and a live view. It asks now for the time, which
// decides what "the last hour" is and how old a number is.
func New(past store.Reader, present live.Reader, now func() time.Time) *Reports {
	return &Reports{store: past, live: present, now: now}
}

// Version grows with every change of the live view.
func (r *Reports) Version() uint64 { return r.live.Version() }

// Changed returns a channel that is closed at the next change of the live view.
func (r *Reports) Changed() <-chan struct{} { return r.live.Changed() }

// Clock is the time that ages are counted from.
func (r *Reports) Clock() time.Time { return r.now() }

// Meta is what every result carries: when it was made and how long its steps took.
type Meta struct {
	AtMs    int64  `json:"at_ms"`             // when the question was answered, UTC ms
	Explain []Step `json:"explain,omitempty"` // time per step
}

// Step is one step of an answer.
type Step struct {
	Name   string `json:"name"`
	TookUs int64  `json:"took_us"` // microseconds
}

// Trim drops the time per step, for callers that did not ask for it.
func (m *Meta) Trim() { m.Explain = nil }

func (r *Reports) meta() Meta { return Meta{AtMs: r.now().UnixMilli()} }

// step runs one step of an answer and writes down how long it took.
func (r *Reports) step(m *Meta, name string, do func() error) error {
	started := r.now()
	err := do()
	m.Explain = append(m.Explain, Step{Name: name, TookUs: r.now().Sub(started).Microseconds()})
	return err
}

// Problem is a failure of one part of an answer while other parts stand.
type Problem struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// ProblemOf turns an error into its showable form.
func ProblemOf(err error) *Problem {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return &Problem{Kind: e.Kind.String(), Message: e.Message, Hint: e.Hint}
	}
	return &Problem{
		Kind:    fleet.KindInternal.String(),
		Message: "Something went wrong on our side; this number could not be made.",
		Hint:    "Try again. If it stays, the log of the panel node has the cause.",
	}
}

// storeError says what a failed read of the past means. A caller that went away is
// passed on as it is.
func storeError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &fleet.Error{
			Kind:    fleet.KindBusy,
			Message: "The store did not answer in time, so past numbers are not shown. Live numbers are not affected.",
			Hint:    "Try again in a moment, or ask for a shorter range.",
			Err:     err,
		}
	}
	return &fleet.Error{
		Kind:    fleet.KindUnavailable,
		Message: "The store cannot be read now, so past numbers are not shown. Live numbers are not affected.",
		Hint:    "Nothing is lost: packets wait in the journal. See `vigil doctor` on the storage node.",
		Err:     err,
	}
}
