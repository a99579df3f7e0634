package failover

import (
	"net/http"
	"time"
)

// Transport is an http.RoundTripper for one host with several addresses. Safe for
// concurrent use. It has no goroutines between requests, except lookups in the
// background and those that close what lost a race.
type Transport struct{ opts Options }

// New returns a transport. It opens nothing: the first request does.
func New(opts Options) (*Transport, error) { return &Transport{opts: opts}, nil }

// RoundTrip sends the request to one of the addresses. Requests with an
// Idempotency-Key header (or a method that is idempotent by itself) and a body that
// can be had again (GetBody) are taken to another address after a failure.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { panic("todo") }

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {}

// Close closes every connection and ends what runs in the background.
func (t *Transport) Close() error { return nil }

// Explain says what the transport knows and would do now.
func (t *Transport) Explain() Explanation { return Explanation{} }

// Explanation is what a Transport knows about its addresses.
type Explanation struct {
	Host        string        `json:"host"`
	Source      string        `json:"source"` // dns, disk, seeds, literal, none
	LookedUpAt  time.Time     `json:"looked_up_at"`
	LookupError string        `json:"lookup_error,omitempty"`
	Addresses   []AddressFact `json:"addresses"` // in the order in which they would be tried now
}

// AddressFact is one address of an Explanation.
type AddressFact struct {
	Addr             string        `json:"addr"`
	RTT              time.Duration `json:"rtt_ns"` // smoothed connect time; 0: never connected
	Failures         int           `json:"failures"`
	LastFailure      Reason        `json:"last_failure,omitempty"`
	LastSuccess      time.Time     `json:"last_success"`
	QuarantinedUntil time.Time     `json:"quarantined_until"`
	Connections      int           `json:"connections"`
	Why              string        `json:"why"` // one sentence
}

// PlainOptions configure PlainTransport.
type PlainOptions struct {
	Timeout  time.Duration // connect and first byte, each; 0: 5 s
	Dial     DialFunc
	Resolver Resolver
}

// PlainTransport returns a transport for talking to one server next door, for
// instance a media server: short bounded waits, no proxy, no retries, few idle
// connections, all addresses of the name raced.
func PlainTransport(opts PlainOptions) http.RoundTripper { panic("todo") }
