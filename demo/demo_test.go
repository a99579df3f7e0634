package demo

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"vigil/agent"
	"vigil/fleet"
	"vigil/store"
)

// runDemo runs a short demo and returns what it printed.
func runDemo(t *testing.T, o Options) Result {
	t.Helper()
	var out bytes.Buffer
	o.JSON, o.Out, o.Listen = true, &out, "127.0.0.1:0"
	o.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out.String())
	}
	var r Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("the demo printed no JSON: %v\n%s", err, out.String())
	}
	return r
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func TestDemoSettlesItsAccount(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	o := Options{Servers: 5, Streams: 100, Seed: 7, Interval: time.Second, For: 6 * time.Second, Dir: dir}
	first := runDemo(t, o)
	if first.Servers != 5 || first.Streams == 0 || first.Viewers == 0 || first.PacketsStored < 10 {
		t.Errorf("the demo saw too little: %+v", first)
	}
	if first.BytesOutTrue.Or(0) == 0 {
		t.Errorf("the demo does not know the truth: %+v", first)
	}
	// The same directory again: packets and accounts of the first run are still there,
	// and only what flowed in the second is compared with its truth.
	second := runDemo(t, o)
	if second.PacketsStored == 0 || second.BytesOutTrue.Or(0) == 0 {
		t.Errorf("the second run on the same data: %+v", second)
	}
}

func TestDemoRefusesImpossibleFleets(t *testing.T) {
	t.Parallel()
	f := func(o Options) {
		t.Helper()
		if err := Run(t.Context(), o); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("Run(%+v) = %v; want an error of kind invalid", o, err)
		}
	}
	f(Options{Servers: -1})
	f(Options{Servers: maxServers + 1})
	f(Options{Servers: 10, Streams: 9})
	f(Options{Streams: maxStreams + 1})
	f(Options{Interval: time.Millisecond})
	f(Options{For: time.Second})
}

// row is a stored packet of agent a, epoch 1.
func row(first, last uint64) store.PacketRow {
	return store.PacketRow{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: last}, FirstSeq: first}
}

func TestBalanceFindsWhatIsLostAndDoubled(t *testing.T) {
	t.Parallel()
	f := func(book agent.Stats, stored, lost, doubled int64, rows ...store.PacketRow) {
		t.Helper()
		book.Agent, book.Epoch = "a", 1
		var r Result
		r.balance([]agent.Stats{book}, rows)
		if r.PacketsStored != stored || r.PacketsLost != lost || r.PacketsDoubled != doubled {
			t.Errorf("stored %d lost %d doubled %d; want %d, %d, %d", r.PacketsStored, r.PacketsLost, r.PacketsDoubled, stored, lost, doubled)
		}
		if wrong := r.verdict() != nil; wrong != (lost > 0 || doubled > 0 || stored == 0) {
			t.Errorf("verdict is %v", r.verdict())
		}
	}
	three := agent.Stats{LastSeq: 3, PacketsSpooled: 3, PacketsAcknowledged: 3}
	f(three, 3, 0, 0, row(1, 1), row(3, 3), row(2, 2))
	f(three, 3, 0, 0, row(1, 2), row(3, 3))
	f(three, 2, 1, 0, row(1, 1), row(3, 3))
	f(three, 3, 0, 1, row(1, 1), row(2, 2), row(3, 3), row(2, 2))
	f(three, 3, 0, 2, row(1, 2), row(3, 3), row(1, 2))
	f(three, 0, 3, 0)
	// Packets of an earlier run are not this run's.
	f(agent.Stats{LastSeq: 9, PacketsSpooled: 2, PacketsAcknowledged: 2}, 2, 0, 0, row(1, 7), row(8, 8), row(9, 9))
	// A packet whose answer was lost is stored all the same.
	f(agent.Stats{LastSeq: 2, PacketsSpooled: 2, PacketsAcknowledged: 1}, 2, 0, 0, row(1, 1), row(2, 2))
}

func TestTrafficThatDiffersFromTheTruthFails(t *testing.T) {
	t.Parallel()
	f := func(reported int64, truth fleet.Int, ok bool) {
		t.Helper()
		r := Result{PacketsStored: 1, BytesOutReported: reported, BytesOutTrue: truth}
		if err := r.verdict(); (err == nil) != ok {
			t.Errorf("reported %d of %v: %v", reported, truth, err)
		}
	}
	f(1000, fleet.Of(1000), true)
	f(1001, fleet.Of(1000), true)
	f(1002, fleet.Of(1000), false)
	f(998, fleet.Of(1000), false)
	f(0, fleet.Of(0), true)
	f(1, fleet.Of(0), false)
	f(1, fleet.Int{}, true)
}
