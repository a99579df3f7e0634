package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"vigil/lab"
)

// reportVariable names the report whose table a run writes anew.
const reportVariable = "LAB_REPORT"

// showResults prints the table of results, if there are any, and writes it into the
// report that the environment names.
func showResults() error {
	results, err := lab.LoadResults(resultsFile())
	if err != nil || len(results) == 0 {
		return err
	}
	if err := lab.WriteTable(os.Stdout, results); err != nil {
		return err
	}
	name := os.Getenv(reportVariable)
	if name == "" {
		return nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join("..", name) // tests run in their package's directory
	}
	return lab.WriteReport(name, aboutRun(), results)
}

// aboutRun says when, what and where.
func aboutRun() string {
	commit, err := exec.CommandContext(context.Background(), "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty elsewhere
	return fmt.Sprintf("Measured on %s with commit %s, on Linux %s with %d processors of %s.", time.Now().UTC().Format(time.DateOnly),
		strings.TrimSpace(string(commit)), strings.TrimSpace(string(kernel)), runtime.NumCPU(), processor())
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // unknown elsewhere
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unknown model"
}

func TestReportKeepsWhatPeopleWrote(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "report.md")
	const head, foot = "# Report\n\n<!-- results: begin -->", "<!-- results: end -->\n\nWords.\n"
	noErr(t, os.WriteFile(name, []byte(head+"\nold\n"+foot), 0o644))
	results := filepath.Join(t.TempDir(), "results.jsonl")
	want := lab.Result{Fault: "kill -9", Trials: 3, Acked: 7, Longest: time.Second, Seed: 5}
	noErr(t, want.Save(results))
	list := must[[]lab.Result](t)(lab.LoadResults(results))
	if len(list) != 1 || list[0] != want {
		t.Fatalf("LoadResults = %+v, want %+v", list, want)
	}
	noErr(t, lab.WriteReport(name, "About.", list))
	got := string(must[[]byte](t)(os.ReadFile(name)))
	if !strings.HasPrefix(got, head+"\n\nAbout.\n") || !strings.HasSuffix(got, "\n"+foot) || !strings.Contains(got, "| kill -9 ") || strings.Contains(got, "old") {
		t.Errorf("report is now:\n%s", got)
	}
	noErr(t, os.WriteFile(name, []byte("no lines"), 0o644))
	if err := lab.WriteReport(name, "About.", list); err == nil {
		t.Error("a report without a place for results was overwritten")
	}
}
