package failover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNet is a network of pipes, so that a whole service with dead and silent
// addresses runs inside a synctest bubble.
type fakeNet struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[netip.Addr]*fakeHost
	dials map[netip.Addr]int
}

// fakeHost is one address. Its behaviour may be changed at any time.
type fakeHost struct {
	mode     atomic.Value // behaviour
	requests atomic.Int64
	bodies   sync.Map // idempotency key -> how often it arrived whole
	latency  time.Duration
	conns    sync.Map
}

type behaviour string

const (
	serves    behaviour = "serves"
	refuses   behaviour = "refuses"
	silent    behaviour = "silent"     // SYN dropped
	hangs     behaviour = "hangs"      // accepts, reads, never answers
	resets    behaviour = "resets"     // reads the request, then breaks the connection
	says502   behaviour = "says 502"   //
	says503   behaviour = "says 503"   // without Retry-After
	overload  behaviour = "overloaded" // 503 with Retry-After
	closesOld behaviour = "closes idle connections"
)

func newFakeNet(t *testing.T, addrs ...string) *fakeNet {
	n := &fakeNet{t: t, hosts: map[netip.Addr]*fakeHost{}, dials: map[netip.Addr]int{}}
	for _, s := range addrs {
		h := &fakeHost{latency: 2 * time.Millisecond}
		h.mode.Store(serves)
		n.hosts[netip.MustParseAddr(s)] = h
	}
	return n
}

func (n *fakeNet) host(addr string) *fakeHost { return n.hosts[netip.MustParseAddr(addr)] }

func (n *fakeNet) dialed(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[netip.MustParseAddr(addr)]
}

func (n *fakeNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ap := netip.MustParseAddrPort(address)
	n.mu.Lock()
	n.dials[ap.Addr()]++
	h := n.hosts[ap.Addr()]
	n.mu.Unlock()
	if h == nil {
		return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
	}
	switch h.mode.Load() {
	case refuses:
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case silent:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(h.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	client, server := net.Pipe()
	h.conns.Store(server, true)
	go h.serve(server)
	return client, nil
}

// freeze makes the address silent, open connections included.
func (h *fakeHost) freeze() { h.mode.Store(silent) }

// closeIdle breaks every open connection, as a server does that restarts.
func (h *fakeHost) closeIdle() {
	h.conns.Range(func(c, _ any) bool {
		_ = c.(net.Conn).Close()
		h.conns.Delete(c)
		return true
	})
}

func (h *fakeHost) serve(c net.Conn) {
	defer c.Close()
	reader := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		h.requests.Add(1)
		if key := req.Header.Get("Idempotency-Key"); key != "" {
			count, _ := h.bodies.LoadOrStore(key, new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
		}
		time.Sleep(h.latency)
		status, extra := 200, ""
		switch h.mode.Load() {
		case hangs, silent:
			_, _ = reader.ReadByte() // until the other side gives up
			return
		case resets, refuses:
			return
		case says502:
			status = 502
		case says503:
			status = 503
		case overload:
			status, extra = 503, "Retry-After: 7\r\n"
		}
		answer := fmt.Sprintf("%s %d", body, len(body))
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s", status, len(answer), extra, answer); err != nil {
			return
		}
	}
}

// fakeDNS is a resolver whose answers can be changed.
type fakeDNS struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	hang  bool
	asked atomic.Int64
}

func (d *fakeDNS) set(err error, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.addrs, d.hang = err, nil, false
	for _, s := range addrs {
		d.addrs = append(d.addrs, netip.MustParseAddr(s))
	}
}

func (d *fakeDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	d.asked.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang {
		d.mu.Unlock()
		<-ctx.Done()
		d.mu.Lock()
		return nil, ctx.Err()
	}
	if d.err != nil {
		return nil, d.err
	}
	var out []netip.Addr
	for _, addr := range d.addrs {
		if addr.Is4() == (network == "ip4") {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

// world is a transport on a fake network, in a bubble.
type world struct {
	*testing.T
	net    *fakeNet
	dns    *fakeDNS
	tr     *Transport
	mu     sync.Mutex
	events []Event
}

const (
	addrA = "192.0.2.1"
	addrB = "192.0.2.2"
	addrC = "192.0.2.3"
	addr6 = "2001:db8::1"
)

// bubble runs a test on a service with the given addresses.
func bubble(t *testing.T, addrs []string, change func(*Options), test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, net: newFakeNet(t, addrs...), dns: &fakeDNS{}}
		w.dns.set(nil, addrs...)
		opts := Options{Host: "vigil.example", Resolver: w.dns, Dial: w.net.dial, Seed: 7, OnChange: w.note}
		if change != nil {
			change(&opts)
		}
		tr, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		w.tr = tr
		test(w)
		for _, h := range w.net.hosts {
			h.closeIdle()
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) note(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *world) saw(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.What == what {
			return true
		}
	}
	return false
}

type outcome struct {
	status int
	body   string
	err    error
	took   time.Duration
}

// post sends a packet-like request.
func (w *world) post(key string) outcome {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://vigil.example/v1/packets", strings.NewReader("hello"))
	if err != nil {
		w.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return w.do(req)
}

func (w *world) do(req *http.Request) outcome {
	w.Helper()
	began := time.Now()
	resp, err := w.tr.RoundTrip(req)
	o := outcome{err: err, took: time.Since(began)}
	if err == nil {
		data, readErr := io.ReadAll(resp.Body)
		if readErr != nil {
			w.Errorf("read the answer: %v", readErr)
		}
		if err := resp.Body.Close(); err != nil {
			w.Errorf("close the answer: %v", err)
		}
		o.status, o.body = resp.StatusCode, string(data)
	}
	return o
}

// wantOK posts and demands an answer in time.
func (w *world) wantOK(what string, within time.Duration) {
	w.Helper()
	o := w.post("key-" + what)
	if o.err != nil || o.status != 200 || o.body != "hello 5" {
		w.Errorf("%s: status %d, body %q, error %v", what, o.status, o.body, o.err)
	}
	if o.took > within {
		w.Errorf("%s: took %s, want at most %s", what, o.took, within)
	}
}

// first returns the addresses in the order in which a fresh transport tries them.
func (w *world) order() []string {
	var all []string
	for _, f := range w.tr.Explain().Addresses {
		all = append(all, f.Addr)
	}
	return all
}

var errDNS = errors.New("the name server is on fire")
