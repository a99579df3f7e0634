package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"vigil/config"
	"vigil/durable"
	"vigil/failover"
	"vigil/fleet"
	"vigil/health"
)

// Limits of asking the running node.
const (
	askTimeout     = 5 * time.Second
	maxAnswerBytes = 1 << 20
)

// Finding is the result of one check of the doctor.
type Finding struct {
	Check    string // what was looked at
	OK       bool
	Severity health.Severity // when it is not ok
	Text     string
	Hint     string
}

// Diagnose looks at a node from outside: its files, its listeners, the machine, and
// what the node says of itself when it runs. It changes nothing.
func Diagnose(ctx context.Context, cfg *config.Service, self config.Node) []Finding {
	found := []Finding{checkDirectory(self)}
	if self.Has(config.RoleIngest) {
		found = append(found, checkListener("ingest", cfg.Ingest.Listen, cfg.Ingest.TLSCertificateFile, cfg.Ingest.TLSKeyFile))
	}
	if self.Has(config.RolePanel) {
		found = append(found, checkListener("panel", cfg.Panel.Listen, cfg.Panel.TLSCertificateFile, cfg.Panel.TLSKeyFile))
	}
	if _, err := os.Stat(self.DataDir); err == nil { // otherwise it was said above
		found = append(found, checkDisk(self.DataDir))
	}
	found = append(found, checkClock())
	return append(found, askNode(ctx, cfg.Observe.Listen, self.DataDir)...)
}

func checkDirectory(self config.Node) Finding {
	f := Finding{Check: "data directory", Severity: health.Error}
	if err := checkMarker(self.DataDir, self.Name); err != nil {
		return f.because(err)
	}
	info, err := os.Stat(self.DataDir)
	if err != nil {
		return f.because(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		f.Severity = health.Warning
		f.Text = fmt.Sprintf("%s can be read by other users (%04o); it holds password hashes", self.DataDir, mode)
		f.Hint = "chmod 700 " + self.DataDir
		return f
	}
	f.OK, f.Text = true, self.DataDir+" is initialised for node "+self.Name
	return f
}

// because fills the finding from an error.
func (f Finding) because(err error) Finding {
	f.Text = err.Error()
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		f.Hint = e.Hint
	}
	if errors.Is(err, fs.ErrPermission) {
		f.Hint = "run the doctor as the user who runs vigil"
	}
	return f
}

func checkListener(role, addr, certFile, keyFile string) Finding {
	f := Finding{Check: role + " listener", OK: true, Severity: health.Warning}
	switch {
	case certFile != "":
		f.Text = addr + " with TLS"
		c := &certificate{certFile: certFile, keyFile: keyFile, role: role, now: time.Now}
		if err := c.load(); err != nil {
			f.OK, f.Severity = false, health.Error
			return f.because(err)
		}
		if problem, bad := certificateAge(role, c.current.Leaf, time.Now()); bad {
			f.OK, f.Severity, f.Text, f.Hint = false, problem.Severity, problem.Text, problem.Hint
		}
	case isLoopbackText(addr):
		f.Text = addr + " is reached from this machine only"
	default:
		c := plainListener(role, textAddr(addr))
		f.OK, f.Text, f.Hint = false, c.Text, c.Hint
	}
	return f
}

func checkDisk(dir string) Finding {
	f := Finding{Check: "disk", Severity: health.Warning}
	free, total, err := diskSpace(dir)
	if err != nil {
		return f.because(fmt.Errorf("read free space of %s: %w", dir, err))
	}
	if isLow(free, total) {
		c := diskLow(dir, free, total)
		f.Text, f.Hint, f.Severity = c.Text, c.Hint, c.Severity
		return f
	}
	f.OK, f.Text = true, fmt.Sprintf("%d MiB of %d MiB are free", free>>20, total>>20)
	return f
}

func checkClock() Finding {
	f := Finding{Check: "clock", Severity: health.Warning}
	synchronised, err := clockSynchronised()
	switch {
	case err != nil:
		f.Severity = health.Info
		f.Text = "cannot tell whether the clock is synchronised: " + err.Error()
	case !synchronised:
		f.Text = "the clock of this machine is not synchronised; times of agents and of this node may differ"
		f.Hint = "install chrony, or turn on systemd-timesyncd"
	default:
		f.OK, f.Text = true, "synchronised"
	}
	return f
}

// askNode asks the running node for its conditions.
func askNode(ctx context.Context, listen, dir string) []Finding {
	f := Finding{Check: "running node", Severity: health.Warning}
	if listen == "" {
		f.Severity = health.Info
		f.Text, f.Hint = "observe.listen is empty, so the node cannot be asked", "set observe.listen to 127.0.0.1:8490"
		return []Finding{f}
	}
	report, err := fetchConditions(ctx, listen)
	if err != nil {
		return []Finding{f.noAnswer(listen, dir, err)}
	}
	f.OK, f.Text = true, "answers and takes traffic"
	if !report.Ready {
		f.OK, f.Severity, f.Text, f.Hint = false, health.Error, "answers, but does not take traffic", "see the conditions below"
	}
	found := []Finding{f}
	for _, c := range report.Conditions {
		if !c.Shown && !c.BlocksReady {
			continue
		}
		found = append(found, Finding{
			Check: c.Code, Severity: c.Severity, Hint: c.Hint,
			Text: fmt.Sprintf("%s Since %s.", c.Text, c.Since.UTC().Format(time.RFC3339)),
		})
	}
	return found
}

// noAnswer tells a node that was stopped from one that died, by the file that a node
// keeps while it runs, and from one that hangs, by the lock.
func (f Finding) noAnswer(listen, dir string, err error) Finding {
	f.Text = fmt.Sprintf("the node does not answer on %s: %v", listen, err)
	f.Hint = "start it with: vigil run"
	if _, statErr := os.Stat(filepath.Join(dir, runningFile)); statErr != nil {
		return f
	}
	f.Severity = health.Error
	lock, lockErr := durable.OS().Lock(dir)
	switch {
	case errors.Is(lockErr, durable.ErrLocked):
		f.Text += "; yet a process uses its data directory"
		f.Hint = "check that observe.listen is what it was started with; else the process hangs: look at its log, and start it anew"
	case lockErr == nil:
		_ = lock.Close() // nothing was written
		f.Text += "; its last run ended without being stopped"
		f.Hint = "look at the end of its log (journalctl -u vigil) and for an out-of-memory kill, then start it: what was acknowledged is on disk"
	}
	return f
}

func fetchConditions(ctx context.Context, listen string) (health.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(listen)+"/conditions", nil)
	if err != nil {
		return health.Report{}, err
	}
	transport := failover.PlainTransport(failover.PlainOptions{Timeout: askTimeout})
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return health.Report{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return health.Report{}, fmt.Errorf("status %d: another program listens there", resp.StatusCode)
	}
	var report health.Report
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&report); err != nil {
		return health.Report{}, fmt.Errorf("read conditions: %w", err)
	}
	return report, nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// textAddr is an address that was configured and not yet opened.
type textAddr string

func (a textAddr) Network() string { return "tcp" }
func (a textAddr) String() string  { return string(a) }

func isLoopbackText(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return host == "localhost" || isLoopback(textAddr(net.JoinHostPort(host, port)))
}
