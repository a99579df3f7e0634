package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs are the built programs.
type Programs struct {
	Vigil string // path of vigil
	Agent string // path of vigil-agent
}

// BuildOptions say how programs are built.
type BuildOptions struct {
	Dir  string // where they are put
	Race bool   // with the race detector
}

// Build builds vigil and vigil-agent from the module of the working directory. They
// share the build cache with go vet and go test.
func Build(ctx context.Context, o BuildOptions) (*Programs, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	p := &Programs{Vigil: filepath.Join(o.Dir, "vigil"), Agent: filepath.Join(o.Dir, "vigil-agent")}
	args := []string{"build"}
	if o.Race {
		args = append(args, "-race")
	}
	for output, pkg := range map[string]string{p.Vigil: "./cmd/vigil", p.Agent: "./cmd/vigil-agent"} {
		cmd := exec.CommandContext(ctx, "go", append(args, "-o", output, pkg)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	return p, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("find module: not inside one")
	}
	return filepath.Dir(mod), nil
}
