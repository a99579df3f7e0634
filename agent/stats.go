package agent

import (
	"time"

	"vigil/spool"
)

// Stats are an agent's own counts, made to be compared with what the service has.
// Counts begin with the start of the agent; those of the spool and of the service are
// about the present epoch.
type Stats struct {
	Agent           string `json:"agent"`
	Epoch           uint64 `json:"epoch"`
	Boot            uint64 `json:"boot"`
	LastSeq         uint64 `json:"last_seq"`         // newest sequence number given out
	PacketsSpooled  uint64 `json:"packets_spooled"`  // synced to disk
	PacketsAttempts uint64 `json:"packets_attempts"` // requests sent

	// PacketsAcknowledged are durable at the service; merged ones count for all they hold.
	PacketsAcknowledged uint64 `json:"packets_acknowledged"`
	// StoredKnown says whether storage has said anything about this epoch. Then every
	// packet up to StoredHigh is applied or given up, and StoredAhead more beyond that.
	StoredKnown            bool   `json:"stored_known"`
	StoredHigh             uint64 `json:"stored_high"`
	StoredAhead            uint64 `json:"stored_ahead"`
	PacketsStoredByService uint64 `json:"packets_stored_by_service"`

	Merged      uint64 `json:"merged"`       // packets that became part of coarser ones
	Dropped     uint64 `json:"dropped"`      // sequence numbers in gaps that the service has not confirmed
	Rejected    uint64 `json:"rejected"`     // packets that the service will never take
	Lost        uint64 `json:"lost"`         // packets that could not even be encoded
	LeftBehind  uint64 `json:"left_behind"`  // packets of an earlier start, left to the other copy of a cloned spool
	NewEpochs   uint64 `json:"new_epochs"`   // begun because the spool was cloned
	AppendError uint64 `json:"append_error"` // times that the disk did not take a packet

	Backlog   int       `json:"backlog"` // records that wait
	Offline   bool      `json:"offline"` // the last attempt failed
	LastAck   time.Time `json:"last_ack"`
	LastError string    `json:"last_error,omitempty"` // stays until the next one

	Interval time.Duration `json:"interval_ns"`
	Spool    spool.Stats   `json:"spool"`
}

// counters are guarded by Agent.mu.
type counters struct {
	spooled, attempts, acknowledged, merged, rejected uint64
	unencodable, leftBehind, epochs, appendErrors     uint64
	stored, storedAhead                               uint64
	storedKnown                                       bool
	flying                                            int // requests in flight
	lastAckMs                                         int64
	lastError                                         string
}

func (a *Agent) count(change func(*counters)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.stats)
}

// note keeps the text of an error for Stats.
func (a *Agent) note(err error) {
	if err == nil {
		return
	}
	text := clip(redact(err.Error()), maxDetailBytes)
	a.count(func(c *counters) { c.lastError = text })
}

// Stats returns the present counts. Before Run has opened the spool, those of the spool
// are zero.
func (a *Agent) Stats() Stats {
	a.appending.Lock()
	s := a.spool
	a.appending.Unlock()
	interval := a.interval()
	a.mu.Lock()
	c, offline := a.stats, a.offline
	a.mu.Unlock()
	out := Stats{
		Agent: a.cfg.Name, Boot: a.boot, PacketsSpooled: c.spooled, PacketsAttempts: c.attempts, PacketsAcknowledged: c.acknowledged,
		StoredKnown: c.storedKnown, StoredHigh: c.stored, StoredAhead: c.storedAhead, PacketsStoredByService: c.stored + c.storedAhead,
		Merged: c.merged, Rejected: c.rejected, Lost: c.unencodable, LeftBehind: c.leftBehind, NewEpochs: c.epochs, AppendError: c.appendErrors,
		Offline: offline, LastError: c.lastError, Interval: interval,
	}
	if c.lastAckMs > 0 {
		out.LastAck = time.UnixMilli(c.lastAckMs).UTC()
	}
	if s != nil {
		out.Spool = s.Stats()
		out.Epoch, out.Backlog, out.Dropped = out.Spool.Epoch, out.Spool.Records, out.Spool.GapSeqs
		out.LastSeq = out.Spool.NextSeq - 1
	}
	return out
}
