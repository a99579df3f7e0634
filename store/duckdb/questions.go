package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// maxListed bounds every list.
const maxListed = 100_000

// ServerTraffic sums the servers' counters. See store.Reader.
func (db *DB) ServerTraffic(ctx context.Context, w store.Window) (map[string]store.Traffic, error) {
	return db.traffic(ctx, "server traffic", w, "")
}

// StreamTraffic sums the streams' deltas, per server. See store.Reader.
func (db *DB) StreamTraffic(ctx context.Context, w store.Window) (map[string]store.Traffic, error) {
	return db.traffic(ctx, "stream traffic", w, "stream_")
}

// traffic sums intervals whose last millisecond is in the window, from the coarsest tier
// that has a border at both ends of it. When the tier that would be needed is not kept
// for so long, the window is widened to the borders of the finest that is.
func (db *DB) traffic(ctx context.Context, question string, w store.Window, prefix string) (map[string]store.Traffic, error) {
	from, to := max(w.From.UnixMilli(), minTimeMs), min(w.To.UnixMilli(), maxTimeMs)
	ends := to >= db.opts.Now().UnixMilli() // nothing is behind the end of the window
	t, ok := db.fitting(func(widthMs int64) bool { return from%widthMs == 0 && (ends || to%widthMs == 0) }, from)
	if !ok {
		t = db.finest(from)
		from, to = floorTo(from, t.widthMs), floorTo(to+t.widthMs-1, t.widthMs)
	}
	sums := map[string]store.Traffic{}
	err := db.read(ctx, question, func(r *reading) error {
		source, err := r.source(selection{kind: &serverKind, tier: t, fromMs: from, toMs: to})
		if err != nil {
			return err
		}
		return r.query(fmt.Sprintf(`SELECT server, bytes_in, bytes_out, viewer_ms, covered_ms FROM (
				SELECT server_id, TRY_CAST(sum(%[1]sbytes_in) AS BIGINT) AS bytes_in, TRY_CAST(sum(%[1]sbytes_out) AS BIGINT) AS bytes_out,
					TRY_CAST(sum(%[1]sviewer_ms) AS BIGINT) AS viewer_ms, sum(%[1]scovered_ms)::BIGINT AS covered_ms
				FROM %[2]s GROUP BY server_id)
			JOIN server_dim USING (server_id)`, prefix, source), func(rows *sql.Rows) error {
			var server []byte
			var in, out, viewerMs sql.NullInt64
			var covered int64
			if err := rows.Scan(&server, &in, &out, &viewerMs, &covered); err != nil {
				return err
			}
			sums[string(server)] = store.Traffic{BytesIn: nullable(in), BytesOut: nullable(out), ViewerMs: nullable(viewerMs), CoveredMs: covered}
			return nil
		})
	})
	return sums, err
}

// StreamEvents are the changes of state in the window, newest first, after the last
// one before it. See store.Reader.
func (db *DB) StreamEvents(ctx context.Context, key fleet.StreamKey, w store.Window, limit int) ([]fleet.StreamEvent, error) {
	limit = min(max(limit, 1), maxListed)
	from, to := w.From.UnixMilli(), w.To.UnixMilli()
	var list []fleet.StreamEvent
	err := db.read(ctx, "stream events", func(r *reading) error {
		id, found, err := r.streamID(key)
		if err != nil || !found {
			return err
		}
		source, err := r.rawSource(&eventKind, minTimeMs, to-1, id, true)
		if err != nil {
			return err
		}
		return r.query(fmt.Sprintf(`WITH all_of_it AS MATERIALIZED (SELECT ts_ms, state, reason FROM %s)
			SELECT ts_ms, state, reason FROM (
				(SELECT * FROM all_of_it WHERE ts_ms >= %d ORDER BY ts_ms DESC LIMIT %d)
				UNION ALL (SELECT * FROM all_of_it WHERE ts_ms < %d ORDER BY ts_ms DESC LIMIT 1))
			ORDER BY ts_ms DESC`, source, from, limit, from), func(rows *sql.Rows) error {
			e := fleet.StreamEvent{Key: key}
			var state uint8
			var reason []byte
			if err := rows.Scan(&e.AtMs, &state, &reason); err != nil {
				return err
			}
			e.State, e.Reason = fleet.StreamState(state), string(reason)
			list = append(list, e)
			return nil
		})
	})
	return list, err
}

// Sessions that ran in the window, newest start first. A session that was reported
// twice, when it began and when it ended, is one. See store.Reader.
func (db *DB) Sessions(ctx context.Context, key fleet.StreamKey, w store.Window, limit int) ([]fleet.Session, error) {
	limit = min(max(limit, 1), maxListed)
	from, to := w.From.UnixMilli(), w.To.UnixMilli()
	var list []fleet.Session
	err := db.read(ctx, "sessions", func(r *reading) error {
		id, found, err := r.streamID(key)
		if err != nil || !found {
			return err
		}
		source, err := r.rawSource(&sessionKind, minTimeMs, maxTimeMs, id, true)
		if err != nil {
			return err
		}
		return r.query(fmt.Sprintf(`SELECT id, role, tech, remote_ip, user_agent, started_ms, ts_ms, ended_ms, end_reason, bytes_in, bytes_out, method, unobserved
			FROM (SELECT * FROM %s WHERE started_ms < %d
				QUALIFY row_number() OVER (PARTITION BY id, started_ms ORDER BY ended_ms IS NULL, ts_ms DESC) = 1)
			WHERE ended_ms IS NULL OR ended_ms >= %d
			ORDER BY started_ms DESC, id LIMIT %d`, source, to, from, limit), func(rows *sql.Rows) error {
			s, err := scanSession(rows)
			s.Key = key
			list = append(list, s)
			return err
		})
	})
	return list, err
}

func scanSession(rows *sql.Rows) (fleet.Session, error) {
	var s fleet.Session
	var id, ip, agent, reason, method []byte
	var role, tech uint8
	var ended, in, out sql.NullInt64
	err := rows.Scan(&id, &role, &tech, &ip, &agent, &s.StartedMs, &s.LastSeenMs, &ended, &reason, &in, &out, &method, &s.Unobserved)
	s.ID, s.RemoteIP, s.UserAgent, s.EndReason, s.Method = string(id), string(ip), string(agent), string(reason), string(method)
	s.Role, s.Tech = fleet.Role(role), fleet.Tech(tech)
	s.EndedMs, s.BytesIn, s.BytesOut = nullable(ended), nullable(in), nullable(out)
	return s, err
}

// PacketRows lists stored packets by the end of their newest interval, oldest first.
// See store.Reader.
func (db *DB) PacketRows(ctx context.Context, w store.Window) ([]store.PacketRow, error) {
	var list []store.PacketRow
	err := db.read(ctx, "packet rows", func(r *reading) error {
		source, err := r.rawSource(&packetKind, w.From.UnixMilli(), w.To.UnixMilli()-1, 0, false)
		if err != nil {
			return err
		}
		return r.query("SELECT agent, epoch, first_seq, seq, ts_ms, received_ms, bytes_in, bytes_out FROM "+source+
			" ORDER BY ts_ms, agent, epoch, seq", func(rows *sql.Rows) error {
			var p store.PacketRow
			var agent []byte
			var in, out sql.NullInt64
			if err := rows.Scan(&agent, &p.ID.Epoch, &p.FirstSeq, &p.ID.Seq, &p.AtMs, &p.ReceivedMs, &in, &out); err != nil {
				return err
			}
			p.ID.Agent, p.BytesIn, p.BytesOut = string(agent), nullable(in), nullable(out)
			list = append(list, p)
			return nil
		})
	})
	return list, err
}

// Stats describes the store. See store.Reader.
func (db *DB) Stats(ctx context.Context) (store.Stats, error) {
	var s store.Stats
	err := db.read(ctx, "stats", func(r *reading) error {
		err := r.tx.QueryRowContext(r.ctx, `SELECT
			coalesce(sum(rows) FILTER (kind = 'packet'), 0)::BIGINT + (SELECT count(*) FROM packet_hot_a) + (SELECT count(*) FROM packet_hot_b),
			coalesce(sum(rows) FILTER (kind = 'stream' AND tier = 'raw'), 0)::BIGINT + (SELECT count(*) FROM stream_hot_a) + (SELECT count(*) FROM stream_hot_b),
			coalesce(sum(bytes), 0)::BIGINT,
			coalesce(sum(bytes) FILTER (kind = 'stream' AND tier = 'raw'), 0)::BIGINT,
			count(*),
			greatest((SELECT coalesce(max(last_ms), 0) FROM server_seen), (SELECT coalesce(max(ts_ms), 0) FROM server_hot_a), (SELECT coalesce(max(ts_ms), 0) FROM server_hot_b))
			FROM parquet_file`).Scan(&s.PacketsStored, &s.RawRows, &s.BytesOnDisk, &s.RawBytesOnDisk, &s.ParquetFiles, &s.NewestMs)
		if err != nil {
			return err
		}
		size, err := r.db.databaseBytes()
		s.BytesOnDisk += size
		return err
	})
	return s, err
}

// Recent rebuilds the live view. See store.Reader.
func (db *DB) Recent(ctx context.Context, since time.Time) ([]store.RecentSnapshot, error) {
	var list []store.RecentSnapshot
	err := db.read(ctx, "recent", func(r *reading) error {
		var err error
		list, err = r.recent(since.UnixMilli())
		return err
	})
	return list, err
}
