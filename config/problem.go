package config

import (
	"fmt"
	"strings"

	"vigil/fleet"
)

// maxProblems bounds how many problems are listed; the rest is counted.
const maxProblems = 50

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Origin string // "vigil.toml:12", "VIGIL_INGEST_LISTEN", "-set ingest.listen"
	Key    string // "ingest.listen"; empty when the text is not TOML at all
	Value  string // as it was given
	Text   string // what is wrong and what is allowed
}

// String writes the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Origin != "" {
		b.WriteString(p.Origin + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key)
		if p.Value != "" {
			b.WriteString(" = " + p.Value)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

// Error writes one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for i, p := range ps {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(ps)-i))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// failure makes the error that a command shows.
func (ps Problems) failure(program string) error {
	if len(ps) == 0 {
		return nil
	}
	what := "1 problem"
	if len(ps) > 1 {
		what = fmt.Sprintf("%d problems", len(ps))
	}
	return &fleet.Error{
		Kind:    fleet.KindInvalid,
		Message: "the configuration has " + what + "\n" + ps.Error(),
		Hint:    "correct the lines above; `" + program + " config example` shows every key",
		Err:     nil,
	}
}
