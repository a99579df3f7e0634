package failover

import (
	"fmt"
	"time"
)

// Explanation is what a Transport knows about its addresses.
type Explanation struct {
	Host        string        `json:"host"`
	Source      string        `json:"source"` // dns, disk, seeds, literal; empty: nothing known yet
	LookedUpAt  time.Time     `json:"looked_up_at"`
	LookupError string        `json:"lookup_error,omitempty"`
	Addresses   []AddressFact `json:"addresses"` // in the order in which they would be tried now
}

// AddressFact is one address of an Explanation.
type AddressFact struct {
	Addr             string        `json:"addr"`
	RTT              time.Duration `json:"rtt_ns"` // smoothed time to connect; 0: never connected
	Failures         int           `json:"failures"`
	LastFailure      Reason        `json:"last_failure,omitempty"`
	LastSuccess      time.Time     `json:"last_success"`
	QuarantinedUntil time.Time     `json:"quarantined_until"`
	Connections      int           `json:"connections"`
	Why              string        `json:"why"` // one sentence
}

// Explain says what the transport knows and would do now.
func (t *Transport) Explain() Explanation {
	t.load()
	now := t.opts.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Explanation{Host: t.opts.Host, Source: t.names.source, LookedUpAt: t.names.at}
	if t.names.err != nil {
		e.LookupError = t.names.err.Error()
	}
	for i, addr := range t.core.Order(now) {
		a := t.core.find(addr)
		fact := AddressFact{
			Addr: addr.String(), RTT: a.rtt, Failures: a.failures, LastFailure: a.lastFailure,
			LastSuccess: a.lastSuccess, QuarantinedUntil: a.until, Connections: len(t.pool[addr]),
		}
		fact.Why = why(now, i, a, a == t.core.current)
		e.Addresses = append(e.Addresses, fact)
	}
	return e
}

func why(now time.Time, place int, a *address, current bool) string {
	switch {
	case now.Before(a.until):
		return fmt.Sprintf("avoided for %s more after %d failures (%s)", a.until.Sub(now).Round(100*time.Millisecond), a.failures, a.lastFailure)
	case current && place == 0:
		return "first: it answered last"
	case a.failures > 0:
		return fmt.Sprintf("on probation after %d failures (%s)", a.failures, a.lastFailure)
	case place == 0:
		return "first by this client's own order"
	}
	return fmt.Sprintf("number %d by this client's own order", place+1)
}
