package lab_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"vigil/lab"
)

// Variables of the long runs. Without them the tests do little and are quick.
const (
	roundsVariable = "LAB_ROUNDS" // blows of the ledger test
	agentsVariable = "LAB_AGENTS"
	cutsVariable   = "LAB_CUTS" // of each arrangement of file systems
	callsVariable  = "LAB_CALLS"
	seedVariable   = "LAB_SEED" // repeats a run
)

// TestLedgerBalancesWhateverIsKilled kills and freezes real processes at random moments
// under the load of fifty agents, on a network that loses, cuts and doubles, and then
// sets the books against each other, to the byte.
//
// It is not parallel: what it measures is the load of this test alone.
func TestLedgerBalancesWhateverIsKilled(t *testing.T) {
	const (
		short   = 12
		weather = 50 // one packet of so many has bad luck on its way
	)
	ctx, seed := t.Context(), seedOf(t)
	rounds, agents := number(t, roundsVariable, short), number(t, agentsVariable, 50)
	stage := must[*lab.Stage](t)(newLab(t).NewStage(ctx, lab.StageOptions{
		Agents: agents, Streams: 3, Swarm: 4, Seed: seed,
		// Rows become files while everything is being killed.
		Set: []string{"storage.seal_every=10s"},
	}))
	stage.Weather(seed, weather)
	for i, blow := range lab.PlanBlows(seed, rounds, agents) {
		t.Logf("%d: %s, agents %v, after %v, for %v", i, blow.Kind, blow.Agents, blow.After, blow.Hold)
		noErr(t, stage.Strike(ctx, blow))
	}
	pages := lab.SomePages
	if rounds > short {
		pages = lab.AllPages
	}
	audit := must[*lab.Audit](t)(stage.Settle(ctx, pages))
	report(t, stage, audit, "kill -9 and freezes of agents and service, bad network", rounds, seed)
	if audit.Paged != agents+1 {
		t.Errorf("%d pages had numbers to compare, want %d", audit.Paged, agents+1)
	}
	if audit.Uncomputed > 0 || audit.GivenUp > 0 {
		t.Errorf("%d packets could not be computed and %d were given up, want none: nothing was lost on any disk", audit.Uncomputed, audit.GivenUp)
	}
}

// report fails the test when the books do not agree, and saves the line of the table.
func report(t *testing.T, stage *lab.Stage, audit *lab.Audit, fault string, trials int, seed uint64) {
	t.Helper()
	result := lab.ResultOf(fault, trials, seed, audit, stage.Recorder.Entries())
	t.Logf("%s: %d trials, %d runs of agents, %d packets sent, %d acknowledged, %d stored, %d computed, %d not computed, %d given up, %d bytes out, %d pages; longest time without an acknowledgement %v; %s=%d",
		fault, trials, audit.Lives, audit.Sent, audit.Acked, audit.Stored, audit.Computed, audit.Uncomputed, audit.GivenUp, audit.BytesOut, audit.Paged, result.Longest, seedVariable, seed)
	noErr(t, result.Save(resultsFile()))
	if err := audit.Err(); err != nil {
		t.Errorf("%s=%d: %v", seedVariable, seed, err)
	}
	if audit.Acked == 0 || audit.Computed == 0 {
		t.Errorf("%d packets acknowledged and %d computed: nothing was tested", audit.Acked, audit.Computed)
	}
}

func resultsFile() string { return filepath.Join(os.Getenv(dirVariable), "results.jsonl") }

// number reads a count from the environment.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a count", variable, text)
	}
	return n
}

// seedOf is a new seed for every run, or the one to repeat.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv(seedVariable)
	if text == "" {
		seed := rand.Uint64()
		t.Logf("repeat this run with %s=%d", seedVariable, seed)
		return seed
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is not a seed", seedVariable, text)
	}
	return seed
}
