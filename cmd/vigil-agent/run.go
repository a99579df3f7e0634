package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"vigil/agent"
	"vigil/command"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/lifecycle"
	"vigil/observe"
)

// Limits of the private listener, and how long the agent may take to stop: one last
// poll and one last request.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = time.Minute
	stopAgent     = 20 * time.Second
)

func runAgent(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `watch the media servers until a signal ends it

SIGINT and SIGTERM stop it in order. A second signal ends it at once; what is in the
spool is on disk and is sent after the next start. Under systemd it says when it is
ready (Type=notify).`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	cfg, _, err := s.load()
	if err != nil {
		return err
	}
	log, err := observe.NewLogger(cfg.Log.Level, cfg.Log.Format, c.Stderr)
	if err != nil {
		return &fleet.Error{
			Kind: fleet.KindInvalid, Message: "the log cannot be set up", Hint: "check log.level and log.format", Err: err,
		}
	}
	command.LogVersion(log, "vigil-agent")
	p := &process{
		cfg: cfg, log: log, metrics: observe.NewRegistry().WithProcess(), health: health.New(nil),
		socket: variable(c.Environ, "NOTIFY_SOCKET"),
	}
	ctx, release := lifecycle.SignalContext(c.Context, log)
	defer release()
	return p.run(ctx)
}

// process is an agent and its private listener.
type process struct {
	cfg     *config.Agent
	log     *slog.Logger
	metrics *observe.Registry
	health  *health.Registry
	socket  string // of the service manager
}

func (p *process) run(ctx context.Context) error {
	a, err := agent.New(*p.cfg, agent.Deps{
		Log: p.log, Metrics: p.metrics, Health: p.health, Version: command.Version(),
	})
	if err != nil {
		return err
	}
	var parts []lifecycle.Part
	if p.cfg.Observe.Listen != "" {
		parts = append(parts, lifecycle.Part{Name: "observe", Run: p.runObserve, StopTimeout: time.Second})
	}
	parts = append(parts,
		lifecycle.Part{Name: "agent", StopTimeout: stopAgent, Run: func(ctx context.Context, ready func()) error {
			watch, stop := context.WithCancel(ctx)
			var watcher sync.WaitGroup
			watcher.Go(func() { whenReady(watch, a, ready) })
			defer watcher.Wait()
			defer stop()
			return a.Run(ctx)
		}},
		lifecycle.Part{Name: "announce", Run: p.runAnnounce})
	return lifecycle.Run(ctx, p.log, parts...)
}

func (p *process) runObserve(ctx context.Context, ready func()) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", p.cfg.Observe.Listen)
	if err != nil {
		return &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: "the private listener cannot listen on " + p.cfg.Observe.Listen,
			Hint:    "set observe.listen to another address, or to \"\" to do without it",
			Err:     err,
		}
	}
	mux := http.NewServeMux()
	observe.Routes(mux, p.metrics)
	mux.Handle("/", p.health.Handler())
	ready()
	return lifecycle.ServeHTTP(ctx, ln, &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	})
}

func (p *process) runAnnounce(ctx context.Context, ready func()) error {
	p.notify(lifecycle.NotifyReady)
	ready()
	<-ctx.Done()
	p.notify(lifecycle.NotifyStopping)
	return nil
}

func (p *process) notify(state string) {
	if err := lifecycle.Notify(p.socket, state); err != nil {
		p.log.Warn("service manager does not listen", "error", err)
	}
}

func variable(environ []string, name string) string {
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}
