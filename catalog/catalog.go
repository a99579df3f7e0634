// Package catalog keeps accounts, agent tokens and logins: in key-value buckets on the
// bus, with a full copy in memory from which every read is served. So logins and
// tokens are checked without a disk or a network, and go on being checked while the
// bus cannot write.
//
// Every change names the revision that it replaces, so two people who change the same
// thing at once do not overwrite each other: the second gets auth.ErrChanged.
//
// Records are JSON. Unknown fields are ignored, so an older service can read what a
// newer one wrote.
package catalog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"vigil/auth"
	"vigil/bus"
	"vigil/observe"
)

// Limits of the catalog.
const (
	accountsMaxBytes   = 64 << 20
	sessionsMaxBytes   = 64 << 20
	maxNameBytes       = 128
	maxSessionsPerUser = 50 // the oldest login ends when one more begins
	changeAttempts     = 5  // to replace a record that others change too
)

const (
	accountsBucket = "vigil_accounts"
	sessionsBucket = "vigil_sessions"
	userKeyPrefix  = "user."
	tokenKeyPrefix = "token."
)

// Errors of this package, besides those of package auth.
var (
	// ErrName means that a name cannot be used for an account.
	ErrName = errors.New("catalog: name is invalid")
)

// Options say how a catalog runs.
type Options struct {
	Replicas int          // copies; 0: 1
	Log      *slog.Logger // nil: silent
	Now      func() time.Time
}

// Catalog is an open catalog. Safe for concurrent use. Reads come from memory, writes
// are durable when they return and are seen by the next read of the same process.
type Catalog struct {
	log      *slog.Logger
	now      func() time.Time
	accounts *mirror // users and agent tokens
	logins   *mirror

	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open makes or opens the buckets and waits until memory has all of them.
func Open(ctx context.Context, b *bus.Bus, o Options) (*Catalog, error) {
	c := &Catalog{log: o.Log, now: o.Now}
	if c.log == nil {
		c.log = observe.Discard()
	}
	if c.now == nil {
		c.now = time.Now
	}
	accounts, err := b.OpenBucket(ctx, bus.BucketConfig{Name: accountsBucket, MaxBytes: accountsMaxBytes, Replicas: o.Replicas})
	if err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	logins, err := b.OpenBucket(ctx, bus.BucketConfig{Name: sessionsBucket, MaxBytes: sessionsMaxBytes, Replicas: o.Replicas})
	if err != nil {
		return nil, fmt.Errorf("open logins: %w", err)
	}
	c.accounts, c.logins = newMirror(accounts, c.decodeAccount), newMirror(logins, c.decodeSession)
	watchCtx, stop := context.WithCancel(context.Background())
	c.stop = stop
	for _, m := range []*mirror{c.accounts, c.logins} {
		c.running.Go(func() { m.watch(watchCtx) })
	}
	for _, m := range []*mirror{c.accounts, c.logins} {
		if err := m.wait(ctx); err != nil {
			c.Close()
			return nil, fmt.Errorf("read catalog: %w", err)
		}
	}
	return c, nil
}

// Close ends the watches. The bus stays the caller's.
func (c *Catalog) Close() error {
	c.stop()
	c.running.Wait()
	return nil
}

func (c *Catalog) decodeAccount(key string, value []byte, revision uint64) (any, bool) {
	switch {
	case strings.HasPrefix(key, userKeyPrefix):
		var u auth.User
		if err := json.Unmarshal(value, &u); err != nil || userKey(u.Name) != key {
			c.log.Error("account cannot be read", "key", key, "revision", revision, "error", err)
			return nil, false
		}
		u.Revision = revision
		return u, true
	case strings.HasPrefix(key, tokenKeyPrefix):
		var t auth.AgentToken
		err := json.Unmarshal(value, &t)
		n, hexErr := hex.Decode(t.Hash[:], []byte(strings.TrimPrefix(key, tokenKeyPrefix)))
		if err = errors.Join(err, hexErr); err != nil || n != len(t.Hash) {
			c.log.Error("agent token cannot be read", "key", key, "revision", revision, "error", err)
			return nil, false
		}
		t.Revision = revision
		return t, true
	}
	return nil, false // of a newer version
}

func (c *Catalog) decodeSession(key string, value []byte, revision uint64) (any, bool) {
	var s auth.Session
	if err := json.Unmarshal(value, &s); err != nil {
		c.log.Error("login cannot be read", "revision", revision, "error", err)
		return nil, false
	}
	return s, true
}

// CreateUser stores a new account; auth.ErrExists when the name is taken, ErrName when
// it cannot be a name.
func (c *Catalog) CreateUser(ctx context.Context, u auth.User) error {
	if u.Name == "" || len(u.Name) > maxNameBytes || strings.TrimSpace(u.Name) != u.Name || strings.ContainsFunc(u.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return fmt.Errorf("%w: %q", ErrName, u.Name)
	}
	if u.Created.IsZero() {
		u.Created = c.now()
	}
	err := c.accounts.create(ctx, userKey(u.Name), u, 0)
	return wrap("create account "+u.Name, err, auth.ErrExists)
}

// User returns an account; auth.ErrMissing.
func (c *Catalog) User(name string) (auth.User, error) {
	if u, ok := c.accounts.get(userKey(name)); ok {
		return u.(auth.User), nil
	}
	return auth.User{}, auth.ErrMissing
}

// Users returns all accounts ordered by name.
func (c *Catalog) Users() []auth.User {
	users := all[auth.User](c.accounts)
	slices.SortFunc(users, func(a, b auth.User) int { return strings.Compare(a.Name, b.Name) })
	return users
}

// SetPassword replaces the password hash of an account and ends its logins;
// auth.ErrMissing.
func (c *Catalog) SetPassword(ctx context.Context, name, hash string) error {
	var err error
	for range changeAttempts {
		u, userErr := c.User(name)
		if userErr != nil {
			return userErr
		}
		u.PasswordHash = hash
		if err = c.accounts.update(ctx, userKey(name), u, u.Revision); !errors.Is(err, bus.ErrRevision) {
			break
		}
		// Memory will have the other change at once.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err != nil {
		return wrap("set password of "+name, err, auth.ErrChanged)
	}
	return c.endLogins(ctx, name)
}

// DeleteUser removes an account and ends its logins; auth.ErrMissing.
func (c *Catalog) DeleteUser(ctx context.Context, name string) error {
	u, err := c.User(name)
	if err != nil {
		return err
	}
	if err := c.accounts.remove(ctx, userKey(name), u.Revision); err != nil {
		return wrap("delete account "+name, err, auth.ErrChanged)
	}
	return c.endLogins(ctx, name)
}

// AddAgentToken stores a token; auth.ErrExists when its hash is there.
func (c *Catalog) AddAgentToken(ctx context.Context, t auth.AgentToken) error {
	if t.ID == "" {
		t.ID = t.Hash.ID()
	}
	if t.Created.IsZero() {
		t.Created = c.now()
	}
	return wrap("add agent token "+t.ID, c.accounts.create(ctx, tokenKey(t.Hash), t, 0), auth.ErrExists)
}

// AgentToken returns a token; auth.ErrMissing.
func (c *Catalog) AgentToken(hash auth.TokenHash) (auth.AgentToken, error) {
	if t, ok := c.accounts.get(tokenKey(hash)); ok {
		return t.(auth.AgentToken), nil
	}
	return auth.AgentToken{}, auth.ErrMissing
}

// AgentTokens returns all tokens, oldest first.
func (c *Catalog) AgentTokens() []auth.AgentToken {
	tokens := all[auth.AgentToken](c.accounts)
	slices.SortFunc(tokens, func(a, b auth.AgentToken) int {
		if order := a.Created.Compare(b.Created); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return tokens
}

// DeleteAgentToken revokes a token; auth.ErrMissing.
func (c *Catalog) DeleteAgentToken(ctx context.Context, hash auth.TokenHash) error {
	t, err := c.AgentToken(hash)
	if err != nil {
		return err
	}
	return wrap("delete agent token "+t.ID, c.accounts.remove(ctx, tokenKey(hash), t.Revision), auth.ErrChanged)
}

// Session returns a login; auth.ErrMissing.
func (c *Catalog) Session(hash auth.TokenHash) (auth.Session, error) {
	if s, ok := c.logins.get(sessionKey(hash)); ok {
		return s.(auth.Session), nil
	}
	return auth.Session{}, auth.ErrMissing
}

// PutSession stores a login until it expires. When the account has too many, its
// oldest ends.
func (c *Catalog) PutSession(ctx context.Context, hash auth.TokenHash, s auth.Session) error {
	ttl := s.Expires.Sub(c.now())
	if ttl <= 0 {
		return fmt.Errorf("login of %s ends in the past", s.User)
	}
	if err := c.logins.create(ctx, sessionKey(hash), s, ttl+time.Second); err != nil {
		return wrap("store login of "+s.User, err, auth.ErrExists)
	}
	logins := c.loginsOf(s.User)
	for _, old := range logins[:max(0, len(logins)-maxSessionsPerUser)] {
		if err := c.logins.remove(ctx, old.key, 0); err != nil {
			c.log.Warn("cannot end the oldest login", "user", s.User, "error", err)
		}
	}
	return nil
}

// DeleteSession ends a login. Ending one that is not there is not an error.
func (c *Catalog) DeleteSession(ctx context.Context, hash auth.TokenHash) error {
	if _, ok := c.logins.get(sessionKey(hash)); !ok {
		return nil
	}
	return wrap("end login", c.logins.remove(ctx, sessionKey(hash), 0), auth.ErrChanged)
}

type login struct {
	key     string
	created time.Time
}

// loginsOf returns the logins of an account, oldest first.
func (c *Catalog) loginsOf(user string) []login {
	var list []login
	c.logins.each(func(key string, value any) {
		if s := value.(auth.Session); s.User == user {
			list = append(list, login{key: key, created: s.Created})
		}
	})
	slices.SortFunc(list, func(a, b login) int { return a.created.Compare(b.created) })
	return list
}

func (c *Catalog) endLogins(ctx context.Context, user string) error {
	for _, l := range c.loginsOf(user) {
		if err := c.logins.remove(ctx, l.key, 0); err != nil {
			return wrap("end logins of "+user, err, auth.ErrChanged)
		}
	}
	return nil
}

// Names may hold any character; keys of a bucket may not.
func userKey(name string) string            { return userKeyPrefix + hex.EncodeToString([]byte(name)) }
func tokenKey(hash auth.TokenHash) string   { return tokenKeyPrefix + hex.EncodeToString(hash[:]) }
func sessionKey(hash auth.TokenHash) string { return hex.EncodeToString(hash[:]) }

// wrap names what was done; a revision that does not match becomes the given error.
func wrap(action string, err, onRevision error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrRevision):
		return fmt.Errorf("%s: %w", action, onRevision)
	}
	return fmt.Errorf("%s: %w", action, err)
}
