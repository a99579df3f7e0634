package ingest

import (
	"math/rand/v2"
	"sync/atomic"

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

// room bounds the requests that are worked on at once, and their bytes. It never lets
// anybody wait: a queue here would only make every answer late.
type room struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
	metrics               *metrics
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
