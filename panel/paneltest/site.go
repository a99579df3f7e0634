package paneltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"vigil/api"
	"vigil/auth"
	"vigil/config"
	"vigil/health"
	"vigil/panel"
	"vigil/report"
	"vigil/report/reporttest"
)

// Name and Password log in to a Site.
const (
	Name     = "operator"
	Password = "correct horse battery"
)

// ReadTimeout is how long the site's server waits for a request: short, so that a test
// sees whether streams outlive it.
const ReadTimeout = 6 * time.Second

// Site is a panel over a made-up fleet, served on 127.0.0.1. It can be stopped and
// started again at the same address, as a service is.
type Site struct {
	World  *reporttest.World
	Health *health.Registry
	Addr   string

	reports *report.Reports
	auth    *auth.Auth
	keeper  *memory
	log     *slog.Logger

	mu     sync.Mutex
	server *http.Server // nil while stopped
	panel  *panel.Panel
}

// NewSite makes a site and starts it.
func NewSite(world *reporttest.World, now func() time.Time, log *slog.Logger) (*Site, error) {
	hash, err := auth.HashPassword(Password)
	if err != nil {
		return nil, err
	}
	accounts := &memory{user: auth.User{Name: Name, PasswordHash: hash}, sessions: map[auth.TokenHash]auth.Session{}}
	logins, err := auth.New(auth.Options{Users: accounts, Sessions: accounts, SessionFor: time.Hour, Log: log})
	if err != nil {
		return nil, err
	}
	s := &Site{World: world, Health: health.New(now), reports: report.New(world, world, now), auth: logins, keeper: accounts, log: log, Addr: "127.0.0.1:0"}
	return s, s.Up()
}

// URL is the address of a path.
func (s *Site) URL(path string) string { return "http://" + s.Addr + path }

// Up starts the site at the address it had before.
func (s *Site) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := panel.New(config.Panel{}, panel.Deps{
		Reports: s.reports, Auth: s.auth, API: api.New(api.Deps{Reports: s.reports}).Handler(), Health: s.Health, Version: "test", Log: s.log,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.Addr, err)
	}
	s.Addr = l.Addr().String()
	s.panel = p
	s.server = &http.Server{Handler: p.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: ReadTimeout, WriteTimeout: 20 * time.Second}
	s.server.RegisterOnShutdown(p.Stop)
	go func(server *http.Server) {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("site ended", "error", err)
		}
	}(s.server)
	return nil
}

// Down stops the site at once, as a crash does.
func (s *Site) Down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	server := s.server
	s.server = nil
	return server.Close()
}

// memory keeps one account and its sessions, across restarts of the site.
type memory struct {
	mu       sync.Mutex
	user     auth.User
	sessions map[auth.TokenHash]auth.Session
}

func (m *memory) User(name string) (auth.User, error) {
	if name != m.user.Name {
		return auth.User{}, auth.ErrMissing
	}
	return m.user, nil
}

func (m *memory) Session(hash auth.TokenHash) (auth.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[hash]
	if !ok {
		return auth.Session{}, auth.ErrMissing
	}
	return s, nil
}

func (m *memory) PutSession(_ context.Context, hash auth.TokenHash, s auth.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[hash] = s
	return nil
}

func (m *memory) DeleteSession(_ context.Context, hash auth.TokenHash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, hash)
	return nil
}

// SignOutAll ends all sessions.
func (s *Site) SignOutAll() {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	clear(s.keeper.sessions)
}
