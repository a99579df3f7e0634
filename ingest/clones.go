package ingest

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vigil/fleet"
	"vigil/health"
)

// Limits of clone detection.
const (
	maxSenders  = 20_000 // agents and epochs remembered; the least recent half goes first
	maxBoots    = 4      // processes remembered for one of them
	recentSeqs  = 32     // packets remembered for one of them
	cloneGrace  = 5 * time.Second
	cloneProofs = 2                // signs of life of an old process before the new one is refused
	cloneForget = 10 * time.Minute // without the other one, a refused process may send again
)

const conditionCloned = "agent-cloned"

// clones notices when two processes send under one identity (agent and epoch): a
// machine was copied together with its spool. Both would number different packets
// alike, and of two packets with one number only the first is counted.
//
// Two signs are used:
//
//   - One number with two different contents. The second is refused at once: it could
//     not be counted.
//   - Two processes by turns. A new boot is a restart of the agent and replaces the old
//     one. When the old boot then sends something new again, after the time in which a
//     request may be under way somewhere, and does so twice with the new one in
//     between, both live. The newer one is refused from then on. One such sign is not
//     enough: a balancer that was frozen delivers old requests when it wakes up, and
//     refusing a healthy agent makes it number its packets anew, so that what was
//     stored without the agent knowing would be counted twice.
//
// All of this is memory of one process, bounded, and lost with it: then a clone is
// noticed a little later.
type clones struct {
	now      func() time.Time
	health   *health.Registry
	log      *slog.Logger
	seed     maphash.Seed
	refusals atomic.Uint64

	mu         sync.Mutex
	young, old map[identity]*sender // guarded by mu; old is forgotten when young is half of all
	lastClone  time.Time            // guarded by mu; zero: the condition is not set
}

type identity struct {
	agent string
	epoch uint64
}

// sender is what is remembered of one identity.
type sender struct {
	boots  []boot // in the order in which they were first seen
	recent [recentSeqs]seen
	next   int
}

type boot struct {
	id      uint64
	host    string
	first   time.Time
	last    time.Time
	proofs  int       // signs that this one lives although a newer one does
	proved  time.Time // when the last of them was counted
	refused bool
	rival   uint64 // the boot that proved to live, when refused
}

type seen struct {
	seq     uint64
	content uint64
	host    string
}

func newClones(now func() time.Time, h *health.Registry, log *slog.Logger) *clones {
	return &clones{now: now, health: h, log: log, seed: maphash.MakeSeed(), young: map[identity]*sender{}, old: map[identity]*sender{}}
}

// check remembers a packet that is about to be made durable, and returns a conflict
// when it must not be.
func (c *clones) check(id fleet.PacketID, bootID uint64, host string, payload []byte) error {
	content := maphash.Bytes(c.seed, payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.forget(now)
	s := c.sender(identity{id.Agent, id.Epoch})
	b := s.boot(bootID, host, now)
	if other, refused := s.refusedBy(b, now); refused {
		return c.conflict(id, host, other, now)
	}
	if before, known := s.find(id.Seq); known {
		b.last = now
		if before.content != content {
			return c.conflict(id, host, before.host, now)
		}
		return nil // a repeat proves nothing: it may have been under way for long
	}
	s.weigh(b, now)
	b.last = now
	s.recent[s.next] = seen{seq: id.Seq, content: content, host: host}
	s.next = (s.next + 1) % recentSeqs
	return nil
}

// weigh looks whether b is an old boot that sends by turns with a newer one.
func (s *sender) weigh(b *boot, now time.Time) {
	newest := &s.boots[len(s.boots)-1]
	for i := len(s.boots) - 1; i > 0 && newest.refused; i-- {
		newest = &s.boots[i-1]
	}
	if b == newest || b.refused || newest.refused || newest.first.Before(b.first) || now.Sub(newest.first) < cloneGrace {
		return
	}
	if b.proofs > 0 && !newest.last.After(b.proved) {
		return // the new one was not heard since: still the same burst of late requests
	}
	b.proofs++
	b.proved = now
	if b.proofs >= cloneProofs {
		newest.refused, newest.rival = true, b.id
	}
}

// refusedBy reports whether b is refused, and the host of the one that proved to live.
// It is forgiven when that one has gone.
func (s *sender) refusedBy(b *boot, now time.Time) (host string, refused bool) {
	if !b.refused {
		return "", false
	}
	for i := range s.boots {
		if rival := &s.boots[i]; rival.id == b.rival && now.Sub(rival.last) < cloneForget {
			return rival.host, true
		}
	}
	b.refused, b.proofs = false, 0
	return "", false
}

// boot finds or adds a process. The pointer is good until the next call.
func (s *sender) boot(id uint64, host string, now time.Time) *boot {
	for i := range s.boots {
		if s.boots[i].id == id {
			return &s.boots[i]
		}
	}
	if len(s.boots) == maxBoots {
		s.boots = append(s.boots[:0], s.boots[1:]...)
	}
	s.boots = append(s.boots, boot{id: id, host: host, first: now, last: now})
	return &s.boots[len(s.boots)-1]
}

func (s *sender) find(seq uint64) (seen, bool) {
	for _, have := range s.recent {
		if have.seq == seq && seq != 0 {
			return have, true
		}
	}
	return seen{}, false
}

// sender finds or adds an identity.
func (c *clones) sender(id identity) *sender {
	if s, ok := c.young[id]; ok {
		return s
	}
	s, ok := c.old[id]
	if ok {
		delete(c.old, id)
	} else {
		s = &sender{}
	}
	if len(c.young) >= maxSenders/2 {
		c.young, c.old = map[identity]*sender{}, c.young
	}
	c.young[id] = s
	return s
}

func (c *clones) conflict(id fleet.PacketID, host, other string, now time.Time) error {
	c.refusals.Add(1)
	where := fmt.Sprintf("on the hosts %s and %s", other, host)
	if host == other {
		where = "twice on the host " + host
	}
	message := fmt.Sprintf("two agents send as %q with the same spool, %s", id.Agent, where)
	if c.lastClone.IsZero() {
		c.log.Warn("agent is cloned", "agent", id.Agent, "host", host, "other_host", other)
	}
	c.lastClone = now
	c.health.Set(health.Condition{
		Code: conditionCloned, Title: "An agent runs twice", Severity: health.Warning,
		Text: message + ". Packets of the second one are refused until it has an identity of its own.",
		Hint: "Probably a machine was copied together with the spool of its agent. An agent of Vigil takes a new identity by itself; give it a name and a token of its own.",
	})
	return &refusal{"clone", &fleet.Error{
		Kind: fleet.KindConflict, Message: message,
		Hint: "this machine was probably copied: give this agent a new spool, a name and a token of its own",
	}}
}

// forget ends the condition when no clone was seen for a while.
func (c *clones) forget(now time.Time) {
	if !c.lastClone.IsZero() && now.Sub(c.lastClone) > cloneForget {
		c.lastClone = time.Time{}
		c.health.Clear(conditionCloned)
	}
}
