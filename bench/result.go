package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what one benchmark measured. bench/README.md explains every key.
type result struct {
	Name     string             `json:"name"`
	Date     string             `json:"date"` // UTC, RFC 3339
	Machine  string             `json:"machine"`
	Commit   string             `json:"commit"`
	Versions map[string]string  `json:"versions"`
	Figures  map[string]float64 `json:"figures"` // the key ends with the unit
	Ratios   map[string]float64 `json:"ratios"`  // ours over what we compare with
}

func newResult(name string) *result {
	return &result{
		Name:     name,
		Date:     time.Now().UTC().Format(time.RFC3339),
		Machine:  machine(),
		Commit:   commit(),
		Versions: versions(),
		Figures:  map[string]float64{},
		Ratios:   map[string]float64{},
	}
}

// save writes the result where the next reader expects it.
func (r *result) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", r.Name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Name+".json"), append(data, '\n'), 0o644)
}

// print writes the figures as a table.
func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", r.Name)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, key := range slices.Sorted(maps.Keys(r.Figures)) {
		fmt.Fprintf(tw, "  %s\t%s\n", key, number(r.Figures[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(r.Ratios)) {
		fmt.Fprintf(tw, "  %s\t%s x\n", key, number(r.Ratios[key]))
	}
	tw.Flush() //nolint:errcheck // the table goes to a terminal
}

// number prints four significant digits, without an exponent.
func number(v float64) string {
	switch {
	case v >= 1000 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.4g", v)
	}
}

// machine names what the figures were taken on.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	memory := ""
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf(", %d GiB", (kib+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d x %s%s, %s/%s", runtime.NumCPU(), model, memory, runtime.GOOS, runtime.GOARCH)
}

// commit is what the figures were taken of; a plus says that the tree had changes.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(out))
	changed, err := exec.Command("git", "status", "--porcelain", "--", ".", ":!bench/results").Output()
	if err == nil && len(changed) > 0 {
		name += "+"
	}
	return name
}

// versions are those of Go and of the modules that do most of the work.
func versions() map[string]string {
	v := map[string]string{"go": strings.TrimPrefix(runtime.Version(), "go")}
	interesting := map[string]string{
		"github.com/duckdb/duckdb-go/v2":    "duckdb-go",
		"github.com/nats-io/nats-server/v2": "nats-server",
		"github.com/klauspost/compress":     "zstd",
		"google.golang.org/protobuf":        "protobuf",
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if name, ok := interesting[dep.Path]; ok {
				v[name] = dep.Version
			}
		}
	}
	return v
}
