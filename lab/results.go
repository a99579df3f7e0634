package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"vigil/durable"
)

// Result is one line of the table of results: what was done how often, and what came
// of it.
type Result struct {
	Fault    string        `json:"fault"`
	Trials   int           `json:"trials"`
	Acked    int           `json:"acked"`    // packets acknowledged under these faults
	Lost     int           `json:"lost"`     // of them not stored
	Doubled  int           `json:"doubled"`  // packets stored more than once
	Wrong    int           `json:"wrong"`    // packets stored with numbers that are not true
	Computed int           `json:"computed"` // packets whose numbers were computed from what the media server said
	Longest  time.Duration `json:"longest"`  // without any acknowledgement
	Seed     uint64        `json:"seed"`
}

// ResultOf sums up an audit.
func ResultOf(fault string, trials int, seed uint64, a *Audit, entries []Entry) Result {
	return Result{
		Fault: fault, Trials: trials, Seed: seed, Acked: a.Acked, Lost: len(a.Lost), Doubled: len(a.Doubled),
		Wrong: len(a.Wrong) + len(a.Unknown) + len(a.Problems), Computed: a.Computed, Longest: LongestSilence(entries),
	}
}

// Save appends the result to a file of results.
func (r Result) Save(name string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		_ = f.Close() // the write failed already
		return fmt.Errorf("save result: %w", err)
	}
	return f.Close()
}

// LoadResults reads a file of results; none when there is no file.
func LoadResults(name string) ([]Result, error) {
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load results: %w", err)
	}
	var list []Result
	for decoder := json.NewDecoder(bytes.NewReader(data)); decoder.More(); {
		var r Result
		if err := decoder.Decode(&r); err != nil {
			return nil, fmt.Errorf("load results: %w", err)
		}
		list = append(list, r)
	}
	return list, nil
}

// WriteTable writes results as a table of Markdown, which is also readable on a terminal.
func WriteTable(w io.Writer, results []Result) error {
	const row = "| %-62s | %6v | %12v | %4v | %7v | %5v | %8v | %12v | %20v |\n"
	if _, err := fmt.Fprintf(w, row, "fault", "trials", "acknowledged", "lost", "doubled", "wrong", "computed", "longest gap", "seed"); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, row, "---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:"); err != nil {
		return err
	}
	for _, r := range results {
		if _, err := fmt.Fprintf(w, row, r.Fault, r.Trials, r.Acked, r.Lost, r.Doubled, r.Wrong, r.Computed, r.Longest.Round(10*time.Millisecond), r.Seed); err != nil {
			return err
		}
	}
	return nil
}

// The part of the report that is generated stands between these lines.
const (
	reportBegin = "<!-- results: begin -->"
	reportEnd   = "<!-- results: end -->"
)

// WriteReport replaces the generated part of a report.
func WriteReport(name, about string, results []Result) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	before, rest, begins := strings.Cut(string(old), reportBegin)
	_, after, ends := strings.Cut(rest, reportEnd)
	if !begins || !ends {
		return fmt.Errorf("write report: %s has no lines %s and %s", name, reportBegin, reportEnd)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n\n%s\n\n", before, reportBegin, about)
	if err := WriteTable(&b, results); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n%s%s", reportEnd, after)
	return durable.WriteFile(durable.OS(), name, b.Bytes(), 0o644)
}
