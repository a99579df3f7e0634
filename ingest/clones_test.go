package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/observe"
)

// senders drives the detection: every step is one packet.
type senders struct {
	t      *testing.T
	clones *clones
	health *health.Registry
	clock  time.Time
}

func newSenders(t *testing.T) *senders {
	s := &senders{t: t, clock: time.Unix(1_700_000_000, 0)}
	s.health = health.New(func() time.Time { return s.clock })
	s.clones = newClones(func() time.Time { return s.clock }, s.health, observe.Discard())
	return s
}

func (s *senders) send(boot, seq uint64, content string) error {
	return s.clones.check(fleet.PacketID{Agent: "edge", Epoch: 7, Seq: seq}, boot, fmt.Sprint("host-", boot), []byte(content))
}

func (s *senders) accepted(boot, seq uint64) {
	s.t.Helper()
	if err := s.send(boot, seq, fmt.Sprint("content of ", seq)); err != nil {
		s.t.Fatalf("packet %d of boot %d: %v", seq, boot, err)
	}
}

func (s *senders) refused(boot, seq uint64, hosts ...string) {
	s.t.Helper()
	err := s.send(boot, seq, fmt.Sprint("content of ", seq))
	if fleet.KindOf(err) != fleet.KindConflict {
		s.t.Fatalf("packet %d of boot %d: %v, want a conflict", seq, boot, err)
	}
	for _, host := range hosts {
		if !strings.Contains(err.Error(), host) {
			s.t.Errorf("%q does not name %s", err, host)
		}
	}
}

func (s *senders) later(d time.Duration) { s.clock = s.clock.Add(d) }

func TestRestartIsNotAClone(t *testing.T) {
	t.Parallel()
	s := newSenders(t)
	for boot := uint64(1); boot <= 10; boot++ { // more often than is remembered
		for seq := boot * 10; seq < boot*10+5; seq++ {
			s.accepted(boot, seq)
			s.later(10 * time.Second)
		}
	}
	if len(s.health.List()) != 0 {
		t.Errorf("conditions = %+v", s.health.List())
	}
}

// The backlog of the old process, its hedged copies and what a frozen balancer
// delivers late are no clones.
func TestLateRequestsOfTheOldProcessAreNotAClone(t *testing.T) {
	t.Parallel()
	s := newSenders(t)
	s.accepted(1, 10)
	s.accepted(2, 11) // restarted
	s.later(time.Second)
	s.accepted(1, 9) // was under way
	s.accepted(1, 10)
	s.later(time.Minute)
	for seq := uint64(1); seq <= 8; seq++ { // a balancer wakes up after a minute
		s.accepted(1, seq)
	}
	for seq := uint64(12); seq < 30; seq++ {
		s.accepted(2, seq)
		s.accepted(1, 10) // repeats for ever
		s.later(10 * time.Second)
	}
}

func TestTwoLivingProcessesAreAClone(t *testing.T) {
	t.Parallel()
	s := newSenders(t)
	s.accepted(1, 10)
	s.later(10 * time.Second)
	s.accepted(2, 100)
	s.later(10 * time.Second)
	s.accepted(1, 11)
	s.later(10 * time.Second)
	s.accepted(2, 101)
	s.later(10 * time.Second)
	s.accepted(1, 12) // proven
	s.refused(2, 102, "host-1", "host-2", "edge")
	s.accepted(1, 13) // the older goes on
	if list := s.health.List(); len(list) != 1 || list[0].Code != conditionCloned || !strings.Contains(list[0].Text, "host-2") {
		t.Errorf("conditions = %+v", list)
	}
	// The older one is restarted: its successor is heard, the clone is not.
	s.later(time.Minute)
	s.accepted(3, 14)
	s.refused(2, 103)
	// Another epoch is another identity.
	if err := s.clones.check(fleet.PacketID{Agent: "edge", Epoch: 8, Seq: 1}, 2, "host-2", nil); err != nil {
		t.Errorf("the clone with an identity of its own: %v", err)
	}
	// When the first one is gone for good, the second is itself again.
	s.later(11 * time.Minute)
	s.accepted(2, 104)
	if list := s.health.List(); len(list) != 0 {
		t.Errorf("conditions = %+v", list)
	}
}

// Clones number alike: the second packet with a number would be taken for a repeat and
// be lost, so it is refused at once.
func TestOneNumberWithTwoContentsIsAConflict(t *testing.T) {
	t.Parallel()
	s := newSenders(t)
	s.accepted(1, 10)
	if err := s.send(2, 10, "something else"); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("other content = %v, want a conflict", err)
	}
	s.accepted(1, 10) // the first is repeated without harm
	for seq := uint64(11); seq < 11+recentSeqs; seq++ {
		s.accepted(1, seq)
	}
	if err := s.send(1, 10+recentSeqs, "something else"); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("other content of a recent number = %v", err)
	}
}

func TestMemoryOfSendersIsBounded(t *testing.T) {
	t.Parallel()
	s := newSenders(t)
	for i := range 3 * maxSenders {
		if err := s.clones.check(fleet.PacketID{Agent: fmt.Sprint("edge-", i), Epoch: 1, Seq: 1}, 1, "h", nil); err != nil {
			t.Fatal(err)
		}
		s.accepted(1, uint64(i+1)) // one that is always there is not forgotten
	}
	if n := len(s.clones.young) + len(s.clones.old); n > maxSenders {
		t.Errorf("%d senders remembered, at most %d", n, maxSenders)
	}
	if err := s.send(1, 3*maxSenders, "something else"); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("a steady sender was forgotten: %v", err)
	}
}

func TestClonesAreAnsweredWithConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	p := packet("edge-1", 5)
	if w := s.serve(s.request(p)); w.Code != 200 {
		t.Fatalf("first: %d", w.Code)
	}
	other := packet("edge-1", 5)
	other.Boot, other.Host, other.Snapshots[0].Totals.BytesIn = 2, "host-b", fleet.Of(999)
	w := s.serve(s.request(other))
	a := readAnswer(t, w)
	if w.Code != 409 || a.Kind != "conflict" || !strings.Contains(a.Message, "host-a") || !strings.Contains(a.Message, "host-b") {
		t.Errorf("clone: %d %+v", w.Code, a)
	}
	if s.journal.count() != 1 || s.ingest.Stats().ClonesRefused != 1 {
		t.Errorf("%d entries, stats %+v", s.journal.count(), s.ingest.Stats())
	}
}
