package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"
)

// Resolver finds the addresses of a host. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP looks up host; network is "ip4" (A) or "ip6" (AAAA).
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Store keeps the last good set of addresses over a restart. Both methods may block
// on I/O and are never called with a lock held. Load returns nil, nil when nothing was
// ever saved.
type Store interface {
	Load() ([]byte, error)
	Save(data []byte) error
}

// DialFunc opens a connection to a literal address and port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Options configure a Transport. Only Host is required.
type Options struct {
	Host string // host name or literal address of the service, without port
	Port uint16 // 0: 443 for https, 80 for http, or what the request's URL says

	Seeds    []netip.Addr // used when no lookup has ever answered
	Resolver Resolver     // nil: the system's
	Store    Store        // nil: memory only
	Dial     DialFunc     // nil: a plain dialer without a fallback of its own
	TLS      *tls.Config  // cloned; nil: system roots. ServerName is Host unless it is set

	ConnectTimeout   time.Duration // TCP and TLS together, per address; 0: 5 s
	FirstByteTimeout time.Duration // from the request written to the first byte of the answer; 0: 10 s
	HedgeAfter       time.Duration // a keyed request without an answer is also sent to another address; 0: 1 s, < 0: never
	MaxConnAge       time.Duration // older connections take no new requests; 0: 5 min
	IdleTimeout      time.Duration // unused connections are closed; 0: 90 s
	RefreshEvery     time.Duration // lookups in the background, jittered; 0: 30 s
	MaxAttempts      int           // requests sent for one RoundTrip; 0: 4

	Now      func() time.Time // nil: time.Now
	Seed     uint64           // of the jitter; 0: random
	OnChange func(Event)      // called without locks held, must not block; nil: nobody listens
}

// Event is something that an operator may want to know or count.
type Event struct {
	At     time.Time
	What   string // one of the Event constants
	Addr   netip.Addr
	Reason Reason
	Detail string
}

// What an Event can say.
const (
	EventQuarantined = "quarantined"   // Addr failed and is avoided for a while
	EventRecovered   = "recovered"     // Addr answered again
	EventAddresses   = "addresses"     // the set of addresses changed
	EventLookup      = "lookup_failed" // the name servers gave no usable answer; the last good set stays
	EventStore       = "store_failed"  // the last good set could not be kept on disk
	EventLastResort  = "last_resort"   // every address is quarantined; Addr is tried all the same
	EventRetried     = "retried"       // a request was taken to another address
	EventHedged      = "hedged"        // a second copy of a keyed request was sent
)

// Reason is why an address failed. It is a label: the list is fixed.
type Reason string

// The reasons.
const (
	ReasonNone      Reason = ""
	ReasonRefused   Reason = "refused"    // connection refused or unreachable
	ReasonConnect   Reason = "connect"    // no connection in time
	ReasonTLS       Reason = "tls"        // handshake failed
	ReasonReset     Reason = "reset"      // connection broken before the answer
	ReasonFirstByte Reason = "first_byte" // no answer in time
	ReasonStatus    Reason = "status"     // 502, 503 without Retry-After, 504
)

// Errors of Transport.
var (
	// ErrNoAddress means that no lookup ever answered and no seed is configured.
	ErrNoAddress = errors.New("failover: no address is known")
	// ErrHost means that a request was for another host than the transport's.
	ErrHost = errors.New("failover: request for another host")
	// ErrClosed means that the transport was closed.
	ErrClosed = errors.New("failover: transport is closed")
)
