package wire

import (
	"fmt"

	"vigil/fleet"
)

// Merge makes one coarser packet of several that follow each other without a hole,
// oldest first. Sums are exact: every delta, viewer-millisecond, event, session and gap
// of the parts is in the whole. Gauges are those of the newest part, maxima the
// largest. IntervalMs spans all parts, CoveredMs is the part of it with numbers.
//
// The parts must be of one agent, epoch and boot. The result shares memory with them.
// Errors are *fleet.Error with KindInvalid; whether the result fits the limits is
// decided by Encode.
func Merge(packets []*fleet.Packet) (*fleet.Packet, error) {
	if err := checkMergeable(packets); err != nil {
		return nil, err
	}
	oldest, newest := packets[0], packets[len(packets)-1]
	whole := &fleet.Packet{
		ID:           newest.ID,
		FirstSeq:     oldest.FirstSeq,
		Boot:         newest.Boot,
		AgentVersion: newest.AgentVersion,
		Host:         newest.Host,
	}
	parts := make(map[string][]*fleet.Snapshot)
	var order []string
	for _, p := range packets {
		whole.Gaps = append(whole.Gaps, p.Gaps...)
		for i := range p.Snapshots {
			key := p.Snapshots[i].Server.Key
			if parts[key] == nil {
				order = append(order, key)
			}
			parts[key] = append(parts[key], &p.Snapshots[i])
		}
	}
	for _, key := range order {
		s, err := mergeSnapshots(parts[key])
		if err != nil {
			return nil, err
		}
		whole.Snapshots = append(whole.Snapshots, s)
	}
	return whole, nil
}

// MergePayloads is Merge on encoded packets.
func (c *Codec) MergePayloads(payloads [][]byte) ([]byte, error) {
	packets := make([]*fleet.Packet, len(payloads))
	for i, payload := range payloads {
		p, err := c.Decode(payload)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", i+1, err)
		}
		packets[i] = p
	}
	whole, err := Merge(packets)
	if err != nil {
		return nil, err
	}
	return c.Encode(whole)
}

func checkMergeable(packets []*fleet.Packet) error {
	if len(packets) == 0 {
		return invalid("there is nothing to merge")
	}
	for i, p := range packets {
		if err := checkEnvelope(p); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		last := packets[i-1]
		switch {
		case p.ID.Agent != last.ID.Agent || p.ID.Epoch != last.ID.Epoch:
			return invalid("packets %s and %s are not of one agent and epoch", last.ID, p.ID)
		case p.Boot != last.Boot:
			// Which boot recorded a packet decides what a cloned agent may send again.
			return invalid("packets %s and %s were recorded by two starts of the agent", last.ID, p.ID)
		case p.FirstSeq != last.ID.Seq+1:
			return invalid("packet %s begins at %d and does not follow %s", p.ID, p.FirstSeq, last.ID)
		}
	}
	return nil
}

// mergeSnapshots adds up the snapshots of one server, oldest first.
func mergeSnapshots(parts []*fleet.Snapshot) (fleet.Snapshot, error) {
	newest := parts[len(parts)-1]
	if len(parts) == 1 {
		return *newest, nil
	}
	whole := *newest
	whole.Totals, whole.ViewerMs, whole.ViewersMax = fleet.Totals{}, fleet.Int{}, fleet.Int{}
	whole.IntervalMs, whole.CoveredMs, whole.UnknownFields = 0, 0, 0
	whole.Flags = fleet.FlagMerged
	whole.Events, whole.Sessions = nil, nil
	rows := newRowMerger(parts)
	for _, part := range parts {
		whole.Totals.BytesIn = whole.Totals.BytesIn.Plus(part.Totals.BytesIn)
		whole.Totals.BytesOut = whole.Totals.BytesOut.Plus(part.Totals.BytesOut)
		whole.Totals.ConnsAccepted = whole.Totals.ConnsAccepted.Plus(part.Totals.ConnsAccepted)
		whole.Totals.ConnsRejected = whole.Totals.ConnsRejected.Plus(part.Totals.ConnsRejected)
		whole.ViewerMs = whole.ViewerMs.Plus(viewerMs(part.ViewerMs, part.Server.ViewersNow, part.IntervalMs))
		whole.ViewersMax = whole.ViewersMax.Max(orElse(part.ViewersMax, part.Server.ViewersNow))
		whole.IntervalMs += part.IntervalMs
		whole.CoveredMs += part.CoveredMs
		whole.UnknownFields = max(whole.UnknownFields, part.UnknownFields)
		whole.Flags |= part.Flags
		whole.Events = append(whole.Events, part.Events...)
		whole.Sessions = append(whole.Sessions, part.Sessions...)
		rows.add(part)
	}
	// A part may be missing altogether, and the wall clock may have been set: the interval
	// is never shorter than its parts.
	whole.IntervalMs = max(whole.IntervalMs, newest.AtMs-(parts[0].AtMs-parts[0].IntervalMs))
	whole.Status, whole.Detail = mergeStatus(parts)
	whole.Streams = rows.finish(newest)
	return whole, nil
}

// viewerMs spells out what an unknown number of viewer-milliseconds means.
func viewerMs(explicit, viewers fleet.Int, intervalMs int64) fleet.Int {
	if explicit.Known() {
		return explicit
	}
	if n, known := viewers.Get(); known {
		return fleet.Of(n * intervalMs)
	}
	return fleet.Int{}
}

func orElse(n, otherwise fleet.Int) fleet.Int {
	if n.Known() {
		return n
	}
	return otherwise
}

// mergeStatus is the status of the newest part, unless that has no numbers and others
// have: then the whole has some and must not look as if it had none.
func mergeStatus(parts []*fleet.Snapshot) (fleet.PollStatus, string) {
	newest := parts[len(parts)-1]
	if newest.Status.HasNumbers() {
		return newest.Status, newest.Detail
	}
	for _, part := range parts {
		if part.Status.HasNumbers() {
			detail := "merged from several intervals, the last of which was " + newest.Status.String()
			if newest.Detail != "" {
				detail += ": " + newest.Detail
			}
			return fleet.StatusPartial, detail
		}
	}
	return newest.Status, newest.Detail
}
