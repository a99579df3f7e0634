package media

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"vigil/config"
	"vigil/fleet"
)

// Limits of one request to a media server.
const (
	defaultTimeout   = 5 * time.Second
	maxBodyBytes     = 64 << 20 // after decompression: 300,000 nginx-rtmp clients
	maxPasswordBytes = 4 << 10
	maxDetailBytes   = 400
)

var errBodyTooLarge = errors.New("media: the answer is too large")

// fetcher asks one media server over HTTP, one request at a time.
type fetcher struct {
	name         string // of the server, from the configuration
	base         *url.URL
	username     string
	passwordFile string
	timeout      time.Duration
	transport    http.RoundTripper
	now          func() time.Time
	mono         func() int64

	mu sync.Mutex // held by a collector during Collect
}

func newFetcher(cfg config.MediaServer, base *url.URL, deps Deps) *fetcher {
	f := &fetcher{
		name: cfg.Name, base: base, username: cfg.Username, passwordFile: cfg.PasswordFile,
		timeout: cfg.Timeout, transport: deps.Transport, now: deps.Now, mono: deps.Mono,
	}
	if base.User != nil && f.username == "" {
		f.username = base.User.Username()
	}
	if f.timeout <= 0 {
		f.timeout = defaultTimeout
	}
	if f.transport == nil {
		f.transport = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: f.timeout}).DialContext,
			ResponseHeaderTimeout:  f.timeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // asked for here, and bounded here
			DisableKeepAlives:      true,
		}
	}
	if f.now == nil {
		f.now = time.Now
	}
	if f.mono == nil {
		start := time.Now()
		f.mono = func() int64 { return time.Since(start).Milliseconds() }
	}
	return f
}

// failure is a poll that gave no numbers: what goes into Status and Detail.
type failure struct {
	status fleet.PollStatus
	detail string
	err    error
}

func (f *failure) Error() string { return f.detail }
func (f *failure) Unwrap() error { return f.err }

// answer describes a good HTTP response whose body was read.
type answer struct {
	date time.Time // the server's clock; zero when it does not say
}

// get asks for one page and hands its body to read. Every connection is new: with
// nginx a kept one would stick to one worker and hide that there are others.
// Failures are *failure; the error of read is wrapped into one unless it is one.
func (f *fetcher) get(ctx context.Context, target *url.URL, read func(io.Reader) error) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := f.request(ctx, target)
	if err != nil {
		return answer{}, err
	}
	resp, err := f.transport.RoundTrip(req)
	if err != nil {
		return answer{}, f.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if err := f.checkStatus(resp, target); err != nil {
		return answer{}, err
	}
	body, err := plainBody(resp)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = date
	}
	if err := checkContent(body); err != nil {
		return a, err
	}
	if err := read(body); err != nil {
		return a, f.bodyFailure(ctx, err)
	}
	return a, nil
}

func (f *fetcher) request(ctx context.Context, target *url.URL) (*http.Request, error) {
	clean := *target
	clean.User = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, clean.String(), nil)
	if err != nil {
		return nil, &failure{fleet.StatusUnreachable, "the address cannot be asked: " + redactURL(target.String()), err}
	}
	req.Close = true
	req.Header.Set("User-Agent", "vigil-agent")
	req.Header.Set("Accept", "text/xml, application/xml, application/json")
	// Compressing for a neighbour on the same machine wastes the server's CPU.
	if isLoopback(target.Hostname()) {
		req.Header.Set("Accept-Encoding", "identity")
	} else {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	if f.username == "" && f.passwordFile == "" {
		return req, nil
	}
	password, err := f.password()
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(f.username, password)
	return req, nil
}

// password reads the file at every request, so a changed password needs no restart.
func (f *fetcher) password() (string, error) {
	if f.passwordFile == "" {
		if f.base.User != nil {
			p, _ := f.base.User.Password()
			return p, nil
		}
		return "", nil
	}
	file, err := os.Open(f.passwordFile)
	if err != nil {
		return "", &failure{fleet.StatusAuthFailed, "the password file cannot be read: " + f.passwordFile, err}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPasswordBytes))
	if err != nil {
		return "", &failure{fleet.StatusAuthFailed, "the password file cannot be read: " + f.passwordFile, err}
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

func (f *fetcher) hasCredentials() bool {
	return f.username != "" || f.passwordFile != "" || f.base.User != nil
}

func (f *fetcher) checkStatus(resp *http.Response, target *url.URL) error {
	code := resp.StatusCode
	switch {
	case code == http.StatusOK:
		return nil
	case code == http.StatusUnauthorized && !f.hasCredentials():
		return &failure{fleet.StatusAuthFailed, "the server asks for a user name and a password (401): set username and password_file", nil}
	case code == http.StatusUnauthorized:
		return &failure{fleet.StatusAuthFailed, "the server refused the user name or the password (401)", nil}
	case code == http.StatusForbidden:
		return &failure{fleet.StatusAuthFailed, "the server does not let this address read its statistics (403): check its allow and deny rules", nil}
	case code == http.StatusNotFound:
		return &failure{fleet.StatusParseError, "the server has no page at " + target.Path + " (404): check the url, and that its statistics are turned on", nil}
	case code >= 300 && code < 400:
		return &failure{fleet.StatusParseError, fmt.Sprintf("the server sends us on to %s (%d): set the url to the final address", redactURL(resp.Header.Get("Location")), code), nil}
	case code >= 500:
		return &failure{fleet.StatusUnreachable, fmt.Sprintf("the server answered with an error (%d %s)", code, http.StatusText(code)), nil}
	}
	return &failure{fleet.StatusParseError, fmt.Sprintf("the server answered with the unexpected status %d %s", code, http.StatusText(code)), nil}
}

// plainBody undoes compression and bounds the result.
func plainBody(resp *http.Response) (*bufio.Reader, error) {
	var body io.Reader = resp.Body
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, &failure{fleet.StatusParseError, "the answer says that it is gzip and is not", err}
		}
		body = unzipped
	default:
		return nil, &failure{fleet.StatusParseError, "the answer is compressed in a way that was not asked for: " + clipText(encoding), nil}
	}
	return bufio.NewReader(&boundedReader{r: body, left: maxBodyBytes}), nil
}

// boundedReader fails, rather than ends, at the limit: an end would look like a
// complete answer.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBodyTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// checkContent recognises a web page where statistics were expected, which is what
// portals, panels and error pages answer with status 200.
func checkContent(body *bufio.Reader) error {
	start, _ := body.Peek(512)
	start = bytes.ToLower(bytes.TrimLeft(start, " \t\r\n\ufeff"))
	if bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html")) {
		return &failure{fleet.StatusParseError, "the answer is a web page (HTML), not statistics: check the url", nil}
	}
	if len(start) == 0 {
		return &failure{fleet.StatusParseError, "the answer is empty", nil}
	}
	return nil
}

// bodyFailure says what an error while reading and parsing means.
func (f *fetcher) bodyFailure(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if _, ok := errors.AsType[net.Error](err); ok || ctx.Err() != nil || errors.Is(err, syscall.ECONNRESET) {
		return f.unreachable(ctx, err)
	}
	detail := "the answer cannot be read: " + clipText(strings.TrimPrefix(err.Error(), "media: "))
	switch {
	case errors.Is(err, errXMLTruncated), errors.Is(err, io.ErrUnexpectedEOF):
		detail = "the answer ends in the middle: nothing of it was counted"
	case errors.Is(err, errBodyTooLarge):
		detail = fmt.Sprintf("the answer is larger than %d MiB: nothing of it was counted", maxBodyBytes>>20)
	}
	return &failure{fleet.StatusParseError, detail, err}
}

func (f *fetcher) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err() // the connection fails in many ways when its time is up
	}
	detail := "the server cannot be reached: " + clipText(rootText(err))
	timeout := false
	if ne, ok := errors.AsType[net.Error](err); ok {
		timeout = ne.Timeout()
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.Canceled):
		detail = "the poll was cancelled because the agent is stopping"
	case timeout || errors.Is(err, context.DeadlineExceeded):
		detail = fmt.Sprintf("the server did not answer within %s", f.timeout)
	case isDNS:
		detail = "the host name " + clipText(dns.Name) + " has no address"
	case errors.Is(err, syscall.ECONNREFUSED):
		detail = "the server refuses connections: it is not running, or not on " + f.base.Host
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		detail = "the server closed the connection before it had answered"
	}
	return &failure{fleet.StatusUnreachable, detail, err}
}

// rootText is the innermost reason, without the addresses that wrap it.
func rootText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// begin fills what every reading has, good or bad.
func (f *fetcher) reading(product, collector string) *fleet.Reading {
	return &fleet.Reading{Server: fleet.ServerInfo{
		Key: f.name, Product: product, Collector: collector,
	}}
}

// stamp says when the answer was complete.
func (f *fetcher) stamp(r *fleet.Reading, startedMono int64) {
	r.MonoMs, r.AtMs = f.mono(), f.now().UnixMilli()
	r.LatencyMs = max(0, r.MonoMs-startedMono)
}

// fail turns a reading into one without numbers.
func (f *fetcher) fail(r *fleet.Reading, err error) {
	r.Status, r.Detail = fleet.StatusParseError, clipText(err.Error())
	if fl, ok := errors.AsType[*failure](err); ok {
		r.Status, r.Detail = fl.status, clipText(fl.detail)
	}
	r.Totals, r.Streams, r.Sessions = fleet.Totals{}, nil, nil
	r.SessionsComplete, r.SessionScope = false, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func clipText(s string) string {
	if len(s) > maxDetailBytes {
		s = s[:maxDetailBytes] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// redactURL removes what may be secret: user, password and query.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unreadable)"
	}
	if u.User != nil {
		u.User = url.User("...")
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return clipText(u.String())
}

// redactedParseError drops the address that url.Error repeats.
func redactedParseError(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
