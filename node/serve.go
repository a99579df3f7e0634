package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"vigil/api"
	"vigil/auth"
	"vigil/config"
	"vigil/fleet"
	"vigil/ingest"
	"vigil/lifecycle"
	"vigil/observe"
	"vigil/panel"
	"vigil/report"
)

// Limits of the panel's and the private listener. Event streams and profiles may last
// as long as they like, so there is no time-out for writing; the panel ends streams by
// itself.
const (
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// listen opens a listener and keeps its address.
func (n *Node) listen(ctx context.Context, role, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: fmt.Sprintf("the address %s of %s is taken by another process", addr, role),
			Hint:    fmt.Sprintf("stop that process, or set %s.listen to another address", role),
			Err:     err,
		}
	}
	if err != nil {
		return nil, &fleet.Error{
			Kind:    fleet.KindUnavailable,
			Message: fmt.Sprintf("%s cannot listen on %s", role, addr),
			Hint:    fmt.Sprintf("check %s.listen: the address must be one of this machine's, and ports below 1024 need a privilege", role),
			Err:     err,
		}
	}
	n.mu.Lock()
	n.addrs[role] = ln.Addr()
	n.mu.Unlock()
	return ln, nil
}

func (n *Node) runObserve(ctx context.Context, ready func()) error {
	ln, err := n.listen(ctx, "observe", n.cfg.Observe.Listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	observe.Routes(mux, n.deps.Metrics)
	mux.Handle("/", n.deps.Health.Handler())
	ready()
	return lifecycle.ServeHTTP(ctx, ln, server(mux, n.deps.Log))
}

func (n *Node) runIngest(ctx context.Context, ready func()) error {
	deps := ingest.Deps{
		Journal: n.journal, Tokens: n.catalog, Log: n.deps.Log, Health: n.deps.Health, Metrics: n.deps.Metrics, Now: n.deps.Now,
	}
	if n.storage != nil {
		deps.Stored = n.storage.Stored
	}
	in, err := ingest.New(n.cfg.Ingest, deps)
	if err != nil {
		return err
	}
	return n.serve(ctx, ready, listener{
		role: config.RoleIngest, addr: n.cfg.Ingest.Listen,
		certificate: n.cfg.Ingest.TLSCertificateFile, key: n.cfg.Ingest.TLSKeyFile,
		server: ingest.Server(n.cfg.Ingest, in.Handler(), n.deps.Log),
	})
}

func (n *Node) runPanel(ctx context.Context, ready func()) error {
	login, err := auth.New(auth.Options{
		Users: n.catalog, Sessions: n.catalog, SessionFor: n.cfg.Panel.SessionFor,
		Log: n.deps.Log, Metrics: n.deps.Metrics, Now: n.deps.Now,
	})
	if err != nil {
		return err
	}
	n.auth = login
	n.reports = report.New(n.store, n.view, n.deps.Now)
	answers := api.New(api.Deps{Reports: n.reports, Log: n.deps.Log, Metrics: n.deps.Metrics})
	p, err := panel.New(n.cfg.Panel, panel.Deps{
		Reports: n.reports, Auth: n.auth, API: answers.Handler(), Health: n.deps.Health,
		Version: n.deps.Version, Log: n.deps.Log, Metrics: n.deps.Metrics,
	})
	if err != nil {
		return err
	}
	srv := server(p.Handler(), n.deps.Log)
	srv.RegisterOnShutdown(p.Stop)
	return n.serve(ctx, ready, listener{
		role: config.RolePanel, addr: n.cfg.Panel.Listen,
		certificate: n.cfg.Panel.TLSCertificateFile, key: n.cfg.Panel.TLSKeyFile, server: srv,
	})
}

type listener struct {
	role, addr       string
	certificate, key string
	server           *http.Server
}

func (n *Node) serve(ctx context.Context, ready func(), l listener) error {
	if l.certificate != "" {
		source := &certificate{certFile: l.certificate, keyFile: l.key, role: l.role, now: n.deps.Now, health: n.deps.Health}
		if err := source.load(); err != nil {
			return err
		}
		l.server.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: source.get, NextProtos: []string{"h2", "http/1.1"},
		}
	}
	ln, err := n.listen(ctx, l.role, l.addr)
	if err != nil {
		return err
	}
	if l.certificate == "" && !isLoopback(ln.Addr()) {
		n.deps.Health.Set(plainListener(l.role, ln.Addr()))
	}
	refused := n.deps.Metrics.Counter("vigil_node_connections_refused_total", "Connections closed at once because too many were open, by role.", "role").With(l.role)
	ready()
	return lifecycle.ServeHTTP(ctx, limitConnections(ln, mostConnections(), refused), l.server)
}

func isLoopback(addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// server returns an HTTP server with the limits above.
func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
