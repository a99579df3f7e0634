package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"vigil/durable"
)

func openBus(t *testing.T, dir string) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Options{Name: "test", Dir: dir})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func openStream(t *testing.T, b *Bus, cfg StreamConfig) *Stream {
	t.Helper()
	s, err := b.OpenStream(t.Context(), cfg)
	if err != nil {
		t.Fatalf("OpenStream(%+v): %v", cfg, err)
	}
	return s
}

// readAll reads through the given number.
func readAll(t *testing.T, s *Stream, after, through uint64) []Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []Message
	enough := errors.New("enough")
	err := s.Read(ctx, after, func(m Message) error {
		got = append(got, m)
		if m.Seq >= through {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("Read(after %d) through %d: %v after %d messages", after, through, err, len(got))
	}
	return got
}

func TestPublishedMessagesAreThereAfterReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	s := openStream(t, b, StreamConfig{Name: "one", Metadata: map[string]string{"id": "first"}})
	for i := range 10 {
		seq, err := s.Publish(t.Context(), fmt.Appendf(nil, "message %d", i+1))
		if err != nil || seq != uint64(i+1) {
			t.Fatalf("Publish %d = %d, %v", i+1, seq, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	b = openBus(t, dir)
	if b.StartTook() <= 0 {
		t.Errorf("StartTook = %v", b.StartTook())
	}
	s = openStream(t, b, StreamConfig{Name: "one", Metadata: map[string]string{"id": "second"}})
	if got := s.Metadata()["id"]; got != "first" {
		t.Errorf("metadata id = %q, want that of the first opening", got)
	}
	for i, m := range readAll(t, s, 4, 10) {
		if want := fmt.Sprintf("message %d", i+5); string(m.Data) != want || m.Seq != uint64(i+5) || m.At.IsZero() {
			t.Errorf("message %d = %d %q at %v", i, m.Seq, m.Data, m.At)
		}
	}
	if _, err := s.Publish(t.Context(), make([]byte, MaxMessageBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Publish of too much = %v", err)
	}
	names, err := b.StreamNames(t.Context())
	if err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("StreamNames = %v, %v", names, err)
	}
}

func TestTwoBusesCannotShareADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openBus(t, dir)
	if _, err := Open(t.Context(), Options{Name: "other", Dir: dir}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	other := openBus(t, t.TempDir())
	openStream(t, other, StreamConfig{Name: "one"})
}

func TestFullStreamRefusesAndDiscardsNothing(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := openStream(t, b, StreamConfig{Name: "small", MaxBytes: 64 << 10})
	var stored uint64
	for {
		_, err := s.Publish(t.Context(), make([]byte, 10<<10))
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatalf("Publish into a full stream = %v, want ErrFull", err)
			}
			break
		}
		stored++
	}
	state, err := s.State(t.Context())
	if err != nil || state.FirstSeq != 1 || state.Messages != stored || stored < 5 {
		t.Errorf("state = %+v, %v; stored %d", state, err, stored)
	}
	if err := s.PurgeThrough(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), make([]byte, 10<<10)); err != nil {
		t.Errorf("Publish after a purge: %v", err)
	}
	if _, err := s.At(t.Context(), 2); !errors.Is(err, ErrMissing) {
		t.Errorf("At of a purged message = %v", err)
	}
	if at, err := s.At(t.Context(), 4); err != nil || time.Since(at) > time.Minute {
		t.Errorf("At(4) = %v, %v", at, err)
	}
}

// The storage of the server is begun anew, as the watch does after a write error: a
// reader and a publisher go on.
func TestReaderAndPublisherSurviveARestartOfTheStorage(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := openStream(t, b, StreamConfig{Name: "one"})
	for range 3 {
		if _, err := s.Publish(t.Context(), []byte("before")); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan Message, 10)
	go s.Read(t.Context(), 0, func(m Message) error { got <- m; return nil })
	for want := uint64(1); want <= 3; want++ {
		if m := <-got; m.Seq != want {
			t.Fatalf("read %d, want %d", m.Seq, want)
		}
	}
	if err := b.restartStorage(); err != nil {
		t.Fatalf("restartStorage: %v", err)
	}
	seq, err := s.Publish(t.Context(), []byte("after"))
	if err != nil || seq != 4 {
		t.Fatalf("Publish after restart = %d, %v", seq, err)
	}
	select {
	case m := <-got:
		if m.Seq != 4 || string(m.Data) != "after" {
			t.Errorf("read %d %q, want 4 after", m.Seq, m.Data)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the reader did not go on")
	}
}

func TestBucketComparesRevisions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	k, err := b.OpenBucket(t.Context(), BucketConfig{Name: "things"})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := k.Create(t.Context(), "a", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), "a", []byte("2"), 0); !errors.Is(err, ErrRevision) {
		t.Errorf("second Create = %v, want ErrRevision", err)
	}
	rev2, err := k.Update(t.Context(), "a", []byte("3"), rev)
	if err != nil || rev2 <= rev {
		t.Errorf("Update = %d, %v", rev2, err)
	}
	if _, err := k.Update(t.Context(), "a", []byte("4"), rev); !errors.Is(err, ErrRevision) {
		t.Errorf("stale Update = %v, want ErrRevision", err)
	}
	if err := k.Delete(t.Context(), "a", rev); !errors.Is(err, ErrRevision) {
		t.Errorf("stale Delete = %v, want ErrRevision", err)
	}
	if _, err := k.Create(t.Context(), "short", []byte("x"), time.Second); err != nil {
		t.Fatal(err)
	}
	changes := make(chan Change, 10)
	go k.Watch(t.Context(), 0, func(c Change) error { changes <- c; return nil })
	next := func() Change {
		select {
		case c := <-changes:
			return c
		case <-time.After(20 * time.Second):
			t.Fatal("no change seen")
			return Change{}
		}
	}
	if c := next(); c.Key != "a" || string(c.Value) != "3" || c.Revision != rev2 || c.Deleted {
		t.Errorf("first change = %+v", c)
	}
	if c := next(); c.Key != "short" || c.Deleted {
		t.Errorf("second change = %+v", c)
	}
	if c := next(); c.Key != "short" || !c.Deleted {
		t.Errorf("expiry = %+v, want a deletion", c)
	}
	if err := k.Delete(t.Context(), "a", rev2); err != nil {
		t.Fatal(err)
	}
	if c := next(); c.Key != "a" || !c.Deleted || c.Value != nil {
		t.Errorf("deletion = %+v", c)
	}
	if err := k.Delete(t.Context(), "never", 0); err != nil {
		t.Errorf("Delete of nothing = %v", err)
	}
}

func TestOpenRefusesBadNames(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Options{Name: "a b", Dir: t.TempDir()}); err == nil {
		t.Error("Open took a name with a space")
	}
	if _, err := Open(t.Context(), Options{Name: "a"}); err == nil {
		t.Error("Open took no directory")
	}
}

func TestReadEndsWhenTheBusCloses(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := openStream(t, b, StreamConfig{Name: "one"})
	ended := make(chan error, 1)
	go func() { ended <- s.Read(context.Background(), 0, func(Message) error { return nil }) }()
	time.Sleep(100 * time.Millisecond) // let it begin: either way it must end
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Read after Close = %v, want ErrClosed", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Read did not end")
	}
}
