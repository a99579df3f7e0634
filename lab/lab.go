package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"vigil/media/mediatest/real"
)

// Limits.
const (
	stopTimeout  = 30 * time.Second // of a program that was asked to end
	pollEvery    = 25 * time.Millisecond
	mostLogBytes = 64 << 10 // of one process, shown on failure
)

// ErrEnded means that a program ended while it was needed.
var ErrEnded = errors.New("lab: program ended")

// TB is the part of testing.TB that New needs.
type TB interface {
	real.TB
	Context() context.Context
	Failed() bool
	Logf(format string, args ...any)
}

// Lab is a directory with services, agents and recorders of one test. Methods are safe
// for concurrent use.
type Lab struct {
	programs *Programs
	dir      string
	procs    *real.Lab

	mu      sync.Mutex // guards what follows
	logs    []logFile
	closers []func() error
	names   map[string]bool
}

type logFile struct{ name, path string }

// New returns a lab that ends with the test. When the test has failed then, the end of
// every program's log is shown.
func New(tb TB, programs *Programs) *Lab {
	tb.Helper()
	dir, err := os.MkdirTemp("", "vigil-lab-")
	if err != nil {
		tb.Fatal(err)
	}
	l, err := Open(context.WithoutCancel(tb.Context()), dir, programs)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close lab: %v", err)
		}
		for _, log := range l.logs {
			if line := Complaint(tail(log.path)); line != "" {
				tb.Errorf("%s: %s", log.name, line)
			}
		}
		if tb.Failed() {
			for _, log := range l.logs {
				tb.Logf("%s printed:\n%s", log.name, tail(log.path))
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove lab: %v", err)
		}
	})
	return l
}

// Open returns a lab in a directory that exists. Programs are killed when ctx ends, or
// with Close.
func Open(ctx context.Context, dir string, programs *Programs) (*Lab, error) {
	procs, err := real.NewLab(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &Lab{programs: programs, dir: dir, procs: procs, names: map[string]bool{}}, nil
}

// Close kills all programs and waits for them.
func (l *Lab) Close() error {
	l.procs.Close()
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Dir is the directory of the lab.
func (l *Lab) Dir() string { return l.dir }

// subdir makes the directory of something with a name of its own.
func (l *Lab) subdir(name string) (string, error) {
	l.mu.Lock()
	taken := l.names[name]
	l.names[name] = true
	l.mu.Unlock()
	if taken {
		return "", fmt.Errorf("make %s: the name is taken", name)
	}
	dir := filepath.Join(l.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory for %s: %w", name, err)
	}
	return dir, nil
}

func (l *Lab) closeLater(c func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, c)
}

// program is a program that can be started again and again.
type program struct {
	lab  *Lab
	name string
	dir  string
	path string
	args []string

	mu      sync.Mutex // guards what follows
	current *real.Process
}

func (p *program) start() (*real.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.current.Running() {
		return nil, fmt.Errorf("start %s: it runs", p.name)
	}
	proc, err := p.lab.procs.StartProgram(p.dir, p.name, p.path, p.args...)
	if err != nil {
		return nil, err
	}
	p.current = proc
	p.lab.mu.Lock()
	p.lab.logs = append(p.lab.logs, logFile{p.name, proc.Log})
	p.lab.mu.Unlock()
	return proc, nil
}

// Process is the running program, or the one that ran last; nil before the first start.
func (p *program) Process() *real.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// Kill ends the program at once (SIGKILL) and waits.
func (p *program) Kill() {
	if proc := p.Process(); proc != nil {
		proc.Kill()
	}
}

// Freeze stops the program without ending it (SIGSTOP): a machine that is silent.
func (p *program) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *program) Thaw() error { return p.signal(syscall.SIGCONT) }

// Stop asks the program to end (SIGTERM) and waits. It returns an error when the
// program takes too long, after which it is killed, or does not end well.
func (p *program) Stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	proc := p.Process()
	select {
	case <-proc.Ended():
	case <-time.After(stopTimeout):
		proc.Kill()
		return fmt.Errorf("stop %s: still there after %v", p.name, stopTimeout)
	}
	if err := proc.Err(); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	return nil
}

func (p *program) signal(sig syscall.Signal) error {
	proc := p.Process()
	if proc == nil {
		return fmt.Errorf("signal %s: it was never started", p.name)
	}
	return proc.Signal(sig)
}

// Await calls check until it returns nil, and returns its last error when that takes
// longer than within.
func Await(ctx context.Context, within time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: not after %v: %w", what, time.Since(began).Round(time.Millisecond), err)
		case <-time.After(pollEvery):
		}
	}
}

// Complaint returns the line of a program's log that no program of ours may ever print:
// of a panic, a fatal error of the run time, or the race detector.
func Complaint(log string) string {
	for line := range strings.Lines(log) {
		for _, mark := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
			if strings.HasPrefix(line, mark) {
				return strings.TrimSpace(line)
			}
		}
		if strings.Contains(line, "level=ERROR") && strings.Contains(line, "panic=") {
			return strings.TrimSpace(line) // one that was survived
		}
	}
	return ""
}

// address returns a free address that stays the caller's by convention.
func address() (string, error) {
	ports, err := real.FreePorts(1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(ports[0])), nil
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > mostLogBytes {
		return "..." + string(b[len(b)-mostLogBytes:])
	}
	return string(b)
}
