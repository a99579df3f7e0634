package report

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"vigil/fleet"
	"vigil/live"
	"vigil/store"
)

// How much history one stream shows.
const (
	maxEvents   = 50
	maxSessions = 50
)

// Streams is a part of the ordered list of streams.
type Streams struct {
	Meta
	Rows    []Stream  `json:"rows"`
	Matched int64     `json:"matched"`
	Total   int64     `json:"total"`
	AsOfMs  int64     `json:"as_of_ms"`
	AgeMs   fleet.Int `json:"age_ms"`
}

// StreamSorts are the columns streams can be ordered by.
func StreamSorts() []string {
	return []string{"viewers", "in_bps", "out_bps", "name", "server", "since"}
}

// StreamStates are the states streams can be selected by.
func StreamStates() []string { return []string{"online", "idle", "offline", "hidden", "silent"} }

// Streams lists streams. The live view does the searching and the ordering.
func (r *Reports) Streams(q live.StreamQuery) (*Streams, error) {
	if err := checkStreamQuery(q); err != nil {
		return nil, err
	}
	out := &Streams{Meta: r.meta()}
	at := r.now()
	err := r.step(&out.Meta, "live streams", func() error {
		page, err := r.live.Streams(at, q)
		out.Rows = streamsOf(page.Rows, at.UnixMilli())
		out.Matched, out.Total, out.AsOfMs = page.Matched, page.Total, page.AsOfMs
		return err
	})
	if out.AsOfMs > 0 {
		out.AgeMs = fleet.Of(max(0, at.UnixMilli()-out.AsOfMs))
	}
	return out, err
}

func checkStreamQuery(q live.StreamQuery) error {
	if err := checkPage(q.Search, q.Offset, q.Limit, MaxStreamsPage); err != nil {
		return err
	}
	if q.Sort != "" && !slices.Contains(StreamSorts(), q.Sort) {
		return invalid("The list cannot be ordered by that column.", "Use one of "+strings.Join(StreamSorts(), ", ")+".")
	}
	if q.State != "" && !slices.Contains(StreamStates(), q.State) {
		return invalid("There is no such state of a stream.", "Use one of "+strings.Join(StreamStates(), ", ")+".")
	}
	return nil
}

func checkPage(search string, offset, limit, maxLimit int) error {
	if len(search) > MaxSearchBytes {
		return invalid("The search is longer than "+strconv.Itoa(MaxSearchBytes)+" bytes.", "Search for a shorter part of the name.")
	}
	if limit < 1 || limit > maxLimit {
		return invalid("A page cannot have that many rows.", "Ask for a limit from 1 to "+strconv.Itoa(maxLimit)+".")
	}
	if offset < 0 || offset > MaxOffset {
		return invalid("The offset is outside the list.", "Ask for an offset from 0 to "+strconv.Itoa(MaxOffset)+".")
	}
	return nil
}

// History is what happened to one stream.
type History struct {
	Meta
	Events   []Event   `json:"events"`   // newest first
	Sessions []Session `json:"sessions"` // newest start first
	Limit    int       `json:"limit"`    // most of each that is listed
}

// Event is one change of state.
type Event struct {
	AtMs   int64  `json:"at_ms"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

// Session is one connection of a viewer or publisher.
type Session struct {
	ID         string    `json:"id"`
	Role       string    `json:"role"`
	Tech       string    `json:"tech"`
	RemoteIP   string    `json:"remote_ip,omitempty"`
	UserAgent  string    `json:"user_agent,omitempty"`
	StartedMs  int64     `json:"started_ms"`
	DurationMs int64     `json:"duration_ms"`
	Running    bool      `json:"running"`
	EndReason  string    `json:"end_reason,omitempty"`
	InBytes    fleet.Int `json:"in_bytes"`
	OutBytes   fleet.Int `json:"out_bytes"`
	Method     string    `json:"method"` // how the session was recognized
	Unobserved bool      `json:"unobserved"`
}

// StreamPage is one stream: now and over a range.
type StreamPage struct {
	Meta
	Stream       *Stream  `json:"stream"` // null when only the past knows it
	Chart        *Chart   `json:"chart"`
	ChartError   *Problem `json:"chart_error,omitempty"`
	History      *History `json:"history"`
	HistoryError *Problem `json:"history_error,omitempty"`
}

// Stream answers for one stream.
func (r *Reports) Stream(ctx context.Context, key fleet.StreamKey, g Range) (*StreamPage, error) {
	out := r.StreamLive(key)
	chart, chartErr := r.StreamChart(ctx, key, g)
	history, historyErr := r.StreamHistory(ctx, key, g)
	if out.Stream == nil {
		if err := errors.Join(chartErr, historyErr); err != nil {
			return nil, err
		}
		if chart.Unseen() && len(history.Events) == 0 && len(history.Sessions) == 0 {
			return nil, MissingStream(key)
		}
	}
	out.ChartError, out.HistoryError = ProblemOf(chartErr), ProblemOf(historyErr)
	if chart != nil {
		out.Explain = append(out.Explain, chart.Explain...)
		chart.Trim()
	}
	if history != nil {
		out.Explain = append(out.Explain, history.Explain...)
		history.Trim()
	}
	out.Chart, out.History = chart, history
	return out, nil
}

// MissingStream says that nobody ever reported a stream.
func MissingStream(key fleet.StreamKey) error {
	return &fleet.Error{
		Kind:    fleet.KindMissing,
		Message: "No server has reported a stream named \"" + Printable(key.Name) + "\" with this server and application in this range.",
		Hint:    "Look for it in the list of streams, or ask for a longer range.",
	}
}

// StreamLive is one stream now.
func (r *Reports) StreamLive(key fleet.StreamKey) *StreamPage {
	out := &StreamPage{Meta: r.meta()}
	at := r.now()
	_ = r.step(&out.Meta, "live stream", func() error {
		if row, ok := r.live.Stream(at, key); ok {
			s := streamOf(row, at.UnixMilli())
			out.Stream = &s
		}
		return nil
	})
	return out
}

// StreamChart is one stream over a range, with its viewers by technology.
func (r *Reports) StreamChart(ctx context.Context, key fleet.StreamKey, g Range) (*Chart, error) {
	return r.chart(ctx, g, ofStream, r.serverInterval(key.Server), func(ctx context.Context, m *Meta, w store.Window, step time.Duration) (a answer, err error) {
		err = r.step(m, "stream series", func() (err error) {
			a.series, a.techs, err = r.store.StreamSeries(ctx, key, w, step)
			return err
		})
		if err != nil {
			return a, err
		}
		err = r.step(m, "server series", func() error {
			server, err := r.store.ServerSeries(ctx, key.Server, w, step)
			a.watched = server.Points
			return err
		})
		return a, err
	})
}

// StreamHistory is what happened to one stream in a range.
func (r *Reports) StreamHistory(ctx context.Context, key fleet.StreamKey, g Range) (*History, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	now := r.now()
	window := store.Window{From: now.Add(-g.Length), To: now}
	out := &History{Meta: r.meta(), Limit: maxEvents, Events: []Event{}, Sessions: []Session{}}
	err := r.step(&out.Meta, "stream events", func() error {
		events, err := r.store.StreamEvents(ctx, key, window, maxEvents)
		for _, e := range events {
			out.Events = append(out.Events, Event{AtMs: e.AtMs, State: e.State.String(), Reason: e.Reason})
		}
		return err
	})
	if err != nil {
		return nil, storeError(ctx, err)
	}
	err = r.step(&out.Meta, "stream sessions", func() error {
		sessions, err := r.store.Sessions(ctx, key, window, maxSessions)
		for _, s := range sessions {
			out.Sessions = append(out.Sessions, sessionOf(s))
		}
		return err
	})
	if err != nil {
		return nil, storeError(ctx, err)
	}
	return out, nil
}

func sessionOf(s fleet.Session) Session {
	end, ended := s.EndedMs.Get()
	if !ended {
		end = s.LastSeenMs
	}
	return Session{
		ID: s.ID, Role: s.Role.String(), Tech: s.Tech.String(), RemoteIP: s.RemoteIP, UserAgent: s.UserAgent,
		StartedMs: s.StartedMs, DurationMs: max(0, end-s.StartedMs), Running: !ended, EndReason: s.EndReason,
		InBytes: s.BytesIn, OutBytes: s.BytesOut, Method: s.Method, Unobserved: s.Unobserved,
	}
}

// Printable makes a name that came from a media server fit for a page or a message:
// what is not text is shown as such instead of changing the text around it.
func Printable(name string) string {
	return strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, strings.ToValidUTF8(name, string(unicode.ReplacementChar)))
}
