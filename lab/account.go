package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// Everything is a window that holds all that a test stored.
func Everything() store.Window {
	now := time.Now()
	return store.Window{From: now.Add(-20 * time.Hour), To: now.Add(time.Hour)}
}

// Account is the book of a recorder set against what is stored.
type Account struct {
	Sent, Acked, Stored int              // different packets; merged ones count for all they hold
	Lost                []fleet.PacketID // acknowledged and not stored
	Doubled             []fleet.PacketID // stored more than once, in whole or in part
	Unknown             []fleet.PacketID // stored, and nobody sent them
	Wrong               []string         // stored with other numbers than were sent
}

// Settle compares. Packets that were sent and never acknowledged may be stored: their
// answer was lost.
func Settle(entries []Entry, rows []store.PacketRow) Account {
	var a Account
	stored := map[store.AgentEpoch]*fleet.SeqSet{}
	byID := map[fleet.PacketID]store.PacketRow{}
	for _, row := range rows {
		key := store.AgentEpoch{Agent: row.ID.Agent, Epoch: row.ID.Epoch}
		if stored[key] == nil {
			stored[key] = &fleet.SeqSet{}
		}
		added, err := stored[key].Fill(fleet.SeqRange{First: row.FirstSeq, Last: row.ID.Seq})
		length := row.ID.Seq - row.FirstSeq + 1
		if err != nil || uint64(added) != length {
			a.Doubled = append(a.Doubled, row.ID)
		}
		a.Stored += int(length)
		byID[row.ID] = row
	}
	sent := map[fleet.PacketID]bool{}
	for _, e := range entries {
		sent[e.ID] = true
		length := int(e.ID.Seq - e.Packet.FirstSeq + 1)
		a.Sent += length
		row, there := byID[e.ID]
		if e.Acked > 0 {
			a.Acked += length
			if !there {
				a.Lost = append(a.Lost, e.ID)
			}
		}
		if there {
			a.compare(e, row)
		}
	}
	for _, row := range rows {
		if !sent[row.ID] {
			a.Unknown = append(a.Unknown, row.ID)
		}
	}
	return a
}

// compare holds one stored packet against the one that was sent.
func (a *Account) compare(e Entry, row store.PacketRow) {
	in, out := TotalsOf(e.Packet)
	if e.Packet.FirstSeq != row.FirstSeq || in != row.BytesIn || out != row.BytesOut {
		a.Wrong = append(a.Wrong, fmt.Sprintf("%s: sent from %d with %v in and %v out, stored from %d with %v in and %v out",
			e.ID, e.Packet.FirstSeq, in, out, row.FirstSeq, row.BytesIn, row.BytesOut))
	}
}

// TotalsOf adds up the bytes of a packet over its servers.
func TotalsOf(p *fleet.Packet) (in, out fleet.Int) {
	for i := range p.Snapshots {
		in = in.Plus(p.Snapshots[i].Totals.BytesIn)
		out = out.Plus(p.Snapshots[i].Totals.BytesOut)
	}
	return in, out
}

// Err is nil when every acknowledged packet is stored once and as it was sent.
func (a Account) Err() error {
	const show = 5
	var errs []error
	tell := func(what string, ids []fleet.PacketID) {
		if len(ids) > 0 {
			errs = append(errs, fmt.Errorf("%d packets %s: %v", len(ids), what, ids[:min(show, len(ids))]))
		}
	}
	tell("acknowledged and not stored", a.Lost)
	tell("stored more than once", a.Doubled)
	tell("stored that nobody sent", a.Unknown)
	if len(a.Wrong) > 0 {
		errs = append(errs, fmt.Errorf("%d packets stored with other numbers: %v", len(a.Wrong), a.Wrong[:min(show, len(a.Wrong))]))
	}
	return errors.Join(errs...)
}

// AwaitStored waits until the service has stored as many packets as it acknowledged. A
// service that is stopped before that keeps them in its journal until it runs again.
func (r *Recorder) AwaitStored(ctx context.Context, c *Client, within time.Duration) error {
	return Await(ctx, within, "everything is stored", func(ctx context.Context) error {
		var status struct {
			Store struct {
				Packets int `json:"packets"`
			} `json:"store"`
		}
		if err := c.Get(ctx, "/api/v1/status", &status); err != nil {
			return err
		}
		acked := 0
		for _, e := range r.Entries() {
			if e.Acked > 0 {
				acked++
			}
		}
		if status.Store.Packets < acked {
			return fmt.Errorf("%d packets are stored, %d acknowledged", status.Store.Packets, acked)
		}
		return nil
	})
}

// Settle stops nothing: it opens the store of a service that does not run, and settles
// the account of a recorder with it.
func (r *Recorder) Settle(ctx context.Context, s *Service) (Account, error) {
	db, err := s.OpenStore(ctx)
	if err != nil {
		return Account{}, err
	}
	rows, err := db.PacketRows(ctx, Everything())
	if err := errors.Join(err, db.Close()); err != nil {
		return Account{}, err
	}
	a := Settle(r.Entries(), rows)
	return a, errors.Join(r.Err(), a.Err())
}
