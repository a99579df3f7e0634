package failover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Real sockets: a closed port, a listener that never accepts and one that works, on
// three addresses of the loopback, over TLS with HTTP/2.
func TestLoopbackTLS(t *testing.T) {
	t.Parallel()
	listen := func(address string) net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	good := listen("127.0.0.2:0")
	_, port, err := net.SplitHostPort(good.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	listen("127.0.0.3:" + port) // connections come up by the kernel alone, and nobody answers
	var served atomic.Int64
	server := &httptest.Server{
		Listener: good, EnableHTTP2: true,
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, r.Proto+" "+r.Host+" "+string(body))
		}), ReadHeaderTimeout: time.Minute},
	}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	dns := &fakeDNS{}
	dns.set(nil, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	number, err := netip.ParseAddrPort(good.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Whatever order the seed gives, the answer must come quickly.
	for seed := range uint64(6) {
		tr, err := New(Options{
			Host: "example.com", Port: number.Port(), Resolver: dns, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Seed: seed + 1,
			// Who waits for the silent address waits much longer than any machine needs.
			ConnectTimeout: time.Minute, FirstByteTimeout: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			began := time.Now()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/x", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", "k")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatalf("seed %d request %d: %v", seed, i, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			if string(body) != "HTTP/2.0 example.com hello" {
				t.Errorf("answer %q", body)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("seed %d request %d took %s", seed, i, took)
			}
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
	if served.Load() != 18 {
		t.Errorf("served %d requests, want 18", served.Load())
	}
}

func TestWrongCertificateIsAFailureOfTheAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	tr, err := New(Options{Host: "service.test", Port: at.Port(), Seeds: []netip.Addr{at.Addr()}, Resolver: &fakeDNS{err: errDNS}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://service.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tr.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Fatal("a certificate of nobody was accepted")
	}
	if fact := tr.Explain().Addresses[0]; fact.LastFailure != ReasonTLS || !strings.HasPrefix(fact.Why, "avoided for") {
		t.Errorf("fact %+v", fact)
	}
}

func TestPlainTransportReachesAHostByAnyOfItsAddresses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	dns := &fakeDNS{}
	dns.set(nil, "::1", "127.0.0.1") // the server listens on one of them only
	client := &http.Client{Transport: PlainTransport(PlainOptions{Timeout: 2 * time.Second, Resolver: dns})}
	defer client.CloseIdleConnections()
	for _, url := range []string{server.URL, "http://media.test:" + server.URL[strings.LastIndexByte(server.URL, ':')+1:]} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s (%s): %v", url, at, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPlainTransportGivesUpInTime(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tr := PlainTransport(PlainOptions{Timeout: 100 * time.Millisecond, Dial: silent})
	began := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tr.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Error("nothing answered, and there was an answer")
	}
	if took := time.Since(began); took > 20*time.Second { // without the limit it is for ever
		t.Errorf("took %s", took)
	}
}
