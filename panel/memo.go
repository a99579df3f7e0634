package panel

import (
	"context"
	"sync"
	"time"

	"vigil/report"
)

// Limits of remembered charts: many open pages ask for the same few.
const (
	maxCharts     = 256
	chartFreshMin = 3 * time.Second
	chartFreshMax = 30 * time.Second
	failureFresh  = 2 * time.Second
	// chartBudget is how long a page waits for its chart before it is sent without one.
	chartBudget = 400 * time.Millisecond
)

// memo remembers charts for a part of their step, and lets everybody who asks for the
// same one at once wait for one question to the store.
type memo struct {
	mu      sync.Mutex
	entries map[string]*memoEntry
}

type memoEntry struct {
	done  chan struct{} // closed when the rest is set
	chart *report.Chart
	err   error
	until time.Time // zero while the question runs
}

func newMemo() *memo { return &memo{entries: map[string]*memoEntry{}} }

// get returns the entry of a key, asking in the background when there is none that is
// fresh. The question outlives the request that asked it first.
func (m *memo) get(key string, now func() time.Time, ask func(context.Context) (*report.Chart, error)) *memoEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[key]; ok && (e.until.IsZero() || now().Before(e.until)) {
		return e
	}
	m.makeRoom(now())
	e := &memoEntry{done: make(chan struct{})}
	m.entries[key] = e
	go func() { //nolint:contextcheck // shared by many requests, bounded by the question's own timeout
		chart, err := ask(context.Background())
		m.mu.Lock()
		e.chart, e.err = chart, err
		e.until = now().Add(failureFresh)
		if err == nil {
			fresh := time.Duration(chart.StepMs) * time.Millisecond / 3
			e.until = now().Add(min(chartFreshMax, max(chartFreshMin, fresh)))
		}
		m.mu.Unlock()
		close(e.done)
	}()
	return e
}

// peek returns a chart that is there, fresh or not; nil otherwise.
func (m *memo) peek(key string) *report.Chart {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[key]; ok {
		return e.chart
	}
	return nil
}

func (m *memo) makeRoom(now time.Time) {
	if len(m.entries) < maxCharts {
		return
	}
	for key, e := range m.entries {
		if !e.until.IsZero() && now.After(e.until) {
			delete(m.entries, key)
		}
	}
	for key := range m.entries {
		if len(m.entries) < maxCharts {
			return
		}
		delete(m.entries, key)
	}
}

// wait returns the chart. ok is false when it is not there within the time given.
func (e *memoEntry) wait(ctx context.Context, longest time.Duration) (chart *report.Chart, err error, ok bool) { //nolint:revive // ok says whether err is meant
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-e.done:
		return e.chart, e.err, true
	case <-ctx.Done():
		return nil, ctx.Err(), true
	case <-timer.C:
		return nil, nil, false
	}
}
