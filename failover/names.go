package failover

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	lookupTimeout   = 5 * time.Second
	resolutionDelay = 50 * time.Millisecond // one family waits so long for the other
	lookupRateLimit = time.Second           // between lookups, however bad things look
	shrinkConfirms  = 3                     // lookups that must agree before half of the set may go
	storedMaxAge    = 30 * 24 * time.Hour
	maxAddresses    = 64
)

// answer is what one lookup said, by family.
type answer struct {
	v4, v6       []netip.Addr
	err4, err6   error
	done4, done6 bool
}

// names keeps the set of addresses. It is a step function as Core is: lookups happen
// elsewhere.
type names struct {
	set     []netip.Addr
	source  string
	at      time.Time // of the last lookup with an answer
	err     error     // of the last lookup
	pending []netip.Addr
	seen    int // how many lookups in a row gave pending
}

// take decides what an answer means and reports whether the set changed.
// An error, an empty answer or half of the names gone is first of all a sign of a sick
// resolver: the last good set stays.
func (n *names) take(now time.Time, a answer) (changed bool) {
	fresh := n.combine(a)
	if len(fresh) == 0 {
		n.err = errors.Join(a.err4, a.err6)
		if n.err == nil {
			n.err = errors.New("the answer is empty")
		}
		return false
	}
	n.err, n.at = nil, now
	kept := 0
	for _, addr := range fresh {
		if slices.Contains(n.set, addr) {
			kept++
		}
	}
	if n.source == "dns" && 2*kept < len(n.set) {
		if !slices.Equal(fresh, n.pending) {
			n.pending, n.seen = fresh, 0
		}
		if n.seen++; n.seen < shrinkConfirms {
			// New addresses count at once, the old ones go only when it is sure.
			return n.replace(n.union(fresh), "dns")
		}
	}
	n.pending, n.seen = nil, 0
	return n.replace(fresh, "dns")
}

// combine puts the families together. A family whose lookup failed keeps its last
// addresses; one that is said not to exist is believed when the other one does.
func (n *names) combine(a answer) []netip.Addr {
	var fresh []netip.Addr
	fresh = append(fresh, n.family(a.v4, a.err4, a.done4, true)...)
	fresh = append(fresh, n.family(a.v6, a.err6, a.done6, false)...)
	if len(a.v4)+len(a.v6) == 0 {
		return nil
	}
	slices.SortFunc(fresh, netip.Addr.Compare)
	fresh = slices.Compact(fresh)
	return fresh[:min(len(fresh), maxAddresses)]
}

func (n *names) family(addrs []netip.Addr, err error, done, want4 bool) []netip.Addr {
	var out []netip.Addr
	if done && (err == nil || notFound(err)) {
		for _, addr := range addrs {
			if addr = addr.Unmap(); addr.IsValid() && addr.Is4() == want4 {
				out = append(out, addr)
			}
		}
		return out
	}
	for _, addr := range n.set {
		if addr.Is4() == want4 && n.source == "dns" {
			out = append(out, addr)
		}
	}
	return out
}

func notFound(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

func (n *names) union(fresh []netip.Addr) []netip.Addr {
	all := append(slices.Clone(n.set), fresh...)
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	return all[:min(len(all), maxAddresses)]
}

func (n *names) replace(addrs []netip.Addr, source string) bool {
	n.source = source
	if slices.Equal(n.set, addrs) {
		return false
	}
	n.set = addrs
	return true
}

// lookup asks for both families at once. When one has addresses the other one gets a
// short while more, and comes with the next lookup if that is not enough.
func lookup(ctx context.Context, resolver Resolver, host string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	type result struct {
		v4    bool
		addrs []netip.Addr
		err   error
	}
	results := make(chan result, 2)
	ask := func(network string) {
		addrs, err := resolver.LookupNetIP(ctx, network, host)
		results <- result{network == "ip4", addrs, err}
	}
	go ask("ip4") // both end with ctx at the latest, and the channel has room for both
	go ask("ip6")
	defer cancel()
	var a answer
	late := time.NewTimer(lookupTimeout)
	defer late.Stop()
	for range 2 {
		select {
		case r := <-results:
			if r.v4 {
				a.v4, a.err4, a.done4 = r.addrs, r.err, true
			} else {
				a.v6, a.err6, a.done6 = r.addrs, r.err, true
			}
			if len(r.addrs) > 0 {
				late.Reset(resolutionDelay)
			}
		case <-late.C:
			if !a.done4 && !a.done6 {
				a.err4 = context.DeadlineExceeded
			}
			return a
		case <-ctx.Done():
			if !a.done4 && !a.done6 {
				a.err4 = ctx.Err()
			}
			return a
		}
	}
	return a
}

// stored is the last good set on disk.
type stored struct {
	Version   int          `json:"v"`
	Host      string       `json:"host"`
	AtMs      int64        `json:"at_ms"`
	Addresses []netip.Addr `json:"addresses"`
}

func encodeStored(host string, at time.Time, addrs []netip.Addr) ([]byte, error) {
	return json.Marshal(stored{Version: 1, Host: host, AtMs: at.UnixMilli(), Addresses: addrs})
}

func decodeStored(data []byte, host string, now time.Time) ([]netip.Addr, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != 1 || s.Host != host || now.Sub(time.UnixMilli(s.AtMs)) > storedMaxAge {
		return nil, nil
	}
	return s.Addresses[:min(len(s.Addresses), maxAddresses)], nil
}
