package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"vigil/auth"
	"vigil/bus"
	"vigil/catalog"
	"vigil/config"
	"vigil/fleet"
)

// Manage opens the accounts and tokens of a node that does not run, and gives them to
// fn. Another process may not use the data directory meanwhile.
func Manage(ctx context.Context, self config.Node, deps Deps, fn func(*catalog.Catalog) error) (err error) {
	if err := checkMarker(self.DataDir, self.Name); err != nil {
		return err
	}
	lock, err := lockDir(self.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	b, err := bus.Open(ctx, bus.Options{Name: self.Name, Dir: filepath.Join(self.DataDir, busDir), Log: deps.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	c, err := catalog.Open(ctx, b, catalog.Options{Log: deps.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return fn(c)
}

// SetPassword gives an account a new password and ends its logins.
func SetPassword(ctx context.Context, c *catalog.Catalog, name, password string) error {
	if err := auth.CheckNewPassword(password); err != nil {
		return err
	}
	hash, err := auth.HashPassword(password)
	if err != nil {
		return err
	}
	err = c.SetPassword(ctx, name, hash)
	if errors.Is(err, auth.ErrMissing) {
		return &fleet.Error{Kind: fleet.KindMissing, Message: fmt.Sprintf("there is no account %q", name), Hint: "check the name"}
	}
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	return nil
}

// A NewToken says what an agent token is good for. Names may end in *.
type NewToken struct {
	Agents  string
	Servers string // media servers that may be reported; empty: any
	Note    string
}

// AddToken makes an agent token. The text is shown once; only its hash is kept.
func AddToken(ctx context.Context, c *catalog.Catalog, t NewToken) (string, error) {
	return addToken(ctx, c, t, time.Now().UTC())
}

// RemoveToken revokes the agent token with an id.
func RemoveToken(ctx context.Context, c *catalog.Catalog, id string) error {
	for _, t := range c.AgentTokens() {
		if t.ID != id {
			continue
		}
		if err := c.DeleteAgentToken(ctx, t.Hash); err != nil {
			return fmt.Errorf("remove agent token %s: %w", id, err)
		}
		return nil
	}
	return &fleet.Error{Kind: fleet.KindMissing, Message: fmt.Sprintf("there is no agent token %q", id), Hint: "vigil token list"}
}
