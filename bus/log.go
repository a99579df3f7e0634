package bus

import (
	"fmt"
	"log/slog"
)

// serverLog gives the words of the NATS server to slog. The server says much about
// itself at the levels that we keep for people who must act, so everything but its
// warnings and errors is debug.
type serverLog struct{ log *slog.Logger }

// The message is constant and the text an attribute, so that repeats are counted
// together.
const serverSays = "nats server"

func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v) }

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn(serverSays, "text", fmt.Sprintf(format, v...))
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
