// Package ingest takes packets from agents: it checks who sends, bounds and checks
// what is sent, makes it durable in the journal, and only then answers 200.
package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"vigil/auth"
	"vigil/config"
	"vigil/fleet"
	"vigil/journal"
)

// Journal makes packets durable.
type Journal interface {
	Append(ctx context.Context, e journal.Entry) error
}

// Deps are what ingest needs from others.
type Deps struct {
	Journal Journal
	Tokens  auth.AgentTokens
	// Stored is what storage last applied of an agent and epoch; false: storage does not
	// know yet. nil: nobody knows.
	Stored func(agent string, epoch uint64) (*fleet.SeqSet, bool)
	Log    *slog.Logger
	Now    func() time.Time
}

// Ingest is the receiving end for packets. Safe for concurrent use.
type Ingest struct{}

// New checks its arguments. It starts nothing.
func New(cfg config.Ingest, deps Deps) (*Ingest, error) { return &Ingest{}, nil }

// Handler serves POST /v1/packets and GET /v1/ping.
func (i *Ingest) Handler() http.Handler { return http.NotFoundHandler() }

// Server returns a hardened http.Server for h. The caller listens, serves and shuts
// it down.
func Server(cfg config.Ingest, h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h}
}
