package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// A hedge costs one, an answer earns a part of one: a service that is slow for
	// everybody gets at most a tenth more requests.
	hedgeBudget = 5.0
	hedgeEarned = 0.1
	// slowestBytes is the least upload rate that is waited for, bytes per second.
	slowestBytes = 16 << 10
	// A rejected answer is read so far, so that its connection can be used again.
	drainBytes = 16 << 10
)

var errAllTried = errors.New("failover: every address was tried")

// RoundTrip sends the request to one of the addresses. Requests with an
// Idempotency-Key header (or a method that is idempotent by itself) and a body that
// can be had again (GetBody) are taken to another address after a failure, and to a
// second one when the first does not answer. The answer of the last address is
// returned whatever it is.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || !strings.EqualFold(req.URL.Hostname(), t.opts.Host) {
		closeBody(req)
		return nil, fmt.Errorf("%w: transport is for %s", ErrHost, t.opts.Host)
	}
	if err := t.addresses(req.Context()); err != nil {
		closeBody(req)
		return nil, err
	}
	trip := &trip{
		t: t, req: req, to: target{scheme: req.URL.Scheme, port: portOf(req, t.opts.Port)},
		replayable: replayable(req), tried: make(map[netip.Addr]bool),
		results: make(chan sent, t.opts.MaxAttempts+1),
	}
	defer trip.end()
	return trip.run()
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // the error of the trip matters more
	}
}

// trip is one RoundTrip. It belongs to one goroutine, except for results.
type trip struct {
	t          *Transport
	req        *http.Request
	to         target
	replayable bool
	tried      map[netip.Addr]bool
	attempts   []*attempt
	running    int
	results    chan sent
	bodyGone   bool // the request's own body was used
	last       *sent
	errs       []error
}

// attempt is the request on one connection.
type attempt struct {
	conn   *conn
	fresh  bool // nothing was ever answered on this connection
	cancel context.CancelCauseFunc
	done   bool
}

type sent struct {
	attempt *attempt
	resp    *http.Response
	err     error
}

func (tr *trip) run() (*http.Response, error) {
	ctx := tr.req.Context()
	if err := tr.send(ctx); err != nil {
		return nil, err
	}
	hedge := tr.hedgeTimer()
	defer hedge.Stop()
	for tr.running > 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-hedge.C:
			if tr.mayHedge() {
				// The first address had its chance; whether it failed is decided by who answers.
				if err := tr.send(ctx); err == nil {
					tr.t.event(EventHedged, tr.attempts[len(tr.attempts)-1].conn.addr, ReasonNone, "no answer after %s", tr.t.opts.HedgeAfter)
				}
			}
		case result := <-tr.results:
			tr.running--
			result.attempt.done = true
			if resp, final := tr.judge(result); final {
				return resp, nil
			}
			if tr.running == 0 && tr.mayRetry() {
				if err := tr.send(ctx); err == nil {
					tr.t.event(EventRetried, tr.attempts[len(tr.attempts)-1].conn.addr, ReasonNone, "attempt %d", len(tr.attempts))
				}
			}
		}
	}
	if tr.last != nil {
		return tr.take(*tr.last), nil
	}
	return nil, joinErrors(tr.errs)
}

// judge decides whether a result is the answer.
func (tr *trip) judge(result sent) (*http.Response, bool) {
	a := result.attempt
	if result.err != nil {
		tr.t.drop(a.conn)
		if tr.req.Context().Err() != nil {
			return nil, false // given up by the caller, which is nobody's failure
		}
		tr.errs = append(tr.errs, fmt.Errorf("ask %s: %w", a.conn.addr, result.err))
		reason := sendReason(result.err)
		if !a.fresh && reason == ReasonReset && tr.replayable {
			// The server closed a connection that nobody used, as servers do. That says nothing
			// about the address, which gets another chance on a new connection.
			delete(tr.tried, a.conn.addr)
			tr.t.closeIdle(a.conn.addr)
			return nil, false
		}
		tr.t.failed(a.conn.addr, reason, result.err)
		return nil, false
	}
	if badStatus(result.resp) {
		tr.t.failed(a.conn.addr, ReasonStatus, fmt.Errorf("status %d", result.resp.StatusCode))
		if tr.replayable {
			tr.discard(tr.last)
			tr.last = &result
			return nil, false
		}
		return tr.take(result), true
	}
	tr.t.answered(a.conn.addr)
	// Who was asked earlier and is silent while this one answers, is failing.
	for _, other := range tr.attempts {
		if other == a {
			break
		}
		if !other.done {
			tr.t.failed(other.conn.addr, ReasonFirstByte, errFirstByte)
		}
	}
	return tr.take(result), true
}

// take hands an answer to the caller: its connection is busy until the body is closed.
func (tr *trip) take(result sent) *http.Response {
	if tr.last != nil && tr.last.attempt != result.attempt {
		tr.discard(tr.last)
	}
	tr.last = nil
	a, t := result.attempt, tr.t
	cancel := a.cancel
	a.cancel = nil // the body has it now
	result.resp.Request = tr.req
	result.resp.Body = &body{ReadCloser: result.resp.Body, end: func() {
		cancel(nil)
		t.release(a.conn)
	}}
	return result.resp
}

func (tr *trip) discard(result *sent) {
	if result == nil {
		return
	}
	_, _ = io.CopyN(io.Discard, result.resp.Body, drainBytes)
	_ = result.resp.Body.Close() // only to free the connection
	tr.t.release(result.attempt.conn)
	if result.attempt.cancel != nil {
		result.attempt.cancel(nil)
	}
}

func (tr *trip) mayRetry() bool {
	return tr.replayable && len(tr.attempts) < tr.t.opts.MaxAttempts && tr.req.Context().Err() == nil
}

func (tr *trip) hedgeTimer() *time.Timer {
	wait := tr.t.opts.HedgeAfter
	if wait < 0 || !tr.replayable {
		wait = 365 * 24 * time.Hour
	}
	return time.NewTimer(wait)
}

// mayHedge reports whether a second copy may be sent, and pays for it.
func (tr *trip) mayHedge() bool {
	if !tr.mayRetry() {
		return false
	}
	tr.t.mu.Lock()
	defer tr.t.mu.Unlock()
	others := false
	for _, addr := range tr.t.core.addresses() {
		others = others || !tr.tried[addr] && !tr.t.core.Quarantined(tr.t.opts.Now(), addr)
	}
	if !others || tr.t.hedges < 1 {
		return false
	}
	tr.t.hedges--
	return true
}

// send gets a connection and starts the request on it.
func (tr *trip) send(ctx context.Context) error {
	c := tr.t.warm(tr.to, tr.tried)
	if c == nil {
		fresh, err := tr.t.race(ctx, tr.to, tr.tried)
		if err != nil {
			if !errors.Is(err, errAllTried) {
				tr.errs = append(tr.errs, err)
			}
			return joinErrors(tr.errs)
		}
		if err := fresh.http.Reserve(); err != nil {
			closeAll([]*conn{fresh})
			return fmt.Errorf("use the connection to %s: %w", fresh.addr, err)
		}
		tr.t.keep(fresh, true)
		c = fresh
	}
	body, err := tr.body()
	if err != nil {
		c.http.Release()
		return err
	}
	tr.t.mu.Lock()
	a := &attempt{conn: c, fresh: c.served == 0}
	tr.t.mu.Unlock()
	attemptCtx, cancel := context.WithCancelCause(ctx)
	a.cancel = cancel
	started := tr.t.background(func() { // results has room
		resp, err := tr.t.exchange(attemptCtx, cancel, c, tr.req, body)
		tr.results <- sent{a, resp, err}
	})
	if !started {
		cancel(nil)
		c.http.Release()
		return ErrClosed
	}
	tr.tried[c.addr] = true
	tr.attempts = append(tr.attempts, a)
	tr.running++
	return nil
}

// body returns a body for one attempt.
func (tr *trip) body() (io.ReadCloser, error) {
	if tr.req.Body == nil || tr.req.Body == http.NoBody {
		return tr.req.Body, nil
	}
	if tr.req.GetBody != nil {
		return tr.req.GetBody()
	}
	if tr.bodyGone {
		return nil, errors.New("failover: the body cannot be sent twice")
	}
	tr.bodyGone = true
	return tr.req.Body, nil
}

// exchange sends a request and waits for the first byte of the answer.
func (t *Transport) exchange(ctx context.Context, cancel context.CancelCauseFunc, c *conn, req *http.Request, body io.ReadCloser) (*http.Response, error) {
	upload := time.Duration(max(0, req.ContentLength)) * time.Second / slowestBytes
	timer := time.AfterFunc(t.opts.FirstByteTimeout+upload, func() { cancel(errFirstByte) })
	var once sync.Once
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		once.Do(func() { timer.Reset(t.opts.FirstByteTimeout) })
	}}
	clone := req.Clone(httptrace.WithClientTrace(ctx, trace))
	clone.Body = body
	resp, err := c.http.RoundTrip(clone)
	once.Do(func() {}) // a late write must not start the timer again
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	t.mu.Lock()
	c.served++
	t.mu.Unlock()
	return resp, nil
}

// end abandons what still runs: losers of a hedge and everything after an error.
func (tr *trip) end() {
	if !tr.bodyGone {
		closeBody(tr.req)
	}
	if tr.last != nil {
		tr.discard(tr.last)
	}
	for _, a := range tr.attempts {
		if a.cancel != nil && !a.done {
			a.cancel(context.Canceled)
		}
	}
	if tr.running == 0 {
		return
	}
	drain := func() { // every attempt was told to stop
		for range tr.running {
			late := <-tr.results
			if late.err == nil {
				_ = late.resp.Body.Close() // nobody reads it
			}
			tr.t.drop(late.attempt.conn)
		}
	}
	if !tr.t.background(drain) {
		drain()
	}
}

// release notes that a connection is free again.
func (t *Transport) release(c *conn) {
	now := t.opts.Now()
	t.mu.Lock()
	c.used = now
	old := t.takeIdle(func(c *conn) bool {
		return now.Sub(c.born) > c.age || len(t.pool[c.addr]) > maxIdlePerAddr && c.used.Before(now.Add(-t.opts.IdleTimeout/2))
	})
	t.mu.Unlock()
	closeAll(old)
}

// body frees the connection when it is closed.
type body struct {
	io.ReadCloser
	once sync.Once
	end  func()
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.end)
	return err
}

func joinErrors(errs []error) error {
	switch len(errs) {
	case 0:
		return errAllTried
	case 1:
		return errs[0]
	}
	return errors.Join(errs...)
}
