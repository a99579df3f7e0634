package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vigil/health"
)

// countLog counts the lines that say something.
type countLog struct {
	slog.Handler
	needle string
	seen   *atomic.Int64
}

func (c countLog) Enabled(context.Context, slog.Level) bool { return true }
func (c countLog) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c countLog) WithGroup(string) slog.Handler            { return c }
func (c countLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.needle) {
		c.seen.Add(1)
	}
	return nil
}

// A server that makes streams as fast as it can, watched as often as possible, is busy
// and not broken: beginning its storage anew would take away the streams of everybody.
func TestBusyServerIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	var anew atomic.Int64
	h := health.New(nil)
	b, err := open(t.Context(), Options{
		Name: "busy", Dir: t.TempDir(), Health: h, Log: slog.New(countLog{needle: "begun anew", seen: &anew}),
	}, watchTiming{every: time.Millisecond, confirm: 2 * time.Second, backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for n := range 60 {
		s := openStream(t, b, StreamConfig{Name: fmt.Sprint("stream-", n)})
		if _, err := s.Publish(t.Context(), []byte("here")); err != nil {
			t.Fatalf("publish to stream %d: %v", n, err)
		}
		if _, err := s.State(t.Context()); err != nil {
			t.Fatalf("ask for the state of stream %d: %v", n, err)
		}
	}
	if anew.Load() != 0 || len(h.List()) != 0 {
		t.Errorf("storage was begun anew %d times, conditions %+v", anew.Load(), h.List())
	}
}
