package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// oneSignal is the time in which repeats count as one signal: a terminal and a wrapper
// such as timeout(1) both send it, to the process and to its group.
const oneSignal = 500 * time.Millisecond

// exitAborted is the exit code after a second signal: 128 and the number of SIGINT.
const exitAborted = 130

// SignalContext returns a context that ends at the first SIGINT or SIGTERM. The second
// one ends the process at once. The returned function gives the signals back.
func SignalContext(parent context.Context, log *slog.Logger) (context.Context, context.CancelFunc) {
	return signalContext(parent, log, time.Now, func() { os.Exit(exitAborted) })
}

func signalContext(parent context.Context, log *slog.Logger, now func() time.Time, abort func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case s := <-signals:
				at := now()
				switch {
				case first.IsZero():
					first = at
					log.Info("stopping", "signal", s.String())
					cancel()
				case at.Sub(first) < oneSignal:
				default:
					log.Warn("second signal, ending at once", "signal", s.String())
					abort()
					return
				}
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
