// Package catalog keeps accounts, agent tokens and logins: in key-value buckets on the
// bus, with a full copy in memory from which every read is served.
package catalog

import (
	"context"
	"log/slog"

	"vigil/auth"
	"vigil/bus"
)

// Options say how a catalog runs.
type Options struct {
	Replicas int          // copies; 0: 1
	Log      *slog.Logger // nil: silent
}

// Catalog is an open catalog. Safe for concurrent use. Reads come from memory, writes
// are durable when they return and are seen by the next read of the same process.
type Catalog struct{}

// Open makes or opens the buckets and waits until memory has all of them.
func Open(ctx context.Context, b *bus.Bus, o Options) (*Catalog, error) { return &Catalog{}, nil }

// Close ends the watches. The bus stays the caller's.
func (c *Catalog) Close() error { return nil }

// CreateUser stores a new account; auth.ErrExists when the name is taken.
func (c *Catalog) CreateUser(ctx context.Context, u auth.User) error { return nil }

// User returns an account; auth.ErrMissing.
func (c *Catalog) User(name string) (auth.User, error) { return auth.User{}, auth.ErrMissing }

// Users returns all accounts ordered by name.
func (c *Catalog) Users() []auth.User { return nil }

// SetPassword replaces the password hash of an account and ends its logins.
func (c *Catalog) SetPassword(ctx context.Context, name, hash string) error { return nil }

// DeleteUser removes an account and ends its logins.
func (c *Catalog) DeleteUser(ctx context.Context, name string) error { return nil }

// AddAgentToken stores a token; auth.ErrExists when its hash is there.
func (c *Catalog) AddAgentToken(ctx context.Context, t auth.AgentToken) error { return nil }

// AgentToken returns a token; auth.ErrMissing.
func (c *Catalog) AgentToken(hash auth.TokenHash) (auth.AgentToken, error) {
	return auth.AgentToken{}, auth.ErrMissing
}

// AgentTokens returns all tokens, oldest first.
func (c *Catalog) AgentTokens() []auth.AgentToken { return nil }

// DeleteAgentToken revokes a token; auth.ErrMissing.
func (c *Catalog) DeleteAgentToken(ctx context.Context, hash auth.TokenHash) error { return nil }

// Session returns a login; auth.ErrMissing.
func (c *Catalog) Session(hash auth.TokenHash) (auth.Session, error) {
	return auth.Session{}, auth.ErrMissing
}

// PutSession stores a login until it expires.
func (c *Catalog) PutSession(ctx context.Context, hash auth.TokenHash, s auth.Session) error {
	return nil
}

// DeleteSession ends a login. Ending one that is not there is not an error.
func (c *Catalog) DeleteSession(ctx context.Context, hash auth.TokenHash) error { return nil }
