package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vigil/config"
	"vigil/failover"
)

// TestUnreachableServiceSaysWhatToDo breaks the way to a real listener where it usually
// breaks, and wants advice that fits.
func TestUnreachableServiceSaysWhatToDo(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(url, want string) {
		t.Helper()
		a, err := New(config.Agent{
			Name: "a", SpoolDir: t.TempDir(), Service: config.AgentService{URL: url, TokenFile: token},
		}, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Check(t.Context()).Service; got.OK || !strings.Contains(got.Hint, want) {
			t.Errorf("Check of %s: %q, hint %q, want %q in it", url, got.Message, got.Hint, want)
		}
	}
	f(gone.URL, "nothing listens")
	f(strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS")
	f(secure.URL, "service.ca_file")
	f(plain.URL, "check the url of the service")
}

func TestReachHint(t *testing.T) {
	t.Parallel()
	a, err := New(config.Agent{Name: "a", Service: config.AgentService{URL: "https://stats.example.net", TokenFile: "/t"}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	f := func(err error, want string) {
		t.Helper()
		if got := reachHint(a.url, fmt.Errorf("connect to 192.0.2.1: %w", err), time.Unix(0, 0)); !strings.Contains(got, want) {
			t.Errorf("reachHint(%v) = %q, want %q in it", err, got, want)
		}
	}
	f(failover.ErrNoAddress, "name servers")
	f(syscall.ECONNREFUSED, "nothing listens")
	f(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}, "another name")
	f(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "1970-01-01T00:00:00Z")
	f(context.DeadlineExceeded, "firewalls between this machine and the addresses of stats.example.net")
}
