package spool

import (
	"errors"
	"math/rand/v2"
	"testing"

	"vigil/durable/durabletest"
)

// keepOdd keeps the odd packets and renumbers what is in them.
func keepOdd(rec Record, _, seq uint64) ([]byte, bool, error) {
	return payloadOf(seq, len(rec.Payload)), rec.Seq%2 == 1, nil
}

func withPackets(t *testing.T, fs *durabletest.FS, n int) *Spool {
	t.Helper()
	s := open(t, options(fs, MinMaxBytes))
	for i := range n {
		add(t, s, 3000, i > n-3)
	}
	return s
}

func TestNewEpochNumbersFromOne(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := withPackets(t, fs, 20)
	old := s.Epoch()
	if err := s.Reject(2, "no"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Take(true); err != nil {
		t.Fatal(err)
	}
	if err := s.NewEpoch(keepOdd); !errors.Is(err, ErrBusy) {
		t.Fatalf("NewEpoch with a flight: %v", err)
	}
	s.Return(18)
	if err := s.NewEpoch(keepOdd); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s)
	for range 2 {
		if s.Epoch() == old || s.NextSeq() != 11 || len(s.Gaps()) != 0 || s.Stats().Held != 1 {
			t.Fatalf("epoch %x, next %d, gaps %s, %+v", s.Epoch(), s.NextSeq(), gapText(s.Gaps()), s.Stats())
		}
		s = reopened(t, fs)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if got := numbers(drainAll(t, s)); got != "1 2 3 4 5 6 7 8 9 10" {
		t.Errorf("got %q", got)
	}
	if report, err := Check(fs, testDir); err != nil || !report.OK() {
		t.Errorf("Check: %+v, %v", report, err)
	}
}

func TestNewEpochFailsInTheMiddle(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(2)
	s := withPackets(t, fs, 10)
	old := s.Epoch()
	for name, rewrite := range map[string]Rewrite{
		"error": func(Record, uint64, uint64) ([]byte, bool, error) { return nil, false, errors.New("no") },
		"large": func(Record, uint64, uint64) ([]byte, bool, error) { return make([]byte, MinMaxBytes), true, nil },
	} {
		if err := s.NewEpoch(rewrite); err == nil {
			t.Fatalf("%s: no error", name)
		}
		mustHold(t, s)
		if s.Epoch() != old || s.NextSeq() != 11 || s.Stats().Records != 10 {
			t.Fatalf("%s: the old epoch does not stand: %+v", name, s.Stats())
		}
	}
	add(t, s, 100, false)
	s = reopened(t, fs)
	if s.Epoch() != old || s.NextSeq() != 12 {
		t.Errorf("epoch %x next %d, want %x and 12", s.Epoch(), s.NextSeq(), old)
	}
}

// TestNewEpochIsAllOrNothing breaks each call of NewEpoch in each way and cuts the
// power afterwards: either epoch must be whole.
func TestNewEpochIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []durabletest.Mode{
		durabletest.NotDone, durabletest.Done, durabletest.Torn, durabletest.NoSpace, durabletest.PowerCut,
	} {
		for _, times := range []int{1, -1} {
			for n := 1; ; n++ {
				fs := durabletest.New(uint64(n))
				s := withPackets(t, fs, 12)
				old := s.Epoch()
				before := fs.Ops(durabletest.Changes)
				fs.Inject(durabletest.Fault{N: n, Mode: mode, Times: times})
				err := s.NewEpoch(keepOdd)
				last := fs.Ops(durabletest.Changes)-before < n
				if err == nil && s.Epoch() == old || err != nil && s.Epoch() != old {
					t.Fatalf("call %d %s: epoch and error (%v) disagree", n, mode, err)
				}
				mustHold(t, s)
				s = reopened(t, fs)
				want, next := 12, uint64(13)
				if s.Epoch() != old {
					want, next = 6, 7
				} else if err == nil {
					t.Fatalf("call %d %s: the new epoch was lost", n, mode)
				}
				// A draft torn beyond recognition may take numbers with it, never packets.
				burnt := s.core.gaps.numbers()
				if s.NextSeq() != next+burnt || s.Stats().Records != want || burnt > 0 && !s.core.gaps.contains(next) {
					t.Fatalf("call %d %s: %+v, gaps %s", n, mode, s.Stats(), gapText(s.Gaps()))
				}
				if last {
					break
				}
			}
		}
	}
}

// TestCloneThatStaysBehind: a restored snapshot learns from the service that it is one.
func TestCloneThatStaysBehind(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(3)
	s := withPackets(t, fs, 4)
	snapshot := fs.Clone(9)
	add(t, s, 10, false)
	o := options(snapshot, MinMaxBytes)
	o.Rand = randReader{rand.New(rand.NewPCG(3, 3))}
	old := open(t, o)
	if err := old.AckStored(5, nil); !errors.Is(err, ErrRewound) {
		t.Fatalf("AckStored: %v, want ErrRewound", err)
	}
	if err := old.NewEpoch(func(Record, uint64, uint64) ([]byte, bool, error) { return nil, false, nil }); err != nil {
		t.Fatal(err)
	}
	if old.NextSeq() != 1 || old.Epoch() == s.Epoch() {
		t.Errorf("NextSeq() = %d, epochs %x %x", old.NextSeq(), old.Epoch(), s.Epoch())
	}
}
