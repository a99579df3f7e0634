package spool

import (
	"slices"
	"testing"

	"vigil/durable/durabletest"
	"vigil/fleet"
)

func TestCheckAndRepair(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 12 {
		add(t, s, 1000, false)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := Check(fs, testDir); err != nil || !report.OK() || report.InUse {
		t.Fatalf("Check of a good spool: %+v, %v", report, err)
	}
	first, third := s.core.index.entries[1], s.core.index.entries[7]
	for _, e := range []entry{first, third} {
		name := testDir + "/" + segmentName(e.seg.number)
		content := fs.Bytes(name)
		content[e.offset+headSize+500] ^= 0x80
		fs.Put(name, content)
	}
	before := fs.Names()
	report, err := Check(fs, testDir)
	if err != nil || report.OK() || len(report.Damage) != 2 || report.Missing != 2 {
		t.Fatalf("Check: %+v, %v", report, err)
	}
	for i, e := range []entry{first, third} {
		d := report.Damage[i]
		if d.File != segmentName(e.seg.number) || d.Offset != e.offset || d.Length != e.size() || d.Kind != DamageRecord {
			t.Errorf("damage %d: %+v, want offset %d", i, d, e.offset)
		}
	}
	if report.Stats.Records != 10 || report.Stats.NextSeq != 13 || report.Stats.OldestMs != 10_000 || report.Stats.NewestMs != 120_000 {
		t.Errorf("Stats %+v", report.Stats)
	}
	if after := fs.Names(); len(after) > len(before)+1 {
		t.Errorf("Check made files: %v", after)
	}
	repaired, err := Repair(fs, testDir)
	if err != nil || repaired.Lost != 2 || repaired.Damages != 2 || gapText(repaired.NewGaps) != "2-2 damaged, 8-8 damaged" {
		t.Fatalf("Repair: %+v, %v", repaired, err)
	}
	if repaired.NewGaps[0].FromMs != fleet.Of(20_000) {
		t.Errorf("the head was whole, so the time is known: %+v", repaired.NewGaps[0])
	}
	report, err = Check(fs, testDir)
	if err != nil || !report.OK() || report.Stats.Gaps != 2 || report.Stats.QuarantinedBytes == 0 {
		t.Fatalf("Check after Repair: %+v, %v", report, err)
	}
	s = open(t, options(fs, MinMaxBytes))
	if got := numbers(drainAll(t, s)); got != "1 3 4 5 6 7 9 10 11 12" {
		t.Errorf("got %q", got)
	}
}

func TestCheckOfWrongPlaces(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	if _, err := Check(fs, "/nowhere"); err == nil {
		t.Error("Check of a missing directory succeeded")
	}
	if _, err := ReadStats(fs, "/nowhere"); err == nil {
		t.Error("ReadStats of a missing directory succeeded")
	}
	if _, err := Repair(fs, "/nowhere"); err == nil {
		t.Error("Repair of a missing directory succeeded")
	}
	fs.Put("/other/file", []byte("x"))
	if _, err := Repair(fs, "/other"); fleet.KindOf(err) != fleet.KindMissing {
		t.Errorf("Repair of something else: %v", err)
	}
	if names := fs.Names(); len(names) != 1 {
		t.Errorf("files were made: %v", names)
	}
}

func TestCheckBesideAnAgent(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 100, true)
	// A write under way: the beginning of a record.
	name := testDir + "/" + segmentName(1)
	fs.Put(name, append(fs.Bytes(name), frame{kind: typePacket, epoch: s.Epoch(), first: 2, seq: 2}.append(nil, 1, 1)[:20]...))
	report, err := Check(fs, testDir)
	if err != nil || !report.InUse || len(report.Damage) != 0 {
		t.Errorf("Check = %+v, %v", report, err)
	}
	if _, err := Repair(fs, testDir); err == nil {
		t.Error("Repair under an agent's feet succeeded")
	}
	stats, err := ReadStats(fs, testDir)
	if err != nil || stats.Records != 1 || stats.Held != 1 || stats.Epoch != s.Epoch() {
		t.Errorf("ReadStats = %+v, %v", stats, err)
	}
}

// TestUnreadableDisk: reading fails in places, opening does not.
func TestUnreadableDisk(t *testing.T) {
	t.Parallel()
	for n := 1; n < 40; n++ {
		fs := durabletest.New(uint64(n))
		s := open(t, options(fs, MinMaxBytes))
		for range 5 {
			add(t, s, 3000, false)
		}
		fs.Crash()
		fs.Inject(durabletest.Fault{Ops: durabletest.OpRead | durabletest.OpOpen, N: n, Mode: durabletest.NotDone})
		s = open(t, options(fs, MinMaxBytes))
		if s.NextSeq() < 6 {
			t.Fatalf("call %d: NextSeq() = %d", n, s.NextSeq())
		}
		got := drainAll(t, s)
		for seq := uint64(1); seq <= 5; seq++ {
			there := slices.ContainsFunc(got, func(r Record) bool { return r.Seq == seq })
			if !there && !s.core.gaps.contains(seq) {
				t.Fatalf("call %d: packet %d is neither there nor in a gap", n, seq)
			}
		}
	}
}

func TestLostSegmentIsAGap(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for range 8 {
		add(t, s, 3000, true)
	}
	lost := s.core.segments[2]
	s.core.opt.FS.Remove(testDir + "/" + segmentName(lost.number))
	fs.Kill()
	s = open(t, options(fs, MinMaxBytes))
	report := s.OpenReport()
	if report.Lost != uint64(lost.live) || report.Damages == 0 || !report.Released {
		t.Errorf("report %+v, lost %d", report, lost.live)
	}
}
