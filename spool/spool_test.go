package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vigil/durable"
	"vigil/durable/durabletest"
	"vigil/fleet"
)

func reopened(t *testing.T, fs *durabletest.FS) *Spool {
	t.Helper()
	fs.Crash()
	return open(t, options(fs, MinMaxBytes))
}

func TestWrongCalls(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	for _, rec := range []Record{{Seq: 0}, {Seq: 2}, {Seq: 1, FirstSeq: 2}} {
		if err := s.Append(rec); !errors.Is(err, ErrSeq) {
			t.Errorf("Append(%d to %d): %v", rec.FirstSeq, rec.Seq, err)
		}
	}
	if err := s.Append(Record{Seq: 1, Payload: make([]byte, MinMaxBytes/payloadShare+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Append of a large payload: %v", err)
	}
	for what, err := range map[string]error{
		"Ack": s.Ack(1), "Reject": s.Reject(1, ""), "GapsCarried": s.GapsCarried(1, nil),
		"AckStored": s.AckStored(0, []fleet.SeqRange{{First: 2, Last: 1}}),
	} {
		if !errors.Is(err, ErrSeq) {
			t.Errorf("%s of a number that was never given out: %v", what, err)
		}
	}
	if err := s.AckStored(1, nil); !errors.Is(err, ErrRewound) {
		t.Errorf("AckStored(1): %v", err)
	}
	if err := s.Release(); err != nil {
		t.Errorf("Release of nothing: %v", err)
	}
	if _, err := Open(options(fs, MinMaxBytes)); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, lookErr := s.Newest()
	_, _, takeErr := s.Take(true)
	for what, err := range map[string]error{
		"Append": s.Append(Record{Seq: 1}), "Newest": lookErr, "Take": takeErr, "Release": s.Release(), "Ack": s.Ack(1),
		"AckStored": s.AckStored(0, nil), "Reject": s.Reject(1, ""), "GapsCarried": s.GapsCarried(1, nil),
		"NewEpoch": s.NewEpoch(nil), "Close": s.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	small := options(fs, MinMaxBytes-1)
	if _, err := Open(small); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("Open with a small limit: %v", err)
	}
	for _, o := range []Options{{MaxBytes: MinMaxBytes}, {MaxBytes: MinMaxBytes, Dir: testDir, FS: fs}} {
		if _, err := Open(o); err == nil {
			t.Errorf("Open(%+v) succeeded", o)
		}
	}
	noRand := options(fs, MinMaxBytes)
	noRand.Rand = bytes.NewReader(nil)
	if _, err := Open(noRand); err == nil {
		t.Error("Open without randomness succeeded")
	}
	zeros := options(fs, MinMaxBytes)
	zeros.Rand = bytes.NewReader(make([]byte, 64))
	if _, err := Open(zeros); err == nil {
		t.Error("Open with epoch 0 succeeded")
	}
	bare := Options{Dir: testDir, MaxBytes: MinMaxBytes, FS: fs, Now: clock(), Rand: options(fs, MinMaxBytes).Rand}
	s := open(t, bare) // neither log nor metrics nor merge
	add(t, s, 20, false)
}

func TestTakeAndReturn(t *testing.T) {
	t.Parallel()
	s := open(t, options(durabletest.New(1), MinMaxBytes))
	for n := range 4 {
		add(t, s, 20, n == 3)
	}
	var got []Record
	for _, newest := range []bool{true, false, true} {
		rec, ok, err := s.Take(newest)
		if !ok || err != nil {
			t.Fatalf("Take(%v) = %v, %v", newest, ok, err)
		}
		got = append(got, rec)
	}
	if numbers(got) != "3 1 2" {
		t.Errorf("took %q, want 3 1 2", numbers(got))
	}
	if _, ok, _ := s.Take(true); ok {
		t.Error("4 is held and was given out")
	}
	s.Return(2)
	s.Return(2)
	s.Return(99)
	if rec, ok, _ := s.Take(true); !ok || rec.Seq != 2 {
		t.Errorf("Take after Return = %d, %v; want 2", rec.Seq, ok)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if rec, ok, _ := s.Take(false); !ok || rec.Seq != 4 {
		t.Errorf("Take after Release = %d, %v; want 4", rec.Seq, ok)
	}
	mustHold(t, s)
	if st := s.Stats(); st.InFlight != 4 || st.Records != 4 || st.OldestMs != 10_000 || st.NewestMs != 40_000 {
		t.Errorf("Stats() = %+v", st)
	}
}

func TestAckStoredGivesSpaceBack(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(2)
	s := open(t, options(fs, MinMaxBytes))
	for range 30 {
		add(t, s, 3000, false)
	}
	before := s.Stats()
	if err := s.AckStored(10, []fleet.SeqRange{{First: 13, Last: 20}, {First: 25, Last: 25}}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s)
	if after := s.Stats(); after.Records != 11 || after.Bytes >= before.Bytes {
		t.Errorf("before %+v, after %+v", before, after)
	}
	s = reopened(t, fs)
	got := numbers(drainAll(t, s))
	if !strings.HasSuffix(got, "21 22 23 24 26 27 28 29 30") && !strings.Contains(got, "11 12") {
		t.Errorf("got %q", got)
	}
}

func TestGapsStayUntilAPacketCarriesThem(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(3)
	s := open(t, options(fs, MinMaxBytes))
	add(t, s, 20, false)
	add(t, s, 20, false)
	if err := s.Reject(1, "too old"); err != nil {
		t.Fatal(err)
	}
	want := []fleet.Gap{{FirstSeq: 1, LastSeq: 1, FromMs: fleet.Of(10_000), ToMs: fleet.Of(10_000), Reason: ReasonRejected}}
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(s.Gaps())); diff != "" {
		t.Fatalf("Gaps() (-want +got):\n%s", diff)
	}
	carrier := add(t, s, 20, false)
	if err := s.GapsCarried(carrier, s.Gaps()); err != nil {
		t.Fatal(err)
	}
	if len(s.Gaps()) != 0 || s.Stats().Gaps != 1 {
		t.Errorf("Gaps() = %s while 3 carries it", gapText(s.Gaps()))
	}
	s = reopened(t, fs)
	if gapText(s.Gaps()) != "1-1 rejected" {
		t.Fatalf("Gaps() = %q after a crash", gapText(s.Gaps()))
	}
	// The carrier is lost itself: the gap is open again.
	if err := s.GapsCarried(3, s.Gaps()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(3, "again"); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s)
	if got := gapText(s.Gaps()); got != "1-1 rejected, 3-3 rejected" {
		t.Errorf("Gaps() = %q", got)
	}
	carrier = add(t, s, 20, false)
	if err := s.GapsCarried(carrier, s.Gaps()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(carrier); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopened(t, fs)
	if got := gapText(s.Gaps()); got != "" || s.Stats().Gaps != 0 {
		t.Errorf("Gaps() = %q after the carrier was acknowledged", got)
	}
	if got := numbers(drainAll(t, s)); got != "2" {
		t.Errorf("left %q, want 2", got)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(4)
	s := open(t, options(fs, MinMaxBytes))
	for range 60 {
		seq := add(t, s, 700, false)
		if err := s.Reject(seq, strings.Repeat("ä", 300)); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s)
	}
	s = reopened(t, fs)
	seq := add(t, s, 15_000, false)
	if err := s.Reject(seq, "large"); err != nil {
		t.Fatal(err)
	}
	content := fs.Bytes(testDir + "/" + deadLetterName)
	total := len(content) + len(fs.Bytes(testDir+"/"+deadLetterOld))
	if total > MinMaxBytes/deadLetterShare || total < 2000 {
		t.Errorf("dead letters take %d bytes", total)
	}
	var last letter
	for line := range bytes.Lines(content) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		last = letter{}
		if err := json.Unmarshal(line, &last); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
	}
	if last.Seq != seq || last.Reason != "large" || last.Payload != "" || last.Bytes != 15_000 {
		t.Errorf("last letter %+v", last)
	}
	if gapText(s.Gaps()) != "1-61 rejected" {
		t.Errorf("Gaps() = %q", gapText(s.Gaps()))
	}
}

func TestRejectedPacketIsKept(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(5)
	s := open(t, options(fs, 8<<20))
	add(t, s, 100, false)
	if err := s.Reject(1, "schema 7 is not known"); err != nil {
		t.Fatal(err)
	}
	var l letter
	if err := json.Unmarshal(fs.Bytes(testDir+"/"+deadLetterName), &l); err != nil {
		t.Fatal(err)
	}
	if l.Seq != 1 || l.Payload == "" || l.Reason != "schema 7 is not known" || l.AtMs != 10_000 {
		t.Errorf("letter %+v", l)
	}
	if err := s.Reject(1, "again"); err != nil {
		t.Errorf("second Reject: %v", err)
	}
}

// TestDamageFoundWhileRunning: the disk changes its mind after Open.
func TestDamageFoundWhileRunning(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"flip", "truncate", "read error"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			fs := durabletest.New(6)
			s := open(t, options(fs, MinMaxBytes))
			for range 3 {
				add(t, s, 50, false)
			}
			name := testDir + "/" + segmentName(1)
			content := fs.Bytes(name)
			e := &s.core.index.entries[2]
			switch how {
			case "flip":
				content[e.offset+headSize+3] ^= 4
				fs.Put(name, content)
			case "truncate":
				fs.Put(name, content[:e.offset+5])
			case "read error":
				fs.Inject(durabletest.Fault{Ops: durabletest.OpRead, N: 1, Mode: durabletest.NotDone, Times: maxReadErrors})
				for range maxReadErrors - 1 {
					if _, _, err := s.Take(true); err == nil {
						t.Fatal("Take succeeded although the disk does not read")
					}
				}
			}
			rec, ok, err := s.Take(true)
			if err != nil || !ok || rec.Seq != 2 {
				t.Fatalf("Take = %d, %v, %v; want 2", rec.Seq, ok, err)
			}
			if gapText(s.Gaps()) != "3-3 damaged" {
				t.Errorf("Gaps() = %q", gapText(s.Gaps()))
			}
			mustHold(t, s)
		})
	}
}

// TestDamageFoundWhileMerging: the rest of the group is merged without the lost one.
func TestDamageFoundWhileMerging(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(7)
	s := open(t, options(fs, MinMaxBytes))
	for range 20 {
		add(t, s, 3000, true)
	}
	e := s.core.index.entries[8]
	name := testDir + "/" + segmentName(e.seg.number)
	content := fs.Bytes(name)
	content[e.offset+headSize] ^= 1
	fs.Put(name, content)
	for range 150 {
		add(t, s, 3000, true)
	}
	if gapText(s.Gaps()) != "9-9 damaged" {
		t.Errorf("Gaps() = %q", gapText(s.Gaps()))
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	drainAll(t, s)
}

func TestPacketsThatCannotBeMergedAreDropped(t *testing.T) {
	t.Parallel()
	for name, merge := range map[string]func([][]byte) ([]byte, error){
		"no function": nil,
		"error":       func([][]byte) ([]byte, error) { return nil, errors.New("no") },
		"no gain": func(p [][]byte) ([]byte, error) {
			return bytes.Join(append(p, make([]byte, headSize*len(p))), nil), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(durabletest.New(8), MinMaxBytes)
			o.Merge = merge
			s := open(t, o)
			for range 150 {
				add(t, s, 3000, true)
			}
			gaps := s.Gaps()
			if len(gaps) != 1 || gaps[0].FirstSeq != 1 || gaps[0].Reason != ReasonFull {
				t.Fatalf("Gaps() = %q", gapText(gaps))
			}
			if gaps[0].FromMs != fleet.Of(10_000) || gaps[0].ToMs != fleet.Of(int64(gaps[0].LastSeq)*10_000) {
				t.Errorf("gap %+v", gaps[0])
			}
		})
	}
}

// TestNothingButFlights: what is on its way is not dropped; Append says so.
func TestNothingButFlights(t *testing.T) {
	t.Parallel()
	s := open(t, options(durabletest.New(9), MinMaxBytes))
	var err error
	for n := 0; n < 100 && err == nil; n++ {
		seq := s.NextSeq()
		if err = s.Append(Record{Seq: seq, Payload: payloadOf(seq, 5000)}); err == nil {
			if _, ok, takeErr := s.Take(true); !ok || takeErr != nil {
				t.Fatal("Take", ok, takeErr)
			}
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("Append: %v, want ErrFull", err)
	}
	if len(s.Gaps()) != 0 {
		t.Errorf("Gaps() = %s", gapText(s.Gaps()))
	}
	mustHold(t, s)
}

func TestManyRestartsMakeFewFiles(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(10)
	o := options(fs, 8<<20)
	for range maxSegments + 50 {
		s := open(t, o)
		add(t, s, 20, false)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, o)
	if n := s.Stats().Segments; n > maxSegments {
		t.Errorf("%d segments", n)
	}
	if got := len(drainAll(t, s)); got != maxSegments+50 {
		t.Errorf("%d packets left", got)
	}
	if n := s.Stats().Segments; n > 2 {
		t.Errorf("%d segments when nothing waits", n)
	}
}

func TestNumbersGoOnWhenEverythingWasAcknowledged(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(11)
	for round := range uint64(20) {
		s := open(t, options(fs, MinMaxBytes))
		if s.NextSeq() != round*10+1 {
			t.Fatalf("round %d: NextSeq() = %d", round, s.NextSeq())
		}
		for range 10 {
			add(t, s, 3000, false)
		}
		drainAll(t, s)
		fs.Crash()
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := open(t, options(durabletest.New(12), MinMaxBytes))
	const packets = 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	wg.Go(func() {
		for n := range uint64(packets) {
			if err := s.Append(Record{Seq: n + 1, AtMs: int64(n), Payload: payloadOf(n+1, 200)}); err != nil {
				t.Error(err)
			}
		}
	})
	for worker := range 3 {
		wg.Go(func() {
			for {
				rec, ok, err := s.Take(worker == 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if ok && seen[rec.Seq] {
					t.Errorf("%d was taken twice", rec.Seq)
				}
				if ok {
					seen[rec.Seq] = true
				}
				done := len(seen) == packets
				mu.Unlock()
				if ok {
					if err := s.Ack(rec.Seq); err != nil {
						t.Error(err)
					}
				}
				s.Stats()
				if done {
					return
				}
			}
		})
	}
	wg.Wait()
	mustHold(t, s)
}

// TestOnARealDisk is the same life on the file system of the machine.
func TestOnARealDisk(t *testing.T) {
	t.Parallel()
	o := options(durabletest.New(0), MinMaxBytes)
	o.FS = durable.OS()
	o.Dir = t.TempDir() + "/deep/spool"
	s := open(t, o)
	for range 120 {
		add(t, s, 4000, true)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	epoch := s.Epoch()
	if report, err := Check(o.FS, o.Dir); err != nil || !report.OK() || !report.InUse || report.Stats.NextSeq != 121 {
		t.Errorf("Check = %+v, %v", report, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if s.Epoch() != epoch || s.NextSeq() != 121 {
		t.Errorf("epoch %x next %d", s.Epoch(), s.NextSeq())
	}
	recs := drainAll(t, s)
	if recs[0].FirstSeq != 1 || recs[len(recs)-1].Seq != 120 {
		t.Errorf("got %s", numbers(recs))
	}
}

func TestIndexSweeps(t *testing.T) {
	t.Parallel()
	s := open(t, options(durabletest.New(13), 8<<20))
	for range 400 {
		add(t, s, 20, false)
	}
	for seq := uint64(100); seq < 350; seq++ {
		if err := s.Ack(seq); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s)
	}
	if n := len(s.core.index.entries); n > 300 {
		t.Errorf("%d entries for 150 packets", n)
	}
	got := drainAll(t, s)
	if !slices.IsSortedFunc(got, func(a, b Record) int { return int(a.Seq) - int(b.Seq) }) || len(got) != 150 {
		t.Errorf("got %s", numbers(got))
	}
}
