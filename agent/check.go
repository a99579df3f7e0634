package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"vigil/failover"
	"vigil/fleet"
	"vigil/media"
	"vigil/spool"
)

// checkTimeout bounds the question to the service.
const checkTimeout = 20 * time.Second

// CheckReport is what `vigil-agent check` found.
type CheckReport struct {
	Agent   string        `json:"agent"`
	Servers []ServerCheck `json:"servers"`
	Service ServiceCheck  `json:"service"`
	Spool   SpoolCheck    `json:"spool"`
}

// ServerCheck is one media server.
type ServerCheck struct {
	Name     string         `json:"name"`
	Product  string         `json:"product"`
	OK       bool           `json:"ok"`
	Detail   string         `json:"detail,omitempty"`
	Took     time.Duration  `json:"took_ns"`
	Snapshot fleet.Snapshot `json:"snapshot"` // what would be sent, secrets removed
}

// ServiceCheck is the way to the service and the token.
type ServiceCheck struct {
	URL      string                `json:"url"`
	OK       bool                  `json:"ok"`
	Message  string                `json:"message"`
	Hint     string                `json:"hint,omitempty"`
	Took     time.Duration         `json:"took_ns"`
	Failover *failover.Explanation `json:"failover,omitempty"` // addresses, when the transport is the usual one
}

// SpoolCheck is the disk queue, read without changing it.
type SpoolCheck struct {
	Dir     string      `json:"dir"`
	OK      bool        `json:"ok"`
	Message string      `json:"message"`
	Stats   spool.Stats `json:"stats"`
}

// OK reports whether everything works.
func (r *CheckReport) OK() bool {
	for _, s := range r.Servers {
		if !s.OK {
			return false
		}
	}
	return r.Service.OK && r.Spool.OK
}

// Check asks everything once and changes nothing: every media server, the service with
// the token, the spool. It needs no running agent and does not disturb one.
func (a *Agent) Check(ctx context.Context) *CheckReport {
	r := &CheckReport{Agent: a.cfg.Name}
	for _, s := range a.servers {
		r.Servers = append(r.Servers, a.checkServer(ctx, s))
	}
	r.Service = a.checkService(ctx)
	r.Spool = a.checkSpool()
	return r
}

func (a *Agent) checkServer(ctx context.Context, s *server) ServerCheck {
	began := a.deps.Mono()
	said := s.collector.Collect(ctx)
	said.Server.Key = s.cfg.Name
	// A tracker of its own: the running one must not lose its baseline.
	snapshot := media.NewTracker(media.TrackerOptions{}).Step(said)
	snapshot.Server.Key = s.cfg.Name
	cleanSnapshot(&snapshot)
	return ServerCheck{
		Name: s.cfg.Name, Product: s.cfg.Product, OK: snapshot.Status.HasNumbers(), Detail: snapshot.Detail,
		Took: time.Duration(a.deps.Mono()-began) * time.Millisecond, Snapshot: snapshot,
	}
}

// checkService asks the service whether it knows the token for this agent. Nothing is
// counted by that.
func (a *Agent) checkService(ctx context.Context) ServiceCheck {
	out := ServiceCheck{URL: a.url.Scheme + "://" + a.url.Host}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	token, err := a.deps.Token()
	if err != nil {
		out.Message, out.Hint = "the token cannot be read: "+err.Error(), "check token_file and its permissions"
		return out
	}
	began := a.deps.Mono()
	err = a.ping(ctx, token)
	out.Took = time.Duration(a.deps.Mono()-began) * time.Millisecond
	if t, ok := a.service.(*failover.Transport); ok {
		explanation := t.Explain()
		out.Failover = &explanation
	}
	if err != nil {
		out.Message, out.Hint = userText(err), kindHint(err)
		if e, ok := errors.AsType[*fleet.Error](err); ok && e.Err != nil {
			out.Message += ": " + redact(oneLine(e.Err.Error()))
		}
		return out
	}
	out.OK, out.Message = true, "it is there and knows the token"
	return out
}

func (a *Agent) checkSpool() SpoolCheck {
	out := SpoolCheck{Dir: a.cfg.SpoolDir}
	stats, err := spool.ReadStats(a.deps.FS, a.cfg.SpoolDir)
	out.Stats = stats
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.OK, out.Message = true, "there is no spool yet; the first run makes it"
	case err != nil:
		out.Message = "the spool cannot be read: " + err.Error()
	default:
		out.OK, out.Message = true, fmt.Sprintf("%d records are on disk, %d bytes; some of them may be acknowledged already", stats.Records, stats.LiveBytes)
	}
	return out
}

// WriteText writes the report for a person.
func (r *CheckReport) WriteText(w io.Writer) error {
	var b strings.Builder
	mark := func(ok bool) string {
		if ok {
			return "ok   "
		}
		return "FAIL "
	}
	fmt.Fprintf(&b, "agent %s\n", r.Agent)
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "%smedia server %s (%s), %s, took %s\n", mark(s.OK), s.Name, s.Product, s.Snapshot.Status, s.Took.Round(time.Millisecond))
		if s.Detail != "" {
			fmt.Fprintf(&b, "     %s\n", s.Detail)
		}
		if s.OK {
			writeSnapshot(&b, &s.Snapshot)
		}
	}
	fmt.Fprintf(&b, "%sservice %s: %s\n", mark(r.Service.OK), r.Service.URL, r.Service.Message)
	if r.Service.Hint != "" {
		fmt.Fprintf(&b, "     try: %s\n", r.Service.Hint)
	}
	if f := r.Service.Failover; f != nil {
		for _, addr := range f.Addresses {
			fmt.Fprintf(&b, "     %s: %s\n", addr.Addr, addr.Why)
		}
	}
	fmt.Fprintf(&b, "%sspool %s: %s\n", mark(r.Spool.OK), r.Spool.Dir, r.Spool.Message)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeSnapshot says what one packet would say about a server.
func writeSnapshot(b *strings.Builder, s *fleet.Snapshot) {
	fmt.Fprintf(b, "     version %s, %s streams, %s publishers, %s viewers, %s connections\n",
		orDash(s.Server.Version), s.Server.StreamsNow, s.Server.PublishersNow, s.Server.ViewersNow, s.Server.ConnsNow)
	const most = 10
	for i := range s.Streams {
		if i == most {
			fmt.Fprintf(b, "     and %d more streams\n", len(s.Streams)-most)
			break
		}
		r := &s.Streams[i]
		name := r.Key.Name
		if r.Key.App != "" {
			name = r.Key.App + "/" + name
		}
		fmt.Fprintf(b, "     %-40s %-8s %s viewers\n", name, r.State, r.Viewers)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
