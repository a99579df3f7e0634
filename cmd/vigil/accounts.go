package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"vigil/catalog"
	"vigil/command"
	"vigil/fleet"
	"vigil/node"
	"vigil/observe"
)

// maxSecretBytes is the longest secret file that is read.
const maxSecretBytes = 4096

func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSuffix(line, "\r")
}

func initDataDir(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `prepare the data directory: first account, first agent token

Run it once on a new machine, as the user who will run vigil. It prints the password of
the account and the token for agents. Neither can be read back later; both can be
replaced. A data directory that is initialised already is not touched.`
	s := settingsOf(c)
	admin := c.Flags.String("admin", "admin", "`NAME` of the first account")
	passwordFile := c.Flags.String("password-file", "", "read the password from this `FILE`, or from standard input when it is -; otherwise a random one is made")
	agents := c.Flags.String("agents", "*", "the token is good for the agents with this `NAME`, which may end in *")
	tokenFile := c.Flags.String("token-file", "", "write the agent token to this new `FILE` instead of printing it")
	if err := c.ParseNone(); err != nil {
		return err
	}
	_, self, err := s.self()
	if err != nil {
		return err
	}
	options := node.InitOptions{Admin: *admin, Agents: *agents, Deps: node.Deps{Log: observe.Discard()}}
	if *passwordFile != "" {
		if options.Password, err = readSecret(c, *passwordFile); err != nil {
			return err
		}
	}
	if err := node.CheckNew(self); err != nil {
		return err // before a word about the token file, which may belong to what is there
	}
	if err := refuseExisting(*tokenFile); err != nil {
		return err
	}
	result, err := node.Init(c.Context, self, options)
	if err != nil {
		return err
	}
	return s.reportInit(result, *passwordFile == "", *tokenFile)
}

// refuseExisting checks before anything is made what could only fail after it.
func refuseExisting(name string) error {
	if name == "" {
		return nil
	}
	if _, err := os.Lstat(name); err == nil {
		return &fleet.Error{Kind: fleet.KindConflict, Message: "the file " + name + " exists already", Hint: "remove it, or name another one with -token-file"}
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		return &fleet.Error{Kind: fleet.KindMissing, Message: "the file " + name + " cannot be made", Hint: "make its directory first", Err: err}
	}
	return nil
}

func (s *settings) reportInit(r *node.InitResult, showPassword bool, tokenFile string) error {
	c := s.call
	fmt.Fprintf(c.Stdout, "The data directory %s is ready.\n\n", r.DataDir)
	fmt.Fprintf(c.Stdout, "account:     %s\n", r.Admin)
	if showPassword {
		fmt.Fprintf(c.Stdout, "password:    %s\n", r.Password)
	}
	if tokenFile == "" {
		fmt.Fprintf(c.Stdout, "agent token: %s\n", r.AgentToken)
	} else if err := writeSecret(tokenFile, r.AgentToken); err != nil {
		fmt.Fprintf(c.Stdout, "agent token: %s\n", r.AgentToken) // there is no second chance
		return err
	} else {
		fmt.Fprintf(c.Stdout, "agent token: in %s\n", tokenFile)
	}
	_, err := fmt.Fprintf(c.Stdout, "\nKeep both now: they are not stored in a form that can be read back.\nNext: vigil run%s\n", s.again())
	return err
}

// again repeats the flags that every command of this installation needs.
func (s *settings) again() string {
	var b strings.Builder
	if s.file != usualConfig {
		b.WriteString(" -config " + s.file)
	}
	if s.node != "" {
		b.WriteString(" -node " + s.node)
	}
	for _, pair := range s.set {
		b.WriteString(" -set " + pair)
	}
	return b.String()
}

func writeSecret(name, secret string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &fleet.Error{
			Kind: fleet.KindForbidden, Message: "the file " + name + " cannot be written",
			Hint: "check its directory; the token stands above", Err: err,
		}
	}
	_, err = f.WriteString(secret + "\n")
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// manage opens the accounts of the node that does not run.
func (s *settings) manage(fn func(*catalog.Catalog) error) error {
	_, self, err := s.self()
	if err != nil {
		return err
	}
	return node.Manage(s.call.Context, self, node.Deps{Log: observe.Discard()}, fn)
}

func password(c *command.Call) error {
	c.Params = "[flags] NAME"
	c.Help = `give an account a new password and end its logins

The service must be stopped. Without -password-file a random password is made and
printed.`
	s := settingsOf(c)
	file := c.Flags.String("password-file", "", "read the password from this `FILE`, or from standard input when it is -")
	args, err := c.Parse()
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return c.Usage("give the name of one account")
	}
	secret := rand.Text()
	if *file != "" {
		if secret, err = readSecret(c, *file); err != nil {
			return err
		}
	}
	err = s.manage(func(accounts *catalog.Catalog) error {
		return node.SetPassword(c.Context, accounts, args[0], secret)
	})
	if err != nil {
		return err
	}
	if *file == "" {
		_, err = fmt.Fprintf(c.Stdout, "password: %s\n", secret)
	}
	return err
}

func tokenAdd(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `make a token for agents and print it

The service must be stopped. The token cannot be read back later.`
	s := settingsOf(c)
	agents := c.Flags.String("agents", "*", "the token is good for the agents with this `NAME`, which may end in *")
	servers := c.Flags.String("servers", "*", "the token may report the media servers with this `NAME`, which may end in *")
	note := c.Flags.String("note", "", "a `TEXT` that says what the token is for")
	if err := c.ParseNone(); err != nil {
		return err
	}
	return s.manage(func(accounts *catalog.Catalog) error {
		token, err := node.AddToken(c.Context, accounts, node.NewToken{Agents: *agents, Servers: *servers, Note: *note})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Stdout, "agent token: %s\n", token)
		return err
	})
}

func tokenList(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `list the tokens of agents

The service must be stopped. The tokens themselves are not stored and not shown.`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	return s.manage(func(accounts *catalog.Catalog) error {
		w := tabwriter.NewWriter(c.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tAGENTS\tSERVERS\tCREATED\tNOTE")
		for _, t := range accounts.AgentTokens() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Agent, cmp.Or(t.Servers, "*"), t.Created.UTC().Format("2006-01-02 15:04"), t.Note)
		}
		return w.Flush()
	})
}

func tokenRemove(c *command.Call) error {
	c.Params = "[flags] ID"
	c.Help = `revoke a token of agents

The service must be stopped. Agents that use the token are refused from then on; their
packets wait in their spools until they have another one.`
	s := settingsOf(c)
	args, err := c.Parse()
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return c.Usage("give the id of one token; vigil token list shows them")
	}
	return s.manage(func(accounts *catalog.Catalog) error {
		return node.RemoveToken(c.Context, accounts, args[0])
	})
}
