package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vigil/durable/durabletest"
	"vigil/fleet"
	"vigil/observe"
)

const testDir = "/spool"

// clock gives a different time at every look, always the same ones.
func clock() func() time.Time {
	now := time.UnixMilli(1_700_000_000_000)
	return func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
}

type randReader struct{ *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

func options(fs *durabletest.FS, maxBytes int64) Options {
	return Options{
		Dir: testDir, MaxBytes: maxBytes, FS: fs, Now: clock(), Log: slog.New(slog.DiscardHandler),
		Metrics: observe.NewRegistry(), Rand: randReader{rand.New(rand.NewPCG(uint64(fs.Ops(durabletest.Changes)), 7))}, Merge: mergeSums,
	}
}

// payloadOf makes a payload that tells its numbers, so that sums can be checked: the
// amounts of the packets in it, then filling. Packet n has the amount n*n+1.
func payloadOf(seq uint64, size int) []byte {
	p := binary.LittleEndian.AppendUint64(nil, seq*seq+1)
	p = binary.LittleEndian.AppendUint64(p, 1)
	for len(p) < size {
		p = append(p, byte(seq), byte(len(p)))
	}
	return p
}

// mergeSums adds amounts and counts; the filling is the longest one.
func mergeSums(payloads [][]byte) ([]byte, error) {
	var sum, count uint64
	size := 0
	for _, p := range payloads {
		if len(p) < 16 {
			return nil, errors.New("payload is too short to merge")
		}
		sum += binary.LittleEndian.Uint64(p)
		count += binary.LittleEndian.Uint64(p[8:])
		size = max(size, len(p))
	}
	merged := binary.LittleEndian.AppendUint64(nil, sum)
	merged = binary.LittleEndian.AppendUint64(merged, count)
	return append(merged, bytes.Repeat([]byte{0xaa}, size-16)...), nil
}

// checkPayload says what is wrong with the payload of a record.
func checkPayload(rec Record) error {
	var sum, count uint64
	for seq := rec.FirstSeq; seq <= rec.Seq; seq++ {
		sum += seq*seq + 1
		count++
	}
	if len(rec.Payload) < 16 || binary.LittleEndian.Uint64(rec.Payload) != sum || binary.LittleEndian.Uint64(rec.Payload[8:]) != count {
		return fmt.Errorf("payload of %d to %d does not add up", rec.FirstSeq, rec.Seq)
	}
	return nil
}

func open(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	mustHold(t, s)
	return s
}

// mustHold fails when an invariant does not hold.
func mustHold(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.core.check(); err != nil {
		t.Fatalf("invariant: %v", err)
	}
}

func add(t testing.TB, s *Spool, size int, held bool) uint64 {
	t.Helper()
	seq := s.NextSeq()
	if err := s.Append(Record{Seq: seq, AtMs: int64(seq) * 10_000, Held: held, Payload: payloadOf(seq, size)}); err != nil {
		t.Fatalf("Append(%d): %v", seq, err)
	}
	mustHold(t, s)
	return seq
}

// drainAll takes everything that may be sent, oldest first, and acknowledges it.
func drainAll(t testing.TB, s *Spool) (got []Record) {
	t.Helper()
	for {
		rec, ok, err := s.Take(false)
		if err != nil {
			t.Fatalf("Take: %v", err)
		}
		if !ok {
			return got
		}
		if err := checkPayload(rec); err != nil {
			t.Fatal(err)
		}
		got = append(got, rec)
		if err := s.Ack(rec.Seq); err != nil {
			t.Fatalf("Ack(%d): %v", rec.Seq, err)
		}
		mustHold(t, s)
	}
}

func numbers(recs []Record) string {
	var parts []string
	for _, r := range recs {
		if r.FirstSeq == r.Seq {
			parts = append(parts, fmt.Sprint(r.Seq))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.FirstSeq, r.Seq))
		}
	}
	return strings.Join(parts, " ")
}

func gapText(gaps []fleet.Gap) string {
	var parts []string
	for _, g := range gaps {
		parts = append(parts, fmt.Sprintf("%d-%d %s", g.FirstSeq, g.LastSeq, g.Reason))
	}
	return strings.Join(parts, ", ")
}

func TestPacketsComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(1)
	s := open(t, options(fs, MinMaxBytes))
	if !s.OpenReport().Fresh || s.NextSeq() != 1 || s.Epoch() == 0 {
		t.Fatalf("fresh spool: %+v", s.OpenReport())
	}
	for range 5 {
		add(t, s, 100, false)
	}
	if rec, ok, err := s.Newest(); err != nil || !ok || rec.Seq != 5 {
		t.Fatalf("Newest() = %v, %v, %v; want 5", rec.Seq, ok, err)
	}
	if rec, ok, err := s.Oldest(); err != nil || !ok || rec.Seq != 1 || rec.AtMs != 10_000 {
		t.Fatalf("Oldest() = %v, %v, %v; want 1", rec, ok, err)
	}
	epoch := s.Epoch()
	fs.Crash()
	s = open(t, options(fs, MinMaxBytes))
	if s.Epoch() != epoch || s.NextSeq() != 6 {
		t.Fatalf("after a crash: epoch %x next %d, want %x and 6", s.Epoch(), s.NextSeq(), epoch)
	}
	if got := numbers(drainAll(t, s)); got != "1 2 3 4 5" {
		t.Errorf("got %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options(fs, MinMaxBytes))
	if got := drainAll(t, s); len(got) != 0 {
		t.Errorf("after a clean end %q is sent again", numbers(got))
	}
	if s.NextSeq() != 6 || s.Epoch() != epoch {
		t.Errorf("NextSeq() = %d, epoch %x; want 6 and %x", s.NextSeq(), s.Epoch(), epoch)
	}
}

func TestFullSpoolMergesThenDrops(t *testing.T) {
	t.Parallel()
	fs := durabletest.New(2)
	fs.SetCapacity(MinMaxBytes)
	s := open(t, options(fs, MinMaxBytes))
	for range 3000 {
		add(t, s, 4000, true)
	}
	st := s.Stats()
	t.Logf("%+v, gaps %s", st, gapText(s.Gaps()))
	if st.Bytes > MinMaxBytes || st.GapSeqs != 0 {
		t.Errorf("merging was not enough for %d bytes: %d numbers dropped", st.Bytes, st.GapSeqs)
	}
	if _, ok, _ := s.Take(true); ok {
		t.Error("a held record was given out before Release")
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	// Released records are not merged any more, only dropped.
	for range 300 {
		add(t, s, 4000, false)
	}
	gaps := s.Gaps()
	if len(gaps) != 1 || gaps[0].FirstSeq != 1 || gaps[0].Reason != ReasonFull {
		t.Fatalf("gaps: %s", gapText(gaps))
	}
	got := drainAll(t, s)
	if got[0].FirstSeq != gaps[0].LastSeq+1 || got[len(got)-1].Seq != 3300 {
		t.Errorf("gap to %d, records %s", gaps[0].LastSeq, numbers(got))
	}
}
