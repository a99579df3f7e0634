package failover

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// The figures of the decisions. Quarantine grows by doubling and is jittered by a
// quarter either way, so that a fleet of clients does not come back in step.
const (
	quarantineFirst       = time.Second
	quarantineMost        = 60 * time.Second
	quarantineStatusFirst = 250 * time.Millisecond // an address that answers 502 is at least there
	quarantineStatusMost  = 10 * time.Second
	delayLeast            = 100 * time.Millisecond // between attempts of a race
	delayMost             = 250 * time.Millisecond
	stickFor              = 5 * time.Minute // then the order of the ranks counts again
)

// Core decides which address comes next. It has no goroutines, no clock and no
// sockets: events go in with their time, answers come out. The same seed and events
// give the same answers. Not safe for concurrent use.
type Core struct {
	seed    uint64
	random  *rand.Rand
	list    []*address // the current set, in order of rank
	current *address   // answered last and is preferred until stickUntil
	stick   time.Time
}

// address is what is remembered about one address.
type address struct {
	addr        netip.Addr
	rank        uint64 // differs from client to client, so that a fleet spreads
	rtt         time.Duration
	failures    int // in a row
	lastFailure Reason
	lastSuccess time.Time
	until       time.Time // quarantined until
}

// NewCore returns a core without addresses.
func NewCore(seed uint64) *Core {
	return &Core{seed: seed, random: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
}

// SetAddresses replaces the set. What is known about addresses that stay is kept.
func (c *Core) SetAddresses(addrs []netip.Addr) {
	old := make(map[netip.Addr]*address, len(c.list))
	for _, a := range c.list {
		old[a.addr] = a
	}
	c.list = c.list[:0:0]
	for _, addr := range addrs {
		addr = addr.Unmap()
		if slices.ContainsFunc(c.list, func(a *address) bool { return a.addr == addr }) {
			continue
		}
		if a := old[addr]; a != nil {
			c.list = append(c.list, a)
			continue
		}
		c.list = append(c.list, &address{addr: addr, rank: c.rank(addr)})
	}
	slices.SortFunc(c.list, func(a, b *address) int {
		switch {
		case a.rank < b.rank:
			return -1
		case a.rank > b.rank:
			return 1
		}
		return a.addr.Compare(b.addr)
	})
	if c.current != nil && !slices.Contains(c.list, c.current) {
		c.current = nil
	}
}

// rank mixes the client's seed with the address (splitmix64 over its bytes).
func (c *Core) rank(addr netip.Addr) uint64 {
	x := c.seed
	for _, b := range addr.As16() {
		x += uint64(b) + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// Order returns all addresses, best first: the one that answered last, the others that
// are not quarantined with the families taking turns, and at the end the quarantined
// ones, soonest free first, because a bad address is better than none.
func (c *Core) Order(now time.Time) []netip.Addr {
	var v6, v4, bad []*address
	var current *address
	if c.current != nil && now.Before(c.stick) && !now.Before(c.current.until) {
		current = c.current
	}
	for _, a := range c.list {
		switch {
		case a == current:
		case now.Before(a.until):
			bad = append(bad, a)
		case a.addr.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
	}
	order := make([]netip.Addr, 0, len(c.list))
	if current != nil {
		order = append(order, current.addr)
		if current.addr.Is6() { // the next one is of the other family
			v6, v4 = v4, v6
		}
	}
	for len(v6) > 0 || len(v4) > 0 {
		if len(v6) > 0 {
			order, v6 = append(order, v6[0].addr), v6[1:]
		}
		if len(v4) > 0 {
			order, v4 = append(order, v4[0].addr), v4[1:]
		}
	}
	slices.SortStableFunc(bad, func(a, b *address) int { return a.until.Compare(b.until) })
	for _, a := range bad {
		order = append(order, a.addr)
	}
	return order
}

// Quarantined reports whether an address is avoided at the moment.
func (c *Core) Quarantined(now time.Time, addr netip.Addr) bool {
	a := c.find(addr)
	return a != nil && now.Before(a.until)
}

// AllQuarantined reports whether there is nothing but last resorts.
func (c *Core) AllQuarantined(now time.Time) bool {
	return len(c.list) > 0 && !slices.ContainsFunc(c.list, func(a *address) bool { return !now.Before(a.until) })
}

// Connected notes how long a connection took. It proves nothing about the service
// behind the address, so it ends no quarantine.
func (c *Core) Connected(addr netip.Addr, took time.Duration) {
	a := c.find(addr)
	if a == nil {
		return
	}
	if a.rtt == 0 {
		a.rtt = took
		return
	}
	a.rtt += (took - a.rtt) / 4
}

// Succeeded notes the first byte of an answer. It reports whether the address had
// failed before.
func (c *Core) Succeeded(now time.Time, addr netip.Addr) (recovered bool) {
	a := c.find(addr)
	if a == nil {
		return false
	}
	recovered = a.failures > 0
	a.failures, a.until, a.lastSuccess = 0, time.Time{}, now
	if c.current == nil || !now.Before(c.stick) || now.Before(c.current.until) {
		c.current = a
		c.stick = now.Add(c.jitter(stickFor))
	}
	return recovered
}

// Failed notes a failure and returns until when the address is avoided.
func (c *Core) Failed(now time.Time, addr netip.Addr, reason Reason) (until time.Time, known bool) {
	a := c.find(addr)
	if a == nil {
		return time.Time{}, false
	}
	a.lastFailure = reason
	if now.Before(a.until) {
		// Several requests that fail together are one failure, not several doublings.
		return a.until, true
	}
	a.failures++
	first, most := quarantineFirst, quarantineMost
	if reason == ReasonStatus {
		first, most = quarantineStatusFirst, quarantineStatusMost
	}
	wait := most
	if a.failures < 16 {
		wait = min(most, first<<(a.failures-1))
	}
	a.until = now.Add(c.jitter(wait))
	return a.until, true
}

// AttemptDelay is how long a race waits for an address before it starts the next one.
func (c *Core) AttemptDelay(addr netip.Addr) time.Duration {
	a := c.find(addr)
	if a == nil || a.rtt == 0 {
		return delayMost
	}
	return max(delayLeast, min(delayMost, 2*a.rtt))
}

// jitter returns three to five quarters of d.
func (c *Core) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + 0.5*c.random.Float64()))
}

func (c *Core) find(addr netip.Addr) *address {
	for _, a := range c.list {
		if a.addr == addr {
			return a
		}
	}
	return nil
}

func (c *Core) addresses() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(c.list))
	for _, a := range c.list {
		addrs = append(addrs, a.addr)
	}
	return addrs
}
