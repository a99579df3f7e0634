package failover

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// addresses makes sure that there is a set. It waits for the name servers only when
// nothing else is known: no earlier answer, nothing on disk, no seeds.
func (t *Transport) addresses(ctx context.Context) error {
	t.load()
	t.refresh(false)
	t.mu.Lock()
	known, looking := len(t.core.list) > 0, t.looking
	t.mu.Unlock()
	if known {
		return nil
	}
	if looking != nil {
		select {
		case <-looking:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.core.list) == 0 {
		if t.closed {
			return ErrClosed
		}
		return fmt.Errorf("%w for %s: %w", ErrNoAddress, t.opts.Host, orUnknown(t.names.err))
	}
	return nil
}

func orUnknown(err error) error {
	if err == nil {
		return context.DeadlineExceeded
	}
	return err
}

// load takes the first set from what needs no network: a literal host, the last good
// set on disk, the seeds.
func (t *Transport) load() {
	t.mu.Lock()
	if t.loaded {
		t.mu.Unlock()
		return
	}
	t.loaded = true
	if literal, err := netip.ParseAddr(t.opts.Host); err == nil {
		t.names.replace([]netip.Addr{literal.Unmap()}, "literal")
		t.core.SetAddresses(t.names.set)
		t.mu.Unlock()
		return
	}
	if len(t.opts.Seeds) > 0 {
		t.names.replace(t.opts.Seeds, "seeds")
		t.core.SetAddresses(t.names.set)
	}
	t.mu.Unlock()
	if t.opts.Store == nil {
		return
	}
	data, err := t.opts.Store.Load()
	var addrs []netip.Addr
	if err == nil {
		addrs, err = decodeStored(data, t.opts.Host, t.opts.Now())
	}
	if err != nil {
		t.event(EventStore, netip.Addr{}, ReasonNone, "read the last good addresses: %v", err)
		return
	}
	if len(addrs) == 0 {
		return
	}
	t.mu.Lock()
	if t.names.source != "dns" {
		// Seeds stay in the set: the file may be older than they are.
		t.names.replace(append(addrs, t.opts.Seeds...), "disk")
		t.core.SetAddresses(t.names.set)
	}
	t.mu.Unlock()
}

// refresh starts a lookup when one is due; force makes it due now.
func (t *Transport) refresh(force bool) {
	now := t.opts.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looking != nil || t.names.source == "literal" {
		return
	}
	wait := t.lookWait
	if force || t.names.err != nil {
		wait = min(wait, lookupRateLimit)
	}
	if !t.lookedAt.IsZero() && now.Sub(t.lookedAt) < wait {
		return
	}
	done := make(chan struct{})
	if !t.backgroundLocked(func() { t.lookup(done) }) {
		return
	}
	t.looking, t.lookedAt = done, now
	t.lookWait = time.Duration(float64(t.opts.RefreshEvery) * (0.75 + 0.5*t.random.Float64()))
}

func (t *Transport) lookup(done chan struct{}) {
	a := lookup(t.life, t.opts.Resolver, t.opts.Host)
	now := t.opts.Now()
	t.mu.Lock()
	changed := t.names.take(now, a)
	err := t.names.err
	set := t.names.set
	if changed {
		t.core.SetAddresses(set)
	}
	gone := t.takeIdle(func(c *conn) bool { return t.core.find(c.addr) == nil })
	t.looking = nil
	close(done)
	t.mu.Unlock()
	closeAll(gone)
	switch {
	case err != nil:
		t.event(EventLookup, netip.Addr{}, ReasonNone, "%v", err)
	case changed:
		t.event(EventAddresses, netip.Addr{}, ReasonNone, "%v", set)
		t.save(now, set)
	}
}

func (t *Transport) save(now time.Time, set []netip.Addr) {
	if t.opts.Store == nil {
		return
	}
	data, err := encodeStored(t.opts.Host, now, set)
	if err == nil {
		err = t.opts.Store.Save(data)
	}
	if err != nil {
		t.event(EventStore, netip.Addr{}, ReasonNone, "keep the last good addresses: %v", err)
	}
}
