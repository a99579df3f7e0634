package fleet

import "errors"

// Kind says what sort of failure an error is. It decides the HTTP status, the exit
// code and whether to try again.
type Kind uint8

// The kinds of failure.
const (
	KindInternal        Kind = iota // our fault; nothing the caller can change
	KindInvalid                     // the input is wrong and stays wrong
	KindUnauthenticated             // who are you
	KindForbidden                   // not allowed
	KindMissing                     // no such thing
	KindConflict                    // contradicts what is there
	KindTooLarge                    // over a limit
	KindBusy                        // come back later: overloaded
	KindUnavailable                 // come back later: something we need is away
)

type kindFacts struct {
	name      string
	status    int
	exitCode  int
	temporary bool
}

// One table decides what a kind means everywhere.
var kinds = [...]kindFacts{
	KindInternal:        {"internal", 500, 70, true},
	KindInvalid:         {"invalid", 400, 65, false},
	KindUnauthenticated: {"unauthenticated", 401, 77, false},
	KindForbidden:       {"forbidden", 403, 77, false},
	KindMissing:         {"missing", 404, 66, false},
	KindConflict:        {"conflict", 409, 73, false},
	KindTooLarge:        {"too_large", 413, 65, false},
	KindBusy:            {"busy", 503, 75, true},
	KindUnavailable:     {"unavailable", 503, 69, true},
}

// String returns the name that travels over the wire.
func (k Kind) String() string { return k.facts().name }

// HTTPStatus is the status code of an answer with this kind.
func (k Kind) HTTPStatus() int { return k.facts().status }

// ExitCode is the exit code of a command that ends with this kind (sysexits.h).
func (k Kind) ExitCode() int { return k.facts().exitCode }

// Temporary reports whether the same request may succeed later.
func (k Kind) Temporary() bool { return k.facts().temporary }

func (k Kind) facts() kindFacts {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kinds[KindInternal]
}

// KindNamed returns the kind with a name that came over the wire; unknown names are
// internal.
func KindNamed(name string) Kind {
	for k, facts := range kinds {
		if facts.name == name {
			return Kind(k)
		}
	}
	return KindInternal
}

// Error is a failure that can be shown. Message says what happened and what it
// means, Hint what to do; both are safe to show to anybody. Err is the cause and is
// for the log only.
type Error struct {
	Kind    Kind
	Message string
	Hint    string
	Err     error
}

// Error returns the message and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, or KindInternal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}
