package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"vigil/media/mediatest/real"
)

const (
	attachTimeout = 30 * time.Second
	injectedMark  = "(INJECTED)"
)

// Injection makes system calls of a running program fail, from outside, by strace. It is
// for what does not go through any seam of ours: the database engine and the journal's
// server.
type Injection struct {
	name string
	dir  string
	proc *real.Process
}

// Inject makes calls fail until End: "fsync,fdatasync:error=EIO" makes all of them fail,
// "fsync:error=EIO:when=3" the third one of each thread. With paths only calls on these
// files count.
func (p *program) Inject(ctx context.Context, fault string, paths ...string) (*Injection, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("make system calls fail: no strace; try: apt-get install --no-install-recommends strace: %w", err)
	}
	dir, err := os.MkdirTemp(p.lab.dir, "injection-")
	if err != nil {
		return nil, fmt.Errorf("make system calls fail: %w", err)
	}
	calls, _, _ := strings.Cut(fault, ":")
	args := []string{
		"-f", "-qq", "-e", "signal=none", "-e", "trace=" + calls, "-e", "inject=" + fault,
		"-o", filepath.Join(dir, "trace"), "-p", fmt.Sprint(p.Process().PID()),
	}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	i := &Injection{name: p.name, dir: dir}
	if i.proc, err = p.lab.procs.StartProgram(dir, "strace", strace, args...); err != nil {
		return nil, err
	}
	return i, Await(ctx, attachTimeout, "strace holds "+p.name, func(context.Context) error {
		if !i.proc.Running() {
			return fmt.Errorf("%w: strace: %s", ErrEnded, i.proc.Output())
		}
		return tracedBy(p.Process().PID(), i.proc.PID())
	})
}

// tracedBy is nil when all threads of a process are traced by another one.
func tracedBy(pid, tracer int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return errors.Join(err, fmt.Errorf("process %d has no threads", pid))
	}
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(status), fmt.Sprintf("TracerPid:\t%d\n", tracer)) {
			return fmt.Errorf("%s is not traced yet", file)
		}
	}
	return nil
}

// Failed returns how many calls were made to fail so far.
func (i *Injection) Failed() (int, error) {
	trace, err := os.ReadFile(filepath.Join(i.dir, "trace"))
	if err != nil {
		return 0, fmt.Errorf("count failed calls: %w", err)
	}
	return strings.Count(string(trace), injectedMark), nil
}

// End lets calls succeed again and returns how many were made to fail. The program goes
// on, or has ended by itself.
func (i *Injection) End() (int, error) {
	if i.proc.Running() {
		// It ends by itself when the program has ended.
		if err := i.proc.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, real.ErrEnded) {
			return 0, err
		}
	}
	select {
	case <-i.proc.Ended():
	case <-time.After(stopTimeout):
		return 0, fmt.Errorf("let calls of %s succeed again: strace does not end", i.name)
	}
	return i.Failed()
}
