package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/journal"
	"vigil/store"
)

// gaps are those of the store, as text, oldest numbers first.
func (b *bench) gaps() []string {
	b.tb.Helper()
	list, err := b.store.Gaps(context.Background(), store.Window{From: start.Add(-time.Hour), To: start.Add(3 * time.Hour)})
	if err != nil {
		b.tb.Fatal(err)
	}
	var out []string
	for _, g := range list {
		out = append([]string{fmt.Sprintf("%d-%d %s", g.FirstSeq, g.LastSeq, g.Reason)}, out...)
	}
	return out
}

func (b *bench) wantGaps(want ...string) {
	b.tb.Helper()
	if got := b.gaps(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.tb.Errorf("gaps %q, want %q", got, want)
	}
}

// An agent never hears that its packet was taken, and gives it up when its spool is
// full. The packet that says so is applied first, because it is in another shard.
func TestPacketThatWasGivenUpAndIsThere(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(2)
	dir := t.TempDir()
	b := newBench(t, dir, j)
	b.start()
	j.append("shard-0", entryOf(t, makePacket("a", 1, 1, 1)))
	gap := fleet.Gap{FirstSeq: 2, LastSeq: 4, FromMs: fleet.Of(start.UnixMilli()), ToMs: fleet.Of(start.Add(time.Minute).UnixMilli()), Reason: "spool_full"}
	j.append("shard-0", entryOf(t, makePacket("a", 1, 5, 5, gap)))
	b.settle()
	b.wantGaps("2-4 spool_full")
	if set, _ := b.storage.Stored("a", 1); set.High() != 5 {
		t.Errorf("stored %+v: what is given up is settled", set)
	}
	// One in the middle arrives, before and after a restart a copy of it too.
	three := entryOf(t, makePacket("a", 1, 3, 3))
	j.append("shard-1", three)
	b.settle()
	b.wantGaps("2-2 spool_full", "4-4 spool_full")
	j.append("shard-1", three)
	b.settle()
	b.stop()
	b = newBench(t, dir, j)
	b.start()
	defer func() { b.stop() }()
	j.append("shard-1", three)
	// A merged packet holds the rest of the gap on one side only: it cannot be counted.
	j.append("shard-1", entryOf(t, makePacket("a", 1, 3, 4)))
	j.append("shard-1", entryOf(t, makePacket("a", 1, 2, 2)))
	// The agent repeats the gap, because the packet that carried it was not acknowledged.
	j.append("shard-0", entryOf(t, makePacket("a", 1, 6, 6, gap)))
	j.append("shard-1", entryOf(t, makePacket("a", 1, 4, 4)))
	b.settle()
	b.wantGaps()
	if s := b.storage.Stats(); s.PacketsApplied != 3 || s.PacketsDuplicate != 1 || s.PacketsConflict != 1 {
		t.Errorf("stats %+v", s)
	}
	bytes, packets := b.counted()
	if len(packets) != 6 || bytes["server-of-a"] != 2*bytesOf(1, 6) {
		t.Errorf("%d packets, %v, want 6 with %d", len(packets), bytes, 2*bytesOf(1, 6))
	}
	// Maintenance keeps both the gap that is left of nothing and what took it back, until both are old.
	if err := b.store.Maintain(context.Background(), now()); err != nil {
		t.Fatal(err)
	}
	b.wantGaps()
	if err := b.store.Maintain(context.Background(), now().Add(5*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.wantGaps()
}

func TestDamagedPacketStaysGivenUpUntilAGoodCopyArrives(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(2)
	dir := t.TempDir()
	b := newBench(t, dir, j)
	b.start()
	good := entryOf(t, makePacket("a", 1, 1, 1))
	damaged := good
	damaged.Payload = good.Payload[:len(good.Payload)/2]
	j.append("shard-0", damaged, damaged)
	j.append("shard-1", damaged)
	b.settle()
	b.wantGaps("1-1 damaged")
	b.stop()
	b = newBench(t, dir, j)
	b.start()
	defer func() { b.stop() }()
	j.append("shard-0", damaged)
	b.settle()
	b.wantGaps("1-1 damaged")
	if s := b.storage.Stats(); s.PacketsDuplicate != 1 || s.PacketsApplied != 0 || s.PacketsQuarantined != 0 {
		t.Errorf("stats %+v", s)
	}
	j.append("shard-0", good, damaged)
	b.settle()
	b.wantGaps()
	if bytes, packets := b.counted(); len(packets) != 1 || bytes["server-of-a"] != 2*bytesOf(1, 1) {
		t.Errorf("%v, %v", packets, bytes)
	}
}

// A message that cannot be read must not stop what is behind it, nor be met again at
// the next start, also when it is the last one.
func TestDamagedMessageIsLeftBehind(t *testing.T) {
	t.Parallel()
	j := newMemoryJournal(1)
	dir := t.TempDir()
	for seq := uint64(1); seq <= 4; seq++ {
		j.append("shard-0", entryOf(t, makePacket("a", 1, seq, seq)))
	}
	j.damaged = map[uint64]bool{2: true, 4: true}
	b := newBench(t, dir, j)
	b.start()
	b.waitFor("journal-damaged")
	b.settle()
	<-b.storage.Ready()
	if s := b.storage.Stats(); s.PacketsApplied != 2 {
		t.Errorf("stats %+v", s)
	}
	for _, c := range b.health.List() {
		if c.Code == failingCode {
			t.Error("storage began anew because of a damaged message")
		}
	}
	b.stop()
	b = newBench(t, dir, j)
	b.start()
	defer func() { b.stop() }()
	j.append("shard-0", entryOf(t, makePacket("a", 1, 5, 5)))
	b.settle()
	if s := b.storage.Stats(); s.PacketsApplied != 1 {
		t.Errorf("stats %+v", s)
	}
	for _, c := range b.health.List() {
		if c.Code == "journal-damaged" {
			t.Error("the damaged message is met again after a restart")
		}
	}
	if set, _ := b.storage.Stored("a", 1); set.High() != 1 || fmt.Sprint(set.Ahead()) != "[{3 3} {5 5}]" {
		t.Errorf("stored %+v: the lost packets must show as holes", set)
	}
}

// damagedAt is the answer of a journal for a message that it cannot read.
func damagedAt(shard string, seq uint64) error {
	return &journal.DamagedError{Shard: shard, Seq: seq, Err: journal.ErrDamaged}
}
