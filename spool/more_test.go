package spool

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"vigil/durable/durabletest"
	"vigil/fleet"
)

func TestGapList(t *testing.T) {
	t.Parallel()
	at := func(first, last uint64, reason string) fleet.Gap {
		return fleet.Gap{FirstSeq: first, LastSeq: last, FromMs: fleet.Of(int64(first)), ToMs: fleet.Of(int64(last)), Reason: reason}
	}
	var l gapList
	l = l.add(at(10, 12, ReasonFull))
	l = l.add(at(20, 22, ReasonFull))
	l = l.add(at(13, 19, ReasonFull)) // closes the space between
	l = l.add(at(23, 23, ReasonDamaged))
	l = l.add(at(9, 9, ReasonFull)) // before
	if got := gapText(l.open()); got != "9-22 spool_full, 23-23 damaged" {
		t.Fatalf("gaps %q", got)
	}
	if l[0].FromMs != fleet.Of(9) || l[0].ToMs != fleet.Of(22) {
		t.Errorf("times %v to %v", l[0].FromMs, l[0].ToMs)
	}
	// The caller saw the gap when it ended at 15; it has grown since.
	l, ok := l.carried(50, at(9, 15, ReasonFull))
	if got := gapText(l.open()); !ok || got != "16-22 spool_full, 23-23 damaged" {
		t.Fatalf("gaps %q, %v", got, ok)
	}
	if _, ok := l.carried(51, at(9, 15, ReasonFull)); ok {
		t.Error("a gap was carried twice")
	}
	l = l.without(fleet.SeqRange{First: 18, Last: 20})
	if got := gapText(l.open()); got != "16-17 spool_full, 21-22 spool_full, 23-23 damaged" {
		t.Fatalf("gaps %q", got)
	}
	if l.contains(18) || !l.contains(21) || !l.contains(9) || l.numbers() != 12 {
		t.Errorf("contains or numbers (%d) are wrong", l.numbers())
	}
	l, settled := l.settle(fleet.SeqRange{First: 40, Last: 60})
	if len(settled) != 1 || settled[0] != (fleet.SeqRange{First: 9, Last: 15}) {
		t.Errorf("settled %v", settled)
	}
	if got := gapText(l.open()); got != "16-17 spool_full, 21-22 spool_full, 23-23 damaged" {
		t.Fatalf("gaps %q", got)
	}
}

// TestGivenUpButThere: storage has a packet that was dropped here, because the
// acknowledgement was lost. Then there is no gap.
func TestGivenUpButThere(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 100 {
		add(t, s, 3000, false)
	}
	gap := s.Gaps()[0]
	if err := s.AckStored(2, []fleet.SeqRange{{First: 5, Last: 6}}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s)
	gaps := s.Gaps()
	if len(gaps) != 2 || gaps[0].FirstSeq != 3 || gaps[0].LastSeq != 4 || gaps[1].FirstSeq != 7 || gaps[1].LastSeq != gap.LastSeq {
		t.Errorf("Gaps() = %q, was %d to %d", gapText(gaps), gap.FirstSeq, gap.LastSeq)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopened(t, fs)
	if got := gapText(s.Gaps()); got != gapText(gaps) {
		t.Errorf("after a restart %q, want %q", got, gapText(gaps))
	}
}

// TestLargeDamage: garbage larger than one piece of the search, with markers in it.
func TestLargeDamage(t *testing.T) {
	t.Parallel()
	for _, unreadable := range []bool{false, true} {
		fs := durabletest.New(1)
		o := options(fs, 64<<20)
		s := open(t, o)
		add(t, s, 100, false)
		add(t, s, 300_000, false)
		add(t, s, 100, false)
		fs.Kill()
		name := testDir + "/" + segmentName(1)
		content := fs.Bytes(name)
		first, second := s.core.index.entries[1], s.core.index.entries[2]
		rng := rand.New(rand.NewPCG(1, 1))
		for i := first.offset; i < second.offset; i++ {
			content[i] = byte(rng.Uint32())
			if rng.IntN(500) == 0 && i+4 < second.offset {
				copy(content[i:], marker)
				i += 3
			}
		}
		fs.Put(name, content)
		if unreadable {
			fs.Inject(durabletest.Fault{Ops: durabletest.OpRead, N: 12, Mode: durabletest.NotDone})
		}
		s = open(t, o)
		if got := numbers(drainAll(t, s)); got != "1 3" {
			t.Errorf("unreadable %v: got %q", unreadable, got)
		}
		if gapText(s.Gaps()) != "2-2 damaged" {
			t.Errorf("Gaps() = %q", gapText(s.Gaps()))
		}
	}
}

// TestNothingIsSentThatMayNotBeOnDisk: damage was found and cannot be noted, so the
// next number is not certain to last; sending waits until it is.
func TestNothingIsSentThatMayNotBeOnDisk(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 100, false)
	add(t, s, 100, false)
	fs.Kill()
	name := testDir + "/" + segmentName(1)
	fs.Put(name, append(fs.Bytes(name), 1, 2, 3))
	fs.Inject(durabletest.Fault{Ops: durabletest.OpCreate, N: 1, Mode: durabletest.NoSpace, Times: -1})
	s = open(t, options(fs, MinMaxBytes))
	if !s.OpenReport().Unwritten {
		t.Fatal("the report does not say that nothing could be written")
	}
	if _, ok, err := s.Take(true); ok || err == nil {
		t.Fatalf("Take = %v, %v", ok, err)
	}
	fs.Heal()
	if rec, ok, err := s.Take(true); !ok || err != nil || rec.Seq != 2 {
		t.Fatalf("Take = %d, %v, %v", rec.Seq, ok, err)
	}
	if s.NextSeq() != 4 || gapText(s.Gaps()) != "3-3 damaged" {
		t.Errorf("NextSeq() = %d, gaps %q", s.NextSeq(), gapText(s.Gaps()))
	}
	mustHold(t, s)
}

// TestReadingGoesOnOnAFullDisk: without damage it is enough that the old files are synced.
func TestReadingGoesOnOnAFullDisk(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 100, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fs.Inject(durabletest.Fault{Ops: durabletest.OpCreate, N: 1, Mode: durabletest.NoSpace, Times: -1})
	s = open(t, options(fs, MinMaxBytes))
	if rec, ok, err := s.Take(true); !ok || err != nil || rec.Seq != 1 {
		t.Fatalf("Take = %d, %v, %v", rec.Seq, ok, err)
	}
	if err := s.Ack(1); err == nil {
		t.Error("Ack does not say that no space was given back")
	}
	mustHold(t, s)
	if err := s.Append(Record{Seq: 2}); !isNoSpace(err) {
		t.Errorf("Append: %v", err)
	}
	fs.Heal()
	add(t, s, 10, false)
}

// TestDamageFoundWhileMoving: a segment is emptied because of one damage, and another
// one shows up meanwhile.
func TestDamageFoundWhileMoving(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 4 {
		add(t, s, 500, true)
	}
	name := testDir + "/" + segmentName(1)
	content := bytes.Clone(fs.Bytes(name))
	content[s.core.index.entries[2].offset+headSize+9] ^= 1
	fs.Put(name, content)
	s.core.seal()
	s.core.segments[0].damaged = true
	add(t, s, 500, true)
	if gapText(s.Gaps()) != "3-3 damaged" || len(s.core.segments) != 1 {
		t.Errorf("Gaps() = %q, %d segments", gapText(s.Gaps()), len(s.core.segments))
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if got := numbers(drainAll(t, s)); got != "1 2 4 5" {
		t.Errorf("got %q", got)
	}
}

// TestDamagedPacketStaysInTheOldEpoch: a new epoch begins without it.
func TestDamagedPacketStaysInTheOldEpoch(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 3 {
		add(t, s, 100, false)
	}
	name := testDir + "/" + segmentName(1)
	content := fs.Bytes(name)
	content[s.core.index.entries[1].offset+headSize] ^= 1
	fs.Put(name, content)
	err := s.NewEpoch(func(rec Record, _, seq uint64) ([]byte, bool, error) { return payloadOf(seq, 20), true, nil })
	if err != nil || s.NextSeq() != 3 {
		t.Errorf("NewEpoch: %v, next %d", err, s.NextSeq())
	}
	mustHold(t, s)
}

// TestReleaseOnAFullSpool finds room for the marker.
func TestReleaseOnAFullSpool(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	fs.SetCapacity(MinMaxBytes)
	o := options(fs, MinMaxBytes)
	o.Merge = nil
	s := open(t, o)
	for range 200 {
		add(t, s, 2900, true)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	fs.Kill()
	s = open(t, o)
	if s.Stats().Held != 0 || s.Stats().Records < 20 {
		t.Errorf("%+v", s.Stats())
	}
}

// TestFailedMergeDoesNotCount: the merged record is on disk although its write failed,
// behind the end of its segment and in a segment of its own. The parts are released and
// one is sent. After a crash it must still be a part.
func TestFailedMergeDoesNotCount(t *testing.T) {
	t.Parallel()
	for _, ops := range []durabletest.Op{durabletest.OpSync | durabletest.OpTruncate, durabletest.OpSync | durabletest.OpTruncate | durabletest.OpRemove} {
		for seed := range uint64(20) {
			fs := durabletest.New(seed)
			s := open(t, options(fs, 8<<20))
			for range 6 {
				add(t, s, 500, true)
			}
			fs.Inject(durabletest.Fault{Ops: durabletest.OpSync, N: 1, Mode: durabletest.Done, Times: -1})
			fs.Inject(durabletest.Fault{Ops: ops, N: 1, Mode: durabletest.NotDone, Times: -1})
			if done, err := s.core.mergeBatch(); done || err == nil {
				t.Fatalf("mergeBatch = %v, %v", done, err)
			}
			fs.Heal()
			mustHold(t, s)
			if err := s.Release(); err != nil {
				t.Fatal(err)
			}
			if rec, ok, err := s.Take(false); !ok || err != nil || rec.Seq != 1 || rec.FirstSeq != 1 {
				t.Fatalf("Take = %d, %v, %v", rec.Seq, ok, err)
			}
			s = openAfter(t, fs, seed)
			if got := numbers(drainAll(t, s)); got != "1 2 3 4 5 6" {
				t.Fatalf("seed %d: got %q, want the parts", seed, got)
			}
		}
	}
}

// openAfter opens again after a power cut or a kill, by seed.
func openAfter(t *testing.T, fs *durabletest.FS, seed uint64) *Spool {
	t.Helper()
	if seed%2 == 0 {
		fs.Kill()
	} else {
		fs.Crash()
	}
	return open(t, options(fs, 8<<20))
}

// TestReleasedIsNeverMerged, also when held packets come after it and the spool fills up.
func TestReleasedIsNeverMerged(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 12 {
		add(t, s, 3000, true)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Take(false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Return(1)
	for range 200 {
		add(t, s, 3000, true)
	}
	merged := false
	for i := range s.core.index.entries {
		e := &s.core.index.entries[i]
		if e.dead {
			continue
		}
		merged = merged || e.first != e.seq
		if e.first <= 12 && e.first != e.seq {
			t.Errorf("%d to %d was merged after its release", e.first, e.seq)
		}
	}
	if !merged {
		t.Error("nothing was merged at all")
	}
	for seq := uint64(1); seq <= 12; seq++ {
		if s.core.index.find(seq) < 0 {
			t.Errorf("packet %d was dropped although others could be merged", seq)
		}
	}
}
