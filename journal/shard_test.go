package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vigil/bus"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
)

// fakeStream is a shard's stream in memory: takes says how long a publish lasts and
// how it ends.
type fakeStream struct {
	takes func(n int) (time.Duration, error)

	mu        sync.Mutex
	published int
	messages  []bus.Message
}

func (f *fakeStream) Publish(ctx context.Context, data []byte) (uint64, error) {
	f.mu.Lock()
	f.published++
	n := f.published
	f.mu.Unlock()
	took, err := f.takes(n)
	select {
	case <-time.After(took):
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", bus.ErrUnavailable, ctx.Err())
	}
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	seq := uint64(len(f.messages) + 1)
	f.messages = append(f.messages, bus.Message{Seq: seq, At: time.Now(), Data: data})
	return seq, nil
}

func (f *fakeStream) State(context.Context) (bus.StreamState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := uint64(len(f.messages))
	return bus.StreamState{FirstSeq: 1, LastSeq: n, Messages: n}, nil
}

func (f *fakeStream) At(context.Context, uint64) (time.Time, error) {
	return time.Time{}, bus.ErrMissing
}
func (f *fakeStream) PurgeThrough(context.Context, uint64) error { return nil }
func (f *fakeStream) Read(ctx context.Context, after uint64, fn func(bus.Message) error) error {
	f.mu.Lock()
	messages := f.messages[after:]
	f.mu.Unlock()
	for _, m := range messages {
		if err := fn(m); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func steady(d time.Duration) func(int) (time.Duration, error) {
	return func(int) (time.Duration, error) { return d, nil }
}

// fakeJournal is a journal over fake streams. Call inside a synctest bubble.
func fakeJournal(t *testing.T, h *health.Registry, streams ...*fakeStream) *Journal {
	t.Helper()
	j := newJournal(Options{Health: h, Config: config.Journal{PublishTimeout: 500 * time.Millisecond}})
	for i, f := range streams {
		j.add(&shard{name: fmt.Sprint("shard-", i), stream: f})
	}
	j.start()
	t.Cleanup(func() { j.Close() })
	return j
}

func TestSlowShardDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &fakeStream{takes: steady(3 * time.Second)}
		j := fakeJournal(t, nil, slow, &fakeStream{takes: steady(2 * time.Millisecond)}, &fakeStream{takes: steady(2 * time.Millisecond)})
		const writers, each = 30, 50
		var writing sync.WaitGroup
		var mu sync.Mutex
		worst, late := time.Duration(0), 0
		for w := range writers {
			writing.Go(func() {
				for seq := range uint64(each) {
					began := time.Now()
					if err := j.Append(t.Context(), entry(fmt.Sprint(w), seq+1)); err != nil {
						t.Errorf("Append: %v", err)
					}
					took := time.Since(began)
					mu.Lock()
					worst = max(worst, took)
					if took > 50*time.Millisecond {
						late++
					}
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		writing.Wait()
		// Whoever met the slow shard went on elsewhere after the publish timeout.
		if worst > 510*time.Millisecond {
			t.Errorf("worst append took %v", worst)
		}
		if late > writers {
			t.Errorf("%d of %d appends were held up by the slow shard", late, writers*each)
		}
	})
}

func TestEntryGoesToAnotherShardWhenOneFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := &fakeStream{takes: func(int) (time.Duration, error) { return time.Millisecond, bus.ErrUnavailable }}
		sound := &fakeStream{takes: steady(time.Millisecond)}
		h := health.New(time.Now)
		j := fakeJournal(t, h, broken, sound)
		for seq := range uint64(100) {
			if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
				t.Fatalf("Append %d: %v", seq+1, err)
			}
		}
		if n := broken.published; n > 3 {
			t.Errorf("a failing shard was tried %d times in a row", n)
		}
		if list := h.List(); len(list) != 0 {
			t.Errorf("conditions = %v: one failing shard of two is not trouble for agents", list)
		}
		if got := len(sound.messages); got != 100 {
			t.Errorf("%d entries are durable, want 100", got)
		}
	})
}

// The acknowledgement that is lost is the worst case: the entry may be stored. It must
// be given to another shard, never be reported as lost while one works.
func TestSilentShardIsBypassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := &fakeStream{takes: steady(time.Hour)}
		sound := &fakeStream{takes: steady(time.Millisecond)}
		j := fakeJournal(t, nil, silent, sound)
		for seq := range uint64(20) {
			began := time.Now()
			if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
				t.Fatalf("Append: %v", err)
			}
			if took := time.Since(began); took > 502*time.Millisecond {
				t.Errorf("Append took %v, want at most the publish timeout and one publish", took)
			}
		}
		if got := len(sound.messages); got != 20 {
			t.Errorf("%d entries are durable, want 20", got)
		}
	})
}

func TestNothingIsAcknowledgedWhenNoShardAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		works := false
		takes := func(int) (time.Duration, error) {
			if works {
				return time.Millisecond, nil
			}
			return time.Millisecond, bus.ErrUnavailable
		}
		h := health.New(time.Now)
		j := fakeJournal(t, h, &fakeStream{takes: takes}, &fakeStream{takes: takes})
		err := j.Append(t.Context(), entry("edge", 1))
		if !errors.Is(err, ErrNoShard) || fleet.KindOf(err) != fleet.KindUnavailable {
			t.Fatalf("Append = %v, want ErrNoShard, unavailable", err)
		}
		if list := h.List(); len(list) != 1 || list[0].Code != conditionUnavailable {
			t.Errorf("conditions = %+v", list)
		}
		works = true
		time.Sleep(time.Minute)
		if err := j.Append(t.Context(), entry("edge", 1)); err != nil {
			t.Errorf("Append when it works again: %v", err)
		}
		if list := h.List(); len(list) != 0 {
			t.Errorf("conditions after it works again = %+v", list)
		}
	})
}

func TestAppendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := fakeJournal(t, nil, &fakeStream{takes: steady(time.Hour)})
		ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := j.Append(ctx, entry("edge", 1))
		if !errors.Is(err, context.DeadlineExceeded) || fleet.KindOf(err) != fleet.KindUnavailable {
			t.Errorf("Append = %v", err)
		}
		if took := time.Since(began); took != 800*time.Millisecond {
			t.Errorf("Append took %v", took)
		}
	})
}

func TestDamagedMessageIsNamedAndCanBePassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStream{takes: steady(0)}
		j := fakeJournal(t, nil, f)
		for seq := range uint64(3) {
			if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
				t.Fatal(err)
			}
		}
		f.messages[1].Data[len(f.messages[1].Data)-1] ^= 1
		var got []uint64
		read := func(after uint64) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return j.Read(ctx, "shard-0", after, func(m Message) error { got = append(got, m.Seq); return nil })
		}
		err := read(0)
		damaged, ok := errors.AsType[*DamagedError](err)
		if !ok || damaged.Seq != 2 || !errors.Is(err, ErrDamaged) {
			t.Fatalf("Read = %v, want message 2 damaged", err)
		}
		if err := read(damaged.Seq); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read behind the damage = %v", err)
		}
		if len(got) != 2 || got[0] != 1 || got[1] != 3 {
			t.Errorf("read %v, want 1 and 3", got)
		}
	})
}

// A shard that lost its end: what storage knows is ahead of it, and new messages take
// the numbers of the lost ones. The reader is told where the new ones begin.
func TestLostEndIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStream{takes: steady(0)}
		j := fakeJournal(t, nil, f)
		for seq := range uint64(10) {
			if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
				t.Fatal(err)
			}
		}
		// Storage has read 8 messages of an earlier life; this life began with none.
		err := j.Read(t.Context(), "shard-0", 8, func(Message) error { return nil })
		ahead, ok := errors.AsType[*AheadError](err)
		if !ok || ahead.Last != 0 {
			t.Fatalf("Read = %v, want ahead of 0", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		if err := j.Read(ctx, "shard-0", ahead.Last, func(Message) error { n++; return nil }); !errors.Is(err, context.DeadlineExceeded) || n != 10 {
			t.Errorf("Read after %d: %v, %d messages", ahead.Last, err, n)
		}
		// What this journal delivered may be asked for.
		if err := j.Read(ctx, "shard-0", 8, func(Message) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read after a delivered position = %v", err)
		}
	})
}

func TestQueueOfAShardIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := fakeJournal(t, nil, &fakeStream{takes: steady(time.Hour)})
		s := j.shards[0]
		e := entry("edge", 1)
		var err error
		n := 0
		for ; err == nil && n <= 2*maxWaiting; n++ {
			err = s.add(&waiter{entry: &e, size: 100, results: make(chan error, 1)})
		}
		if !errors.Is(err, errShardBusy) || n < maxWaiting {
			t.Errorf("add number %d = %v", n, err)
		}
	})
}
