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
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
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
