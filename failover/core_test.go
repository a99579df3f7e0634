package failover

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestFamiliesTakeTurns(t *testing.T) {
	t.Parallel()
	c := NewCore(3)
	c.SetAddresses(addrs(addrA, addrB, addrC, "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"))
	order := c.Order(epoch)
	if len(order) != 5 {
		t.Fatalf("order %v, want 5 addresses once each", order)
	}
	for i, six := range []bool{true, false, true, false, false} {
		if order[i].Is6() != six {
			t.Errorf("order %v: families do not take turns", order)
			break
		}
	}
	// After an answer by IPv4 the next one is of the other family.
	c.Succeeded(epoch, netip.MustParseAddr(addrB))
	order = c.Order(epoch)
	if order[0] != netip.MustParseAddr(addrB) || !order[1].Is6() {
		t.Errorf("order %v", order)
	}
}

func TestClientsSpreadOverTheAddresses(t *testing.T) {
	t.Parallel()
	first := map[netip.Addr]int{}
	for seed := range uint64(3_000) {
		c := NewCore(seed)
		c.SetAddresses(addrs(addrA, addrB, addrC))
		first[c.Order(epoch)[0]]++
	}
	for addr, n := range first {
		if n < 850 || n > 1150 {
			t.Errorf("%s is first for %d of 3000 clients", addr, n)
		}
	}
}

func TestQuarantineGrowsAndIsBounded(t *testing.T) {
	t.Parallel()
	c := NewCore(1)
	c.SetAddresses(addrs(addrA))
	now := epoch
	a := netip.MustParseAddr(addrA)
	for i := range 20 {
		until, known := c.Failed(now, a, ReasonRefused)
		want := min(quarantineMost, quarantineFirst<<min(i, 10))
		if wait := until.Sub(now); !known || wait < want*3/4 || wait > want*5/4 {
			t.Errorf("failure %d: quarantine %s, want about %s", i+1, wait, want)
		}
		if again, _ := c.Failed(now.Add(time.Millisecond), a, ReasonRefused); again != until {
			t.Errorf("failure %d: a simultaneous one counts again", i+1)
		}
		now = until
	}
	if !c.Succeeded(now, a) || c.Quarantined(now, a) || c.Succeeded(now, a) {
		t.Error("one answer must end the quarantine, and be news once")
	}
	if until, _ := c.Failed(now, a, ReasonRefused); until.Sub(now) > quarantineFirst*5/4 {
		t.Error("the count of failures survived an answer")
	}
	if _, known := c.Failed(now, netip.MustParseAddr(addrB), ReasonRefused); known {
		t.Error("an address that is not in the set is known")
	}
}

// A connection alone proves nothing: only an answer ends the quarantine.
func TestConnectingIsNotAnswering(t *testing.T) {
	t.Parallel()
	c := NewCore(1)
	c.SetAddresses(addrs(addrA, addrB))
	a := netip.MustParseAddr(addrA)
	c.Failed(epoch, a, ReasonFirstByte)
	c.Connected(a, time.Millisecond)
	if !c.Quarantined(epoch, a) {
		t.Error("a connection ended the quarantine")
	}
}

func TestAttemptDelayFollowsTheRoundTripTime(t *testing.T) {
	t.Parallel()
	c := NewCore(1)
	c.SetAddresses(addrs(addrA))
	a := netip.MustParseAddr(addrA)
	if d := c.AttemptDelay(a); d != delayMost {
		t.Errorf("unknown: %s", d)
	}
	for range 30 {
		c.Connected(a, 80*time.Millisecond)
	}
	if d := c.AttemptDelay(a); d < 150*time.Millisecond || d > 170*time.Millisecond {
		t.Errorf("80 ms away: %s", d)
	}
	for range 60 {
		c.Connected(a, time.Millisecond)
	}
	if d := c.AttemptDelay(a); d != delayLeast {
		t.Errorf("next door: %s", d)
	}
}

// Whatever happens, every address is offered exactly once, the good ones before the
// quarantined ones, and the same events give the same answers.
func TestCoreProperties(t *testing.T) {
	t.Parallel()
	set := addrs(addrA, addrB, addrC, "2001:db8::1", "2001:db8::2")
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		one, two := NewCore(seed), NewCore(seed)
		now := epoch
		size := 0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "wait")))
			addr := rapid.SampledFrom(set).Draw(rt, "addr")
			action := rapid.IntRange(0, 3).Draw(rt, "action")
			for _, c := range []*Core{one, two} {
				switch action {
				case 0:
					size = 1 + int(seed+uint64(now.Unix()))%len(set)
					c.SetAddresses(set[:size])
				case 1:
					c.Succeeded(now, addr)
				case 2:
					c.Failed(now, addr, ReasonReset)
				case 3:
					c.Connected(addr, time.Millisecond)
				}
			}
			order := one.Order(now)
			if !slices.Equal(order, two.Order(now)) {
				rt.Fatalf("the same events gave %v and %v", order, two.Order(now))
			}
			if len(order) != size {
				rt.Fatalf("%d of %d addresses: %v", len(order), size, order)
			}
			seen := map[netip.Addr]bool{}
			bad := false
			for _, addr := range order {
				if seen[addr] {
					rt.Fatalf("%s twice in %v", addr, order)
				}
				seen[addr] = true
				if q := one.Quarantined(now, addr); bad && !q {
					rt.Fatalf("%s comes after a quarantined address in %v", addr, order)
				} else if q {
					bad = true
				}
			}
		}
	})
}

func TestNamesTake(t *testing.T) {
	t.Parallel()
	n := &names{}
	f := func(step string, a answer, want ...string) {
		t.Helper()
		n.take(epoch, a)
		wanted := addrs(want...)
		slices.SortFunc(wanted, netip.Addr.Compare)
		if fmt.Sprint(n.set) != fmt.Sprint(wanted) {
			t.Errorf("%s: set %v, want %v", step, n.set, wanted)
		}
	}
	four := func(texts ...string) answer {
		return answer{v4: addrs(texts...), done4: true, done6: true}
	}
	f("nothing", answer{done4: true, done6: true})
	f("first", four(addrA, addrB), addrA, addrB)
	f("growth", four(addrA, addrB, addrC), addrA, addrB, addrC)
	f("empty", answer{done4: true, done6: true}, addrA, addrB, addrC)
	f("error", answer{err4: errDNS, err6: errDNS, done4: true, done6: true}, addrA, addrB, addrC)
	f("one family only so far", answer{v6: addrs(addr6), done6: true}, addrA, addrB, addrC, addr6)
	f("one fewer", four(addrA, addrB, addrC), addrA, addrB, addrC)
	f("most gone, once", four(addrA), addrA, addrB, addrC)
	f("most gone, twice", four(addrA), addrA, addrB, addrC)
	f("most gone, surely", four(addrA), addrA)
	f("another", four(addrB), addrA, addrB)
	f("back before it was sure", four(addrA), addrA)
}
