package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"vigil/agent"
	"vigil/fleet"
	"vigil/store"
)

// maxDeviation is by how much reported traffic may differ from the truth.
const maxDeviation = 0.001

// Result is what a demo prints at its end.
type Result struct {
	URL                 string `json:"url"`
	Real                bool   `json:"real"`
	RanMs               int64  `json:"ran_ms"`
	ReadyMs             int64  `json:"ready_ms"` // from the start to the first stored sample
	Servers             int64  `json:"servers"`
	Streams             int64  `json:"streams"`
	Viewers             int64  `json:"viewers"`
	PacketsSpooled      int64  `json:"packets_spooled"`
	PacketsAcknowledged int64  `json:"packets_acknowledged"`
	PacketsStored       int64  `json:"packets_stored"`
	PacketsLost         int64  `json:"packets_lost"`    // acknowledged and not stored
	PacketsDoubled      int64  `json:"packets_doubled"` // stored more than once
	SamplesStored       int64  `json:"samples_stored"`
	BytesOutReported    int64  `json:"bytes_out_reported"`
	// BytesOutTrue is null when nobody knows the truth (real servers).
	BytesOutTrue fleet.Int `json:"bytes_out_true"`
	MaxAgeMs     int64     `json:"max_age_ms"` // the oldest that the newest stored sample ever was
}

// settle ends the polls, lets storage apply what was acknowledged, and compares what
// was made with what is stored.
func (d *demo) settle(ctx context.Context) (*Result, error) {
	totals := d.node.Live().Totals(time.Now()) // before the agents fall silent
	if err := d.crew.rest(); err != nil {
		return nil, err
	}
	books := d.crew.stats()
	d.awaitApplied(ctx, books)
	window := store.Window{From: d.began, To: time.Now().Add(time.Hour)}
	rows, err := d.node.Store().PacketRows(ctx, store.Window{From: time.UnixMilli(0), To: window.To})
	if err != nil {
		return nil, fmt.Errorf("list stored packets: %w", err)
	}
	traffic, err := d.node.Store().ServerTraffic(ctx, window)
	if err != nil {
		return nil, fmt.Errorf("sum stored traffic: %w", err)
	}
	r := &Result{
		URL: d.url(), Real: d.o.Real, RanMs: time.Since(d.began).Milliseconds(),
		Servers: totals.Servers, Streams: totals.Streams, Viewers: totals.Viewers.Or(0),
		SamplesStored: d.node.Storage().Stats().RowsApplied,
	}
	r.ReadyMs, r.MaxAgeMs = d.ages.figures(d.began)
	r.balance(books, rows)
	for _, t := range traffic {
		r.BytesOutReported += t.BytesOut.Or(0)
	}
	if truth, known := d.source.truth(spans(rows, traffic, window.From.UnixMilli())); known {
		r.BytesOutTrue = fleet.Of(truth)
	}
	return r, nil
}

// awaitApplied waits until storage has applied everything that was acknowledged, or
// until ctx ends. What is missing then is found by the balance.
func (d *demo) awaitApplied(ctx context.Context, books []agent.Stats) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, book := range books {
		for !d.applied(book) {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// applied reports whether storage has as many packets of an agent as it had
// acknowledged.
func (d *demo) applied(book agent.Stats) bool {
	have := uint64(0)
	if set, ok := d.node.Storage().Stored(book.Agent, book.Epoch); ok {
		have = set.High()
		for _, r := range set.Ahead() {
			have += r.Last - r.First + 1
		}
	}
	return have >= book.LastSeq-book.PacketsSpooled+book.PacketsAcknowledged
}

// spans returns from when to when the stored packets of each agent have numbers. What
// is covered has no holes: after a failed poll the next good one covers both.
func spans(rows []store.PacketRow, traffic map[string]store.Traffic, sinceMs int64) map[string]span {
	found := map[string]span{}
	for _, row := range rows {
		if !row.BytesOut.Known() || row.AtMs < sinceMs {
			continue
		}
		last := max(found[row.ID.Agent].lastMs, row.AtMs)
		found[row.ID.Agent] = span{firstMs: last - traffic[row.ID.Agent].CoveredMs, lastMs: last}
	}
	return found
}

// balance sets the agents' books against the stored packets, one by one.
func (r *Result) balance(books []agent.Stats, rows []store.PacketRow) {
	stored := make(map[store.AgentEpoch]*fleet.SeqSet)
	for _, row := range rows {
		key := store.AgentEpoch{Agent: row.ID.Agent, Epoch: row.ID.Epoch}
		if stored[key] == nil {
			stored[key] = &fleet.SeqSet{}
		}
		length := int64(row.ID.Seq - row.FirstSeq + 1)
		added, err := stored[key].Fill(fleet.SeqRange{First: row.FirstSeq, Last: row.ID.Seq})
		if err != nil {
			added = 0 // a range that cannot be is as wrong as one that is there twice
		}
		r.PacketsDoubled += length - int64(added)
	}
	for _, book := range books {
		have := stored[store.AgentEpoch{Agent: book.Agent, Epoch: book.Epoch}]
		if have == nil {
			have = &fleet.SeqSet{}
		}
		mine := uint64(0)
		for seq := book.LastSeq - book.PacketsSpooled + 1; seq <= book.LastSeq; seq++ {
			if have.Contains(seq) {
				mine++
			}
		}
		r.PacketsSpooled += int64(book.PacketsSpooled)
		r.PacketsAcknowledged += int64(book.PacketsAcknowledged)
		r.PacketsStored += int64(mine)
		// A packet whose answer did not come may be stored without having been
		// acknowledged, but not the other way round.
		r.PacketsLost += max(0, int64(book.PacketsAcknowledged)-int64(mine))
	}
}

// deviation is the relative difference between reported and true traffic.
func (r *Result) deviation() float64 {
	truth, known := r.BytesOutTrue.Get()
	switch {
	case !known:
		return 0
	case truth == 0:
		if r.BytesOutReported == 0 {
			return 0
		}
		return math.Inf(1)
	}
	return math.Abs(float64(r.BytesOutReported-truth)) / float64(truth)
}

// verdict is an error when the demo did not keep a promise.
func (r *Result) verdict() error {
	fail := func(format string, args ...any) error {
		return &fleet.Error{
			Kind:    fleet.KindInternal,
			Message: fmt.Sprintf(format, args...),
			Hint:    "run it again with -dir DIR and report it with what is in that directory",
		}
	}
	switch {
	case r.PacketsLost > 0:
		return fail("%d acknowledged packets are not stored", r.PacketsLost)
	case r.PacketsDoubled > 0:
		return fail("%d packets are stored more than once", r.PacketsDoubled)
	case r.PacketsStored == 0:
		return fail("no packet was stored")
	case r.deviation() > maxDeviation:
		return fail("reported traffic differs from the truth by %.3f %%: %d instead of %d bytes",
			100*r.deviation(), r.BytesOutReported, r.BytesOutTrue.Or(0))
	}
	return nil
}

// print writes the result for a machine or for a person.
func (r *Result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintf(w, "\nThe account after %v:\n", (time.Duration(r.RanMs) * time.Millisecond).Round(time.Second))
	line := func(name, format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %-22s %s\n", name, fmt.Sprintf(format, args...))
		}
	}
	line("packets spooled", "%d", r.PacketsSpooled)
	line("packets acknowledged", "%d", r.PacketsAcknowledged)
	line("packets stored", "%d", r.PacketsStored)
	line("lost", "%d", r.PacketsLost)
	line("counted twice", "%d", r.PacketsDoubled)
	line("bytes out, reported", "%d", r.BytesOutReported)
	if truth, known := r.BytesOutTrue.Get(); known {
		line("bytes out, true", "%d (%.4f %% off)", truth, 100*r.deviation())
	}
	return err
}

// ageEvery is how often the age of the newest sample is looked at.
const ageEvery = 50 * time.Millisecond

// ageWatch keeps the largest age of the newest stored sample. Safe for concurrent use.
type ageWatch struct {
	mu      sync.Mutex
	firstAt time.Time     // when the first sample was stored
	worst   time.Duration // since then
}

// start watches until the returned function is called.
func (a *ageWatch) start(newestMs func() int64) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(ageEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				a.see(now, newestMs())
			}
		}
	}()
	return func() { close(done); <-stopped }
}

func (a *ageWatch) see(now time.Time, newestMs int64) {
	if newestMs == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.firstAt.IsZero() {
		a.firstAt = now
	}
	a.worst = max(a.worst, now.Sub(time.UnixMilli(newestMs)))
}

func (a *ageWatch) figures(began time.Time) (readyMs, maxAgeMs int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.firstAt.IsZero() {
		return 0, 0
	}
	return a.firstAt.Sub(began).Milliseconds(), a.worst.Milliseconds()
}
