package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"vigil/fleet"
	"vigil/store"
)

// Gaps lists what was given up and did not arrive after all: gaps whose time touches
// the window, and those of unknown time that were reported in it. See store.Reader.
func (db *DB) Gaps(ctx context.Context, w store.Window) ([]store.AgentGap, error) {
	from, to := w.From.UnixMilli(), w.To.UnixMilli()
	var list []store.AgentGap
	err := db.read(ctx, "gaps", func(r *reading) error {
		arrived := map[store.AgentEpoch][]fleet.SeqRange{}
		err := r.query("SELECT DISTINCT agent, epoch, first_seq, last_seq FROM agent_gap WHERE withdrawn ORDER BY ALL", func(rows *sql.Rows) error {
			var agent []byte
			var key store.AgentEpoch
			var numbers fleet.SeqRange
			if err := rows.Scan(&agent, &key.Epoch, &numbers.First, &numbers.Last); err != nil {
				return err
			}
			key.Agent = string(agent)
			arrived[key] = append(arrived[key], numbers)
			return nil
		})
		if err != nil {
			return err
		}
		return r.query(fmt.Sprintf(`SELECT agent, epoch, first_seq, last_seq, from_ms, to_ms, reason FROM agent_gap
			WHERE NOT withdrawn AND coalesce(from_ms, to_ms, received_ms) < %d AND coalesce(to_ms, from_ms, received_ms) >= %d
			ORDER BY coalesce(to_ms, from_ms, received_ms) DESC, agent, epoch, first_seq DESC LIMIT %d`, to, from, maxListed), func(rows *sql.Rows) error {
			var g store.AgentGap
			var agent, reason []byte
			var fromMs, toMs sql.NullInt64
			if err := rows.Scan(&agent, &g.Epoch, &g.FirstSeq, &g.LastSeq, &fromMs, &toMs, &reason); err != nil {
				return err
			}
			g.Agent, g.Reason, g.FromMs, g.ToMs = string(agent), string(reason), nullable(fromMs), nullable(toMs)
			list = appendGap(list, g, arrived[store.AgentEpoch{Agent: g.Agent, Epoch: g.Epoch}])
			return nil
		})
	})
	return list, err
}

// appendGap adds what is left of a gap without the numbers that arrived. The time of the
// whole gap stays that of each part: nobody knows the parts' own.
func appendGap(list []store.AgentGap, g store.AgentGap, arrived []fleet.SeqRange) []store.AgentGap {
	left := fleet.SubtractRanges([]fleet.SeqRange{{First: g.FirstSeq, Last: g.LastSeq}}, arrived)
	for _, r := range slices.Backward(left) {
		g.FirstSeq, g.LastSeq = r.First, r.Last
		list = append(list, g)
	}
	return list
}

// Positions returns the applied position of every shard. See store.Writer.
func (db *DB) Positions(ctx context.Context) ([]store.Position, error) {
	var list []store.Position
	err := db.read(ctx, "positions", func(r *reading) error {
		return r.query("SELECT shard, arg_max(seq, batch) FROM journal_position GROUP BY shard ORDER BY shard", func(rows *sql.Rows) error {
			var p store.Position
			err := rows.Scan(&p.Shard, &p.Seq)
			list = append(list, p)
			return err
		})
	})
	return list, err
}

// Ledger returns which packets are counted. See store.Writer.
func (db *DB) Ledger(ctx context.Context) (map[store.AgentEpoch]*fleet.Ledger, error) {
	ledger := map[store.AgentEpoch]*fleet.Ledger{}
	err := db.read(ctx, "ledger", func(r *reading) error {
		return r.query("SELECT agent, epoch, arg_max(high, batch), arg_max(ahead, batch), arg_max(given_up, batch) FROM ledger GROUP BY agent, epoch", func(rows *sql.Rows) error {
			var agent, ahead, givenUp []byte
			var epoch, high uint64
			if err := rows.Scan(&agent, &epoch, &high, &ahead, &givenUp); err != nil {
				return err
			}
			settled, err1 := decodeRanges(high, ahead)
			given, err2 := decodeRanges(0, givenUp)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("%w: agent %q: %w", ErrDamaged, agent, err)
			}
			ledger[store.AgentEpoch{Agent: string(agent), Epoch: epoch}] = fleet.LedgerFrom(settled, given)
			return nil
		})
	})
	return ledger, err
}
