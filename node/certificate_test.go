package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/health"
)

// writePair writes a self-signed certificate with a serial number.
func writePair(t *testing.T, certFile, keyFile string, serial int64, modified time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
}

func serialOf(t *testing.T, c *certificate) int64 {
	t.Helper()
	pair, err := c.get(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.Int64()
}

func TestCertificateIsRenewedWithoutARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	conditions := health.New(nil)
	c := &certificate{
		certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), role: "panel",
		now: func() time.Time { return now }, health: conditions,
	}
	if err := c.load(); fleet.KindOf(err) != fleet.KindInvalid {
		t.Fatalf("load without files = %v, want invalid", err)
	}
	writePair(t, c.certFile, c.keyFile, 1, now)
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	if got := serialOf(t, c); got != 1 {
		t.Errorf("serial = %d, want 1", got)
	}

	// A renewal that is half written changes nothing but a condition.
	writePair(t, c.certFile, filepath.Join(dir, "other.pem"), 2, now.Add(time.Minute))
	now = now.Add(certificateEvery)
	if got := serialOf(t, c); got != 1 || len(conditions.List()) != 1 {
		t.Errorf("serial = %d and conditions %+v after half a renewal, want 1 and a condition", got, conditions.List())
	}
	writePair(t, c.certFile, c.keyFile, 3, now.Add(2*time.Minute))
	if got := serialOf(t, c); got != 1 {
		t.Errorf("serial = %d, want 1: files are not read for every handshake", got)
	}
	now = now.Add(certificateEvery)
	if got := serialOf(t, c); got != 3 || len(conditions.List()) != 0 {
		t.Errorf("serial = %d and conditions %+v after the renewal, want 3 and none", got, conditions.List())
	}
}

func TestCertificateRunsOut(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	end := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f := func(life, left time.Duration, want string, severity health.Severity) {
		t.Helper()
		leaf := &x509.Certificate{NotBefore: end.Add(-life), NotAfter: end}
		c, bad := certificateAge("panel", leaf, end.Add(-left))
		if bad != (want != "") || !strings.Contains(c.Text, want) || c.Severity != severity || bad && c.Hint == "" {
			t.Errorf("certificateAge(life %s, %s left) = %+v, want %q as %s", life, left, c, want, severity)
		}
	}
	f(90*day, 30*day, "", health.Info)
	f(90*day, 13*day, "is good until 2026-06-01T00:00:00Z only", health.Warning)
	f(6*day, 3*day, "", health.Info)
	f(6*day, day, "is good until", health.Warning)
	f(90*day, -time.Second, "is out of date since 2026-06-01T00:00:00Z", health.Error)
	f(90*day, 91*day, "is not valid before 2026-03-03T00:00:00Z", health.Error)
}

// TestServedCertificateRunsOut sees the time pass over a certificate that is in use.
func TestServedCertificateRunsOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	conditions := health.New(nil)
	c := &certificate{
		certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), role: "ingest",
		now: func() time.Time { return now }, health: conditions,
	}
	writePair(t, c.certFile, c.keyFile, 1, now)
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	if list := conditions.List(); len(list) != 0 {
		t.Errorf("conditions = %+v with a new certificate, want none", list)
	}
	now = now.Add(91 * 24 * time.Hour)
	serialOf(t, c)
	if list := conditions.List(); len(list) != 1 || list[0].Code != "ingest-certificate-expires" || list[0].Severity != health.Error {
		t.Errorf("conditions = %+v after its end, want ingest-certificate-expires", list)
	}
}
