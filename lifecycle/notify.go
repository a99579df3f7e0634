package lifecycle

import (
	"fmt"
	"net"
	"strings"
)

// States that a service manager understands (sd_notify).
const (
	NotifyReady    = "READY=1"
	NotifyStopping = "STOPPING=1"
)

// Notify tells the service manager a state, as sd_notify does: one datagram to the
// socket named in the variable NOTIFY_SOCKET, whose value the caller passes. An empty
// socket means that nobody wants to know.
func Notify(socket, state string) error {
	if socket == "" {
		return nil
	}
	name := socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // abstract socket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	_, err = conn.Write([]byte(state))
	if closeErr := conn.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
