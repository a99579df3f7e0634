package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"vigil/fleet"
	"vigil/observe"
)

// Errors that stores return and that this package returns.
var (
	// ErrMissing means that there is no such user, token or session.
	ErrMissing = errors.New("auth: no such record")
	// ErrExists means that the name is taken.
	ErrExists = errors.New("auth: record exists")
	// ErrChanged means that somebody else changed the record in between.
	ErrChanged = errors.New("auth: record changed meanwhile")
)

// TokenHash is the SHA-256 of a token: all that is ever stored of it.
type TokenHash [sha256.Size]byte

// User is an account of a person.
type User struct {
	Name         string    `json:"name"`
	PasswordHash string    `json:"password_hash"` // PHC string
	Admin        bool      `json:"admin"`
	Created      time.Time `json:"created"`
	Revision     uint64    `json:"-"` // of the stored record, for compare and swap
}

// Session is a login of a person in one browser.
type Session struct {
	User    string    `json:"user"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// Users finds accounts. Reads come from memory and do not block.
type Users interface {
	User(name string) (User, error) // ErrMissing
}

// Sessions keeps logins. Reads come from memory; writes are durable when they return.
type Sessions interface {
	Session(hash TokenHash) (Session, error) // ErrMissing
	PutSession(ctx context.Context, hash TokenHash, s Session) error
	DeleteSession(ctx context.Context, hash TokenHash) error
}

// Options are what Auth needs.
type Options struct {
	Users      Users
	Sessions   Sessions
	SessionFor time.Duration // a login lasts this long; 0: 14 days
	// TrustedOrigins may change things although they are another site:
	// scheme://host[:port].
	TrustedOrigins []string
	// ClientAddr says where a request comes from, for rate limits. nil: the other end of
	// the connection, which is right unless a proxy stands before us.
	ClientAddr func(*http.Request) netip.Addr
	Log        *slog.Logger
	Metrics    *observe.Registry
	Now        func() time.Time // nil: time.Now
}

const defaultSessionFor = 14 * 24 * time.Hour

// Auth logs people in and knows them again. Safe for concurrent use.
type Auth struct {
	users      Users
	sessions   Sessions
	sessionFor time.Duration
	clientAddr func(*http.Request) netip.Addr
	log        *slog.Logger
	now        func() time.Time
	gate       *hashGate
	limits     *loginLimits
	protection *http.CrossOriginProtection
	logins     *observe.CounterVec // by result
}

// New returns an Auth. It starts nothing.
func New(o Options) (*Auth, error) {
	if o.Users == nil || o.Sessions == nil {
		return nil, errors.New("auth: users and sessions are needed")
	}
	a := &Auth{
		users: o.Users, sessions: o.Sessions, sessionFor: o.SessionFor, clientAddr: o.ClientAddr, log: o.Log, now: o.Now,
		gate: newHashGate(), protection: http.NewCrossOriginProtection(),
		logins: o.Metrics.Counter("vigil_auth_logins_total", "Attempts to log in, by result.", "result"),
	}
	if a.sessionFor <= 0 {
		a.sessionFor = defaultSessionFor
	}
	if a.clientAddr == nil {
		a.clientAddr = remoteAddr
	}
	if a.log == nil {
		a.log = observe.Discard()
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.limits = newLoginLimits(a.now)
	for _, origin := range o.TrustedOrigins {
		if err := a.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("trust origin %s: %w", origin, err)
		}
	}
	a.protection.SetDenyHandler(http.HandlerFunc(a.denyOtherSite))
	return a, nil
}

// Login checks a name and a password and, when they are right, makes a session and
// sets its cookie on w. Errors are *fleet.Error: unauthenticated for a wrong name or
// password (the same error for both), busy when too many try at once or too often.
func (a *Auth) Login(ctx context.Context, w http.ResponseWriter, r *http.Request, name, password string) error {
	user, err := a.checkPassword(ctx, a.clientAddr(r), name, password)
	if err != nil {
		a.logins.With(fleet.KindOf(err).String()).Inc()
		return err
	}
	now := a.now()
	text, hash := newToken(sessionPrefix)
	session := Session{User: user.Name, Created: now, Expires: now.Add(a.sessionFor)}
	if err := a.sessions.PutSession(ctx, hash, session); err != nil {
		a.logins.With("store").Inc()
		return &fleet.Error{Kind: fleet.KindUnavailable, Message: "the login could not be stored", Hint: "try again in a few seconds", Err: err}
	}
	a.logins.With("ok").Inc()
	if PlainHTTP(r) {
		a.log.Warn("login over plain http: the browser will not keep the cookie", "host", r.Host)
	}
	http.SetCookie(w, sessionCookie(text, int(a.sessionFor/time.Second)))
	return nil
}

func (a *Auth) checkPassword(ctx context.Context, from netip.Addr, name, password string) (User, error) {
	if len(name) > maxNameBytes || len(password) > maxPasswordBytes {
		return User{}, errWrongPassword()
	}
	attempt, ok := a.limits.take(name, from)
	if !ok {
		return User{}, &fleet.Error{Kind: fleet.KindBusy, Message: "too many attempts to log in", Hint: "wait a minute and try again"}
	}
	user, err := a.users.User(name)
	stored := user.PasswordHash
	switch {
	case errors.Is(err, ErrMissing):
		stored = nobodysHash // costs as much, and nothing matches it
	case err != nil:
		return User{}, &fleet.Error{Kind: fleet.KindUnavailable, Message: "accounts cannot be read", Hint: "try again in a few seconds", Err: err}
	}
	if err := a.gate.enter(ctx); err != nil {
		return User{}, err
	}
	right, verifyErr := verifyPassword(stored, password)
	a.gate.leave()
	if verifyErr != nil {
		return User{}, &fleet.Error{Kind: fleet.KindInternal, Message: "the stored password of this account is damaged", Hint: "set a new one: vigil user password", Err: verifyErr}
	}
	if !right || err != nil {
		return User{}, errWrongPassword()
	}
	a.limits.giveBack(attempt)
	return user, nil
}

func errWrongPassword() error {
	return &fleet.Error{Kind: fleet.KindUnauthenticated, Message: "name or password is wrong", Hint: "check both; an administrator can set a new password"}
}

// Logout ends the session of r and clears its cookie.
func (a *Auth) Logout(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, sessionCookie("", -1))
	hash, ok := sessionToken(r)
	if !ok {
		return nil
	}
	if err := a.sessions.DeleteSession(ctx, hash); err != nil && !errors.Is(err, ErrMissing) {
		return &fleet.Error{Kind: fleet.KindUnavailable, Message: "this browser is logged out, but the session could not be ended in the service", Hint: "try again in a few seconds", Err: err}
	}
	return nil
}

// Identity is who makes a request.
type Identity struct {
	User    string
	Admin   bool
	Expires time.Time
}

// Identify returns who makes the request, from its session cookie.
func (a *Auth) Identify(r *http.Request) (Identity, bool) {
	hash, ok := sessionToken(r)
	if !ok {
		return Identity{}, false
	}
	session, err := a.sessions.Session(hash)
	if err != nil || !a.now().Before(session.Expires) {
		return Identity{}, false
	}
	// The account may be gone, or may have been made anew under the same name, or have
	// a new password, faster than its sessions were removed.
	user, err := a.users.User(session.User)
	if err != nil || user.Created.After(session.Created) {
		return Identity{}, false
	}
	return Identity{User: user.Name, Admin: user.Admin, Expires: session.Expires}, true
}
