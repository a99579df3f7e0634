package storage

import (
	"fmt"
	"time"

	"vigil/health"
	"vigil/journal"
)

const (
	failingCode  = "storage-failing"
	lagCode      = "storage-lag"
	tooMuchLag   = 30 * time.Second
	conflictCode = "storage-conflict"
)

// catchingUp is set from the start until everything that was in the journal is applied.
var catchingUp = health.Condition{
	Code: "storage-catching-up", Title: "Storage is catching up", Severity: health.Info,
	Text: "Packets that were taken before the start are being stored. Reports are not up to date yet.",
	Hint: "Wait.", After: 10 * time.Second,
}

func failing(err error) health.Condition {
	return health.Condition{
		Code: failingCode, Title: "Storage does not work", Severity: health.Error,
		Text: fmt.Sprintf("Packets are taken but not stored here, and reports stand still. The last failure was: %v.", err),
		Hint: "Look for a full or broken disk. Storage tries again by itself; nothing that was acknowledged is lost while the journal has room.",
	}
}

func journalGap(gap *journal.GapError) health.Condition {
	return health.Condition{
		Code: "journal-gap", Title: "Packets are missing here", Severity: health.Error,
		Text: fmt.Sprintf("The journal dropped messages %d to %d of shard %s before they were stored on this node. Reports of this node lack them.", gap.Missing.First, gap.Missing.Last, gap.Shard),
		Hint: "Rebuild this node's store from another node, or raise the size of the journal.",
	}
}

func journalDamaged(damaged *journal.DamagedError) health.Condition {
	return health.Condition{
		Code: "journal-damaged", Title: "Packets cannot be read from the journal", Severity: health.Error,
		Text: fmt.Sprintf("Message %d of shard %s is damaged: %v. The packets in it are not stored here, and reports lack them.", damaged.Seq, damaged.Shard, damaged.Err),
		Hint: "Check the disk that holds the journal. Rebuild this node's store from another node, if there is one.",
	}
}

func journalCut(ahead *journal.AheadError) health.Condition {
	return health.Condition{
		Code: "journal-cut", Title: "The journal lost its end", Severity: health.Error,
		Text: fmt.Sprintf("Shard %s ends at message %d, but %d was stored here already. Storage goes on with what comes next.", ahead.Shard, ahead.Last, ahead.After),
		Hint: "Find out who replaced the journal's files or which disk lost writes.",
	}
}

// conditionsAfter looks at what a transaction did.
func (s *Storage) conditionsAfter(t *tally) {
	if t.conflict > 0 {
		s.deps.Health.Set(health.Condition{
			Code: conflictCode, Title: "Packets contradict each other", Severity: health.Warning,
			Text: fmt.Sprintf("%d packets stand for numbers of which a part is stored already. They are not counted.", s.conflict.Load()),
			Hint: "Two agents may share one spool directory. The packets are in the dead-letter file.",
		})
	}
	if t.quarantined > 0 {
		s.deps.Health.Set(health.Condition{
			Code: "storage-quarantine", Title: "Packets cannot be stored", Severity: health.Warning,
			Text: fmt.Sprintf("%d packets were acknowledged and cannot be read or are from the future. They are not counted.", s.quarantined.Load()),
			Hint: "Check the clocks and versions of the agents that the dead-letter file names.",
		})
	}
	lag := time.Duration(s.lag.Load())
	if lag <= tooMuchLag {
		s.deps.Health.Clear(lagCode)
		return
	}
	s.deps.Health.Set(health.Condition{
		Code: lagCode, Title: "Storage is behind", Severity: health.Warning,
		Text: fmt.Sprintf("Packets are stored %v after they were taken. Live pages and reports are that old.", lag.Round(time.Second)),
		Hint: "After a restart this passes. Otherwise the machine is too slow for the fleet.", After: 30 * time.Second,
	})
}
