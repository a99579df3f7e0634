package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/health"
)

// certificateEvery is how often a handshake looks whether the files have changed.
const certificateEvery = 10 * time.Second

// certificateSoon is how long before its end a certificate is called to mind.
const certificateSoon = 14 * 24 * time.Hour

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
	c.judge()
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
		c.judge()
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

// judge sets or clears the condition of a certificate whose time is over, or nearly.
// mu is held.
func (c *certificate) judge() {
	if problem, bad := certificateAge(c.role, c.current.Leaf, c.now()); bad {
		c.health.Set(problem)
		return
	}
	c.health.Clear(c.role + "-certificate-expires")
}

// certificateAge says whether a certificate is out of date or will be soon. Soon is 14
// days, and less for certificates that are made for a short life.
func certificateAge(role string, leaf *x509.Certificate, now time.Time) (health.Condition, bool) {
	problem := health.Condition{
		Code: role + "-certificate-expires", Title: "The certificate of " + role + " runs out", Severity: health.Warning,
		Hint: fmt.Sprintf("renew %s.tls_certificate_file; the file is read again by itself, no restart is needed", role),
	}
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	soon := min(certificateSoon, leaf.NotAfter.Sub(leaf.NotBefore)/4)
	switch {
	case now.After(leaf.NotAfter):
		problem.Severity = health.Error
		problem.Text = fmt.Sprintf("The certificate of %s is out of date since %s. Agents and browsers refuse to connect.", role, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		problem.Severity = health.Error
		problem.Text = fmt.Sprintf("The certificate of %s is not valid before %s. Agents and browsers refuse to connect.", role, day(leaf.NotBefore))
		problem.Hint = "check the clock of this machine: it says " + day(now)
	case leaf.NotAfter.Sub(now) < soon:
		problem.Text = fmt.Sprintf("The certificate of %s is good until %s only. After that agents and browsers refuse to connect.", role, day(leaf.NotAfter))
	default:
		return health.Condition{}, false
	}
	return problem, true
}
