package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"vigil/lab"
)

// ticksPerSecond is the unit of CPU time in /proc (USER_HZ, 100 on Linux).
const ticksPerSecond = 100

// environment is what all benchmarks share.
type environment struct {
	programs *lab.Programs
	dir      string // scratch, removed at the end
	quick    bool   // small sizes: shows that the benchmark works, the figures do not count
}

// newEnvironment builds both programs into a scratch directory.
func newEnvironment(ctx context.Context, quick bool) (*environment, error) {
	dir, err := os.MkdirTemp("", "vigil-bench-")
	if err != nil {
		return nil, err
	}
	programs, err := lab.Build(ctx, lab.BuildOptions{Dir: filepath.Join(dir, "bin")})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &environment{programs: programs, dir: dir, quick: quick}, nil
}

func (env *environment) close() error { return os.RemoveAll(env.dir) }

// open returns a lab for one benchmark.
func (env *environment) open(ctx context.Context, name string) (*lab.Lab, error) {
	dir := filepath.Join(env.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return lab.Open(ctx, dir, env.programs)
}

// spent is what a process has used so far.
type spent struct {
	cpu     time.Duration // user and system, all threads
	rssPeak int64         // bytes
	rss     int64         // bytes
}

func usageOf(pid int) (spent, error) {
	base := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(base, "stat"))
	if err != nil {
		return spent{}, err
	}
	// The name in parentheses may hold spaces; what follows the last one does not.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return spent{}, fmt.Errorf("%s/stat has %d fields", base, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return spent{}, err
	}
	status, err := os.ReadFile(filepath.Join(base, "status"))
	if err != nil {
		return spent{}, err
	}
	return spent{
		cpu:     time.Duration(user+system) * time.Second / ticksPerSecond,
		rssPeak: statusBytes(string(status), "VmHWM:"),
		rss:     statusBytes(string(status), "VmRSS:"),
	}, nil
}

func statusBytes(status, key string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			var kib int64
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
