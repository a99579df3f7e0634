package panel

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vigil/fleet"
	"vigil/report"
)

// val is a number as a page shows it. When Why is set there is no number, and Why is
// the reason.
type val struct {
	Text string
	Unit string
	Why  string
	Last bool // the last known number of something that is silent
}

func unknown(why string) val {
	if why == "" {
		why = "the source does not say"
	}
	return val{Why: why}
}

// count shows a whole number with its thousands apart.
func count(n fleet.Int, unit, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	return val{Text: thousands(v), Unit: unit}
}

func thousands(v int64) string {
	s := strconv.FormatInt(v, 10)
	sign := ""
	if v < 0 {
		sign, s = "−", s[1:]
	}
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

// scaled writes a number with three digits that matter and a decimal prefix.
func scaled(v float64, unit string) val {
	prefixes := [...]string{"", "k", "M", "G", "T", "P"}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	digits := 0
	switch {
	case i == 0:
	case math.Abs(v) < 9.995:
		digits = 2
	case math.Abs(v) < 99.95:
		digits = 1
	}
	return val{Text: strconv.FormatFloat(v, 'f', digits, 64), Unit: prefixes[i] + unit}
}

func bps(n fleet.Int, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	return scaled(float64(v), "bit/s")
}

func bytesVal(n fleet.Int, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	return scaled(float64(v), "B")
}

// pct never rounds up to 100: what is not complete must not look so.
func pct(n report.Num, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	digits := 1
	if v >= 100 || v == 0 {
		digits = 0
	} else if v > 99.9 {
		v = 99.9
	}
	return val{Text: strconv.FormatFloat(v, 'f', digits, 64), Unit: "%"}
}

func oneDecimal(n report.Num, unit, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	if v >= 100 {
		return val{Text: thousands(int64(math.Round(v))), Unit: unit}
	}
	return val{Text: strconv.FormatFloat(v, 'f', 1, 64), Unit: unit}
}

// span shows a length of time in its two largest units.
func span(n fleet.Int, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	return val{Text: spanText(v)}
}

// hours shows viewers x time, the measure that is billed by.
func hours(n fleet.Int, why string) val {
	v, ok := n.Get()
	if !ok {
		return unknown(why)
	}
	h := float64(v) / 3.6e6
	if h < 100 {
		return val{Text: strconv.FormatFloat(h, 'f', 1, 64), Unit: "viewer hours"}
	}
	return val{Text: thousands(int64(math.Round(h))), Unit: "viewer hours"}
}

func spanText(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// ageText is a length of time in one unit.
func ageText(ms int64) string {
	d := time.Duration(max(0, ms)) * time.Millisecond
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours())/24)
}

func utc(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 UTC")
}

func iso(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// old pairs a moment with the moment it is looked at, for the part that shows an age.
type old struct {
	AtMs  int64
	NowMs int64
}

// Text is the age in words.
func (o old) Text() string { return ageText(o.NowMs - o.AtMs) }

func funcs(a *assets) template.FuncMap {
	return template.FuncMap{
		"asset": a.url, "count": count, "bps": bps, "bytes": bytesVal, "pct": pct, "avg": oneDecimal, "span": span,
		"spanText": spanText, "hours": hours, "utc": utc, "iso": iso, "show": report.Printable, "thousands": thousands,
		"age":         func(atMs, nowMs int64) old { return old{AtMs: atMs, NowMs: nowMs} },
		"whyNot":      whyServer,
		"whyLine":     whyStream,
		"badge":       badgeOf,
		"streamBadge": streamBadge,
		"int":         fleet.Of,
		"last":        func(last bool, v val) val { v.Last = last; return v },
		"words":       func(s string) string { return strings.ReplaceAll(s, "_", " ") },
		"sentence":    sentence,
		"list":        func(items ...string) []string { return items },
	}
}

// sentence makes a message from anywhere begin and end like one.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?:") {
		s += "."
	}
	return s
}

// whyServer is the reason for a missing number of a server.
func whyServer(s report.Server) string {
	switch s.State {
	case report.ServerFailed:
		if s.Detail != "" {
			return "the agent cannot read this server: " + s.Detail
		}
		return "the agent cannot read this server"
	case report.ServerUnknown:
		return "nothing is known about this server yet"
	}
	return s.Product + " does not say this"
}

// whyStream is the reason for a missing number of a stream.
func whyStream(s report.Stream) string {
	if s.State == "hidden" {
		return "the server could not be read at the last poll"
	}
	return "the media server does not say this per stream"
}

// badge is a state in words, with an icon, so that colour says nothing alone.
type badge struct {
	Tone string // ok, warn, bad, quiet
	Icon string
	Text string
	Help string
}

var badges = map[string]badge{
	"ok":       {"ok", "ok", "Reporting", "the agent reads this server and its packets arrive"},
	"partial":  {"warn", "partial", "Partial", "the numbers are true of a part of this server only"},
	"failed":   {"bad", "fail", "Unreachable", "the agent is alive but cannot read this server"},
	"silent":   {"bad", "silent", "Silent", "no packet for three intervals; the numbers are the last known"},
	"unknown":  {"quiet", "ask", "Unknown", "nothing is known yet"},
	"online":   {"ok", "live", "On air", "a publisher is connected and data arrives"},
	"idle":     {"warn", "pause", "Idle", "a publisher is connected but no data arrives"},
	"offline":  {"quiet", "off", "Off air", "no publisher is connected"},
	"hidden":   {"warn", "hidden", "Not seen", "it may still run, but the last poll could not see it"},
	"complete": {"ok", "ok", "Complete", ""},
}

// streamBadge says silent before anything else: what a stream did when it was last
// seen says little about what it does now.
func streamBadge(s report.Stream) badge {
	if s.Silent {
		b := badges["silent"]
		b.Help = "its server sends no packets; the numbers are the last known"
		return b
	}
	return badgeOf(s.State)
}

func badgeOf(state string) badge {
	if b, ok := badges[state]; ok {
		return b
	}
	return badge{Tone: "quiet", Icon: "ask", Text: strings.ReplaceAll(state, "_", " ")}
}
