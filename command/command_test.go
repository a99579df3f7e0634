package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vigil/fleet"
)

func testProgram() *Program {
	return &Program{Name: "prog", Summary: "a program.", Commands: []Command{
		{Name: "greet", Run: func(c *Call) error {
			c.Params = "[flags] NAME"
			c.Help = "say hello\n\nMore about it."
			loud := c.Flags.Bool("loud", false, "shout")
			times := c.Flags.Int("times", 1, "say it this `N` times")
			args, err := c.Parse()
			if err != nil {
				return err
			}
			if len(args) != 1 {
				return c.Usage("give one name")
			}
			_, err = fmt.Fprintln(c.Stdout, args[0], *loud, *times)
			return err
		}},
		{Name: "config show", Run: func(c *Call) error {
			c.Help = "show"
			if err := c.ParseNone(); err != nil {
				return err
			}
			return fmt.Errorf("show: %w", &fleet.Error{Kind: fleet.KindMissing, Message: "no file", Hint: "make one", Err: errors.New("cause")})
		}},
		{Name: "config", Run: func(c *Call) error {
			c.Help = "configure"
			args, err := c.Parse()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.Stdout, "config", args)
			return err
		}},
	}}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	f := func(args string, code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		got := testProgram().Main(t.Context(), strings.Fields(args), Env{Stdout: &out, Stderr: &errs})
		if got != code || !strings.Contains(out.String(), stdout) || !strings.Contains(errs.String(), stderr) {
			t.Errorf("%q: code %d, stdout %q, stderr %q; want %d, %q, %q", args, got, out.String(), errs.String(), code, stdout, stderr)
		}
	}
	f("greet -loud -times 2 you", 0, "you true 2\n", "")
	f("greet", 65, "", "error: prog greet: give one name\ntry: prog help greet\n")
	f("greet -lod you", 65, "", "flag provided but not defined: -lod")
	f("greet -h", 0, "usage: prog greet [flags] NAME\n\nsay hello\n\nMore about it.\n\nFlags:\n", "")
	f("config", 0, "config []", "")
	f("config other", 0, "config [other]", "")
	f("config show", 66, "", "error: show: no file: cause\ntry: make one\n")
	f("config show x", 65, "", `argument "x" is not expected`)
	f("", 65, "", "Commands:")
	f("nothing here", 65, "", `there is no command "nothing here"`)
	f("help", 0, "  greet            say hello\n", "")
	f("--help", 0, "Commands:", "")
	f("help config show", 0, "usage: prog config show", "")
	f("help nothing", 65, "", `there is no command "nothing"`)
	f("--version", 65, "", `there is no command "version"`)
}

func TestBegunCommandsAreToldHowToGoOn(t *testing.T) {
	t.Parallel()
	nothing := func(c *Call) error {
		c.Help = "do nothing"
		return c.ParseNone()
	}
	p := &Program{Name: "prog", Commands: []Command{{Name: "spool stats", Run: nothing}, {Name: "spool check", Run: nothing}}}
	for _, args := range [][]string{{"spool"}, {"spool", "stat"}, {"help", "spool"}} {
		var errs bytes.Buffer
		if code := p.Main(t.Context(), args, Env{Stdout: &bytes.Buffer{}, Stderr: &errs}); code != 65 ||
			!strings.Contains(errs.String(), "try: prog spool, followed by one of: stats, check\n") {
			t.Errorf("%q: code %d, %q, want the two commands", args, code, errs.String())
		}
	}
}

func TestCommandsAreInTheTableOnce(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a command that is in the table twice went unnoticed")
		}
	}()
	nothing := func(c *Call) error { return c.ParseNone() }
	(&Program{Name: "prog", Commands: []Command{{Name: "a", Run: nothing}, {Name: "a", Run: nothing}}}).Reference()
}

func TestReference(t *testing.T) {
	t.Parallel()
	got := testProgram().Reference()
	for _, want := range []string{"## prog", "### prog config show", "| `-times N` | `1` | say it this N times |", "| `-loud` |  | shout |"} {
		if !strings.Contains(got, want) {
			t.Errorf("the reference does not have %q:\n%s", want, got)
		}
	}
}

func TestCommandsMustAskBeforeTheyAct(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a command that never calls Parse went unnoticed")
		}
	}()
	p := &Program{Name: "prog", Commands: []Command{{Name: "rash", Run: func(*Call) error { return nil }}}}
	p.Reference()
}

func TestVersionSaysSomething(t *testing.T) {
	t.Parallel()
	if Version() == "" {
		t.Error("Version is empty")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	var l List
	_ = l.Set("a")
	_ = l.Set("b")
	if l.String() != "a b" {
		t.Errorf("list = %q, want a b", l.String())
	}
}
