package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"vigil/failover"
)

// reachHint says what to do when the service gave no answer: a port that nobody
// listens on, a certificate and a cut cable are mended by different people.
func reachHint(service *url.URL, err error, now time.Time) string {
	switch {
	case errors.Is(err, failover.ErrNoAddress):
		return "check the host name in service.url and the name servers of this machine; service.addresses can name IP addresses that need no lookup"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the machine is there and nothing listens on the port: start the service, or correct the port in service.url"
	}
	if hint := certificateHint(err, now); hint != "" {
		return hint
	}
	host := service.Hostname()
	if _, notLiteral := netip.ParseAddr(host); notLiteral != nil {
		host = "the addresses of " + host
	}
	return "check the network, routes and firewalls between this machine and " + host
}

func certificateHint(err error, now time.Time) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the port does not speak TLS: write http:// in service.url, or give the service a certificate"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate comes from nobody this machine trusts: name the certificate of its authority in service.ca_file"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another name: write a name that it has into service.url"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "renew the certificate of the service, or set the clock of this machine: it says " + now.UTC().Format(time.RFC3339)
	}
	return ""
}
