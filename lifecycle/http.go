package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// ServeHTTP serves on ln until ctx ends, lets running requests finish until the
// part's deadline, then closes what is left. It closes ln. It returns nil after an
// orderly stop. A server whose TLS configuration has a certificate serves TLS.
func ServeHTTP(ctx context.Context, ln net.Listener, server *http.Server) error {
	failed := make(chan error, 1)
	go func() {
		if c := server.TLSConfig; c != nil && (c.GetCertificate != nil || len(c.Certificates) > 0) {
			failed <- server.ServeTLS(ln, "", "")
			return
		}
		failed <- server.Serve(ln)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	if err := server.Shutdown(Drain(ctx)); err != nil {
		// Some requests did not finish. Their clients see a cut connection, and
		// that is what they would see of a crash, too.
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}
