package observe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Limits of the log.
const (
	// repeatBurst records with one message are written in a repeatWindow; the rest
	// are counted, and the first one of the next window says how many were left out.
	repeatBurst  = 20
	repeatWindow = 10 * time.Second
	// maxMessages is how many different messages are watched. Messages are
	// constants, so reaching it means that somebody formats them; the watch then
	// starts anew.
	maxMessages = 2048
)

// NewLogger returns a logger that writes to w.
//
// The level is debug, info, warn or error. It may be followed by levels of single
// packages: "info,spool=debug,journal=warn". The format is text, json, or auto, which
// is text when w is a terminal and JSON otherwise. Empty strings mean info and auto.
func NewLogger(level, format string, w io.Writer) (*slog.Logger, error) {
	levels, err := parseLevels(level)
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: readable}
	var inner slog.Handler
	switch {
	case format == "json" || (format == "auto" || format == "") && !isTerminal(w):
		inner = slog.NewJSONHandler(w, opts)
	case format == "text" || format == "auto" || format == "":
		inner = slog.NewTextHandler(w, opts)
	default:
		return nil, fmt.Errorf("log format %q is not auto, text or json", format)
	}
	return slog.New(&handler{inner: inner, levels: levels, repeats: &repeats{byMessage: map[string]*repeat{}}}), nil
}

// readable writes durations as "1.5s" in JSON, too, where they would be bare counts of
// nanoseconds, and leaves out attributes without a value.
func readable(groups []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().String())
	case slog.KindString:
		if a.Value.String() == "" && !(len(groups) == 0 && a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
	}
	return a
}

// CheckLevel reports what is wrong with a level that NewLogger would refuse.
func CheckLevel(level string) error {
	_, err := parseLevels(level)
	return err
}

// Discard returns a logger that writes nothing.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

type levels struct {
	lowest    slog.Level
	fallback  slog.Level
	byPackage map[string]slog.Level
}

func parseLevels(text string) (levels, error) {
	out := levels{lowest: slog.LevelInfo, fallback: slog.LevelInfo, byPackage: map[string]slog.Level{}}
	if text == "" {
		return out, nil
	}
	for i, part := range strings.Split(text, ",") {
		pkg, name, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			pkg, name = "", pkg
		}
		level, err := levelNamed(name)
		if err != nil {
			return levels{}, err
		}
		switch {
		case pkg != "":
			out.byPackage[pkg] = level
		case i == 0:
			out.fallback = level
		default:
			return levels{}, fmt.Errorf("log level %q: only the first level may stand without a package", text)
		}
	}
	out.lowest = out.fallback
	for _, level := range out.byPackage {
		out.lowest = min(out.lowest, level)
	}
	return out, nil
}

func levelNamed(name string) (slog.Level, error) {
	switch name {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not debug, info, warn or error", name)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// handler filters by the level of the package that logs and throttles repeats.
type handler struct {
	inner   slog.Handler
	levels  levels
	repeats *repeats // shared by all loggers that came from one
}

// Enabled reports whether any package logs at this level; Handle looks closer.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.levels.lowest }

// Handle writes the record unless its package is quieter or it repeats too often.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if len(h.levels.byPackage) > 0 {
		limit, ok := h.levels.byPackage[packageOf(r.PC)]
		if !ok {
			limit = h.levels.fallback
		}
		if r.Level < limit {
			return nil
		}
	}
	// Debug shows everything: whoever asked for it wants the flood.
	if r.Level > slog.LevelDebug {
		write, leftOut := h.repeats.allow(r.Message, r.Time)
		if !write {
			return nil
		}
		if leftOut > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int64("left_out", leftOut))
		}
	}
	return h.inner.Handle(ctx, r)
}

// WithAttrs returns a handler that adds attrs.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.inner = h.inner.WithAttrs(attrs)
	return &c
}

// WithGroup returns a handler that puts attributes into a group.
func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.inner = h.inner.WithGroup(name)
	return &c
}

// packageOf returns the last element of the import path of the function at pc.
func packageOf(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	name := frame.Function // vigil/store/duckdb.(*DB).Apply
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	return name
}

type repeat struct {
	windowStart time.Time
	count       int64
}

type repeats struct {
	mu        sync.Mutex
	byMessage map[string]*repeat // guarded by mu
}

// allow says whether to write a message now, and how many of the window before were
// not written.
func (r *repeats) allow(message string, now time.Time) (write bool, leftOut int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.byMessage[message]
	if m == nil {
		if len(r.byMessage) >= maxMessages {
			clear(r.byMessage)
		}
		m = &repeat{windowStart: now}
		r.byMessage[message] = m
	}
	if now.Sub(m.windowStart) >= repeatWindow {
		leftOut = max(0, m.count-repeatBurst)
		*m = repeat{windowStart: now}
	}
	m.count++
	return m.count <= repeatBurst, leftOut
}
