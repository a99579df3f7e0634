package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
)

func (s *site) has(code string) bool {
	for _, c := range s.health.List() {
		if c.Code == code {
			return true
		}
	}
	return false
}

// refusedFor sends a packet that must be refused, and nothing of which may be durable.
func (s *site) refusedFor(p *fleet.Packet, status int, part string) {
	s.t.Helper()
	before := s.journal.count()
	w := s.serve(s.request(p))
	if a := readAnswer(s.t, w); w.Code != status || !strings.Contains(a.Message, part) {
		s.t.Errorf("packet %s: %d %+v, want %d and a message with %q", p.ID, w.Code, a, status, part)
	}
	if s.journal.count() != before {
		s.t.Errorf("packet %s was refused and is in the journal", p.ID)
	}
}

func (s *site) taken(p *fleet.Packet) {
	s.t.Helper()
	if w := s.serve(s.request(p)); w.Code != 200 {
		s.t.Errorf("packet %s: %d %s", p.ID, w.Code, w.Body)
	}
}

// Storage cannot count a snapshot from the far future, so it must not be acknowledged.
// It may be the service whose clock is wrong: the packet is not refused for ever.
func TestPacketFromTheFutureIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	p := packet("edge-1", 1)
	p.Snapshots[0].AtMs = s.clock.Add(24*time.Hour + time.Second).UnixMilli()
	s.refusedFor(p, 503, "24h0m0s ahead")
	if !s.has(conditionClock) {
		t.Error("no condition about the clock")
	}
	p.Snapshots[0].AtMs = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli()
	s.refusedFor(p, 503, "ahead")
	p.Snapshots[0].AtMs = 0
	s.refusedFor(p, 400, "no time")
	p.Snapshots[0].AtMs = s.clock.Add(24 * time.Hour).UnixMilli()
	s.taken(p)
	s.clock = s.clock.Add(claimsFor + time.Second)
	s.taken(packet("edge-1", 2))
	if s.has(conditionClock) {
		t.Error("the condition about the clock stays")
	}
}

func TestNamesOfOneAgentAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{MaxStreamsPerAgent: 100})
	named := func(agent string, seq uint64, names string) *fleet.Packet {
		p := packet(agent, seq)
		for i := range 60 {
			key := fleet.StreamKey{Server: "media-" + agent, Name: fmt.Sprint(names, i)}
			p.Snapshots[0].Server.Key = key.Server
			p.Snapshots[0].Streams = append(p.Snapshots[0].Streams, fleet.StreamSample{StreamInfo: fleet.StreamInfo{Key: key}})
		}
		return p
	}
	s.taken(named("edge-1", 1, "a"))
	s.taken(named("edge-1", 2, "a"))
	s.refusedFor(named("edge-1", 3, "b"), 503, "100 different streams")
	if !s.has(conditionNames) {
		t.Error("no condition about too many names")
	}
	s.taken(named("edge-2", 1, "b")) // others have their own limit
	s.taken(named("edge-1", 4, "a")) // what is known stays welcome
	s.clock = s.clock.Add(claimsFor)
	s.taken(named("edge-1", 3, "b")) // what waited in the spool is taken in the end
}

func TestServersAndEpochsOfOneAgentAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	for i := range maxAgentEpochs + 1 {
		p := packet("edge-1", 1)
		p.ID.Epoch = uint64(100 + i)
		if i < maxAgentEpochs {
			s.taken(p)
		} else {
			s.refusedFor(p, 503, "different epochs")
		}
	}
	many := packet("edge-2", 1)
	one := many.Snapshots[0]
	many.Snapshots = nil
	for i := range 900 {
		one.Server.Key = fmt.Sprint("server-", i)
		many.Snapshots = append(many.Snapshots, one)
	}
	s.taken(many)
	for round := 2; round <= 3; round++ {
		many = &fleet.Packet{ID: many.ID, Boot: 1, Snapshots: append([]fleet.Snapshot(nil), many.Snapshots...)}
		many.ID.Seq++
		many.FirstSeq = many.ID.Seq
		for i := range many.Snapshots {
			many.Snapshots[i].Server.Key = fmt.Sprint("server-", round, "-", i)
		}
		if round*900 <= maxAgentServers {
			s.taken(many)
		} else {
			s.refusedFor(many, 503, "different servers")
		}
	}
}

func TestTwoAgentsWithOneServerAreTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	s.taken(packet("edge-1", 1))
	if s.has(conditionShared) {
		t.Error("told of two agents when there was one")
	}
	s.taken(packet("edge-2", 1))
	if !s.has(conditionShared) {
		t.Error("not told that two agents report one server")
	}
}

// A dedup state with very many holes is not made larger; what fills holes is welcome.
func TestHolesInTheDedupStateAreBounded(t *testing.T) {
	t.Parallel()
	full := &fleet.SeqSet{}
	for i := range uint64(fleet.MaxHoles) {
		if _, err := full.Add(fleet.SeqRange{First: 10 + 3*i, Last: 10 + 3*i}); err != nil {
			t.Fatal(err)
		}
	}
	f := func(first, seq uint64, ok bool) {
		t.Helper()
		p := &fleet.Packet{ID: fleet.PacketID{Agent: "a", Epoch: 1, Seq: seq}, FirstSeq: first}
		if err := checkHoles(p, full); (err == nil) != ok {
			t.Errorf("packet %d to %d: %v, want taken %v", first, seq, err, ok)
		}
	}
	f(1, 1, true)
	f(10, 10, true) // a repeat
	f(11, 11, true)
	f(12, 12, true)
	f(5, 5, false)
	f(1<<62, 1<<62, false)
	if err := checkHoles(&fleet.Packet{ID: fleet.PacketID{Seq: 9}, FirstSeq: 9}, nil); err != nil {
		t.Errorf("nothing known of the sender: %v", err)
	}
}

func TestMemoryOfClaimsIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	c := s.ingest.claims
	c.entries.Store(maxClaims + 1)
	s.taken(packet("edge-9", 1))
	if n := c.entries.Load(); n > 10 {
		t.Errorf("%d entries are remembered after the window was full", n)
	}
}
