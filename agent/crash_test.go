package agent

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The agent loses power, is killed and is stopped at random moments, while the service
// misbehaves at random. Afterwards the books must close: every sequence number was
// received or is in a gap that was reported, nothing arrived with two contents or
// overlapped (the fake service checks that), and the agent's own count of acknowledged
// packets is what the service has.
func TestCrashesAtRandomMoments(t *testing.T) {
	t.Parallel()
	runs := 25
	if testing.Short() {
		runs = 10
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubbleSeed(t, seed+1, func(w *world) { crashRun(w, seed) })
		})
	}
}

func crashRun(w *world, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	w.cfg.SpoolMaxBytes = 1 << 20
	faults := []fault{works, works, works, busy, hangs, breaks, storedBreak, storedHang, bad500}
	chaos := rand.New(rand.NewPCG(seed, 78)) // guarded by the service's lock
	mode, until := works, time.Now()
	w.service.modes = func() fault {
		if !time.Now().Before(until) {
			mode = faults[chaos.IntN(len(faults))]
			until = time.Now().Add(time.Duration(chaos.Int64N(int64(10 * time.Minute))))
		}
		return mode
	}
	for range 3 + r.IntN(5) {
		w.start()
		w.run(time.Duration(r.Int64N(int64(20 * time.Minute))))
		switch r.IntN(3) {
		case 0:
			w.stop()
		default:
			w.powerCut()
		}
		w.run(time.Duration(r.Int64N(int64(time.Minute))))
	}
	w.service.mu.Lock()
	w.service.modes, w.service.mode = nil, works
	w.service.mu.Unlock()
	w.start()
	w.run(time.Hour)
	st := w.agent.Stats()
	if st.Offline || st.Backlog > 1 || st.Lost != 0 || st.Rejected != 0 || st.NewEpochs != 0 {
		w.Errorf("stats after the last run: %+v", st)
	}
	w.accountedFor()
}
