package node

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/health"
)

// certificateEvery is how often a handshake looks whether the files have changed.
const certificateEvery = 10 * time.Second

// certificate serves a certificate from two files and reads them again when they
// change, so that a renewal needs no restart. A renewal that cannot be read changes
// nothing but a condition.
type certificate struct {
	certFile, keyFile string
	role              string
	now               func() time.Time
	health            *health.Registry

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
	changed time.Time        // guarded by mu; of the newer file
	looked  time.Time        // guarded by mu
}

// load reads the files for the first time.
func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(); err != nil {
		return &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("the certificate of %s cannot be used", c.role),
			Hint:    fmt.Sprintf("check %s.tls_certificate_file and %s.tls_key_file: PEM files that belong together and that this user can read", c.role, c.role),
			Err:     err,
		}
	}
	return nil
}

// get is called for every handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= certificateEvery {
		c.looked = now
		if err := c.read(); err != nil {
			c.health.Set(health.Condition{
				Code: c.role + "-certificate", Title: "A renewed certificate is not usable", Severity: health.Warning,
				Text: fmt.Sprintf("The %s listener goes on with the certificate it had, because the new one cannot be read.", c.role),
				Hint: "check the PEM files; they are read again by themselves", After: time.Minute,
			})
		} else {
			c.health.Clear(c.role + "-certificate")
		}
	}
	return c.current, nil
}

// read reads the files when they are newer than what is served. mu is held.
func (c *certificate) read() error {
	changed := time.Time{}
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		if info.ModTime().After(changed) {
			changed = info.ModTime()
		}
	}
	if c.current != nil && changed.Equal(c.changed) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	c.current, c.changed = &pair, changed
	return nil
}
