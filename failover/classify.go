package failover

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

// errFirstByte is the cause of an attempt that was given up because no byte of an
// answer came in time.
var errFirstByte = errors.New("failover: no byte of an answer in time")

// dialReason says why there is no connection.
func dialReason(err error) Reason {
	switch {
	case is[*tls.CertificateVerificationError](err), is[tls.RecordHeaderError](err), is[tls.AlertError](err), is[x509.UnknownAuthorityError](err):
		return ReasonTLS
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return ReasonRefused
	case isReset(err):
		return ReasonReset
	}
	return ReasonConnect
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// sendReason says why there is no answer on a connection.
func sendReason(err error) Reason {
	if errors.Is(err, errFirstByte) {
		return ReasonFirstByte
	}
	return ReasonReset
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// badStatus reports whether an answer speaks against the address and not about the
// request. A 503 with Retry-After comes from a service that is overloaded and says so:
// asking its neighbours would only spread that.
func badStatus(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	case http.StatusServiceUnavailable:
		return resp.Header.Get("Retry-After") == ""
	}
	return false
}

// Keyed reports whether a request may be sent twice: its method is idempotent by
// itself, or it carries an Idempotency-Key.
func Keyed(req *http.Request) bool {
	if req.Header.Get("Idempotency-Key") != "" {
		return true
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return true
	}
	return false
}

// replayable reports whether a request may be sent twice and can be.
func replayable(req *http.Request) bool {
	hasBody := req.Body != nil && req.Body != http.NoBody
	return Keyed(req) && (!hasBody || req.GetBody != nil)
}

// portOf is the port of a request, or the transport's own.
func portOf(req *http.Request, own uint16) string {
	if own != 0 {
		return strconv.Itoa(int(own))
	}
	if port := req.URL.Port(); port != "" {
		return port
	}
	if req.URL.Scheme == "http" {
		return "80"
	}
	return "443"
}
