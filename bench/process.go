package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopWait is how long a measured process may take to end.
const stopWait = 30 * time.Second

// ticksPerSecond is the unit of CPU time in /proc (USER_HZ, 100 on Linux).
const ticksPerSecond = 100

// newEnvironment builds both programs into a scratch directory.
func newEnvironment(ctx context.Context, quick, verbose bool) (*environment, error) {
	dir, err := os.MkdirTemp("", "vigil-bench-")
	if err != nil {
		return nil, err
	}
	env := &environment{
		dir: dir, quick: quick, verbose: verbose,
		vigil: filepath.Join(dir, "vigil"), agent: filepath.Join(dir, "vigil-agent"),
	}
	build := func(output, pkg string, extra ...string) error {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", output, pkg)
		cmd.Env = append(os.Environ(), extra...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
		return nil
	}
	if err := build(env.vigil, "./cmd/vigil"); err != nil {
		env.close()
		return nil, err
	}
	if err := build(env.agent, "./cmd/vigil-agent", "CGO_ENABLED=0"); err != nil {
		env.close()
		return nil, err
	}
	return env, nil
}

func (env *environment) close() {
	if err := os.RemoveAll(env.dir); err != nil {
		fmt.Fprintln(os.Stderr, "error: remove scratch directory:", err)
	}
}

// process is a program under measurement.
type process struct {
	cmd  *exec.Cmd
	done chan error
}

// start runs a program and leaves it running.
func (env *environment) start(name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	if env.verbose {
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(name), err)
	}
	p := &process{cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p, nil
}

// stop ends the process politely, then not.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-time.After(stopWait):
		p.cmd.Process.Kill() //nolint:errcheck // it is over either way
		<-p.done
		return fmt.Errorf("process did not end within %v", stopWait)
	}
}

// usage is what a process has used so far.
type processUsage struct {
	cpu     time.Duration // user and system, all threads
	rssPeak int64         // bytes
	rss     int64         // bytes
}

func (p *process) usage() (processUsage, error) {
	base := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(base, "stat"))
	if err != nil {
		return processUsage{}, err
	}
	// The name in parentheses may hold spaces; what follows the last one does not.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return processUsage{}, fmt.Errorf("%s/stat has %d fields", base, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return processUsage{}, err
	}
	status, err := os.ReadFile(filepath.Join(base, "status"))
	if err != nil {
		return processUsage{}, err
	}
	return processUsage{
		cpu:     time.Duration(user+system) * time.Second / ticksPerSecond,
		rssPeak: statusBytes(string(status), "VmHWM:"),
		rss:     statusBytes(string(status), "VmRSS:"),
	}, nil
}

func statusBytes(status, key string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			kib, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
