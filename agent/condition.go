package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vigil/fleet"
	"vigil/health"
	"vigil/spool"
)

// Codes of the conditions that an agent sets. That of a media server is followed by
// its name.
const (
	codeServer     = "media-server:"
	codeService    = "service-unreachable"
	codeSpoolFull  = "spool-nearly-full"
	codeSpoolFails = "spool-fails"
	codeRejected   = "packets-rejected"
	codeClone      = "spool-cloned"
	codeEncode     = "packet-not-encodable"
)

const maxCauseBytes = 200 // of the system's words in a condition

const (
	spoolNearlyFull = 0.8 // of MaxBytes
	spoolRoomAgain  = 0.6
	serviceAfter    = 30 * time.Second // an outage shows after
	serverAfter     = 30 * time.Second
)

// noteServer sets or clears the condition of one media server.
func (a *Agent) noteServer(s *server, snapshot *fleet.Snapshot) {
	code := codeServer + s.cfg.Name
	a.metrics.poll(s.cfg.Name, snapshot)
	if snapshot.Status.HasNumbers() {
		a.deps.Health.Clear(code)
		return
	}
	text := fmt.Sprintf("The media server %s gives no numbers (%s).", s.cfg.Name, snapshot.Status)
	if snapshot.Detail != "" {
		text = fmt.Sprintf("The media server %s gives no numbers (%s): %s.", s.cfg.Name, snapshot.Status, snapshot.Detail)
	}
	a.deps.Health.Set(health.Condition{
		Code: codeServer + s.cfg.Name, Title: "A media server gives no numbers", Severity: health.Warning, After: serverAfter,
		Text: text + " The time shows as a gap, not as zero.",
		Hint: "run `vigil-agent check` on this machine",
	})
}

func (a *Agent) setServiceCondition(r result) {
	severity := health.Warning
	if r.verdict == verdictRefused {
		severity = health.Error
	}
	hint := kindHint(r.err)
	if hint == "" {
		hint = "run `vigil-agent check` on this machine"
	}
	a.deps.Health.Set(health.Condition{
		Code: codeService, Title: "The service takes no packets", Severity: severity, After: serviceAfter,
		Text: fmt.Sprintf("%s. Packets wait in the spool; nothing is lost until it is full.", sentence(causeText(r.err))), Hint: hint,
	})
}

// causeText is what happened, with the words of the system behind it where there are
// any: "cannot be reached" alone sends people the wrong way.
func causeText(err error) string {
	text := userText(err)
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Err != nil {
		text += " (" + clip(redact(oneLine(e.Err.Error())), maxCauseBytes) + ")"
	}
	return text
}

// oneLine joins the lines that errors.Join makes.
func oneLine(text string) string { return strings.Join(strings.Split(text, "\n"), "; ") }

// sentence begins a text with a capital letter.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// userText is what of an error may be shown.
func userText(err error) string {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e.Message
	}
	return "the request failed"
}

func (a *Agent) setSpoolCondition(err error) {
	text, hint := "The disk queue does not work. New packets wait in memory, merged, and are lost if the agent stops.", "check the disk under spool_dir"
	if errors.Is(err, spool.ErrFull) {
		text, hint = "The disk queue is full and nothing in it can be merged or dropped. New packets wait in memory.", "raise spool_max_bytes, or mend the way to the service"
	}
	a.deps.Health.Set(health.Condition{Code: codeSpoolFails, Title: "The disk queue fails", Severity: health.Error, Text: text, Hint: hint})
}

func (a *Agent) setEncodeCondition(err error) {
	a.deps.Health.Set(health.Condition{
		Code: codeEncode, Title: "A packet was lost", Severity: health.Error,
		Text: "A packet could not be written down and is lost: " + userText(err) + ".", Hint: "please report this, with the log of the agent. This notice ends when the agent is started again",
	})
}

func (a *Agent) setRejectedCondition(err error) {
	a.deps.Health.Set(health.Condition{
		Code: codeRejected, Title: "The service rejected packets", Severity: health.Error,
		Text: "The service will never take at least one packet: " + userText(err) + ". It is in the dead-letter file of the spool, and its time shows as a gap.",
		Hint: "update the agent or the service; see rejected.jsonl in spool_dir. This notice ends when the agent is started again",
	})
}

func (a *Agent) setCloneCondition() {
	a.deps.Health.Set(health.Condition{
		Code: codeClone, Title: "The spool is a copy of another one", Severity: health.Error,
		Text: "Another agent uses the spool that this one was started with, or this is a restored copy of it. " +
			"Packets recorded since the start go on under a new identity; older ones are left to the other copy.",
		Hint: "give every agent its own spool: delete spool_dir in the image that machines are made from, and give the agents different names. This notice ends when the agent is started again",
	})
}

// watchSpool sets and clears the condition of a spool that fills up, and counts what it
// had to give up.
func (a *Agent) watchSpool() {
	s := a.spool.Stats()
	if s.MaxBytes <= 0 {
		return
	}
	share := float64(s.LiveBytes) / float64(s.MaxBytes)
	a.metrics.spoolShare.Set(share)
	a.metrics.backlog.Set(float64(s.Records))
	switch {
	case share >= spoolNearlyFull:
		a.deps.Health.Set(health.Condition{
			Code: codeSpoolFull, Title: "The disk queue is nearly full", Severity: health.Warning,
			Text: fmt.Sprintf("%.0f %% of the disk queue are used. Soon old samples are merged to coarser time, and after that the oldest are given up.", 100*share),
			Hint: "mend the way to the service, or raise spool_max_bytes",
		})
	case share <= spoolRoomAgain:
		a.deps.Health.Clear(codeSpoolFull)
	}
}
