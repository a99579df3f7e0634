package panel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"time"

	"vigil/fleet"
)

// Limits of event streams.
const (
	maxEventStreams = 2000                   // open at once; more are told to come back
	maxPersonal     = 100                    // of those, of one person: nobody can keep the others out
	beatEvery       = 3 * time.Second        // a page that hears nothing for three beats looks for us again
	patchEvery      = 900 * time.Millisecond // packets of many agents in one update
	streamLife      = 20 * time.Minute       // then the page reconnects: load spreads
	writeTimeout    = 10 * time.Second       // a browser that takes nothing for so long is gone
)

// update is what changed on a page: its boxes, rendered with the page's own templates.
type update struct {
	AsOfMs int64
	Boxes  []box
}

// live turns the boxes of a page into its event stream. Events:
//
//	hello  once: the service's clock, the build of the page's files, the beat
//	patch  boxes whose content changed since the last patch of this stream
//	beat   every few seconds: the service's clock and the time of the data
//	bye    the stream ends on purpose; connect again at once
func (p *Panel) live(boxes func(*http.Request) (update, error)) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		leave, err := p.enter(r)
		if err != nil {
			return err
		}
		defer leave()
		p.metrics.eventStreams.Inc()
		defer p.metrics.eventStreams.Dec()
		s := &eventStream{panel: p, w: w, rc: http.NewResponseController(w), seed: maphash.MakeSeed(), sent: map[string]uint64{}}
		first, err := boxes(r) // a question that cannot be answered is an answer, not a stream
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-store, no-transform")
		h.Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
		if err := s.run(r, first, boxes); err != nil && !errors.Is(err, errGone) {
			p.log.Warn("event stream ended", "path", r.URL.Path, "error", err)
		}
		return nil
	}
}

// enter takes a place for an event stream. Whoever entered must leave.
func (p *Panel) enter(r *http.Request) (leave func(), err error) {
	who, _ := p.deps.Auth.Identify(r)
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	full := p.watching[who.User] >= maxPersonal
	if !full {
		select {
		case p.tokens <- struct{}{}:
		default:
			full = true
		}
	}
	if full {
		p.metrics.refused.Inc()
		return nil, &fleet.Error{Kind: fleet.KindBusy, Message: "Too many pages are open at once to keep this one live.", Hint: "The page tries again by itself; reload it to see new numbers."}
	}
	p.watching[who.User]++
	return func() {
		p.watchMu.Lock()
		defer p.watchMu.Unlock()
		<-p.tokens
		if p.watching[who.User]--; p.watching[who.User] == 0 {
			delete(p.watching, who.User)
		}
	}, nil
}

// errGone means that the browser does not take our events any more.
var errGone = errors.New("panel: browser is gone")

// eventStream is one open page. Used by one goroutine.
type eventStream struct {
	panel  *Panel
	w      http.ResponseWriter
	rc     *http.ResponseController
	seed   maphash.Seed
	sent   map[string]uint64 // hash of what the page has, by box
	asOfMs int64
}

func (s *eventStream) run(r *http.Request, first update, boxes func(*http.Request) (update, error)) error {
	reports := s.panel.deps.Reports
	changed := reports.Changed()
	if err := s.hello(); err != nil {
		return err
	}
	if err := s.patch(first); err != nil {
		return err
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	end := time.NewTimer(streamLife + rand.N(streamLife/4))
	defer end.Stop()
	var due <-chan time.Time // set while a change waits for its turn
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.panel.stopped:
			return nil
		case <-end.C:
			return s.send("bye", 0, map[string]any{"now_ms": reports.Clock().UnixMilli()})
		case <-beat.C:
			// Who was logged out, or removed, sees no more from here on. The page connects
			// again and is told to sign in.
			if _, ok := s.panel.deps.Auth.Identify(r); !ok {
				return s.send("bye", 0, map[string]any{"now_ms": reports.Clock().UnixMilli()})
			}
			if err := s.send("beat", 0, map[string]any{"now_ms": reports.Clock().UnixMilli(), "as_of_ms": s.asOfMs}); err != nil {
				return err
			}
		case <-changed:
			changed = nil
			due = time.After(patchEvery)
		case <-due:
			// The channel is taken before the boxes are made, so that no change is missed.
			due, changed = nil, reports.Changed()
			u, err := boxes(r)
			if err != nil {
				return err
			}
			if err := s.patch(u); err != nil {
				return err
			}
		}
	}
}

func (s *eventStream) hello() error {
	return s.send("hello", 1000+rand.IntN(2000), map[string]any{
		"now_ms": s.panel.deps.Reports.Clock().UnixMilli(), "build": s.panel.assets.build, "beat_ms": beatEvery.Milliseconds(),
	})
}

// patch sends the boxes that are not what the page has.
func (s *eventStream) patch(u update) error {
	s.asOfMs = u.AsOfMs
	out := map[string]string{}
	for _, b := range u.Boxes {
		var text bytes.Buffer
		if err := s.panel.pages.part(&text, b.Part, b.Data); err != nil {
			return fmt.Errorf("render %s: %w", b.Part, err)
		}
		sum := maphash.Bytes(s.seed, text.Bytes())
		if have, ok := s.sent[b.ID]; ok && have == sum {
			continue
		}
		s.sent[b.ID] = sum
		out[b.ID] = text.String()
	}
	return s.send("patch", 0, map[string]any{"now_ms": s.panel.deps.Reports.Clock().UnixMilli(), "as_of_ms": u.AsOfMs, "boxes": out})
}

// send writes one event. The id is the version of the data, for whoever reads the
// stream with other eyes than ours: a page always gets its whole state on connecting.
func (s *eventStream) send(event string, retryMs int, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if retryMs > 0 {
		fmt.Fprintf(&b, "retry: %d\n", retryMs)
	}
	fmt.Fprintf(&b, "event: %s\nid: %d\ndata: %s\n\n", event, s.panel.deps.Reports.Version(), text)
	// Not every ResponseWriter has deadlines (tests); a write without one still ends
	// when the connection does.
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return errGone
	}
	if err := s.rc.Flush(); err != nil {
		return errGone
	}
	s.panel.metrics.events.With(event).Inc()
	return nil
}
