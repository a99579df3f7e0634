package failover

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

const (
	maxRacing      = 4 // connections being opened at once by one race
	maxIdlePerAddr = 4
	maxHeaderBytes = 64 << 10
)

// conn is one connection of the pool. All fields but http are owned by Transport.mu.
type conn struct {
	http    *http.ClientConn
	addr    netip.Addr
	scheme  string
	port    string
	born    time.Time
	used    time.Time // last time a request began or ended
	age     time.Duration
	served  int // answers so far
	retired bool
}

// target is where a connection must lead to.
type target struct {
	scheme, port string
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		_ = c.http.Close() // it is being thrown away
	}
}

// warm returns a reserved connection that is open already, to the best address that
// has one. When a better address has none, it gets one beside this request, not at the
// price of it.
func (t *Transport) warm(to target, tried map[netip.Addr]bool) *conn {
	now := t.opts.Now()
	t.mu.Lock()
	old := t.takeIdle(func(c *conn) bool { return now.Sub(c.born) > c.age || now.Sub(c.used) > t.opts.IdleTimeout })
	defer func() {
		t.mu.Unlock()
		closeAll(old)
	}()
	var better netip.Addr
	for _, addr := range t.core.Order(now) {
		if tried[addr] || t.core.Quarantined(now, addr) {
			continue
		}
		c := t.reserve(addr, to, now)
		if c == nil {
			if !better.IsValid() {
				better = addr
			}
			continue
		}
		if better.IsValid() && t.dialing[better] == 0 {
			t.dialing[better]++
			if !t.backgroundLocked(func() { t.dialIntoPool(better, to) }) {
				t.dialing[better]--
			}
		}
		return c
	}
	return nil
}

// reserve returns a connection to an address that can take a request at once.
func (t *Transport) reserve(addr netip.Addr, to target, now time.Time) *conn {
	for _, c := range t.pool[addr] {
		if c.scheme != to.scheme || c.port != to.port || c.retired || now.Sub(c.born) > c.age {
			continue
		}
		if c.http.Available() > 0 && c.http.Reserve() == nil {
			c.used = now
			return c
		}
	}
	return nil
}

func (t *Transport) dialIntoPool(addr netip.Addr, to target) {
	c, err := t.dial(addr, to)
	t.mu.Lock()
	t.dialing[addr]--
	t.mu.Unlock()
	if err == nil {
		t.keep(c, false)
	}
}

// dial opens a connection with TLS and notes what that says about the address. Its time
// is its own: an attempt that is slow for one request is finished all the same.
func (t *Transport) dial(addr netip.Addr, to target) (*conn, error) {
	ctx, cancel := context.WithTimeout(t.life, t.opts.ConnectTimeout)
	defer cancel()
	began := t.opts.Now()
	cc, err := t.base.NewClientConn(ctx, to.scheme, net.JoinHostPort(addr.String(), to.port))
	now := t.opts.Now()
	if err != nil {
		if t.life.Err() != nil {
			return nil, ErrClosed
		}
		t.failed(addr, dialReason(err), err)
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = cc.Close() // nobody waits for it
		return nil, ErrClosed
	}
	t.core.Connected(addr, now.Sub(began))
	age := time.Duration(float64(t.opts.MaxConnAge) * (0.8 + 0.2*t.random.Float64()))
	return &conn{http: cc, addr: addr, scheme: to.scheme, port: to.port, born: now, used: now, age: age}, nil
}

// keep puts a connection into the pool. One that no request waits for (inUse) is closed
// when there are enough.
func (t *Transport) keep(c *conn, inUse bool) {
	t.mu.Lock()
	room := !t.closed && (inUse || len(t.pool[c.addr]) < maxIdlePerAddr && t.core.find(c.addr) != nil)
	if room {
		t.pool[c.addr] = append(t.pool[c.addr], c)
		t.armJanitor()
	}
	t.mu.Unlock()
	if !room {
		closeAll([]*conn{c})
	}
}

// drop takes a broken connection out of the pool.
func (t *Transport) drop(c *conn) {
	t.mu.Lock()
	t.forget(c)
	t.mu.Unlock()
	closeAll([]*conn{c})
}

// closeIdle closes the unused connections to one address: one of them turned out to be
// dead, and they are of an age.
func (t *Transport) closeIdle(addr netip.Addr) {
	t.mu.Lock()
	idle := t.takeIdle(func(c *conn) bool { return c.addr == addr })
	t.mu.Unlock()
	closeAll(idle)
}

func (t *Transport) forget(c *conn) {
	c.retired = true
	conns := t.pool[c.addr]
	if i := slices.Index(conns, c); i >= 0 {
		conns = slices.Delete(conns, i, i+1)
	}
	if len(conns) == 0 {
		delete(t.pool, c.addr)
		return
	}
	t.pool[c.addr] = conns
}

// takeIdle removes from the pool the connections that match and that no request uses,
// and those that are broken. The caller closes them, without the lock.
func (t *Transport) takeIdle(match func(*conn) bool) []*conn {
	var taken []*conn
	for _, conns := range t.pool {
		for _, c := range conns {
			if c.http.Err() != nil || c.http.InFlight() == 0 && match(c) {
				taken = append(taken, c)
			}
		}
	}
	for _, c := range taken {
		t.forget(c)
	}
	return taken
}

// armJanitor makes sure that unused connections are closed when no request comes any
// more.
func (t *Transport) armJanitor() {
	if t.janitor == nil {
		t.janitor = time.AfterFunc(t.opts.IdleTimeout, t.clean)
		return
	}
	t.janitor.Reset(t.opts.IdleTimeout)
}

func (t *Transport) clean() {
	now := t.opts.Now()
	t.mu.Lock()
	old := t.takeIdle(func(c *conn) bool { return now.Sub(c.used) >= t.opts.IdleTimeout })
	if len(t.pool) > 0 && !t.closed {
		t.janitor.Reset(t.opts.IdleTimeout)
	}
	t.mu.Unlock()
	closeAll(old)
}

// race opens connections to the addresses in their order, the next one as soon as one
// fails or has been silent for its attempt delay. The first to be ready wins. The
// others are not aborted: each ends by itself and is closed.
func (t *Transport) race(ctx context.Context, to target, tried map[netip.Addr]bool) (*conn, error) {
	now := t.opts.Now()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	order := slices.DeleteFunc(t.core.Order(now), func(addr netip.Addr) bool { return tried[addr] })
	lastResort := len(order) > 0 && t.core.Quarantined(now, order[0])
	t.mu.Unlock()
	if len(order) == 0 {
		return nil, errAllTried
	}
	if lastResort {
		t.event(EventLastResort, order[0], ReasonNone, "every address failed lately")
	}
	r := &racing{t: t, to: to, order: order, results: make(chan dialed, len(order))}
	defer r.abandon()
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-next.C:
			if delay, started := r.start(); started {
				next.Reset(delay)
			} else if r.running == 0 {
				return nil, joinErrors(errs)
			}
		case result := <-r.results:
			r.running--
			if result.err == nil {
				return result.conn, nil
			}
			errs = append(errs, result.err)
			if len(r.order) == 0 && r.running == 0 {
				return nil, joinErrors(errs)
			}
			next.Reset(0)
		}
	}
}

type dialed struct {
	conn *conn
	err  error
}

// racing is one race. It belongs to one goroutine.
type racing struct {
	t       *Transport
	to      target
	order   []netip.Addr
	running int
	results chan dialed // with room for everybody
}

// start begins the next attempt and says how long to wait before the one after it.
func (r *racing) start() (time.Duration, bool) {
	if len(r.order) == 0 || r.running >= maxRacing {
		return 0, false
	}
	addr := r.order[0]
	started := r.t.background(func() {
		c, err := r.t.dial(addr, r.to)
		r.results <- dialed{c, err}
	})
	if !started {
		r.order = nil
		return 0, false
	}
	r.order = r.order[1:]
	r.running++
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return r.t.core.AttemptDelay(addr), true
}

// abandon closes what arrives after the race.
func (r *racing) abandon() {
	if r.running == 0 {
		return
	}
	running := r.running
	r.t.background(func() {
		for range running {
			if late := <-r.results; late.err == nil {
				closeAll([]*conn{late.conn})
			}
		}
	})
}
