package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"vigil/fleetsim"
	"vigil/media/mediatest"
)

// Answers that are remembered of each server: the last ones by the emulator, the first
// ones here. An agent that has no whole answer among the first cannot be audited.
const (
	maxPolls = 1_000
	maxEarly = 32
)

// simulatedFleet is a fleet in closed form behind emulated status pages.
type simulatedFleet struct {
	sim   *fleetsim.Fleet
	began time.Time
	past  time.Duration
	farm  *mediatest.Farm
	done  chan struct{} // closed by close
	wg    sync.WaitGroup
	mu    sync.Mutex
	early [][]mediatest.Poll // first whole answers of each server; guarded by mu
}

func newSimulatedFleet(o Options, began time.Time) *simulatedFleet {
	sim := fleetsim.New(fleetsim.Config{
		Seed:    o.Seed,
		Servers: o.Servers,
		Streams: max(1, o.Streams/o.Servers),
		Start:   began.Add(-time.Hour - o.Past),
		Churn:   true,
	})
	return &simulatedFleet{sim: sim, began: began, past: o.Past, farm: mediatest.NewFarm(sim, mediatest.Options{MaxPolls: maxPolls}), done: make(chan struct{})}
}

func (f *simulatedFleet) start(ctx context.Context, to destination, c *crew) error {
	if err := f.farm.Start(); err != nil {
		return fmt.Errorf("start the simulated servers: %w", err)
	}
	if err := f.sendPast(ctx, to, f.began, f.past); err != nil {
		return err
	}
	for i, e := range f.farm.Emulators() {
		user, password := e.Credentials()
		err := c.hire(to, watched{
			name: e.Truth().Key(), product: e.Product(), url: f.farm.URL(i), user: user, password: password,
		})
		if err != nil {
			return err
		}
	}
	f.early = make([][]mediatest.Poll, len(f.farm.Emulators()))
	f.wg.Go(f.rememberEarly)
	return nil
}

// rememberEarly keeps the first answers of each server, one of which was its agent's
// baseline: the emulators forget old answers in a long demo.
func (f *simulatedFleet) rememberEarly() {
	emulators := f.farm.Emulators()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for missing := len(emulators); missing > 0; {
		select {
		case <-f.done:
			return
		case <-tick.C:
		}
		missing = 0
		f.mu.Lock()
		for i, e := range emulators {
			if len(f.early[i]) < maxEarly {
				f.early[i] = extend(f.early[i], e.Polls())
				missing++
			}
		}
		f.mu.Unlock()
	}
}

// extend adds the whole answers that were given since.
func extend(known, polls []mediatest.Poll) []mediatest.Poll {
	for _, p := range whole(polls) {
		if len(known) == 0 || p.At.After(known[len(known)-1].At) {
			known = append(known, p)
		}
	}
	return known
}

// whole returns the answers that arrived undamaged.
func whole(polls []mediatest.Poll) []mediatest.Poll {
	return slices.DeleteFunc(polls, func(p mediatest.Poll) bool { return !p.Whole })
}

// truth is what left each server while it was watched: between the answer that was
// its agent's baseline and the answer in the last stored packet with numbers.
func (f *simulatedFleet) truth(stored map[string]span) (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum int64
	for i, e := range f.farm.Emulators() {
		when, ok := stored[e.Truth().Key()]
		if !ok {
			continue
		}
		from, known := answerBefore(f.early[i], when.firstMs)
		to, knownToo := answerBefore(whole(e.Polls()), when.lastMs)
		if !known || !knownToo {
			return 0, false // the emulator has forgotten what the agent began with
		}
		moved := e.Truth().Between(from, to)
		if e.Product() == fleetsim.ProductNginx {
			sum += moved.WireOut // its own counter, with the protocol's overhead
		} else {
			sum += moved.BytesOut // Icecast counts mounts only
		}
	}
	return sum, true
}

// clockSlack is how far apart the ends of an interval may be placed by the two clocks
// that measure it: its end by the wall clock, its length by the monotonic one. Polls
// are at least a second apart.
const clockSlack = 250 * time.Millisecond

// answerBefore returns when the newest answer was given that an agent can have read in
// full by the given time.
func answerBefore(polls []mediatest.Poll, readMs int64) (atMs int64, known bool) {
	for _, p := range polls {
		if at := p.At.UnixMilli(); at <= readMs+clockSlack.Milliseconds() {
			atMs, known = at, true
		}
	}
	return atMs, known
}

func (f *simulatedFleet) close() error {
	close(f.done)
	f.wg.Wait()
	return f.farm.Close()
}
