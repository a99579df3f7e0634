package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/bus"
	"vigil/config"
	"vigil/fleet"
)

const patience = 30 * time.Second // far beyond what anything here takes

func openBus(tb testing.TB, dir string) *bus.Bus {
	tb.Helper()
	b, err := bus.Open(tb.Context(), bus.Options{Name: "test", Dir: dir})
	if err != nil {
		tb.Fatalf("open bus: %v", err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

func openJournal(tb testing.TB, b *bus.Bus, cfg config.Journal) *Journal {
	tb.Helper()
	j, err := Open(tb.Context(), b, Options{Config: cfg})
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	tb.Cleanup(func() { j.Close() })
	return j
}

func entry(agent string, seq uint64) Entry {
	return Entry{ID: fleet.PacketID{Agent: agent, Epoch: 1, Seq: seq}, FirstSeq: seq, ReceivedMs: 1000, Boot: 9, Payload: fmt.Appendf(nil, "payload of %s %d", agent, seq)}
}

// readCount reads every shard from its beginning until n entries were seen.
func readCount(tb testing.TB, j *Journal, n int) []Entry {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	var got []Entry
	var readers sync.WaitGroup
	for _, shard := range j.Shards() {
		readers.Go(func() {
			var last uint64
			err := j.Read(ctx, shard, 0, func(m Message) error {
				if m.Shard != shard || m.Seq != last+1 {
					tb.Errorf("shard %s: message %s/%d after %d", shard, m.Shard, m.Seq, last)
				}
				last = m.Seq
				mu.Lock()
				defer mu.Unlock()
				if got = append(got, m.Entries...); len(got) >= n {
					cancel()
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				tb.Errorf("Read of %s: %v", shard, err)
			}
		})
	}
	readers.Wait()
	return got
}

func ids(entries []Entry) []string {
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.ID.String()
	}
	slices.Sort(list)
	return list
}

func TestAcknowledgedEntriesAreThereAfterReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	j := openJournal(t, b, config.Journal{Shards: 3, MaxBytes: 64 << 20})
	var want []Entry
	for seq := range uint64(30) {
		e := entry("edge", seq+1)
		if err := j.Append(t.Context(), e); err != nil {
			t.Fatalf("Append: %v", err)
		}
		want = append(want, e)
	}
	shards := j.Shards()
	j.Close()
	if err := j.Append(t.Context(), entry("edge", 99)); !errors.Is(err, ErrClosed) || fleet.KindOf(err) != fleet.KindUnavailable {
		t.Errorf("Append after Close = %v, want ErrClosed, unavailable", err)
	}
	b.Close()

	j = openJournal(t, openBus(t, dir), config.Journal{Shards: 3, MaxBytes: 64 << 20})
	if !slices.Equal(j.Shards(), shards) {
		t.Errorf("shards = %v, were %v", j.Shards(), shards)
	}
	if got := ids(readCount(t, j, 30)); !slices.Equal(got, ids(want)) {
		t.Errorf("read %v, want %v", got, ids(want))
	}
}

func TestManyWritersShareOneSync(t *testing.T) {
	t.Parallel()
	j := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 1, MaxBytes: 64 << 20, PublishTimeout: patience})
	const writers, each = 64, 10
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for seq := range uint64(each) {
				if err := j.Append(t.Context(), entry(fmt.Sprint("edge-", w), seq+1)); err != nil {
					t.Errorf("Append: %v", err)
				}
			}
		})
	}
	writing.Wait()
	stats := j.Stats()
	if stats.EntriesAppended != writers*each || stats.EntriesFailed != 0 {
		t.Errorf("stats = %+v, want %d appended", stats, writers*each)
	}
	if stats.MessagesAppended*4 > stats.EntriesAppended {
		t.Errorf("%d publishes for %d entries: no group commit", stats.MessagesAppended, stats.EntriesAppended)
	}
	if last, err := j.Last(t.Context(), j.Shards()[0]); err != nil || last != stats.MessagesAppended {
		t.Errorf("Last = %d, %v; %d messages were appended", last, err, stats.MessagesAppended)
	}
	if got := readCount(t, j, writers*each); len(got) != writers*each {
		t.Errorf("read %d entries, want %d", len(got), writers*each)
	}
}

func TestReaderFollowsAndResumes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBus(t, dir)
	j := openJournal(t, b, config.Journal{Shards: 1, MaxBytes: 64 << 20})
	shard := j.Shards()[0]
	seen := make(chan Message, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Read(ctx, shard, 0, func(m Message) error { seen <- m; return nil }) }()
	for seq := range uint64(5) {
		if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
			t.Fatal(err)
		}
		if m := <-seen; m.Seq != seq+1 || m.Entries[0].ID.Seq != seq+1 {
			t.Fatalf("followed %+v, want %d", m, seq+1)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Read ended with %v", err)
	}
	j.Close()
	b.Close()

	j = openJournal(t, openBus(t, dir), config.Journal{Shards: 1, MaxBytes: 64 << 20})
	if err := j.Append(t.Context(), entry("edge", 6)); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var got []uint64
	err := j.Read(t.Context(), shard, 3, func(m Message) error {
		got = append(got, m.Seq)
		if m.Seq == 6 {
			return enough
		}
		return nil
	})
	if err != enough || !slices.Equal(got, []uint64{4, 5, 6}) {
		t.Errorf("resumed after 3: %v, %v; want 4 5 6", got, err)
	}
}

func TestReadSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	j := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 1, MaxBytes: 64 << 20})
	shard := j.Shards()[0]
	for seq := range uint64(10) {
		if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	readCount(t, j, 10)
	if err := j.Purge(t.Context(), shard, 6); err != nil {
		t.Fatal(err)
	}
	err := j.Read(t.Context(), shard, 4, func(Message) error { t.Error("a message was given"); return nil })
	gap, ok := errors.AsType[*GapError](err)
	if !ok || gap.Missing != (fleet.SeqRange{First: 5, Last: 6}) {
		t.Fatalf("Read after 4 = %v, want a gap of 5 to 6", err)
	}
	enough := errors.New("enough")
	if err := j.Read(t.Context(), shard, gap.Missing.Last, func(m Message) error {
		if m.Seq != 7 {
			t.Errorf("first message behind the gap is %d", m.Seq)
		}
		return enough
	}); err != enough {
		t.Errorf("Read behind the gap = %v", err)
	}
	err = j.Read(t.Context(), shard, 11, func(Message) error { return nil })
	ahead, ok := errors.AsType[*AheadError](err)
	if !ok || ahead.Last != 0 || ahead.After != 11 {
		t.Errorf("Read after 11 = %v, want ahead of 0", err)
	}
	if err := j.Read(t.Context(), "nosuch", 0, nil); !errors.Is(err, ErrUnknownShard) {
		t.Errorf("Read of an unknown shard = %v", err)
	}
	// Everything purged: still a gap for those who have not seen it.
	if err := j.Purge(t.Context(), shard, 10); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*GapError](j.Read(t.Context(), shard, 9, nil)); !ok {
		t.Error("an empty shard hid that message 10 is missing")
	}
}

// A new journal in place of a lost one has other shard names, so old positions cannot
// be used by mistake.
func TestNewJournalHasNewShardNames(t *testing.T) {
	t.Parallel()
	a := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 2, MaxBytes: 1 << 20})
	b := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 2, MaxBytes: 1 << 20})
	for i := range 2 {
		if a.Shards()[i] == b.Shards()[i] || !strings.HasPrefix(a.Shards()[i], fmt.Sprint(i, "-")) {
			t.Errorf("shards %v and %v", a.Shards(), b.Shards())
		}
	}
}

func TestFewerShardsStillReadTheOldOnes(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	j := openJournal(t, b, config.Journal{Shards: 3, MaxBytes: 64 << 20})
	for seq := range uint64(12) {
		if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	old := j.Shards()
	j.Close()
	j = openJournal(t, b, config.Journal{Shards: 1, MaxBytes: 64 << 20})
	if !slices.Equal(j.Shards(), old) || len(j.writable) != 1 {
		t.Fatalf("shards = %v, writable %d; were %v", j.Shards(), len(j.writable), old)
	}
	if got := readCount(t, j, 12); len(got) != 12 {
		t.Errorf("read %d entries, want 12", len(got))
	}
}

func TestFullJournalRefusesUntilStorageApplied(t *testing.T) {
	t.Parallel()
	j := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 2, MaxBytes: 400 << 10})
	big := entry("edge", 1)
	big.Payload = make([]byte, 20<<10)
	appended := 0
	var err error
	for err == nil {
		big.ID.Seq++
		if err = j.Append(t.Context(), big); err == nil {
			appended++
		}
		if appended > 30 {
			t.Fatal("the journal takes more than its size")
		}
	}
	if !errors.Is(err, ErrFull) || fleet.KindOf(err) != fleet.KindUnavailable {
		t.Fatalf("Append into a full journal = %v", err)
	}
	usage, err := j.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := uint64(0)
	for _, u := range usage {
		kept += u.Messages
		if u.FirstSeq != 1 || u.LimitBytes != 200<<10 {
			t.Errorf("usage %+v: something was discarded", u)
		}
		// Nothing is dropped before storage has it.
		if err := j.retain(t.Context(), j.shard(u.Shard)); err != nil {
			t.Fatal(err)
		}
	}
	if int(kept) != appended {
		t.Errorf("%d messages kept, %d appended", kept, appended)
	}
	readCount(t, j, appended)
	for _, u := range usage {
		if err := j.Applied(u.Shard, u.LastSeq-1); err != nil {
			t.Fatal(err)
		}
		if err := j.retain(t.Context(), j.shard(u.Shard)); err != nil {
			t.Fatal(err)
		}
	}
	after, err := j.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range after {
		if u.Bytes > u.LimitBytes/2 || u.LastSeq != usage[i].LastSeq || u.Messages == 0 {
			t.Errorf("usage after retain = %+v, was %+v", u, usage[i])
		}
	}
	if err := j.Append(t.Context(), big); err != nil {
		t.Errorf("Append after room was made: %v", err)
	}
	if err := j.Append(t.Context(), Entry{Payload: make([]byte, MaxPayloadBytes+1)}); !errors.Is(err, ErrTooLarge) || fleet.KindOf(err) != fleet.KindTooLarge {
		t.Errorf("Append of too much = %v", err)
	}
}

func TestLargestPayloadIsTaken(t *testing.T) {
	t.Parallel()
	j := openJournal(t, openBus(t, t.TempDir()), config.Journal{Shards: 1, MaxBytes: 64 << 20, PublishTimeout: patience})
	e := entry(strings.Repeat("a", maxAgentBytes), 1)
	e.Payload = make([]byte, MaxPayloadBytes)
	if err := j.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got := readCount(t, j, 1); len(got[0].Payload) != MaxPayloadBytes {
		t.Errorf("read %d bytes, want %d", len(got[0].Payload), MaxPayloadBytes)
	}
}

func TestOldAppliedMessagesAreDropped(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	now := time.Now
	j, err := Open(t.Context(), b, Options{Config: config.Journal{Shards: 1, MaxBytes: 64 << 20, MaxAge: time.Hour}, Now: func() time.Time { return now() }})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	shard := j.Shards()[0]
	for seq := range uint64(20) {
		if err := j.Append(t.Context(), entry("edge", seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	s := j.shard(shard)
	if _, ok := errors.AsType[*AheadError](j.Applied(shard, 15)); !ok {
		t.Error("Applied takes a position that nobody can have read")
	}
	readCount(t, j, 20)
	if err := j.Applied(shard, 15); err != nil {
		t.Fatal(err)
	}
	if err := j.retain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if u, _ := j.Usage(t.Context()); u[0].Messages != 20 {
		t.Errorf("young messages were dropped: %+v", u[0])
	}
	// The instant at which message 8 was stored: those before it are too old.
	cut, err := s.stream.At(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	j.now = func() time.Time { return cut.Add(time.Hour) }
	if err := j.retain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if u, _ := j.Usage(t.Context()); u[0].FirstSeq != 8 {
		t.Errorf("first kept message is %d, want 8", u[0].FirstSeq)
	}
	j.now = func() time.Time { return cut.Add(100 * time.Hour) }
	if err := j.retain(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if u, _ := j.Usage(t.Context()); u[0].FirstSeq != 16 || u[0].AppliedSeq != 15 {
		t.Errorf("first kept message is %d, want 16: what is not applied stays", u[0].FirstSeq)
	}
}

func TestDropForRoomNeverTouchesWhatIsNotApplied(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := bus.StreamState{
			FirstSeq: rapid.Uint64Range(1, 1<<40).Draw(t, "first"),
			Messages: rapid.Uint64Range(1, 1<<40).Draw(t, "messages"),
			Bytes:    rapid.Uint64Range(1, 1<<50).Draw(t, "bytes"),
			MaxBytes: rapid.Uint64Range(1, 1<<50).Draw(t, "max"),
		}
		state.LastSeq = state.FirstSeq + state.Messages - 1
		applied := rapid.Uint64Range(state.FirstSeq, state.LastSeq).Draw(t, "applied")
		got := dropForRoom(state, applied)
		if got > applied {
			t.Fatalf("dropForRoom(%+v, %d) = %d", state, applied, got)
		}
		if state.Bytes > state.MaxBytes && got < state.FirstSeq {
			t.Fatalf("dropForRoom(%+v, %d) = %d: makes no room", state, applied, got)
		}
	})
}
