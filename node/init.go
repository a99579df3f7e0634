package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"vigil/auth"
	"vigil/bus"
	"vigil/catalog"
	"vigil/config"
	"vigil/durable"
	"vigil/fleet"
)

// InitOptions say what a new data directory begins with.
type InitOptions struct {
	Admin    string // name of the first account
	Password string // empty: a random one
	Agents   string // whom the first agent token lets in: an exact name, a prefix followed by *, or *
	Deps     Deps
}

// InitResult is shown once; nothing of it can be read back.
type InitResult struct {
	DataDir    string
	Admin      string
	Password   string
	AgentToken string
}

// Init prepares the data directory of a node: directories, the first account, the first
// agent token, and last the marker without which a node does not start. When it was
// interrupted it can be run again. It refuses a directory that is initialised, and one
// that holds something else.
func Init(ctx context.Context, self config.Node, o InitOptions) (*InitResult, error) {
	if o.Password != "" {
		if err := auth.CheckNewPassword(o.Password); err != nil {
			return nil, err
		}
	}
	if err := checkVirgin(self.DataDir); err != nil {
		return nil, err
	}
	if err := durable.OS().MkdirAll(self.DataDir, dirPerm); err != nil {
		return nil, &fleet.Error{
			Kind:    fleet.KindForbidden,
			Message: "the data directory " + self.DataDir + " cannot be made",
			Hint:    "make it yourself and give it to the user who runs vigil, or choose another data_dir",
			Err:     err,
		}
	}
	lock, err := lockDir(self.DataDir)
	if err != nil {
		return nil, err
	}
	result, err := fill(ctx, self, o)
	if err == nil {
		now := time.Now
		if o.Deps.Now != nil {
			now = o.Deps.Now
		}
		err = writeMarker(self.DataDir, marker{
			Program: "vigil", Layout: layoutVersion, Node: self.Name, Created: now().UTC().Truncate(time.Second),
		})
	}
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	return result, nil
}

// CheckNew refuses a data directory that Init would refuse, and changes nothing.
func CheckNew(self config.Node) error { return checkVirgin(self.DataDir) }

// checkVirgin refuses directories that Init must not touch.
func checkVirgin(dir string) error {
	_, err := readMarker(dir)
	if err == nil {
		return &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: "the data directory " + dir + " is initialised already; nothing was changed",
			Hint:    "start it with: vigil run",
		}
	}
	empty, err := isEmptyDir(dir)
	if err != nil {
		return err
	}
	if empty {
		return nil
	}
	// What an interrupted Init leaves behind.
	if _, err := durable.OS().ReadDir(filepath.Join(dir, busDir)); err == nil {
		if _, err := durable.OS().ReadDir(filepath.Join(dir, storeDir)); err != nil {
			return nil
		}
	}
	return &fleet.Error{
		Kind:    fleet.KindConflict,
		Message: "the data directory " + dir + " is not empty, and what is in it is not a new data directory of vigil",
		Hint:    "choose an empty directory; if this one lost its file " + markerFile + ", restore that file from a backup",
	}
}

// fill makes the account and the token.
func fill(ctx context.Context, self config.Node, o InitOptions) (result *InitResult, err error) {
	b, err := bus.Open(ctx, bus.Options{Name: self.Name, Dir: filepath.Join(self.DataDir, busDir), Log: o.Deps.Log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	c, err := catalog.Open(ctx, b, catalog.Options{Log: o.Deps.Log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()

	result = &InitResult{DataDir: self.DataDir, Admin: o.Admin, Password: o.Password}
	if result.Password == "" {
		result.Password = rand.Text()
	}
	now := time.Now().UTC()
	if err := putAdmin(ctx, c, result, now); err != nil {
		return nil, err
	}
	// Tokens of an interrupted run were never told to anybody.
	for _, t := range c.AgentTokens() {
		if err := c.DeleteAgentToken(ctx, t.Hash); err != nil {
			return nil, fmt.Errorf("remove old agent token: %w", err)
		}
	}
	result.AgentToken, err = addToken(ctx, c, NewToken{Agents: o.Agents, Note: "made by vigil init"}, now)
	return result, err
}

func putAdmin(ctx context.Context, c *catalog.Catalog, result *InitResult, now time.Time) error {
	hash, err := auth.HashPassword(result.Password)
	if err != nil {
		return err
	}
	err = c.CreateUser(ctx, auth.User{Name: result.Admin, PasswordHash: hash, Admin: true, Created: now})
	if errors.Is(err, auth.ErrExists) {
		err = c.SetPassword(ctx, result.Admin, hash)
	}
	if err != nil {
		return fmt.Errorf("make account %s: %w", result.Admin, err)
	}
	return nil
}

func addToken(ctx context.Context, c *catalog.Catalog, t NewToken, now time.Time) (string, error) {
	text, hash := auth.NewAgentToken()
	err := c.AddAgentToken(ctx, auth.AgentToken{
		Hash: hash, ID: fmt.Sprintf("%x", hash[:4]), Agent: t.Agents, Servers: t.Servers, Note: t.Note, Created: now,
	})
	if err != nil {
		return "", fmt.Errorf("make agent token: %w", err)
	}
	return text, nil
}
