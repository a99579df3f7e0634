package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// exitAborted is the exit code after a second signal: 128 and the number of SIGINT.
const exitAborted = 130

// SignalContext returns a context that ends at the first SIGINT or SIGTERM. The second
// one ends the process at once. The returned function gives the signals back.
func SignalContext(parent context.Context, log *slog.Logger) (context.Context, context.CancelFunc) {
	return signalContext(parent, log, func() { os.Exit(exitAborted) })
}

func signalContext(parent context.Context, log *slog.Logger, abort func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			select {
			case s := <-signals:
				if !first {
					log.Warn("second signal, ending at once", "signal", s.String())
					abort()
					return
				}
				log.Info("stopping", "signal", s.String())
				cancel()
			case <-released:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		select {
		case <-released:
		default:
			close(released)
		}
		cancel()
	}
}
