package fleet

import "fmt"

// PacketID identifies what is counted once.
type PacketID struct {
	Agent string `json:"agent"`
	Epoch uint64 `json:"epoch"` // random, made with the spool: a new or cloned spool is a new epoch
	Seq   uint64 `json:"seq"`   // from 1, without holes
}

// String prints agent/epoch/seq, the form used in logs and idempotency keys.
func (id PacketID) String() string { return fmt.Sprintf("%s/%016x/%d", id.Agent, id.Epoch, id.Seq) }

// Packet is the unit that is spooled, sent, acknowledged and counted once.
type Packet struct {
	ID           PacketID
	FirstSeq     uint64 // equal to ID.Seq unless packets FirstSeq..ID.Seq were merged into this one
	Boot         uint64 // random per start of the agent that recorded it
	AgentVersion string
	Host         string
	Snapshots    []Snapshot
	Gaps         []Gap
}

// MaxAheadMs is how far a snapshot may lie in the future of the clock that received it:
// one from farther away would be the newest for ever.
const MaxAheadMs = 24 * 60 * 60 * 1000

// Untimely returns the first snapshot that has no time, or lies more than MaxAheadMs after
// the given UTC ms at which the packet was received; nil when there is none. Who
// acknowledges and who stores decide by it alike.
func (p *Packet) Untimely(receivedMs int64) *Snapshot {
	for i := range p.Snapshots {
		if s := &p.Snapshots[i]; s.AtMs <= 0 || s.AtMs > receivedMs+MaxAheadMs {
			return s
		}
	}
	return nil
}

// Gap says that the agent gave up packets on purpose, so nobody waits for them.
type Gap struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	FromMs   Int    `json:"from_ms"` // UTC ms; unknown when the packets could not be read
	ToMs     Int    `json:"to_ms"`
	Reason   string `json:"reason"` // spool_full, damaged, rejected
}

// Receipt is the service's answer to a packet: the packet is durable.
type Receipt struct {
	// Stored is what storage last told about this agent and epoch: every packet up to
	// and including Stored is applied or given up, and so are those in StoredAhead.
	// StoredKnown is false when storage has not said anything yet.
	Stored      uint64
	StoredKnown bool
	StoredAhead []SeqRange
	Settings    Settings
}

// Settings are what the service asks of an agent. Zero values mean: keep your own.
type Settings struct {
	IntervalMs        int64 // poll and packet interval, 1,000 to 300,000 ms
	ClientListEveryMs int64 // how often per-viewer lists are read, where they cost extra
}
