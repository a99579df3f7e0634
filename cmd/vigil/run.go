package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"vigil/command"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/lifecycle"
	"vigil/node"
	"vigil/observe"
)

func runService(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `run the service until a signal ends it

SIGINT and SIGTERM stop it in order: it takes nothing new, finishes what is there and
closes its files. A second signal ends it at once, which loses nothing that was
acknowledged. Under systemd it says when it is ready (Type=notify).`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	cfg, self, err := s.self()
	if err != nil {
		return err
	}
	log, err := newLogger(cfg.Log, c)
	if err != nil {
		return err
	}
	command.LogVersion(log, "vigil")
	n, err := node.New(cfg, self.Name, node.Deps{
		Log: log, Metrics: observe.NewRegistry().WithProcess(), Health: health.New(nil), Version: command.Version(),
	})
	if err != nil {
		return err
	}
	ctx, release := lifecycle.SignalContext(c.Context, log)
	defer release()
	return runAndNotify(ctx, n, variable(c.Environ, "NOTIFY_SOCKET"), log)
}

func newLogger(cfg config.Log, c *command.Call) (*slog.Logger, error) {
	log, err := observe.NewLogger(cfg.Level, cfg.Format, c.Stderr)
	if err != nil {
		return nil, &fleet.Error{
			Kind: fleet.KindInvalid, Message: "the log cannot be set up", Hint: "check log.level and log.format", Err: err,
		}
	}
	return log, nil
}

// runAndNotify runs the node and tells the service manager about it.
func runAndNotify(ctx context.Context, n *node.Node, socket string, log *slog.Logger) error {
	notify := func(state string) {
		if err := lifecycle.Notify(socket, state); err != nil {
			log.Warn("service manager does not listen", "error", err)
		}
	}
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-n.Started():
			notify(lifecycle.NotifyReady)
		case <-ended:
			return
		}
		select {
		case <-ctx.Done():
			notify(lifecycle.NotifyStopping)
		case <-ended:
		}
	})
	err := n.Run(ctx)
	close(ended)
	watcher.Wait()
	return err
}

func variable(environ []string, name string) string {
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func doctor(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `look for what is wrong with this node

It checks the configuration, the data directory, the listeners, the disk and the clock,
and asks the running node what is wrong with it. It changes nothing. The exit code is 0
when nothing worse than a warning was found.`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	cfg, self, err := s.self()
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range node.Diagnose(c.Context, cfg, self) {
		mark := "ok"
		if !f.OK {
			mark = f.Severity.String()
		}
		if !f.OK && f.Severity == health.Error {
			bad++
		}
		fmt.Fprintf(c.Stdout, "%-8s %s: %s\n", mark, f.Check, f.Text)
		if !f.OK && f.Hint != "" {
			fmt.Fprintf(c.Stdout, "%8s try: %s\n", "", f.Hint)
		}
	}
	if bad > 0 {
		return &fleet.Error{
			Kind:    fleet.KindUnavailable,
			Message: fmt.Sprintf("%d of the findings above need somebody now", bad),
			Hint:    "begin with the first one",
		}
	}
	return nil
}
