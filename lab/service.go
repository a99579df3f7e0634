package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"vigil/config"
	"vigil/health"
	"vigil/store/duckdb"
)

// startTimeout is how long a service may take to serve on a busy machine.
const startTimeout = 60 * time.Second

const adminName = "admin"

// ServiceOptions describe a service.
type ServiceOptions struct {
	Name    string   // of its directory in the lab; "service" when empty
	DataDir string   // a directory of the service's own when empty
	Set     []string // "section.key=value", over what the lab sets
}

// Service is vigil run, with a data directory of its own. Its ports stay the same over
// restarts. Kill, Freeze, Thaw, Stop and Process are those of the running program.
type Service struct {
	program
	DataDir   string
	TokenFile string // of the token for agents, good for all names
	Password  string // of the account admin
	Ingest    string // http://127.0.0.1:PORT
	Panel     string
	Observe   string

	file string
	set  []string
}

// NewService initialises a service with vigil init. It is not started.
func (l *Lab) NewService(ctx context.Context, o ServiceOptions) (*Service, error) {
	if o.Name == "" {
		o.Name = "service"
	}
	dir, err := l.subdir(o.Name)
	if err != nil {
		return nil, err
	}
	if o.DataDir == "" {
		o.DataDir = filepath.Join(dir, "data")
	}
	s := &Service{
		DataDir: o.DataDir, TokenFile: filepath.Join(dir, "token"),
		file: filepath.Join(dir, "vigil.toml"), set: o.Set,
	}
	var listen [3]string
	for i := range listen {
		if listen[i], err = address(); err != nil {
			return nil, err
		}
	}
	s.Ingest, s.Panel, s.Observe = "http://"+listen[0], "http://"+listen[1], "http://"+listen[2]
	text := fmt.Sprintf("data_dir = %q\n[log]\nlevel = \"info\"\nformat = \"text\"\n[ingest]\nlisten = %q\n[panel]\nlisten = %q\n[observe]\nlisten = %q\n",
		s.DataDir, listen[0], listen[1], listen[2])
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the service's file: %w", err)
	}
	s.program = program{lab: l, name: o.Name, dir: dir, path: l.programs.Vigil, args: append([]string{"run"}, s.flags()...)}
	out, err := s.Command(ctx, "init", "-admin", adminName, "-token-file", s.TokenFile)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if password, ok := strings.CutPrefix(line, "password:"); ok {
			s.Password = strings.TrimSpace(password)
		}
	}
	if s.Password == "" {
		return nil, fmt.Errorf("vigil init printed no password: %s", out)
	}
	return s, nil
}

func (s *Service) flags() []string {
	flags := []string{"-config", s.file}
	for _, set := range s.set {
		flags = append(flags, "-set", set)
	}
	return flags
}

// Command runs another command of vigil with the service's configuration, such as
// "init" or "token list", and returns what it prints.
func (s *Service) Command(ctx context.Context, command string, args ...string) (string, error) {
	words := append(strings.Fields(command), s.flags()...)
	return run(ctx, s.path, append(words, args...)...)
}

func run(ctx context.Context, path string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Start starts the service and waits until it takes traffic.
func (s *Service) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.AwaitReady(ctx)
}

// Launch starts the service and does not wait.
func (s *Service) Launch() error {
	_, err := s.start()
	return err
}

// AwaitReady waits until the service takes traffic.
func (s *Service) AwaitReady(ctx context.Context) error {
	return Await(ctx, startTimeout, s.name+" is ready", func(ctx context.Context) error {
		if p := s.Process(); !p.Running() {
			return fmt.Errorf("%w: %s: %s", ErrEnded, s.name, tail(p.Log))
		}
		return getJSON(ctx, s.Observe+"/ready", nil)
	})
}

// Restart stops the service in order and starts it again.
func (s *Service) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Conditions returns what the service says is wrong.
func (s *Service) Conditions(ctx context.Context) (report health.Report, err error) {
	return report, getJSON(ctx, s.Observe+"/conditions", &report)
}

// Metric reads one number of the service's private listener by its name, labels
// included.
func (s *Service) Metric(ctx context.Context, name string) (float64, error) {
	return metric(ctx, s.Observe, name)
}

// OpenStore opens the store of a service that does not run. The caller closes it.
func (s *Service) OpenStore(ctx context.Context) (*duckdb.DB, error) {
	if p := s.Process(); p != nil && p.Running() {
		return nil, errors.New("open store: the service runs")
	}
	cfg, _, err := config.LoadService(config.Source{Data: fmt.Appendf(nil, "data_dir = %q\n", s.DataDir), Set: s.set})
	if err != nil {
		return nil, err
	}
	return duckdb.Open(ctx, duckdb.Options{Dir: filepath.Join(s.DataDir, "store"), Config: cfg.Storage})
}
