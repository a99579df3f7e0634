package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vigil/durable/durabletest"
	"vigil/fleet"
)

// model is what a spool must remember, whatever happens to the disk. It knows only
// numbers and what was promised about them.
type model struct {
	next   uint64                    // NextSeq may not be smaller
	taken  map[uint64]bool           // Append said nil: must be there or in a gap, until acknowledged
	gapped map[uint64]bool           // was reported as a gap
	sent   map[uint64]fleet.SeqRange // was given out as part of this record: must never be part of another
	acked  map[uint64]bool
}

func newModel() *model {
	return &model{next: 1, taken: map[uint64]bool{}, gapped: map[uint64]bool{}, sent: map[uint64]fleet.SeqRange{}, acked: map[uint64]bool{}}
}

// compare looks at all that the spool holds. Nothing that was taken may be missing
// unless a gap says so, sums must add up, and what was sent keeps its shape.
func (m *model) compare(s *Spool) error {
	if err := s.core.check(); err != nil {
		return err
	}
	if s.NextSeq() < m.next {
		return fmt.Errorf("NextSeq() = %d, was %d", s.NextSeq(), m.next)
	}
	live := map[uint64]bool{}
	for i := range s.core.index.entries {
		e := &s.core.index.entries[i]
		if e.dead {
			continue
		}
		payload, err := s.core.read(e)
		if err != nil {
			return fmt.Errorf("read %d to %d: %w", e.first, e.seq, err)
		}
		if err := checkPayload(Record{FirstSeq: e.first, Seq: e.seq, Payload: payload}); err != nil {
			return err
		}
		shape := fleet.SeqRange{First: e.first, Last: e.seq}
		for n := e.first; n <= e.seq; n++ {
			live[n] = true
			if was, ok := m.sent[n]; ok && was != shape {
				return fmt.Errorf("packet %d was sent in %v and is now in %v", n, was, shape)
			}
		}
	}
	for n := range m.taken {
		switch {
		case s.core.gaps.contains(n):
			m.gapped[n] = true
		case live[n] || m.gapped[n] && s.core.settled.Contains(n):
		default:
			return fmt.Errorf("packet %d is neither there nor in a gap", n)
		}
	}
	return nil
}

// fataler is what testing.T and rapid.T have in common here.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// machine drives a spool and a model by random actions.
type machine struct {
	t     fataler
	fs    *durabletest.FS
	s     *Spool
	m     *model
	limit int64
	size  int
	out   []uint64 // in flight
}

func (k *machine) open() {
	s, err := Open(options(k.fs, k.limit))
	if err != nil {
		k.t.Fatalf("Open: %v", err)
	}
	k.s, k.out = s, nil
}

func (k *machine) append(held bool) {
	seq := k.s.NextSeq()
	err := k.s.Append(Record{Seq: seq, AtMs: int64(seq), Held: held, Payload: payloadOf(seq, k.size)})
	if err == nil {
		k.m.taken[seq] = true
		k.m.next = seq + 1
	}
}

func (k *machine) take(newest bool) {
	rec, ok, err := k.s.Take(newest)
	if err != nil || !ok {
		return
	}
	if err := checkPayload(rec); err != nil {
		k.t.Fatal(err)
	}
	for n := rec.FirstSeq; n <= rec.Seq; n++ {
		k.m.sent[n] = fleet.SeqRange{First: rec.FirstSeq, Last: rec.Seq}
	}
	k.out = append(k.out, rec.Seq)
}

// end takes the oldest flight off the list and tells how it ends.
func (k *machine) end(how func(seq uint64)) {
	if len(k.out) > 0 {
		seq := k.out[0]
		k.out = k.out[1:]
		how(seq)
	}
}

func (k *machine) ack(seq uint64) {
	i := k.s.core.index.find(seq)
	if i < 0 {
		return
	}
	for n := k.s.core.index.entries[i].first; n <= seq; n++ {
		k.m.acked[n] = true
		delete(k.m.taken, n)
	}
	_ = k.s.Ack(seq) // an error is about space only
}

func (k *machine) actions() map[string]func(*rapid.T) {
	crash := func(how func()) {
		how()
		k.open()
	}
	return map[string]func(*rapid.T){
		"append":      func(*rapid.T) { k.append(false) },
		"append held": func(*rapid.T) { k.append(true) },
		"append many held": func(*rapid.T) {
			for range 20 {
				k.append(true)
			}
		},
		"take newest": func(*rapid.T) { k.take(true) },
		"take oldest": func(*rapid.T) { k.take(false) },
		"ack":         func(*rapid.T) { k.end(k.ack) },
		"return":      func(*rapid.T) { k.end(func(seq uint64) { k.s.Return(seq) }) },
		"reject":      func(*rapid.T) { k.end(func(seq uint64) { _ = k.s.Reject(seq, "no") }) },
		"release":     func(*rapid.T) { _ = k.s.Release() },
		"stored":      k.stored,
		"carry gaps":  func(*rapid.T) { k.carry() },
		"crash":       func(*rapid.T) { crash(k.fs.Crash) },
		"kill":        func(*rapid.T) { crash(k.fs.Kill) },
		"clean restart": func(*rapid.T) {
			if err := k.s.Close(); err != nil {
				k.fs.Kill() // the lock is gone with Close in any case; the handles too
			}
			k.open()
		},
		"fault": k.fault,
		"":      func(*rapid.T) { k.compare() },
	}
}

// stored acknowledges all that was acknowledged so far from below, as storage does.
func (k *machine) stored(t *rapid.T) {
	high := uint64(0)
	for k.m.acked[high+1] {
		high++
	}
	var ahead []fleet.SeqRange
	for _, n := range slices.Sorted(maps.Keys(k.m.acked)) {
		if n > high+1 && rapid.Bool().Draw(t, "ahead") {
			ahead = append(ahead, fleet.SeqRange{First: n, Last: n})
		}
	}
	if err := k.s.AckStored(high, ahead); errors.Is(err, ErrRewound) {
		t.Fatalf("AckStored(%d): %v", high, err)
	}
}

// carry lets the newest record carry the gaps, and has it acknowledged later by others.
func (k *machine) carry() {
	gaps := k.s.Gaps()
	for _, g := range gaps {
		for n := g.FirstSeq; n <= g.LastSeq; n++ {
			k.m.gapped[n] = true
		}
	}
	seq := k.s.NextSeq()
	k.append(false)
	if !k.m.taken[seq] || len(gaps) == 0 {
		return
	}
	if err := k.s.GapsCarried(seq, gaps); err != nil {
		k.t.Fatalf("GapsCarried: %v", err)
	}
}

func (k *machine) fault(t *rapid.T) {
	mode := rapid.SampledFrom([]durabletest.Mode{
		durabletest.NotDone, durabletest.Done, durabletest.Torn, durabletest.NoSpace, durabletest.PowerCut,
	}).Draw(t, "mode")
	k.fs.Inject(durabletest.Fault{N: rapid.IntRange(1, 12).Draw(t, "n"), Mode: mode, Times: rapid.IntRange(1, 3).Draw(t, "times")})
}

func (k *machine) compare() {
	if k.fs.Dead() {
		k.fs.Crash()
		k.open()
	}
	if err := k.m.compare(k.s); err != nil {
		k.t.Fatal(err)
	}
}

// TestSpoolAgainstModel runs random actions, faults and power cuts against the model.
func TestSpoolAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := &machine{
			t: t, fs: durabletest.New(rapid.Uint64().Draw(t, "seed")), m: newModel(), limit: MinMaxBytes,
			size: rapid.SampledFrom([]int{20, 1000, 9000}).Draw(t, "size"),
		}
		k.open()
		t.Repeat(k.actions())
	})
}
