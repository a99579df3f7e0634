// Package auth says who is asking: people by password and session cookie, agents by
// bearer token.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"time"
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

// AgentToken lets agents send packets.
type AgentToken struct {
	Hash     TokenHash `json:"-"`
	ID       string    `json:"id"`    // short, not secret; names the token in lists and logs
	Agent    string    `json:"agent"` // exact agent name, or a prefix followed by *, or * for any
	Note     string    `json:"note"`
	Created  time.Time `json:"created"`
	Revision uint64    `json:"-"`
}

// Allows reports whether packets of the named agent may be sent with this token.
func (t AgentToken) Allows(agent string) bool { return false }

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

// AgentTokens finds agent tokens. Reads come from memory and do not block.
type AgentTokens interface {
	AgentToken(hash TokenHash) (AgentToken, error) // ErrMissing
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
	SessionFor time.Duration // a login lasts this long
	Log        *slog.Logger
	Now        func() time.Time
}

// Auth logs people in and knows them again. Safe for concurrent use.
type Auth struct{}

// New returns an Auth. It starts nothing.
func New(o Options) (*Auth, error) { return &Auth{}, nil }

// Identity is who makes a request.
type Identity struct {
	User    string
	Admin   bool
	Expires time.Time
}

// Login checks a name and a password and, when they are right, makes a session and
// sets its cookie on w. Errors are *fleet.Error: unauthenticated for a wrong name or
// password (the same error for both), busy when too many try at once or too often.
func (a *Auth) Login(ctx context.Context, w http.ResponseWriter, r *http.Request, name, password string) error {
	return nil
}

// Logout ends the session of r and clears its cookie.
func (a *Auth) Logout(ctx context.Context, w http.ResponseWriter, r *http.Request) error { return nil }

// Identify returns who makes the request, from its session cookie.
func (a *Auth) Identify(r *http.Request) (Identity, bool) { return Identity{}, false }

// RequirePage lets only logged-in people through; others are sent to
// /login?next=....
func (a *Auth) RequirePage(next http.Handler) http.Handler { return next }

// RequireAPI lets only logged-in people through; others get 401 and a JSON error.
func (a *Auth) RequireAPI(next http.Handler) http.Handler { return next }

// Protect refuses requests that change something and come from another site. Put it
// around the whole panel.
func (a *Auth) Protect(next http.Handler) http.Handler { return next }

// IdentityFrom returns the identity that RequirePage or RequireAPI found.
func IdentityFrom(ctx context.Context) (Identity, bool) { return Identity{}, false }

// SafeNext returns where to go after a login: next when it is a path of this site,
// otherwise "/".
func SafeNext(next string) string { return "/" }

// HashPassword makes the PHC string of a password. It takes about 30 ms of a core.
func HashPassword(password string) (string, error) { return "", nil }

// CheckNewPassword returns a *fleet.Error of kind invalid when a password is too weak
// to be set.
func CheckNewPassword(password string) error { return nil }

// NewAgentToken makes a random token. The text is shown once; the hash is stored.
func NewAgentToken() (text string, hash TokenHash) { return "", TokenHash{} }

// HashAgentToken checks the form of a token and returns its hash.
func HashAgentToken(text string) (TokenHash, bool) { return TokenHash{}, false }

// BearerToken returns the token of the Authorization header.
func BearerToken(r *http.Request) (string, bool) { return "", false }
