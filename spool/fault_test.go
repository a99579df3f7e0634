package spool

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"vigil/durable/durabletest"
)

// life is everything a spool does, once: it fills up until it merges and drops, is
// released, shipped, rejected, restarted.
func (k *machine) life() {
	for range 6 {
		k.append(false)
	}
	k.take(true)
	k.take(false)
	k.end(k.ack)
	k.end(func(seq uint64) { k.s.Return(seq) })
	for range 45 {
		k.append(true)
	}
	_ = k.s.Release()
	k.carry()
	for range 4 {
		k.take(false)
		k.end(k.ack)
	}
	k.take(true)
	k.end(func(seq uint64) { _ = k.s.Reject(seq, "schema is too old") })
	for range 12 {
		k.append(false)
	}
	k.carry()
	for range 3 {
		k.take(true)
		k.end(k.ack)
	}
	_ = k.s.Close()
}

func newMachine(t *testing.T, seed uint64) *machine {
	t.Helper()
	k := &machine{t: t, fs: durabletest.New(seed), m: newModel(), limit: MinMaxBytes, size: 7000}
	k.open()
	return k
}

// TestEveryCallFailsOnce lets each call that changes something on disk fail, in each
// way, and checks that nothing is lost: at once, after a power cut, and after a second
// one, because recovery writes too.
func TestEveryCallFailsOnce(t *testing.T) {
	t.Parallel()
	k := newMachine(t, 1)
	before := k.fs.Ops(durabletest.Changes)
	k.life()
	calls := k.fs.Ops(durabletest.Changes) - before
	if calls < 150 {
		t.Fatalf("a life takes %d calls: too few to be one", calls)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, mode := range []durabletest.Mode{
		durabletest.NotDone, durabletest.Done, durabletest.Torn, durabletest.NoSpace, durabletest.PowerCut,
	} {
		for _, times := range []int{1, 2, 5} {
			t.Run(fmt.Sprintf("%s %d times", mode, times), func(t *testing.T) {
				t.Parallel()
				for n := 1; n <= calls; n += step {
					if times > 1 && n%3 != 0 {
						continue
					}
					failAt(t, n, mode, times)
				}
			})
		}
	}
}

func failAt(t *testing.T, n int, mode durabletest.Mode, times int) {
	t.Helper()
	k := newMachine(t, uint64(n))
	k.fs.Inject(durabletest.Fault{N: n, Mode: mode, Times: times})
	k.life()
	k.fs.Crash()
	k.open()
	k.check(n, "after the first power cut")
	k.fs.Kill()
	k.open()
	k.fs.Crash()
	k.open()
	k.check(n, "after the second power cut")
	k.append(false)
	k.check(n, "at the end")
}

func (k *machine) check(n int, when string) {
	if err := k.m.compare(k.s); err != nil {
		k.t.Fatalf("call %d, %s: %v", n, when, err)
	}
}

// TestRecoveryFailsAnywhere breaks each call of Open itself, on a disk that a crash
// left in disorder.
func TestRecoveryFailsAnywhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		k := newMachine(t, seed)
		k.fs.FailAt(90+int(seed)*17, durabletest.PowerCut)
		k.life()
		k.fs.Crash()
		for _, mode := range []durabletest.Mode{durabletest.NotDone, durabletest.Done, durabletest.Torn, durabletest.NoSpace, durabletest.PowerCut} {
			for n := 1; ; n++ {
				c := *k
				c.fs = k.fs.Clone(seed + uint64(n))
				before := c.fs.Ops(durabletest.Changes)
				c.fs.FailAt(n, mode)
				c.open()
				if c.fs.Ops(durabletest.Changes)-before < n {
					break
				}
				c.fs.Crash()
				c.open()
				c.check(n, "after recovery was interrupted: "+mode.String())
			}
		}
	}
}

// TestFailedSyncIsNeverTriedAgain proves the rule on a kernel that forgets: the
// record must be in a new segment when Append says nil.
func TestFailedSyncIsNeverTriedAgain(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(3)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 100, false)
	fs.Inject(durabletest.Fault{Ops: durabletest.OpSync, N: 1, Mode: durabletest.NotDone})
	add(t, s, 100, false)
	if n := s.Stats().Segments; n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
	add(t, s, 100, false)
	fs.Crash()
	s = open(t, options(fs, MinMaxBytes))
	if got := numbers(drainAll(t, s)); got != "1 2 3" {
		t.Errorf("got %q, want all", got)
	}
}

// TestFailedAppendMayComeAgainWithOtherContent: the number stays free, and what the
// failed attempt left on disk never wins.
func TestFailedAppendMayComeAgainWithOtherContent(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(4)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 100, false)
	fs.Inject(durabletest.Fault{Ops: durabletest.OpSync | durabletest.OpRemove | durabletest.OpTruncate, N: 1, Mode: durabletest.Done, Times: -1})
	if err := s.Append(Record{Seq: 2, Payload: []byte("first try")}); err == nil {
		t.Fatal("Append succeeded without a sync")
	}
	if s.NextSeq() != 2 {
		t.Fatalf("NextSeq() = %d after a failed Append", s.NextSeq())
	}
	fs.Heal()
	if err := s.Append(Record{Seq: 2, Payload: []byte("second try")}); err != nil {
		t.Fatal(err)
	}
	fs.Crash()
	s = open(t, options(fs, MinMaxBytes))
	rec, ok, err := s.Newest()
	if err != nil || !ok || string(rec.Payload) != "second try" {
		t.Errorf("Newest() = %q, %v, %v", rec.Payload, ok, err)
	}
}

// TestEveryByteFlipped flips each byte of a segment in turn. One packet at most may be
// lost, it must be reported, and nothing else may suffer.
func TestEveryByteFlipped(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(5)
	s := open(t, options(fs, MinMaxBytes))
	for n := range 6 {
		add(t, s, 40, n >= 3)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	add(t, s, 40, true)
	if err := s.Ack(2); err != nil {
		t.Fatal(err)
	}
	if err := s.core.writeState(); err != nil {
		t.Fatal(err)
	}
	add(t, s, 40, true)
	name := testDir + "/" + segmentName(1)
	whole := fs.Bytes(name)
	for i := range whole {
		for _, flip := range []byte{0x01, 0xff} {
			damaged := fs.Clone(uint64(i))
			content := slices.Clone(whole)
			content[i] ^= flip
			damaged.Put(name, content)
			flipped(t, damaged, i)
		}
	}
}

func flipped(t *testing.T, fs *durabletest.FS, offset int) {
	t.Helper()
	found, err := Check(fs, testDir)
	if err != nil || len(found.Damage) == 0 {
		t.Fatalf("byte %d: Check found nothing (%v)", offset, err)
	}
	if d := found.Damage[0]; d.Offset > int64(offset) || d.Offset+d.Length <= int64(offset) {
		t.Fatalf("byte %d: Check says %+v", offset, d)
	}
	s := open(t, options(fs, MinMaxBytes))
	if s.NextSeq() < 9 || s.NextSeq() > 10 {
		t.Fatalf("byte %d: NextSeq() = %d, want 9", offset, s.NextSeq())
	}
	if s.core.index.find(2) >= 0 || s.core.gaps.contains(2) {
		t.Fatalf("byte %d: packet 2 was acknowledged and is back", offset)
	}
	lost := s.core.gaps.numbers()
	if lost > 1 && !(lost == 2 && s.core.gaps.contains(9)) {
		t.Fatalf("byte %d: lost %s", offset, gapText(s.Gaps()))
	}
	// Packets 4 to 6 were released, and so may have been sent: whatever happened to
	// the marker, they may not be merged.
	for _, n := range []uint64{4, 5, 6} {
		if i := s.core.index.find(n); i >= 0 && s.core.isHeld(&s.core.index.entries[i]) {
			t.Fatalf("byte %d: packet %d is held again", offset, n)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Damage is dealt with once.
	again, err := Check(fs, testDir)
	if err != nil || !again.OK() {
		t.Fatalf("byte %d: after repair %+v, %v", offset, again.Damage, err)
	}
}

// TestFullDisk: others fill the disk. Appending fails with a clear error, nothing is
// lost, and shipping gives space back.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(6)
	fs.SetCapacity(100 << 10)
	s := open(t, options(fs, 8<<20))
	var err error
	for err == nil {
		seq := s.NextSeq()
		err = s.Append(Record{Seq: seq, AtMs: int64(seq), Payload: payloadOf(seq, 3000)})
	}
	if !isNoSpace(err) {
		t.Fatalf("Append on a full disk: %v", err)
	}
	mustHold(t, s)
	stored := s.NextSeq() - 1
	fs.Crash()
	s = open(t, options(fs, 8<<20))
	if got := drainAll(t, s); uint64(len(got)) != stored {
		t.Errorf("%d packets of %d survived", len(got), stored)
	}
	if fs.Bytes(testDir+"/"+deadLetterName) != nil {
		t.Error("nothing was rejected")
	}
	add(t, s, 3000, false)
}

// TestMergeMakesRoomOnAFullDisk: held records shrink instead of new ones being refused.
func TestMergeMakesRoomOnAFullDisk(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(7)
	s := open(t, options(fs, 2<<20))
	for range 100 {
		add(t, s, 3000, true)
	}
	used := int64(0)
	for _, name := range fs.Names() {
		used += int64(len(fs.Bytes(name)))
	}
	fs.SetCapacity(used + 20<<10)
	for range 200 {
		add(t, s, 3000, true)
	}
	if s.Stats().GapSeqs != 0 {
		t.Errorf("dropped %s", gapText(s.Gaps()))
	}
}

func TestReserveIsGivenAway(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(8)
	s := open(t, options(fs, 2<<20))
	if fs.Bytes(testDir+"/"+reserveName) == nil {
		t.Fatal("there is no reserve")
	}
	add(t, s, 100, false)
	used := int64(0)
	for _, name := range fs.Names() {
		used += int64(len(fs.Bytes(name)))
	}
	fs.SetCapacity(used)
	add(t, s, 100, false)
	if fs.Bytes(testDir+"/"+reserveName) != nil {
		t.Error("the reserve is still there")
	}
	if !bytes.HasPrefix(fs.Bytes(testDir+"/"+segmentName(1)), []byte(magic)) {
		t.Error("the first segment is gone")
	}
}
