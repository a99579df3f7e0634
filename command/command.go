// Package command is the frame of a program with several commands: a table of names
// and functions. A function says what it is for, defines its flags, and parses them;
// the help text and the reference page come from asking every function in the table.
//
// A command returns an error and never exits. The frame prints it as `error:` and
// `try:` lines, and the kind of the error decides the exit code.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"vigil/fleet"
)

// Program is a table of commands.
type Program struct {
	Name     string
	Summary  string // what the program is, in one sentence
	Commands []Command
}

// Command is one row of the table. The name may have several words: "config check".
type Command struct {
	Name string
	Run  func(c *Call) error
}

// Call is one call of a command. The command fills Params, Help and Flags, calls
// Parse, and returns at once when Parse returns an error.
type Call struct {
	Context context.Context //nolint:containedctx // lives as long as the call
	Params  string          // what stands behind the name: "[-config FILE]"
	Help    string          // the first line is the summary; paragraphs follow an empty line
	Flags   *flag.FlagSet
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string

	program string
	name    string
	args    []string
	asking  bool // only Params, Help and Flags are wanted
}

// Env is what a program has from the system.
type Env struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string
}

// OSEnv returns the environment of this process.
func OSEnv() Env {
	return Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
}

var (
	errAsked = errors.New("command: only help was asked for")
	errHelp  = errors.New("command: help was printed")
)

// Parse reads the flags and returns the other arguments. A command returns Parse's
// error as it is.
func (c *Call) Parse() ([]string, error) {
	if c.asking {
		return nil, errAsked
	}
	c.Flags.SetOutput(io.Discard)
	c.Flags.Usage = func() {}
	err := c.Flags.Parse(c.args)
	if errors.Is(err, flag.ErrHelp) {
		c.print(c.Stdout)
		return nil, errHelp
	}
	if err != nil {
		return nil, c.Usage(err.Error())
	}
	return c.Flags.Args(), nil
}

// ParseNone is Parse for commands that take no arguments besides flags.
func (c *Call) ParseNone() error {
	args, err := c.Parse()
	if err == nil && len(args) > 0 {
		err = c.Usage(fmt.Sprintf("argument %q is not expected", args[0]))
	}
	return err
}

// Usage returns the error for a wrong call.
func (c *Call) Usage(text string) error {
	return &fleet.Error{
		Kind:    fleet.KindInvalid,
		Message: fmt.Sprintf("%s %s: %s", c.program, c.name, text),
		Hint:    fmt.Sprintf("%s help %s", c.program, c.name),
	}
}

// print writes the help of one command.
func (c *Call) print(w io.Writer) {
	fmt.Fprintf(w, "usage: %s\n\n%s\n", c.usageLine(), strings.TrimSpace(c.Help))
	if hasFlags(c.Flags) {
		fmt.Fprintln(w, "\nFlags:")
		c.Flags.SetOutput(w)
		c.Flags.PrintDefaults()
	}
}

func (c *Call) usageLine() string {
	return strings.TrimSpace(c.program + " " + c.name + " " + c.Params)
}

func hasFlags(set *flag.FlagSet) bool {
	some := false
	set.VisitAll(func(*flag.Flag) { some = true })
	return some
}

// Main runs the command that args name and returns the exit code.
func (p *Program) Main(ctx context.Context, args []string, env Env) int {
	err := p.run(ctx, args, env)
	if err == nil || errors.Is(err, errHelp) {
		return 0
	}
	fmt.Fprintf(env.Stderr, "error: %v\n", err)
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(env.Stderr, "try: %s\n", e.Hint)
	}
	return fleet.KindOf(err).ExitCode()
}

func (p *Program) run(ctx context.Context, args []string, env Env) error {
	if len(args) == 0 {
		p.printTable(env.Stderr)
		return &fleet.Error{Kind: fleet.KindInvalid, Message: "no command was given", Hint: p.Name + " help"}
	}
	switch args[0] {
	case "-version", "--version":
		args = []string{"version"}
	case "-h", "-help", "--help":
		args = []string{"help"}
	}
	if args[0] == "help" {
		return p.help(args[1:], env)
	}
	cmd, rest, ok := p.find(args)
	if !ok {
		return p.unknown(args)
	}
	c := p.call(cmd, env)
	c.Context, c.args = ctx, rest
	return cmd.Run(c)
}

// unknown is the error for a command that is not there. One that is only begun is told
// how it may go on.
func (p *Program) unknown(args []string) error {
	var endings []string
	for _, cmd := range p.Commands {
		if ending, ok := strings.CutPrefix(cmd.Name, args[0]+" "); ok {
			endings = append(endings, ending)
		}
	}
	err := &fleet.Error{
		Kind:    fleet.KindInvalid,
		Message: fmt.Sprintf("there is no command %q", strings.Join(args[:min(len(args), 2)], " ")),
		Hint:    p.Name + " help",
	}
	if len(endings) > 0 {
		err.Hint = fmt.Sprintf("%s %s, followed by one of: %s", p.Name, args[0], strings.Join(endings, ", "))
	}
	return err
}

// find returns the command whose name is the longest beginning of args.
func (p *Program) find(args []string) (found Command, rest []string, ok bool) {
	longest := 0
	for _, cmd := range p.Commands {
		words := strings.Fields(cmd.Name)
		if len(words) > longest && len(words) <= len(args) && strings.Join(args[:len(words)], " ") == cmd.Name {
			found, rest, longest = cmd, args[len(words):], len(words)
		}
	}
	return found, rest, longest > 0
}

func (p *Program) call(cmd Command, env Env) *Call {
	return &Call{
		Context: context.Background(), Flags: flag.NewFlagSet(cmd.Name, flag.ContinueOnError),
		Stdin: env.Stdin, Stdout: env.Stdout, Stderr: env.Stderr, Environ: env.Environ,
		program: p.Name, name: cmd.Name,
	}
}

// ask returns a call with the help of a command in it.
func (p *Program) ask(cmd Command) *Call {
	c := p.call(cmd, Env{Stdout: io.Discard, Stderr: io.Discard})
	c.asking = true
	if err := cmd.Run(c); !errors.Is(err, errAsked) {
		panic("command: " + cmd.Name + " does something before Parse, or hides the error of Parse")
	}
	return c
}

func (p *Program) help(args []string, env Env) error {
	if len(args) == 0 {
		p.printTable(env.Stdout)
		return nil
	}
	cmd, _, ok := p.find(args)
	if !ok {
		return p.unknown(args)
	}
	p.ask(cmd).print(env.Stdout)
	return nil
}

func (p *Program) printTable(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n\nCommands:\n\n", p.Name, p.Summary)
	for _, cmd := range p.Commands {
		summary, _, _ := strings.Cut(strings.TrimSpace(p.ask(cmd).Help), "\n")
		fmt.Fprintf(w, "  %-16s %s\n", cmd.Name, summary)
	}
	fmt.Fprintf(w, "\n`%s help COMMAND` says more about one of them.\n", p.Name)
}

// Reference returns the help of all commands as Markdown.
func (p *Program) Reference() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n", p.Name, p.Summary)
	for i, cmd := range p.Commands {
		if slices.ContainsFunc(p.Commands[:i], func(other Command) bool { return other.Name == cmd.Name }) {
			panic("command: " + cmd.Name + " is in the table twice")
		}
		c := p.ask(cmd)
		fmt.Fprintf(&b, "\n### %s %s\n\n    %s\n\n%s\n", p.Name, cmd.Name, c.usageLine(), strings.TrimSpace(c.Help))
		if !hasFlags(c.Flags) {
			continue
		}
		b.WriteString("\n| Flag | Default | Meaning |\n| --- | --- | --- |\n")
		c.Flags.VisitAll(func(f *flag.Flag) {
			name, usage := flag.UnquoteUsage(f)
			fallback := ""
			if f.DefValue != "" && f.DefValue != "false" {
				fallback = "`" + f.DefValue + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSpace("-"+f.Name+" "+name), fallback, usage)
		})
	}
	return b.String()
}

// Version returns the version and the commit that the program was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, commit, changed := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				changed = " with changes"
			}
		}
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	if commit == "" {
		return version
	}
	return fmt.Sprintf("%s (%s%s)", version, commit, changed)
}

// PrintVersion is the command that prints the program's name and Version.
func PrintVersion(c *Call) error {
	c.Help = "print the version and the commit it was built from"
	if err := c.ParseNone(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.Stdout, c.program, Version())
	return err
}

// List is a flag that may be given several times.
type List []string

// String returns the values.
func (l *List) String() string { return strings.Join(*l, " ") }

// Set adds a value.
func (l *List) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// LogVersion writes the first line of a log.
func LogVersion(log *slog.Logger, program string) {
	log.Info("starting", "program", program, "version", Version(), "pid", os.Getpid())
}
