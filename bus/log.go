package bus

import (
	"fmt"
	"log/slog"
	"strings"
)

// serverLog gives the words of the NATS server to slog. The server says much about
// itself at the levels that we keep for people who must act, so everything but its
// warnings and errors is debug.
type serverLog struct{ log *slog.Logger }

// The message is constant and the text an attribute, so that repeats are counted
// together.
const serverSays = "nats server"

// harmless are warnings that ask nobody to do anything here, each with the reason.
// They are matched whole or by what surrounds a name, so that a new warning of a new
// version is heard.
var harmless = [...]string{
	// Meant for clients on a network. Ours are pipes in this process, and a message is a
	// frame of many packets by design.
	"Maximum payloads over",
	// After an unclean end the server reads its files instead of trusting its index,
	// which is what it should do. The node says by itself that the last run ended badly.
	"Stream state outdated, last block has additional entries, will rebuild",
	"Stream state outdated, found extra blocks, will rebuild",
	"Recovering stream state from index errored: prior state file",
}

func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v) }

func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	for _, part := range harmless {
		if strings.Contains(text, part) {
			l.log.Debug(serverSays, "text", text)
			return
		}
	}
	l.log.Warn(serverSays, "text", text)
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error(serverSays, "text", fmt.Sprintf(format, v...))
}

// Fatalf does not end the process: the server that asks for it is one part of many,
// and Open or the watch notice that it does not serve.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error(serverSays, "text", fmt.Sprintf(format, v...), "fatal", true)
}

func (l *serverLog) debug(format string, v []any) {
	l.log.Debug(serverSays, "text", fmt.Sprintf(format, v...))
}
