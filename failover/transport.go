package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Transport is an http.RoundTripper for one host with several addresses. Safe for
// concurrent use.
type Transport struct {
	opts Options
	base *http.Transport // makes connections; its own pool is not used

	life  context.Context // ends with Close: dials and lookups in the background
	close context.CancelFunc
	work  sync.WaitGroup

	mu       sync.Mutex
	core     *Core
	names    names
	loaded   bool
	looking  chan struct{} // closed when the running lookup is over; nil: none runs
	lookedAt time.Time     // when the last lookup began
	lookWait time.Duration // until the next one, jittered
	random   *rand.Rand
	pool     map[netip.Addr][]*conn
	dialing  map[netip.Addr]int
	janitor  *time.Timer
	hedges   float64 // how many hedges may be sent, see hedgeBudget
	closed   bool
}

// New returns a transport. It opens nothing: the first request does.
func New(opts Options) (*Transport, error) {
	if opts.Host == "" {
		return nil, errors.New("failover: options without a host")
	}
	opts = withDefaults(opts)
	t := &Transport{
		opts:    opts,
		core:    NewCore(opts.Seed),
		random:  rand.New(rand.NewPCG(opts.Seed, 2)),
		pool:    make(map[netip.Addr][]*conn),
		dialing: make(map[netip.Addr]int),
		hedges:  hedgeBudget,
	}
	t.life, t.close = context.WithCancel(context.Background())
	t.base = baseTransport(opts)
	return t, nil
}

func withDefaults(o Options) Options {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&o.ConnectTimeout, 5*time.Second)
	def(&o.FirstByteTimeout, 10*time.Second)
	def(&o.HedgeAfter, time.Second)
	def(&o.MaxConnAge, 5*time.Minute)
	def(&o.IdleTimeout, 90*time.Second)
	def(&o.RefreshEvery, 30*time.Second)
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = 4
	}
	if o.Resolver == nil {
		o.Resolver = new(net.Resolver)
	}
	if o.Dial == nil {
		o.Dial = literalDialer()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	return o
}

// literalDialer dials one literal address. Every bound is the caller's context; the
// dialer's own racing of families and sharing of time among addresses never come into
// play, since there is one address.
func literalDialer() DialFunc {
	dialer := &net.Dialer{
		FallbackDelay:   -1,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return dialer.DialContext
}

// baseTransport makes single connections. No proxy: the environment must not decide
// over what is a direct path to known addresses.
func baseTransport(o Options) *http.Transport {
	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = o.Host
	}
	base := &http.Transport{
		DialContext:            o.Dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    o.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}
	return base
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.takeIdle(func(*conn) bool { return true })
	t.mu.Unlock()
	closeAll(idle)
}

// Close closes every connection, ends what runs in the background and waits for it.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	var all []*conn
	for addr, conns := range t.pool {
		all = append(all, conns...)
		delete(t.pool, addr)
	}
	if t.janitor != nil {
		t.janitor.Stop()
	}
	t.mu.Unlock()
	t.close()
	closeAll(all)
	t.work.Wait()
	return nil
}

// background runs f unless the transport is closed.
func (t *Transport) background(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.backgroundLocked(f)
}

func (t *Transport) backgroundLocked(f func()) bool {
	if t.closed {
		return false
	}
	t.work.Go(f)
	return true
}

func (t *Transport) event(what string, addr netip.Addr, reason Reason, format string, args ...any) {
	if t.opts.OnChange == nil {
		return
	}
	t.opts.OnChange(Event{At: t.opts.Now(), What: what, Addr: addr, Reason: reason, Detail: fmt.Sprintf(format, args...)})
}

// failed notes a failure of an address.
func (t *Transport) failed(addr netip.Addr, reason Reason, err error) {
	now := t.opts.Now()
	t.mu.Lock()
	until, known := t.core.Failed(now, addr, reason)
	all := t.core.AllQuarantined(now)
	t.mu.Unlock()
	if known {
		t.event(EventQuarantined, addr, reason, "avoided for %s: %v", until.Sub(now).Round(time.Millisecond), err)
	}
	if all {
		t.refresh(true) // perhaps the service has moved
	}
}

// answered notes the first byte of an answer.
func (t *Transport) answered(addr netip.Addr) {
	now := t.opts.Now()
	t.mu.Lock()
	recovered := t.core.Succeeded(now, addr)
	t.hedges = min(hedgeBudget, t.hedges+hedgeEarned)
	t.mu.Unlock()
	if recovered {
		t.event(EventRecovered, addr, ReasonNone, "answers again")
	}
}
