package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vigil/spool"
)

// MediaServer is a media server that an agent watches.
type MediaServer struct {
	Name, Product, URL string
	Username, Password string
	ClientListEvery    time.Duration // "0s" when zero: never
}

// AgentOptions describe an agent.
type AgentOptions struct {
	Name      string // also of its directory in the lab
	Service   string // where packets go: Service.Ingest or Recorder.URL
	TokenFile string
	Interval  time.Duration // 1 s when zero
	Servers   []MediaServer
	SpoolDir  string   // a directory of the agent's own when empty
	Set       []string // "key=value", over what the lab sets
}

// Agent is vigil-agent run, with a spool of its own. Kill, Freeze, Thaw, Stop and
// Process are those of the running program.
type Agent struct {
	program
	Name     string
	SpoolDir string
	Observe  string // http://127.0.0.1:PORT

	flags []string
}

// NewAgent writes the configuration of an agent. It is not started.
func (l *Lab) NewAgent(o AgentOptions) (*Agent, error) {
	dir, err := l.subdir(o.Name)
	if err != nil {
		return nil, err
	}
	listen, err := address()
	if err != nil {
		return nil, err
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.SpoolDir == "" {
		o.SpoolDir = filepath.Join(dir, "spool")
	}
	a := &Agent{Name: o.Name, SpoolDir: o.SpoolDir, Observe: "http://" + listen}
	var b strings.Builder
	fmt.Fprintf(&b, "name = %q\nspool_dir = %q\ninterval = %q\n[service]\nurl = %q\ntoken_file = %q\n[log]\nlevel = \"info\"\nformat = \"text\"\n[observe]\nlisten = %q\n",
		o.Name, a.SpoolDir, o.Interval, o.Service, o.TokenFile, listen)
	for i, s := range o.Servers {
		fmt.Fprintf(&b, "[[server]]\nname = %q\nproduct = %q\nurl = %q\ntimeout = %q\nclient_list_every = %q\n",
			s.Name, s.Product, s.URL, o.Interval*9/10, s.ClientListEvery)
		if s.Username == "" {
			continue
		}
		password := filepath.Join(dir, fmt.Sprintf("password-%d", i))
		if err := os.WriteFile(password, []byte(s.Password+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("write a password file: %w", err)
		}
		fmt.Fprintf(&b, "username = %q\npassword_file = %q\n", s.Username, password)
	}
	file := filepath.Join(dir, "agent.toml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write the agent's file: %w", err)
	}
	a.flags = []string{"-config", file}
	for _, set := range o.Set {
		a.flags = append(a.flags, "-set", set)
	}
	a.program = program{lab: l, name: o.Name, dir: dir, path: l.programs.Agent, args: append([]string{"run"}, a.flags...)}
	return a, nil
}

// Command runs another command of vigil-agent with the agent's configuration, such as
// "check" or "spool stats", and returns what it prints.
func (a *Agent) Command(ctx context.Context, command string, args ...string) (string, error) {
	words := append(strings.Fields(command), a.flags...)
	return run(ctx, a.path, append(words, args...)...)
}

// Start starts the agent and waits until its private listener answers.
func (a *Agent) Start(ctx context.Context) error {
	if _, err := a.start(); err != nil {
		return err
	}
	return Await(ctx, startTimeout, a.name+" runs", func(ctx context.Context) error {
		if p := a.Process(); !p.Running() {
			return fmt.Errorf("%w: %s: %s", ErrEnded, a.name, tail(p.Log))
		}
		return getJSON(ctx, a.Observe+"/live", nil)
	})
}

// Restart stops the agent in order and starts it again.
func (a *Agent) Restart(ctx context.Context) error {
	if err := a.Stop(); err != nil {
		return err
	}
	return a.Start(ctx)
}

// Spool reads the state of the spool with the agent's own command. Acknowledgements are
// only hints on disk, so it may show records that the service has.
func (a *Agent) Spool(ctx context.Context) (stats spool.Stats, err error) {
	out, err := a.Command(ctx, "spool stats")
	if err != nil {
		return stats, err
	}
	if err := json.Unmarshal([]byte(out), &stats); err != nil {
		return stats, fmt.Errorf("read spool stats: %w", err)
	}
	return stats, nil
}

// Metric reads one number of the agent's private listener by its name, labels included.
func (a *Agent) Metric(ctx context.Context, name string) (float64, error) {
	return metric(ctx, a.Observe, name)
}

// AwaitDrained waits until the running agent has nothing left that the service has not
// taken.
func (a *Agent) AwaitDrained(ctx context.Context, within time.Duration) error {
	return Await(ctx, within, a.name+" has sent everything", func(ctx context.Context) error {
		records, err := a.Metric(ctx, "vigil_spool_records")
		if err == nil && records > 0 {
			err = fmt.Errorf("%g records wait", records)
		}
		return err
	})
}
