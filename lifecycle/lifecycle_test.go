package lifecycle

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// diary notes what happens in which order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) part(name string) Part {
	return Part{Name: name, Run: func(ctx context.Context, ready func()) error {
		d.add("start " + name)
		ready()
		ready() // twice does no harm
		<-ctx.Done()
		d.add("stop " + name)
		return nil
	}}
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("what happened: %q, want %q", d.lines, want)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		if err := Run(ctx, nil, d.part("a"), d.part("b"), d.part("c")); err != nil {
			t.Errorf("Run = %v, want nil after an orderly stop", err)
		}
		d.expect(t, "start a", "start b", "start c", "stop c", "stop b", "stop a")
	})
}

func TestPartThatCannotStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		broken := errors.New("broken")
		err := Run(t.Context(), nil, d.part("a"),
			Part{Name: "b", Run: func(context.Context, func()) error { return broken }}, d.part("c"))
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "b: ") || strings.Count(err.Error(), "broken") != 1 {
			t.Errorf("Run = %v, want the error of b, once", err)
		}
		d.expect(t, "start a", "stop a")
	})
}

func TestPartThatFailsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		broken := errors.New("broken")
		err := Run(t.Context(), nil, d.part("a"), Part{Name: "b", Run: func(_ context.Context, ready func()) error {
			ready()
			time.Sleep(time.Minute)
			return broken
		}}, d.part("c"))
		if !errors.Is(err, broken) || strings.Count(err.Error(), "broken") != 1 {
			t.Errorf("Run = %v, want the error of b, once", err)
		}
		d.expect(t, "start a", "start c", "stop c", "stop a")
	})
}

func TestPartThatFailsWhileAnotherStarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		err := Run(t.Context(), nil,
			Part{Name: "a", Run: func(_ context.Context, ready func()) error {
				ready()
				time.Sleep(time.Minute)
				return broken
			}},
			Part{Name: "never ready", Run: func(ctx context.Context, _ func()) error {
				<-ctx.Done()
				return ctx.Err()
			}})
		if !errors.Is(err, broken) || errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want only the error of a", err)
		}
	})
}

func TestPartThatIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		once := Part{Name: "once", Run: func(context.Context, func()) error { return nil }}
		if err := Run(ctx, nil, once, d.part("a")); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		d.expect(t, "start a", "stop a")
	})
}

func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		slow := Part{Name: "slow", Run: func(ctx context.Context, _ func()) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		if err := Run(ctx, nil, d.part("a"), slow, d.part("b")); err != nil {
			t.Errorf("Run = %v, want nil: being stopped is not a failure", err)
		}
		d.expect(t, "start a", "stop a")
		if err := Run(ctx, nil, d.part("never")); err != nil {
			t.Errorf("Run with an ended context = %v, want nil", err)
		}
	})
}

func TestStuckPartIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		drained := make(chan struct{})
		stuck := Part{Name: "stuck", StopTimeout: 5 * time.Second, Run: func(ctx context.Context, ready func()) error {
			ready()
			<-Drain(ctx).Done() // ends at the deadline, not before
			close(drained)
			time.Sleep(time.Hour)
			return nil
		}}
		begin := time.Now()
		err := Run(ctx, nil, d.part("a"), stuck)
		if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("Run = %v, want ErrStuck with the name of the part", err)
		}
		if took := time.Since(begin); took != time.Minute+5*time.Second {
			t.Errorf("stopping ended after %v, want a minute and the part's deadline", took)
		}
		<-drained
		d.expect(t, "start a", "stop a")
		time.Sleep(time.Hour)
	})
}

func TestErrorWhileStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("lost")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := Run(ctx, nil, Part{Name: "a", Run: func(ctx context.Context, ready func()) error {
			ready()
			<-ctx.Done()
			return lost
		}})
		if !errors.Is(err, lost) {
			t.Errorf("Run = %v, want the error of stopping", err)
		}
	})
}

func TestDrainOutsideOfAPart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Drain(ctx).Err(); err != nil {
		t.Errorf("Drain ended with its parent: %v", err)
	}
}

func TestSignals(t *testing.T) { // not parallel: signals reach the whole process
	var clock, seen atomic.Int64 // nanoseconds that passed; signals that were looked at
	looked, aborted := make(chan struct{}, 3), make(chan int64, 1)
	now := func() time.Time {
		seen.Add(1)
		looked <- struct{}{}
		return time.Unix(1, clock.Load())
	}
	ctx, release := signalContext(t.Context(), noLog(), now, func() { aborted <- seen.Load() })
	defer release()
	kill := func() {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-looked
	}
	kill()
	<-ctx.Done()
	clock.Add(int64(oneSignal) - 1)
	kill() // a repeat of the first
	clock.Add(1)
	kill()
	if n := <-aborted; n != 3 {
		t.Errorf("signal %d aborted, want the third: the second is a repeat of the first", n)
	}
	release()
	release() // twice does no harm
}

func TestMarker(t *testing.T) {
	t.Parallel()
	var content []byte
	m := Marker{
		Read: func() ([]byte, error) {
			if content == nil {
				return nil, fs.ErrNotExist
			}
			return content, nil
		},
		Write:  func(data []byte) error { content = data; return nil },
		Remove: func() error { content = nil; return nil },
	}
	begin := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	if unclean, _, err := m.Begin(begin); err != nil || unclean {
		t.Fatalf("first Begin = %v, %v, want a clean start", unclean, err)
	}
	unclean, since, err := m.Begin(begin.Add(time.Hour))
	if err != nil || !unclean || !since.Equal(begin) {
		t.Errorf("Begin after a crash = %v, %v, %v, want unclean since the first start", unclean, since, err)
	}
	content = []byte("torn")
	if unclean, since, err := m.Begin(begin); err != nil || !unclean || !since.IsZero() {
		t.Errorf("Begin over a torn marker = %v, %v, %v, want unclean without a time", unclean, since, err)
	}
	if err := m.End(); err != nil {
		t.Fatal(err)
	}
	if unclean, _, err := m.Begin(begin); err != nil || unclean {
		t.Errorf("Begin after End = %v, %v, want a clean start", unclean, err)
	}
	broken := errors.New("broken")
	m.Read = func() ([]byte, error) { return nil, broken }
	if _, _, err := m.Begin(begin); !errors.Is(err, broken) {
		t.Errorf("Begin = %v, want the error of reading", err)
	}
	m.Remove = func() error { return broken }
	if err := m.End(); !errors.Is(err, broken) {
		t.Errorf("End = %v, want the error of removing", err)
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	if err := Notify("", NotifyReady); err != nil {
		t.Errorf("Notify without a socket = %v, want nil", err)
	}
	socket := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := Notify(socket, NotifyReady); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("service manager got %q, %v, want READY=1", buf[:n], err)
	}
	if err := Notify(socket+"x", NotifyReady); err == nil {
		t.Error("Notify to a socket that is not there = nil, want an error")
	}
}

func TestServeHTTPDrains(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside, finish := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-finish
		_, _ = io.WriteString(w, "whole")
	})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeHTTP(ctx, ln, server) }()
	answer := make(chan string, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + ln.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-inside
	cancel()
	close(finish)
	if got := <-answer; got != "whole" {
		t.Errorf("a request that ran while the server stopped got %q, want its answer", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("ServeHTTP = %v, want nil", err)
	}
	if err := ServeHTTP(t.Context(), ln, &http.Server{}); err == nil {
		t.Error("ServeHTTP on a closed listener = nil, want an error")
	}
}

func noLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
