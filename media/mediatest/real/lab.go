package real

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Limits.
const (
	readyTimeout = 15 * time.Second
	readyPoll    = 20 * time.Millisecond
	stopTimeout  = 3 * time.Second
	encodeLimit  = 60 * time.Second
)

// InstallCommand installs every program that this package starts, on Debian.
const InstallCommand = "apt-get install --no-install-recommends nginx-light libnginx-mod-rtmp icecast2 ffmpeg"

// ErrMissingTool means that a program is not installed.
var ErrMissingTool = errors.New("real: program is not installed")

// ErrEnded means that a program ended while it was needed.
var ErrEnded = errors.New("real: program ended")

// Lab is a directory full of running programs. Methods are safe for concurrent use.
type Lab struct {
	dir string
	ctx context.Context //nolint:containedctx // the life of the programs, not of a call

	mu     sync.Mutex // guards what follows
	procs  []*Process
	closed bool
	made   int

	clipsMu sync.Mutex // held while a clip is encoded
	clips   map[string]Clip
}

// NewLab returns a lab that keeps its files in dir, which must exist and, for root, be
// reachable by other users. When ctx ends all programs are killed; Close does the same
// and waits.
func NewLab(ctx context.Context, dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find lab directory: %w", err)
	}
	// Icecast gives up root and must still reach its files.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open lab directory to others: %w", err)
	}
	return &Lab{dir: dir, ctx: ctx, clips: map[string]Clip{}}, nil
}

// Close kills everything that still runs, and waits for it.
func (l *Lab) Close() {
	l.mu.Lock()
	l.closed = true
	procs := l.procs
	l.procs = nil
	l.mu.Unlock()
	for i := len(procs) - 1; i >= 0; i-- { // clients before their servers
		procs[i].Kill()
	}
}

// subdir makes a new directory.
func (l *Lab) subdir(name string) (string, error) {
	l.mu.Lock()
	l.made++
	dir := filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.made))
	l.mu.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory for %s: %w", name, err)
	}
	return dir, nil
}

func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		// Servers are often installed where only root's PATH looks.
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return "", fmt.Errorf("%w: %s; try: %s", ErrMissingTool, name, InstallCommand)
		}
	}
	return path, nil
}

// Process is one running program, the leader of its own process group.
type Process struct {
	Name string
	Log  string // file with its output

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid after done
}

// StartProgram runs any other program beside the servers, with its output in a file of
// dir. It is killed with the lab.
func (l *Lab) StartProgram(dir, name, path string, args ...string) (*Process, error) {
	return l.start(dir, name, path, args...)
}

// start runs a program with its output in a file of dir.
func (l *Lab) start(dir, name, path string, args ...string) (*Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("start %s: lab is closed", name)
	}
	l.made++
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.out", filepath.Base(path), l.made)))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close() // the program has its own copy
	p := &Process{Name: name, Log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.CommandContext(l.ctx, path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.procs = append(l.procs, p)
	return p, nil
}

// PID returns the process id of the leader.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Running reports whether the program still runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the leader alone.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("signal %s: %w", p.Name, ErrEnded)
	}
	return p.cmd.Process.Signal(sig)
}

// Freeze stops the program without ending it (SIGSTOP), Thaw lets it go on.
func (p *Process) Freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the whole process group at once (SIGKILL) and waits for the leader.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may just have ended by itself
	}
	<-p.done
}

// Stop asks the program to end (SIGTERM), waits, and kills it if it does not.
func (p *Process) Stop() {
	if p.Signal(syscall.SIGTERM) == nil {
		_ = p.Signal(syscall.SIGCONT) // a frozen program cannot listen
		select {
		case <-p.done:
			return
		case <-time.After(stopTimeout):
		}
	}
	p.Kill()
}

// Err returns how the program ended, nil for success. Valid after Ended.
func (p *Process) Err() error { return p.err }

// Await calls check until it returns nil. It returns an error, with what the program
// printed last, when the program ends before that or when it takes too long.
func (p *Process) Await(ctx context.Context, what string, check func(context.Context) error) error {
	return p.await(ctx, what, check)
}

// Output returns what the program has printed so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// await calls check until it returns nil, the program ends or time is up.
func (p *Process) await(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("wait until %s: %w: %w: %s", what, ErrEnded, p.err, tail(p.Output()))
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; last: %w; it printed: %s", what, ctx.Err(), err, tail(p.Output()))
		case <-time.After(readyPoll):
		}
	}
}

func tail(s string) string {
	const most = 800
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// Ports are taken from below those that the system gives to outgoing connections: such
// a connection could otherwise sit on the port of a server that is being restarted.
const (
	lowPort  = 12_000
	highPort = 32_000
	mostAsks = 1000
)

// FreePorts returns n different ports of 127.0.0.1 that were free a moment ago. Another
// program may take one before it is used: the starters try again then.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range mostAsks {
		if len(ports) == n {
			return ports, nil
		}
		port := lowPort + rand.IntN(highPort-lowPort)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer listener.Close() // all at the end, so that the ports differ
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("find %d free ports: %d tries were in vain", n, mostAsks)
}
