package ingest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"vigil/auth"
	"vigil/fleet"
)

// Seconds that an agent is asked to wait: at least these, and up to as many more at
// random, so that those who were refused together do not come back together.
const (
	busyWaitSeconds        = 1
	busyJitterSeconds      = 4
	unavailableWaitSeconds = 2
	unavailableJitter      = 8
)

// maxPerAgent is how many requests of one token that is for one agent are worked on at
// once. An agent has two under way, and each of them twice while an address is slow. More would
// let one agent with slow requests keep everybody else out. A token for many agents is
// not held back: it is as good as all of them.
const maxPerAgent = 16

// room bounds the requests that are worked on at once, and their bytes. It never lets
// anybody wait: a queue here would only make every answer late.
type room struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
	metrics               *metrics

	mu    sync.Mutex
	agent map[auth.TokenHash]int // requests of tokens for one agent; guarded by mu
}

// share takes a place among those of the token, or says busy.
func (r *room) share(t auth.AgentToken) (release func(), err error) {
	if !t.ForOneAgent() {
		return func() {}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.agent[t.Hash] >= maxPerAgent {
		return nil, &refusal{"busy_agent", busyError("this agent sends too many packets at once", nil)}
	}
	if r.agent == nil {
		r.agent = map[auth.TokenHash]int{}
	}
	r.agent[t.Hash]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.agent[t.Hash]--; r.agent[t.Hash] == 0 {
			delete(r.agent, t.Hash)
		}
	}, nil
}

// enter takes a place and bytes, or says busy. Whoever entered must release.
func (r *room) enter(bytes int64) (release func(), err error) {
	if r.requests.Add(1) > r.maxRequests {
		r.requests.Add(-1)
		return nil, &refusal{"busy", busyError("the service works on as many packets as it can", nil)}
	}
	if r.bytes.Add(bytes) > r.maxBytes {
		r.bytes.Add(-bytes)
		r.requests.Add(-1)
		return nil, &refusal{"busy_bytes", busyError("the packets being worked on take all the memory they may", nil)}
	}
	r.metrics.inFlight.Inc()
	r.metrics.inFlightBytes.Add(float64(bytes))
	return func() {
		r.metrics.inFlight.Dec()
		r.metrics.inFlightBytes.Add(-float64(bytes))
		r.bytes.Add(-bytes)
		r.requests.Add(-1)
	}, nil
}

func busyError(message string, cause error) error {
	return &fleet.Error{Kind: fleet.KindBusy, Message: message, Hint: "send it again later", Err: cause}
}

func retryAfterSeconds(kind fleet.Kind) int {
	if kind == fleet.KindBusy {
		return busyWaitSeconds + rand.IntN(busyJitterSeconds+1)
	}
	return unavailableWaitSeconds + rand.IntN(unavailableJitter+1)
}
