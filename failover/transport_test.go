package failover

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var three = []string{addrA, addrB, addrC}

// One address of three is bad, in every way, and it is the one that would be asked
// first: a cold request must find another one, and the next must not suffer at all.
func TestColdRequestFindsAnotherAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode         behaviour
		first, later time.Duration
	}{
		{refuses, 20 * time.Millisecond, 10 * time.Millisecond},
		{silent, 300 * time.Millisecond, 10 * time.Millisecond},
		{hangs, 1100 * time.Millisecond, 10 * time.Millisecond},
		{resets, 30 * time.Millisecond, 10 * time.Millisecond},
		{says502, 30 * time.Millisecond, 10 * time.Millisecond},
		{says503, 30 * time.Millisecond, 10 * time.Millisecond},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			bubble(t, three, nil, func(w *world) {
				if err := w.tr.addresses(w.Context()); err != nil {
					w.Fatal(err)
				}
				bad := w.order()[0]
				w.net.host(bad).mode.Store(c.mode)
				w.wantOK("cold", c.first)
				for i := range 5 {
					w.wantOK(fmt.Sprint("warm ", i), c.later)
				}
				if c.mode != silent { // that attempt is still running
					if f := w.fact(bad); f.Failures != 1 || f.LastFailure == ReasonNone {
						w.Errorf("the bad address: %+v", f)
					}
				}
			})
		})
	}
}

func (w *world) fact(addr string) AddressFact {
	for _, f := range w.tr.Explain().Addresses {
		if f.Addr == addr {
			return f
		}
	}
	return AddressFact{}
}

func TestTwoSilentAddressesOfThree(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		if err := w.tr.addresses(w.Context()); err != nil {
			w.Fatal(err)
		}
		order := w.order()
		w.net.host(order[0]).mode.Store(silent)
		w.net.host(order[1]).mode.Store(silent)
		w.wantOK("cold", 550*time.Millisecond)
		w.wantOK("warm", 10*time.Millisecond)
	})
}

// A slow address is not aborted: the race goes on with it, and it wins if it is first.
func TestSlowAttemptIsNotAborted(t *testing.T) {
	bubble(t, []string{addrA, addrB}, func(o *Options) { o.HedgeAfter = -1 }, func(w *world) {
		w.net.host(addrA).latency = 2 * time.Second
		w.net.host(addrB).latency = 2 * time.Second
		o := w.post("k")
		if o.err != nil || o.status != 200 {
			w.Errorf("status %d, error %v", o.status, o.err)
		}
		if a, b := w.net.dialed(addrA), w.net.dialed(addrB); a != 1 || b != 1 {
			w.Errorf("dialed %d and %d times, want once each", a, b)
		}
	})
}

// The peer dies silently while its connection is warm.
func TestWarmConnectionGoesSilent(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.wantOK("first", time.Second)
		current := w.order()[0]
		w.net.host(current).freeze()
		w.wantOK("hedged", 1100*time.Millisecond)
		w.wantOK("next", 10*time.Millisecond)
		if !w.saw(EventHedged) {
			w.Error("no hedge was reported")
		}
		if w.fact(current).LastFailure != ReasonFirstByte {
			w.Errorf("the silent address: %+v", w.fact(current))
		}
	})
}

// A server closed its idle connections: that is not a failure of the address.
func TestClosedIdleConnectionIsNoFailure(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.wantOK("first", time.Second)
		current := w.order()[0]
		w.net.host(current).closeIdle()
		w.wantOK("second", 50*time.Millisecond)
		if f := w.fact(current); f.Failures != 0 {
			w.Errorf("the address was blamed: %+v", f)
		}
	})
}

func TestOverloadIsRespected(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		for _, h := range w.net.hosts {
			h.mode.Store(overload)
		}
		if o := w.post("k"); o.status != 503 {
			w.Errorf("status %d, error %v, want the 503 itself", o.status, o.err)
		}
		requests := int64(0)
		for addr, h := range w.net.hosts {
			requests += h.requests.Load()
			if f := w.fact(addr.String()); f.Failures != 0 {
				w.Errorf("%s was blamed: %+v", addr, f)
			}
		}
		if requests != 1 {
			w.Errorf("%d requests were sent to a service that is overloaded, want 1", requests)
		}
	})
}

// A request without key must not be sent twice.
func TestUnkeyedRequestIsSentOnce(t *testing.T) {
	for _, mode := range []behaviour{resets, says502, says503} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, three, nil, func(w *world) {
				for _, h := range w.net.hosts {
					h.mode.Store(mode)
				}
				o := w.post("")
				requests := int64(0)
				for _, h := range w.net.hosts {
					requests += h.requests.Load()
				}
				if requests != 1 {
					w.Errorf("sent %d times (status %d, error %v)", requests, o.status, o.err)
				}
			})
		})
	}
}

func TestEverythingDead(t *testing.T) {
	for _, mode := range []behaviour{refuses, silent, hangs, resets, says502} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, three, nil, func(w *world) {
				for _, h := range w.net.hosts {
					h.mode.Store(mode)
				}
				o := w.post("k")
				if mode == says502 && o.status != 502 {
					w.Errorf("status %d, error %v, want the last 502", o.status, o.err)
				}
				if mode != says502 && o.err == nil {
					w.Errorf("status %d from a dead service", o.status)
				}
				if o.took > 31*time.Second {
					w.Errorf("gave up after %s", o.took)
				}
				// The first address that comes back is found although all are quarantined.
				w.net.host(addrB).mode.Store(serves)
				w.wantOK("back", 6*time.Second)
				if !w.saw(EventLastResort) && (mode == refuses || mode == resets) {
					w.Error("nobody said that only last resorts were left")
				}
			})
		})
	}
}

func TestQuarantineEndsAndTheAddressIsUsedAgain(t *testing.T) {
	bubble(t, []string{addrA, addrB}, nil, func(w *world) {
		if err := w.tr.addresses(w.Context()); err != nil {
			w.Fatal(err)
		}
		first := w.order()[0]
		w.net.host(first).mode.Store(refuses)
		w.wantOK("other", time.Second)
		w.net.host(first).mode.Store(serves)
		time.Sleep(10 * time.Minute) // quarantine and preference are over
		w.wantOK("later", 50*time.Millisecond)
		w.wantOK("later still", 50*time.Millisecond)
		if n := w.net.host(first).requests.Load(); n == 0 {
			w.Error("the address that recovered is never used again")
		}
	})
}

func TestConnectionsAreReplacedByAge(t *testing.T) {
	bubble(t, []string{addrA}, func(o *Options) { o.MaxConnAge = time.Minute }, func(w *world) {
		for range 30 {
			w.wantOK("request", 50*time.Millisecond)
			time.Sleep(10 * time.Second)
		}
		if n := w.net.dialed(addrA); n < 5 || n > 8 {
			w.Errorf("%d connections in 5 minutes with an age of at most one", n)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.wantOK("request", time.Second)
		time.Sleep(5 * time.Minute)
		for _, f := range w.tr.Explain().Addresses {
			if f.Connections != 0 {
				w.Errorf("%s has %d connections after 5 minutes", f.Addr, f.Connections)
			}
		}
	})
}

func TestBothFamiliesAreRaced(t *testing.T) {
	bubble(t, []string{addr6, addrA}, nil, func(w *world) {
		w.net.host(addr6).mode.Store(silent)
		w.wantOK("six is silent", 300*time.Millisecond)
	})
}

func TestResolverTroubleKeepsTheLastGoodSet(t *testing.T) {
	for name, spoil := range map[string]func(*fakeDNS){
		"error":   func(d *fakeDNS) { d.set(errDNS) },
		"empty":   func(d *fakeDNS) { d.set(nil) },
		"hanging": func(d *fakeDNS) { d.mu.Lock(); d.hang = true; d.mu.Unlock() },
		"wrong":   func(d *fakeDNS) { d.set(nil, "198.51.100.9") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, three, nil, func(w *world) {
				w.wantOK("before", time.Second)
				spoil(w.dns)
				for i := range 3 {
					time.Sleep(time.Minute)
					if name == "wrong" && i > 0 {
						break // later the new set is believed
					}
					w.wantOK(fmt.Sprint("minute ", i), 300*time.Millisecond)
				}
				if name != "wrong" && !w.saw(EventLookup) {
					w.Error("nobody was told")
				}
			})
		})
	}
}

func TestNewAddressesCountAtOnceAndOldOnesGoWhenItIsSure(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.wantOK("before", time.Second)
		moved := "198.51.100.9"
		host := &fakeHost{latency: time.Millisecond}
		host.mode.Store(serves)
		w.net.mu.Lock()
		w.net.hosts[netip.MustParseAddr(moved)] = host
		w.net.mu.Unlock()
		w.dns.set(nil, moved)
		time.Sleep(time.Minute)
		w.wantOK("asks", time.Second)
		time.Sleep(time.Second)
		if got := len(w.order()); got != 4 {
			w.Errorf("%d addresses after the first surprising answer, want old and new", got)
		}
		for range 4 {
			time.Sleep(time.Minute)
			w.wantOK("asks", time.Second)
		}
		if got := w.order(); len(got) != 1 || got[0] != moved {
			w.Errorf("addresses %v, want only the new one", got)
		}
	})
}

func TestNothingKnownAtAll(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.dns.set(errDNS)
		o := w.post("k")
		if !errors.Is(o.err, ErrNoAddress) || !errors.Is(o.err, errDNS) {
			w.Errorf("error %v", o.err)
		}
		w.dns.set(nil, three...)
		time.Sleep(2 * time.Second)
		w.wantOK("resolver is back", time.Second)
	})
}

func TestSeedsServeWithoutDNS(t *testing.T) {
	bubble(t, three, func(o *Options) { o.Seeds = []netip.Addr{netip.MustParseAddr(addrB)} }, func(w *world) {
		w.dns.mu.Lock()
		w.dns.hang = true
		w.dns.mu.Unlock()
		w.wantOK("cold start without DNS", 10*time.Millisecond)
	})
}

type memoryStore struct{ data []byte }

func (s *memoryStore) Load() ([]byte, error) { return s.data, nil }
func (s *memoryStore) Save(d []byte) error   { s.data = d; return nil }

func TestLastGoodSetSurvivesARestart(t *testing.T) {
	disk := &memoryStore{}
	t.Run("first life", func(t *testing.T) {
		bubble(t, three, func(o *Options) { o.Store = disk }, func(w *world) {
			w.wantOK("request", time.Second)
			time.Sleep(time.Second)
		})
	})
	t.Cleanup(func() {
		if len(disk.data) == 0 {
			t.Error("nothing was kept")
		}
	})
	t.Run("second life", func(t *testing.T) {
		kept := &memoryStore{data: []byte(`{"v":1,"host":"vigil.example","at_ms":946684800000,"addresses":["` + addrA + `"]}`)}
		bubble(t, three, func(o *Options) { o.Store = kept }, func(w *world) {
			w.dns.set(errDNS)
			w.wantOK("from disk", 10*time.Millisecond)
			if source := w.tr.Explain().Source; source != "disk" {
				w.Errorf("source %q", source)
			}
		})
	})
}

func TestDamagedStoreIsReportedAndIgnored(t *testing.T) {
	bubble(t, three, func(o *Options) { o.Store = &memoryStore{data: []byte("{")} }, func(w *world) {
		w.wantOK("request", time.Second)
		if !w.saw(EventStore) {
			w.Error("nobody was told")
		}
	})
}

func TestCallersDeadlineIsNobodysFailure(t *testing.T) {
	bubble(t, []string{addrA}, nil, func(w *world) {
		w.wantOK("warm", time.Second)
		w.net.host(addrA).mode.Store(hangs)
		ctx, cancel := context.WithTimeout(w.Context(), 500*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vigil.example/", nil)
		if err != nil {
			w.Fatal(err)
		}
		if o := w.do(req); !errors.Is(o.err, context.DeadlineExceeded) || o.took > 501*time.Millisecond {
			w.Errorf("error %v after %s", o.err, o.took)
		}
		time.Sleep(time.Second)
		if f := w.fact(addrA); f.Failures != 0 {
			w.Errorf("blamed: %+v", f)
		}
	})
}

func TestHedgesAreBudgeted(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		for _, h := range w.net.hosts {
			h.latency = 3 * time.Second // slow for everybody
		}
		for i := range 20 {
			if o := w.post(fmt.Sprint(i)); o.err != nil || o.status != 200 {
				w.Fatalf("request %d: status %d, error %v", i, o.status, o.err)
			}
		}
		requests := int64(0)
		for _, h := range w.net.hosts {
			requests += h.requests.Load()
		}
		if requests > 28 {
			w.Errorf("20 requests became %d", requests)
		}
	})
}

func TestRefusesOtherHosts(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://elsewhere.example/", strings.NewReader("x"))
		if err != nil {
			w.Fatal(err)
		}
		if o := w.do(req); !errors.Is(o.err, ErrHost) {
			w.Errorf("error %v", o.err)
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble(t, three, nil, func(w *world) {
		w.wantOK("request", time.Second)
		if err := w.tr.Close(); err != nil {
			w.Fatal(err)
		}
		if o := w.post("k"); o.err == nil {
			w.Error("a closed transport answers")
		}
	})
}

func TestNewNeedsAHost(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}
