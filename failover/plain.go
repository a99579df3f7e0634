package failover

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// PlainOptions configure PlainTransport.
type PlainOptions struct {
	Timeout  time.Duration // connect, and first byte, each; 0: 5 s
	Dial     DialFunc      // nil: a plain dialer for literal addresses
	Resolver Resolver      // nil: the system's
	MaxIdle  int           // connections kept open between requests; 0: 2
}

// PlainTransport returns a transport for talking to one server next door, for
// instance a media server: short bounded waits, no proxy, no retries, few idle
// connections. All addresses of a name are raced, so localhost works whichever family
// the server listens on.
func PlainTransport(opts PlainOptions) http.RoundTripper {
	if opts.Timeout <= 0 {
		opts.Timeout = 5 * time.Second
	}
	if opts.Dial == nil {
		opts.Dial = literalDialer()
	}
	if opts.Resolver == nil {
		opts.Resolver = new(net.Resolver)
	}
	if opts.MaxIdle <= 0 {
		opts.MaxIdle = 2
	}
	return &http.Transport{
		DialContext:            opts.dial,
		TLSHandshakeTimeout:    opts.Timeout,
		ResponseHeaderTimeout:  opts.Timeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           2 * opts.MaxIdle,
		MaxIdleConnsPerHost:    opts.MaxIdle,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

func (o PlainOptions) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		cancel()
		return nil, err
	}
	addrs, err := o.lookup(ctx, host)
	if err != nil {
		cancel()
		return nil, err
	}
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	next := time.NewTimer(0)
	defer next.Stop()
	running := 0
	// Who comes late is closed, and the time ends when the last one has come.
	defer func() {
		go func() {
			defer cancel()
			for range running {
				if late := <-results; late.err == nil {
					_ = late.conn.Close() // it lost
				}
			}
		}()
	}()
	var errs []error
	for {
		select {
		case <-ctx.Done():
			return nil, errors.Join(append(errs, context.Cause(ctx))...)
		case <-next.C:
			if len(addrs) == 0 {
				continue
			}
			addr := addrs[0]
			addrs = addrs[1:]
			running++
			go func() { // bounded by ctx, and results has room
				c, err := o.Dial(ctx, network, net.JoinHostPort(addr.String(), port))
				results <- result{c, err}
			}()
			next.Reset(delayMost)
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if running == 0 && len(addrs) == 0 {
				return nil, errors.Join(errs...)
			}
			next.Reset(0)
		}
	}
}

func (o PlainOptions) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	n := new(names)
	n.take(time.Time{}, lookup(ctx, o.Resolver, host))
	if len(n.set) == 0 {
		return nil, n.err
	}
	return n.set, nil
}
