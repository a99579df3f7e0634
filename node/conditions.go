package node

import (
	"fmt"
	"net"
	"time"

	"vigil/health"
)

// starting lasts until every part is ready.
var starting = health.Condition{
	Code: "node-starting", Title: "The node is starting", Severity: health.Info,
	Text: "Not every part is ready yet.", BlocksReady: true, After: 30 * time.Second,
}

// stopping lasts from the first signal to the end.
var stopping = health.Condition{
	Code: "node-stopping", Title: "The node is stopping", Severity: health.Info,
	Text: "It takes nothing new.", BlocksReady: true,
}

func uncleanEnd(since time.Time) health.Condition {
	text := "The run before this one did not end well. Everything that was acknowledged is on disk."
	if !since.IsZero() {
		text = fmt.Sprintf("The run that began at %s did not end well. Everything that was acknowledged is on disk.",
			since.UTC().Format(time.RFC3339))
	}
	return health.Condition{
		Code: "node-unclean-end", Title: "The last run ended badly", Severity: health.Info,
		Text: text, Hint: "look for a crash, an out-of-memory kill or a power cut in the system's log",
	}
}

func plainListener(role string, addr net.Addr) health.Condition {
	return health.Condition{
		Code: role + "-plain", Title: "No TLS on " + role, Severity: health.Warning,
		Text: fmt.Sprintf("The %s listener %s is reached from other machines without TLS, so secrets cross the network in the clear.",
			role, addr),
		Hint: fmt.Sprintf("set %s.tls_certificate_file and %s.tls_key_file, or listen on 127.0.0.1 behind a TLS proxy", role, role),
	}
}

func diskLow(dir string, free, total uint64) health.Condition {
	c := health.Condition{
		Code: "disk-low", Title: "The disk is nearly full", Severity: health.Warning,
		Text: fmt.Sprintf("%s has %d MiB free of %d MiB. When it is full, packets are refused and wait in the agents' spools.",
			dir, free>>20, total>>20),
		Hint: "free space, or shorten storage.raw_for and journal.max_bytes",
	}
	if free < diskErrorBytes {
		c.Severity = health.Error
	}
	return c
}

func text(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	return addr.String()
}
