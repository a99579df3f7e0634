package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"vigil/auth"
	"vigil/bus"
)

func openBus(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Options{Name: "test", Dir: dir})
	if err != nil {
		t.Fatalf("open bus: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func openCatalog(t *testing.T, b *bus.Bus) *Catalog {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := Open(ctx, b, Options{})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits for what a watch brings.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestWhatIsWrittenIsReadAtOnceAndAfterReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	c := openCatalog(t, b)
	ctx := t.Context()
	if err := c.CreateUser(ctx, auth.User{Name: "Ann Ä. *>.", PasswordHash: "h1", Admin: true}); err != nil {
		t.Fatal(err)
	}
	if u, err := c.User("Ann Ä. *>."); err != nil || u.PasswordHash != "h1" || !u.Admin || u.Created.IsZero() {
		t.Errorf("User = %+v, %v", u, err)
	}
	if err := c.CreateUser(ctx, auth.User{Name: "Ann Ä. *>."}); !errors.Is(err, auth.ErrExists) {
		t.Errorf("second CreateUser = %v, want ErrExists", err)
	}
	text, hash := auth.NewAgentToken()
	if err := c.AddAgentToken(ctx, auth.AgentToken{Hash: hash, Agent: "edge-*", Note: "rack 1"}); err != nil {
		t.Fatal(err)
	}
	if err := c.AddAgentToken(ctx, auth.AgentToken{Hash: hash}); !errors.Is(err, auth.ErrExists) {
		t.Errorf("second AddAgentToken = %v", err)
	}
	_, session := auth.NewAgentToken()
	if err := c.PutSession(ctx, session, auth.Session{User: "Ann Ä. *>.", Created: time.Now(), Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	c = openCatalog(t, openBus(t, dir))
	hash, _ = auth.HashAgentToken(text)
	if token, err := c.AgentToken(hash); err != nil || token.Agent != "edge-*" || token.Note != "rack 1" || !token.Hash.Equal(hash) || token.ID != hash.ID() {
		t.Errorf("AgentToken = %+v, %v", token, err)
	}
	if s, err := c.Session(session); err != nil || s.User != "Ann Ä. *>." {
		t.Errorf("Session = %+v, %v", s, err)
	}
	if users := c.Users(); len(users) != 1 || users[0].Name != "Ann Ä. *>." {
		t.Errorf("Users = %+v", users)
	}
	if tokens := c.AgentTokens(); len(tokens) != 1 {
		t.Errorf("AgentTokens = %+v", tokens)
	}
	if err := c.DeleteAgentToken(ctx, hash); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AgentToken(hash); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("a revoked token is still there: %v", err)
	}
	if err := c.DeleteAgentToken(ctx, hash); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("second DeleteAgentToken = %v", err)
	}
}

func TestNewPasswordEndsTheLogins(t *testing.T) {
	t.Parallel()
	c := openCatalog(t, openBus(t, t.TempDir()))
	ctx := t.Context()
	hashes := map[string]auth.TokenHash{}
	for _, name := range []string{"ann", "bob"} {
		if err := c.CreateUser(ctx, auth.User{Name: name, PasswordHash: "old"}); err != nil {
			t.Fatal(err)
		}
		_, hash := auth.NewAgentToken()
		if err := c.PutSession(ctx, hash, auth.Session{User: name, Created: time.Now(), Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		hashes[name] = hash
	}
	if err := c.SetPassword(ctx, "ann", "new"); err != nil {
		t.Fatal(err)
	}
	if u, _ := c.User("ann"); u.PasswordHash != "new" {
		t.Errorf("password = %q", u.PasswordHash)
	}
	if _, err := c.Session(hashes["ann"]); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("ann is still logged in: %v", err)
	}
	if _, err := c.Session(hashes["bob"]); err != nil {
		t.Errorf("bob was logged out: %v", err)
	}
	if err := c.SetPassword(ctx, "nobody", "x"); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("SetPassword of nobody = %v", err)
	}
	if err := c.DeleteUser(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Session(hashes["bob"]); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("bob is still logged in: %v", err)
	}
	if err := c.CreateUser(ctx, auth.User{Name: "bob", PasswordHash: "again"}); err != nil {
		t.Errorf("CreateUser after DeleteUser = %v", err)
	}
	if u, err := c.User("bob"); err != nil || u.PasswordHash != "again" {
		t.Errorf("bob = %+v, %v", u, err)
	}
}

func TestOtherCopiesFollow(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	one, two := openCatalog(t, b), openCatalog(t, b)
	ctx := t.Context()
	if err := one.CreateUser(ctx, auth.User{Name: "ann", PasswordHash: "1"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other copy has ann", func() bool { _, err := two.User("ann"); return err == nil })
	if err := two.SetPassword(ctx, "ann", "2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first copy has the new password", func() bool { u, _ := one.User("ann"); return u.PasswordHash == "2" })
	if err := one.DeleteUser(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other copy has no ann", func() bool { _, err := two.User("ann"); return errors.Is(err, auth.ErrMissing) })
}

// Two copies create, change and delete the same few accounts at once: each creation
// succeeds once, and in the end both copies agree.
func TestConcurrentChangesConverge(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	copies := []*Catalog{openCatalog(t, b), openCatalog(t, b)}
	ctx := t.Context()
	var working sync.WaitGroup
	for worker := range 4 {
		c := copies[worker%2]
		working.Go(func() {
			for i := range 40 {
				name := fmt.Sprint("user", i%3)
				var err error
				switch (i + worker) % 3 {
				case 0:
					err = c.CreateUser(ctx, auth.User{Name: name, PasswordHash: fmt.Sprint(worker, " ", i)})
				case 1:
					err = c.SetPassword(ctx, name, fmt.Sprint(worker, " ", i))
				case 2:
					err = c.DeleteUser(ctx, name)
				}
				if err != nil && !errors.Is(err, auth.ErrExists) && !errors.Is(err, auth.ErrMissing) && !errors.Is(err, auth.ErrChanged) {
					t.Errorf("step %d of %d: %v", i, worker, err)
				}
			}
		})
	}
	working.Wait()
	third := openCatalog(t, b) // knows only what is stored
	eventually(t, "all copies agree", func() bool {
		want := fmt.Sprint(third.Users())
		return fmt.Sprint(copies[0].Users()) == want && fmt.Sprint(copies[1].Users()) == want
	})
}

func TestLoginsExpireAndAreBounded(t *testing.T) {
	t.Parallel()
	c := openCatalog(t, openBus(t, t.TempDir()))
	ctx := t.Context()
	_, short := auth.NewAgentToken()
	if err := c.PutSession(ctx, short, auth.Session{User: "ann", Created: time.Now(), Expires: time.Now().Add(100 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	var first auth.TokenHash
	for i := range maxSessionsPerUser + 3 {
		_, hash := auth.NewAgentToken()
		if i == 0 {
			first = hash
		}
		if err := c.PutSession(ctx, hash, auth.Session{User: "bob", Created: time.Unix(int64(i), 0), Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.loginsOf("bob")); n != maxSessionsPerUser {
		t.Errorf("bob has %d logins, want %d", n, maxSessionsPerUser)
	}
	if _, err := c.Session(first); !errors.Is(err, auth.ErrMissing) {
		t.Errorf("the oldest login is still there: %v", err)
	}
	eventually(t, "the short login is gone from memory", func() bool { _, err := c.Session(short); return errors.Is(err, auth.ErrMissing) })
	if err := c.PutSession(ctx, short, auth.Session{Expires: time.Now().Add(-time.Second)}); err == nil {
		t.Error("a login that is over was stored")
	}
	if err := c.DeleteSession(ctx, auth.TokenHash{}); err != nil {
		t.Errorf("DeleteSession of nothing = %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	c := openCatalog(t, openBus(t, t.TempDir()))
	for _, name := range []string{"", " ann", "ann\n", string(make([]byte, 200)), "a\x00b", "bad\xff"} {
		if err := c.CreateUser(t.Context(), auth.User{Name: name}); !errors.Is(err, ErrName) {
			t.Errorf("CreateUser(%q) = %v, want ErrName", name, err)
		}
	}
}
