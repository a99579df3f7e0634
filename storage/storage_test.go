package storage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/live"
	"vigil/store"
	"vigil/store/duckdb"
)

var errFault = errors.New("fault of the test")

// A bench is a storage with a real store and a journal in memory.
type bench struct {
	tb      testing.TB
	dir     string
	journal *memoryJournal
	store   *duckdb.DB
	view    *live.View
	health  *health.Registry
	storage *Storage
	stop    func()
}

func now() time.Time { return start.Add(10 * time.Minute) }

func newBench(tb testing.TB, dir string, j *memoryJournal) *bench {
	tb.Helper()
	b := &bench{tb: tb, dir: dir, journal: j, view: live.New(), health: health.New(now)}
	var err error
	b.store, err = duckdb.Open(context.Background(), duckdb.Options{Dir: filepath.Join(dir, "store"), Config: config.Storage{SealEvery: time.Second}, Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	b.storage, err = New(config.Storage{ApplyEvery: time.Millisecond}, Deps{
		Journal: j, Store: b.store, Live: b.view, Dir: filepath.Join(dir, "storage"), Health: b.health, Now: now,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.storage.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.tb.Errorf("run: %v", err)
		}
		if err := b.store.Close(); err != nil {
			b.tb.Errorf("close: %v", err)
		}
	}
}

// settle waits until everything in the journal is applied.
func (b *bench) settle() {
	b.tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		done := true
		for _, shard := range b.journal.Shards() {
			last, _ := b.journal.Last(context.Background(), shard)
			b.journal.mu.Lock()
			done = done && b.journal.applied[shard] == last
			b.journal.mu.Unlock()
		}
		if done {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	b.tb.Fatalf("not settled: %+v, conditions %+v", b.storage.Stats(), b.health.List())
}

// waitFor waits until a condition is set.
func (b *bench) waitFor(code string) {
	b.tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, c := range b.health.List() {
			if c.Code == code {
				return
			}
		}
	}
	b.tb.Fatalf("condition %s is never set", code)
}

// counted returns the bytes in of every server and the packets of the store.
func (b *bench) counted() (map[string]int64, map[fleet.PacketID]uint64) {
	b.tb.Helper()
	ctx := context.Background()
	w := store.Window{From: start, To: start.Add(2 * time.Hour)}
	bytes := map[string]int64{}
	traffic, err := b.store.StreamTraffic(ctx, w)
	if err != nil {
		b.tb.Fatal(err)
	}
	for server, t := range traffic {
		bytes[server] = t.BytesIn.Or(0)
	}
	rows, err := b.store.PacketRows(ctx, w)
	if err != nil {
		b.tb.Fatal(err)
	}
	packets := map[fleet.PacketID]uint64{}
	for _, r := range rows {
		if _, twice := packets[r.ID]; twice {
			b.tb.Fatalf("packet %v is stored twice", r.ID)
		}
		packets[r.ID] = r.FirstSeq
	}
	return bytes, packets
}

func TestRedeliveryAndReorderOverShards(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(3)
	b := newBench(t, t.TempDir(), j)
	b.start()
	defer func() { b.stop() }()
	var want int64
	for seq := uint64(1); seq <= 30; seq++ {
		e := entryOf(t, makePacket("a", 1, seq, seq))
		want += 2 * bytesOf(seq, seq)
		// In a shard that jumps about, every third one again in another, some in one message.
		j.append(fmt.Sprintf("shard-%d", seq*7%3), e)
		if seq%3 == 0 {
			j.append(fmt.Sprintf("shard-%d", (seq*7+1)%3), e, e)
		}
	}
	b.settle()
	bytes, packets := b.counted()
	if bytes["server-of-a"] != want || len(packets) != 30 {
		t.Errorf("%d bytes of %d packets, want %d of 30", bytes["server-of-a"], len(packets), want)
	}
	if s := b.storage.Stats(); s.PacketsApplied != 30 || s.PacketsDuplicate != 20 || s.RowsApplied != 60 {
		t.Errorf("stats %+v", s)
	}
	set, known := b.storage.Stored("a", 1)
	if !known || set.High() != 30 || len(set.Ahead()) != 0 {
		t.Errorf("stored %+v, %v", set, known)
	}
	if _, known := b.storage.Stored("a", 2); known {
		t.Error("an epoch that was never heard of is known")
	}
	row, found := b.view.Server(now(), "server-of-a")
	if !found || row.AtMs != start.Add(300*time.Second).UnixMilli() {
		t.Errorf("live server %+v", row)
	}
	select {
	case <-b.storage.Ready():
	default:
		t.Error("not ready")
	}
}

func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"apply", "applied", "published"} {
		for _, at := range []int{1, 2, 5} {
			t.Run(fmt.Sprintf("%s %d", step, at), func(t *testing.T) {
				t.Parallel()
				j := newMemoryJournal(2)
				dir := t.TempDir()
				b := newBench(t, dir, j)
				n := 0
				b.storage.step = func(name string) error {
					if name == step {
						if n++; n == at {
							return errFault
						}
					}
					return nil
				}
				b.start()
				var want int64
				for seq := uint64(1); seq <= 12; seq++ {
					j.append(fmt.Sprintf("shard-%d", seq%2), entryOf(t, makePacket("a", 1, seq, seq)))
					want += 2 * bytesOf(seq, seq)
					time.Sleep(2 * time.Millisecond) // so that there are several transactions
				}
				b.settle()
				bytes, packets := b.counted()
				if bytes["server-of-a"] != want || len(packets) != 12 {
					t.Errorf("%d bytes of %d packets, want %d of 12", bytes["server-of-a"], len(packets), want)
				}
				b.stop()
				// A new process finds the same.
				again := newBench(t, dir, j)
				again.start()
				defer func() { again.stop() }()
				again.settle()
				<-again.storage.Ready()
				bytes2, packets2 := again.counted()
				if diff := cmp.Diff(bytes, bytes2); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(packets, packets2); diff != "" {
					t.Error(diff)
				}
				row, found := again.view.Stream(now(), fleet.StreamKey{Server: "server-of-a", App: "live", Name: "stream-1"})
				old, _ := b.view.Stream(now(), fleet.StreamKey{Server: "server-of-a", App: "live", Name: "stream-1"})
				if diff := cmp.Diff(old, row, cmp.AllowUnexported(fleet.Int{})); !found || diff != "" {
					t.Errorf("live view after a restart (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestWhatCannotBeCountedIsTold(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(1)
	b := newBench(t, t.TempDir(), j)
	b.start()
	defer func() { b.stop() }()
	good := entryOf(t, makePacket("a", 1, 1, 1))
	damaged := entryOf(t, makePacket("a", 1, 2, 2))
	damaged.Payload = damaged.Payload[:len(damaged.Payload)/2]
	other := entryOf(t, makePacket("b", 9, 1, 1))
	other.ID, other.FirstSeq = fleet.PacketID{Agent: "a", Epoch: 1, Seq: 3}, 3
	future := makePacket("a", 1, 4, 4)
	future.Snapshots[0].AtMs += (25 * time.Hour).Milliseconds()
	late := entryOf(t, future)
	late.ReceivedMs = start.UnixMilli()
	merged := entryOf(t, makePacket("b", 1, 1, 3)) // 2 is counted, so a part of it is there
	gapped := entryOf(t, makePacket("a", 1, 9, 9, fleet.Gap{FirstSeq: 5, LastSeq: 8, Reason: "spool_full"}, fleet.Gap{FirstSeq: 1, LastSeq: 1 << 60, Reason: "lie"}))
	j.append("shard-0", good, damaged, other)
	j.append("shard-0", late, entryOf(t, makePacket("b", 1, 2, 2)), merged)
	j.append("shard-0", gapped)
	b.settle()
	if s := b.storage.Stats(); s.PacketsApplied != 3 || s.PacketsQuarantined != 3 || s.PacketsConflict != 1 {
		t.Fatalf("stats %+v", s)
	}
	if set, _ := b.storage.Stored("a", 1); set.High() != 9 || len(set.Ahead()) != 0 {
		t.Errorf("stored %+v, want everything up to 9: the agent must not wait", set)
	}
	gaps, err := b.store.Gaps(context.Background(), store.Window{From: start.Add(-time.Hour), To: start.Add(3 * time.Hour)})
	if err != nil || len(gaps) != 4 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	codes := map[string]bool{}
	for _, c := range b.health.List() {
		codes[c.Code] = true
	}
	if !codes["storage-quarantine"] || !codes["storage-conflict"] || codes["storage-failing"] {
		t.Errorf("conditions %v", codes)
	}
	f, err := os.Open(filepath.Join(b.dir, "storage", deadLetterFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for scan := bufio.NewScanner(f); scan.Scan(); lines++ {
		var d deadLetter
		if err := json.Unmarshal(scan.Bytes(), &d); err != nil || len(d.Payload) == 0 || d.Why == "" {
			t.Errorf("dead letter %s: %v", scan.Bytes(), err)
		}
	}
	if lines != 4 {
		t.Errorf("%d dead letters, want 4", lines)
	}
}

func TestJournalThatLostMessages(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(1)
	dir := t.TempDir()
	for seq := uint64(1); seq <= 4; seq++ {
		j.append("shard-0", entryOf(t, makePacket("a", 1, seq, seq)))
	}
	j.dropped["shard-0"] = 2
	b := newBench(t, dir, j)
	b.start()
	b.settle()
	if s := b.storage.Stats(); s.PacketsApplied != 2 {
		t.Errorf("stats %+v", s)
	}
	b.stop()
	// The journal comes back from an older copy: shorter than what was applied.
	j.mu.Lock()
	j.shards["shard-0"], j.dropped["shard-0"], j.applied["shard-0"] = j.shards["shard-0"][:3], 0, 0
	j.mu.Unlock()
	b = newBench(t, dir, j)
	b.start()
	b.waitFor("journal-cut")
	j.append("shard-0", entryOf(t, makePacket("a", 1, 5, 5)))
	b.settle()
	if s := b.storage.Stats(); s.PacketsApplied != 1 {
		t.Errorf("the packet behind the cut was not applied: %+v", s)
	}
	b.stop()
	positions := newBench(t, dir, j)
	list, err := positions.store.Positions(context.Background())
	if err != nil || len(list) != 1 || list[0].Seq != 4 {
		t.Errorf("positions %+v, %v", list, err)
	}
	_ = positions.store.Close()
}

func TestStoreThatFails(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(1)
	b := newBench(t, t.TempDir(), j)
	failing := &failingStore{DB: b.store, applies: 1}
	b.storage.deps.Store = failing
	b.start()
	defer func() { b.stop() }()
	for seq := uint64(1); seq <= 5; seq++ {
		j.append("shard-0", entryOf(t, makePacket("a", 1, seq, seq)))
		time.Sleep(3 * time.Millisecond)
	}
	b.settle()
	if _, packets := b.counted(); len(packets) != 5 || failing.reopened == 0 {
		t.Errorf("%d packets, reopened %d times", len(packets), failing.reopened)
	}
	for _, c := range b.health.List() {
		if c.Code == failingCode {
			t.Error("the condition outlives the failure")
		}
	}
}

// A failingStore stores the batch and then says that it did not.
type failingStore struct {
	*duckdb.DB
	applies, reopened int
}

func (f *failingStore) Apply(ctx context.Context, b *store.Batch) error {
	err := f.DB.Apply(ctx, b)
	if f.applies--; f.applies == 0 {
		return errFault
	}
	return err
}

func (f *failingStore) Reopen(ctx context.Context) error {
	f.reopened++
	return f.DB.Reopen(ctx)
}

// TestExactlyOnce lets agents send single and merged packets and give packets up, those
// that arrive too, in any order, again and again, over several shards, while transactions
// fail with and without being stored and storage is stopped and started: what is counted
// is what was made, and a gap is shown for what was given up and never came, and for
// nothing else.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		j := newMemoryJournal(rapid.IntRange(1, 3).Draw(rt, "shards"))
		disk := newMemoryStore()
		disk.faults = rapid.SliceOfN(rapid.IntRange(0, 5), 0, 20).Draw(rt, "faults")
		want := map[string]int64{}
		givenUp, came := map[sequenced]bool{}, map[sequenced]bool{}
		var sends []journal.Entry
		for _, agent := range []string{"a", "b"} {
			for seq := uint64(1); seq <= uint64(rapid.IntRange(1, 12).Draw(rt, "packets")); {
				last := seq + uint64(max(rapid.IntRange(-4, 3).Draw(rt, "merged"), 0))
				var gaps []fleet.Gap
				if seq > 1 && rapid.Bool().Draw(rt, "gives up") {
					first := rapid.Uint64Range(1, seq-1).Draw(rt, "first")
					gap := fleet.Gap{FirstSeq: first, LastSeq: rapid.Uint64Range(first, seq-1).Draw(rt, "last"), Reason: "spool_full"}
					gaps = append(gaps, gap)
					for n := gap.FirstSeq; n <= gap.LastSeq; n++ {
						givenUp[sequenced{agent, n}] = true
					}
				}
				e := entryOf(t, makePacket(agent, 7, seq, last, gaps...))
				if seq > 1 && rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
					if len(gaps) == 0 { // or nobody would say that those before are lost
						seq = last + 1
						continue
					}
				}
				want["server-of-"+agent] += 2 * bytesOf(seq, last)
				for n := seq; n <= last; n++ {
					came[sequenced{agent, n}] = true
				}
				for range rapid.IntRange(1, 3).Draw(rt, "copies") {
					sends = append(sends, e)
				}
				seq = last + 1
			}
		}
		sends = rapid.Permutation(sends).Draw(rt, "order")
		run := func() (stop func()) {
			s, err := New(config.Storage{ApplyEvery: time.Microsecond}, Deps{Journal: j, Store: disk, Live: live.New(), Dir: filepath.Join(os.TempDir(), "unused"), Now: now})
			if err != nil {
				rt.Fatal(err)
			}
			s.backoff = time.Microsecond
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			return func() { cancel(); <-done }
		}
		stop := run()
		for _, e := range sends {
			j.append(rapid.SampledFrom(j.Shards()).Draw(rt, "shard"), e)
			if rapid.IntRange(0, 5).Draw(rt, "restart") == 0 {
				stop()
				stop = run()
			}
		}
		(&bench{tb: t, journal: j, storage: &Storage{}}).settle()
		stop()
		if diff := cmp.Diff(want, disk.bytes); diff != "" {
			rt.Fatalf("bytes (-made +counted):\n%s", diff)
		}
		maps.DeleteFunc(givenUp, func(s sequenced, _ bool) bool { return came[s] })
		if diff := cmp.Diff(givenUp, disk.shownGaps(), cmpopts.EquateComparable(sequenced{})); diff != "" {
			rt.Fatalf("gaps (-lost +shown):\n%s", diff)
		}
	})
}

// A memoryStore is a store whose transactions are copies of maps. The numbers in faults
// decide the fate of its transactions: 0 fails and stores nothing, 1 stores and fails.
type memoryStore struct {
	ledger    map[store.AgentEpoch]*fleet.Ledger
	positions map[string]uint64
	bytes     map[string]int64
	gaps      []fleet.Gap // with the agent as the reason
	arrived   []store.Arrived
	faults    []int
	broken    bool
}

func newMemoryStore() *memoryStore {
	return &memoryStore{ledger: map[store.AgentEpoch]*fleet.Ledger{}, positions: map[string]uint64{}, bytes: map[string]int64{}}
}

// sequenced is one number of an agent.
type sequenced struct {
	agent string
	seq   uint64
}

// shownGaps are the numbers that a page shows as lost.
func (m *memoryStore) shownGaps() map[sequenced]bool {
	shown := map[sequenced]bool{}
	for _, g := range m.gaps {
		for n := g.FirstSeq; n <= g.LastSeq; n++ {
			shown[sequenced{g.Reason, n}] = true
		}
	}
	for _, r := range m.arrived {
		for n := r.First; n <= r.Last; n++ {
			delete(shown, sequenced{r.Agent, n})
		}
	}
	return shown
}

func (m *memoryStore) Apply(_ context.Context, b *store.Batch) error {
	if m.broken {
		return errors.New("used after a failure without being reopened")
	}
	fate := 2
	if len(m.faults) > 0 {
		fate, m.faults = m.faults[0], m.faults[1:]
	}
	if m.broken = fate < 2; fate == 0 {
		return errFault
	}
	for key, set := range b.Ledger {
		m.ledger[key] = set.Clone()
	}
	for _, p := range b.Positions {
		m.positions[p.Shard] = p.Seq
	}
	for _, g := range b.Gaps {
		m.gaps = append(m.gaps, fleet.Gap{FirstSeq: g.FirstSeq, LastSeq: g.LastSeq, Reason: g.Agent})
	}
	m.arrived = append(m.arrived, b.Arrived...)
	for _, p := range b.Packets {
		for _, s := range p.Snapshots {
			m.bytes[s.Server.Key] += s.Totals.BytesIn.Or(0)
		}
	}
	if fate == 1 {
		return errFault
	}
	return nil
}

func (m *memoryStore) Positions(context.Context) ([]store.Position, error) {
	var list []store.Position
	for shard, seq := range m.positions {
		list = append(list, store.Position{Shard: shard, Seq: seq})
	}
	return list, nil
}

func (m *memoryStore) Ledger(context.Context) (map[store.AgentEpoch]*fleet.Ledger, error) {
	ledger := map[store.AgentEpoch]*fleet.Ledger{}
	for key, set := range m.ledger {
		ledger[key] = set.Clone()
	}
	return ledger, nil
}

func (m *memoryStore) Maintain(context.Context, time.Time) error { return nil }

func (m *memoryStore) Recent(context.Context, time.Time) ([]store.RecentSnapshot, error) {
	return nil, nil
}

func (m *memoryStore) Reopen(context.Context) error { m.broken = false; return nil }
