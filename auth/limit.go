package auth

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Limits of attempts to log in: so many at once, and then one per interval.
const (
	pairBurst     = 5 // one account from one prefix
	pairEvery     = 10 * time.Second
	accountBurst  = 50 // one account from everywhere
	accountEvery  = 3 * time.Second
	prefixBurst   = 30 // all accounts from one prefix
	prefixEvery   = 2 * time.Second
	prefixBits4   = 24
	prefixBits6   = 56
	maxLimitNames = 20_000 // remembered; more share one limit
	sweepEvery    = 1 * time.Second
)

// loginLimits counts attempts before anything is hashed.
type loginLimits struct {
	now func() time.Time

	mu    sync.Mutex
	spent map[string]time.Time // guarded by mu; name of a limit to the time at which it is as good as new
	swept time.Time            // guarded by mu; when forget last looked through them
}

func newLoginLimits(now func() time.Time) *loginLimits {
	return &loginLimits{now: now, spent: map[string]time.Time{}}
}

type limitRule struct {
	key   string
	every time.Duration
	burst int
}

// attempt is what one try has used up.
type attempt []limitRule

func rules(name string, from netip.Addr) attempt {
	prefix := prefixOf(from)
	return attempt{
		{"both " + prefix + " " + name, pairEvery, pairBurst},
		{"account " + name, accountEvery, accountBurst},
		{"prefix " + prefix, prefixEvery, prefixBurst},
	}
}

// take uses up one try, or reports that there is none. A refused try uses up nothing:
// who keeps asking is let in again after the interval.
func (l *loginLimits) take(name string, from netip.Addr) (attempt, bool) {
	a := rules(name, from)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for i := range a {
		if _, known := l.spent[a[i].key]; !known && len(l.spent) >= maxLimitNames && !l.forget(now) {
			a[i].key = a[i].key[:strings.IndexByte(a[i].key, ' ')]
		}
		if l.at(a[i], now).Sub(now) > time.Duration(a[i].burst-1)*a[i].every {
			return nil, false
		}
	}
	for _, rule := range a {
		l.spent[rule.key] = l.at(rule, now).Add(rule.every)
	}
	return a, true
}

// giveBack undoes take after a right password.
func (l *loginLimits) giveBack(a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, rule := range a {
		if at := l.at(rule, now).Add(-rule.every); at.After(now) {
			l.spent[rule.key] = at
		} else {
			delete(l.spent, rule.key)
		}
	}
}

func (l *loginLimits) at(rule limitRule, now time.Time) time.Time {
	if at := l.spent[rule.key]; at.After(now) {
		return at
	}
	return now
}

// forget removes limits that are as good as new and reports whether there is room.
func (l *loginLimits) forget(now time.Time) bool {
	if now.Sub(l.swept) < sweepEvery { // a flood must not make every attempt look through all
		return false
	}
	l.swept = now
	for key, at := range l.spent {
		if !at.After(now) {
			delete(l.spent, key)
		}
	}
	return len(l.spent) < maxLimitNames
}

func prefixOf(addr netip.Addr) string {
	addr = addr.Unmap()
	bits := prefixBits6
	if addr.Is4() {
		bits = prefixBits4
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}

func remoteAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}
