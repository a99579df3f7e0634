package ingest

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"vigil/fleet"
	"vigil/health"
)

// Limits of what one agent may bring into the world. Every new name costs memory in the
// live view and a row in the store for ever, and every epoch an entry of the dedup state:
// without them one agent with a valid token could fill both.
const (
	claimsFor       = time.Hour // the limits are per such a window
	maxAgentServers = 2_000     // different servers of one agent
	maxAgentEpochs  = 100       // a healthy agent begins a new one every few months
	// What is remembered of all agents together. Beyond it the window begins anew: then
	// these limits hold less well, and memory stays bounded.
	maxClaims = 8_000_000
)

// Conditions about agents, cleared claimsFor after they were last true.
const (
	conditionNames  = "agent-too-many-names"
	conditionClock  = "agent-clock-ahead"
	conditionShared = "server-of-two-agents"
)

// claims remembers for a while which servers, streams and epochs each agent has named.
// The lock of an agent is taken before mu.
type claims struct {
	maxStreams int
	now        func() time.Time
	health     *health.Registry
	seed       maphash.Seed
	entries    atomic.Int64 // of all agents together

	mu     sync.Mutex
	since  time.Time               // when the window began; guarded by mu
	agents map[string]*agentClaims // guarded by mu
	owners map[string]string       // server key to the agent that named it last; guarded by mu
	told   map[string]time.Time    // conditions that are set, and when they were last true; guarded by mu
}

type agentClaims struct {
	servers map[string]struct{} // guarded by claims.mu
	epochs  map[uint64]struct{} // guarded by claims.mu

	mu      sync.Mutex          // a packet may name many streams: other agents do not wait for that
	streams map[uint64]struct{} // hashes of keys; guarded by mu
}

func newClaims(maxStreams int, now func() time.Time, h *health.Registry) *claims {
	return &claims{
		maxStreams: maxStreams, now: now, health: h, seed: maphash.MakeSeed(),
		agents: map[string]*agentClaims{}, owners: map[string]string{}, told: map[string]time.Time{},
	}
}

// check takes note of what a packet names, or says busy when its agent has named too
// much lately: the packet stays in the agent's spool and is taken in the next window.
func (c *claims) check(p *fleet.Packet) error {
	a, err := c.agent(p)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range p.Snapshots {
		s := &p.Snapshots[i]
		ok := true
		for j := range s.Streams {
			ok = ok && c.stream(a, &s.Streams[j].Key)
		}
		for j := range s.Events {
			ok = ok && c.stream(a, &s.Events[j].Key)
		}
		for j := range s.Sessions {
			ok = ok && c.stream(a, &s.Sessions[j].Key)
		}
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.tooMany(p, "streams", c.maxStreams)
		}
	}
	return nil
}

// agent takes note of the epoch and the servers of a packet.
func (c *claims) agent(p *fleet.Packet) (*agentClaims, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(c.now())
	a := c.agents[p.ID.Agent]
	if a == nil {
		a = &agentClaims{streams: map[uint64]struct{}{}, servers: map[string]struct{}{}, epochs: map[uint64]struct{}{}}
		c.agents[p.ID.Agent] = a
		c.entries.Add(1)
	}
	if _, known := a.epochs[p.ID.Epoch]; !known && len(a.epochs) >= maxAgentEpochs {
		return nil, c.tooMany(p, "epochs", maxAgentEpochs)
	}
	a.epochs[p.ID.Epoch] = struct{}{}
	for i := range p.Snapshots {
		key := p.Snapshots[i].Server.Key
		if _, known := a.servers[key]; !known {
			if len(a.servers) >= maxAgentServers {
				return nil, c.tooMany(p, "servers", maxAgentServers)
			}
			a.servers[key] = struct{}{}
			c.entries.Add(1)
		}
		if owner, there := c.owners[key]; there && owner != p.ID.Agent {
			c.shared(key, owner, p.ID.Agent)
		}
		c.owners[key] = p.ID.Agent
	}
	return a, nil
}

// stream takes note of a name, unless that is one too many. The caller holds a.mu.
func (c *claims) stream(a *agentClaims, key *fleet.StreamKey) bool {
	hash := maphash.Comparable(c.seed, *key)
	if _, known := a.streams[hash]; known {
		return true
	}
	if len(a.streams) >= c.maxStreams {
		return false
	}
	a.streams[hash] = struct{}{}
	c.entries.Add(1)
	return true
}

// turn begins a new window when the old one is over or full, and ends conditions.
func (c *claims) turn(now time.Time) {
	if age := now.Sub(c.since); age >= claimsFor || age < 0 || c.entries.Load() > maxClaims {
		c.since = now
		c.entries.Store(0)
		c.agents, c.owners = map[string]*agentClaims{}, map[string]string{}
	}
	for code, last := range c.told {
		if now.Sub(last) > claimsFor {
			delete(c.told, code)
			c.health.Clear(code)
		}
	}
}

// tell sets a condition. The caller holds mu.
func (c *claims) tell(condition health.Condition) {
	c.told[condition.Code] = c.now()
	c.health.Set(condition)
}

// tooMany is the answer of a packet over a limit. The caller holds mu.
func (c *claims) tooMany(p *fleet.Packet, what string, limit int) error {
	message := fmt.Sprintf("the agent %q has named more than %d different %s within an hour", p.ID.Agent, limit, what)
	c.tell(health.Condition{
		Code: conditionNames, Title: "An agent names too much", Severity: health.Warning,
		Text: message + ". Its packets wait in its spool until the hour is over.",
		Hint: "Look at what its media servers report: names that change all the time, or somebody who misuses the agent's token. ingest.max_streams_per_agent is the limit of streams.",
	})
	return refuse("too_many_"+what, fleet.KindBusy, message, "raise ingest.max_streams_per_agent if that is right")
}

// shared tells of a server with two agents. The caller holds mu.
func (c *claims) shared(server, one, other string) {
	c.tell(health.Condition{
		Code: conditionShared, Title: "Two agents report one server", Severity: health.Warning,
		Text: fmt.Sprintf("The agents %q and %q both report a server named %q. Both are counted, so its numbers may be twice as high as they are.", one, other, server),
		Hint: "Give each media server a name of its own in the configuration of its agent, and let one agent watch it. After an agent was renamed this goes away by itself.",
	})
}

// clock refuses packets from the future before they are acknowledged: storage could not
// count them. They stay in the spool until the clocks agree.
func (c *claims) clock(p *fleet.Packet, receivedMs int64) error {
	s := p.Untimely(receivedMs)
	switch {
	case s == nil:
		return nil
	case s.AtMs <= 0:
		return refuse("invalid", fleet.KindInvalid, fmt.Sprintf("the snapshot of %q has no time", s.Server.Key), "compare the agent that made it with packet.proto")
	}
	message := fmt.Sprintf("the clock of the agent %q is %s ahead of the service's", p.ID.Agent,
		(time.Duration(s.AtMs-receivedMs) * time.Millisecond).Round(time.Minute))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(health.Condition{
		Code: conditionClock, Title: "A clock is wrong", Severity: health.Warning,
		Text: message + ". Its packets are not taken and wait in its spool.",
		Hint: "Correct the clock of that machine, or of this one.",
	})
	return refuse("clock", fleet.KindUnavailable, message, "correct the clock of this machine, or of the service")
}

// checkHoles refuses a packet that would make one more hole in a dedup state that has
// very many. Packets that fill holes are always taken.
func checkHoles(p *fleet.Packet, stored *fleet.SeqSet) error {
	if stored == nil || !stored.AddsHole(fleet.SeqRange{First: p.FirstSeq, Last: p.ID.Seq}) {
		return nil
	}
	return refuse("too_many_holes", fleet.KindBusy, fmt.Sprintf("more than %d ranges of packets are missing before this one", fleet.MaxHoles), "send the missing packets first")
}
