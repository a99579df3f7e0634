package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// expectFor is how long after its last sign of life a server is still expected to
// report. An outage of a day counts as missing; a server that was taken away does not
// make reports incomplete for ever.
const expectFor = 24 * time.Hour

// FleetSeries adds up all servers. See store.Reader.
func (db *DB) FleetSeries(ctx context.Context, w store.Window, step time.Duration) (store.Series, error) {
	p, err := db.planSeries(w, step)
	if err != nil {
		return store.Series{}, err
	}
	series := emptySeries(p)
	err = db.read(ctx, "fleet series", func(r *reading) error {
		if err := r.serverPoints(p, selection{kind: &serverKind, tier: p.tier, fromMs: p.fromMs, toMs: p.toMs()}, series.Points); err != nil {
			return err
		}
		for i := range series.Points {
			// The busiest moments of servers need not be the same one.
			series.Points[i].ViewersMax = fleet.Int{}
		}
		return r.expected(p, "", series.Points)
	})
	return series, err
}

// ServerSeries is one server. See store.Reader.
func (db *DB) ServerSeries(ctx context.Context, server string, w store.Window, step time.Duration) (store.Series, error) {
	p, err := db.planSeries(w, step)
	if err != nil {
		return store.Series{}, err
	}
	series := emptySeries(p)
	err = db.read(ctx, "server series", func(r *reading) error {
		id, found, err := r.serverID(server)
		if err != nil || !found {
			return err
		}
		sel := selection{kind: &serverKind, tier: p.tier, fromMs: p.fromMs, toMs: p.toMs(), id: id, oneID: true}
		if err := r.serverPoints(p, sel, series.Points); err != nil {
			return err
		}
		return r.expected(p, fmt.Sprintf("server_id = %d", id), series.Points)
	})
	return series, err
}

func emptySeries(p plan) store.Series {
	s := store.Series{Window: p.window(), Step: time.Duration(p.stepMs) * time.Millisecond, Tier: p.tier.name, Points: make([]store.Point, p.n)}
	for i := range s.Points {
		s.Points[i].AtMs = p.fromMs + int64(i)*p.stepMs
	}
	return s
}

func (r *reading) serverPoints(p plan, sel selection, points []store.Point) error {
	source, err := r.source(sel)
	if err != nil {
		return err
	}
	return r.query(fmt.Sprintf(`SELECT bucket, sum(covered)::BIGINT, TRY_CAST(sum(viewer_ms) AS BIGINT), max(viewers_max),
			TRY_CAST(sum(bytes_in) AS BIGINT), TRY_CAST(sum(bytes_out) AS BIGINT),
			TRY_CAST(round(sum(viewer_ms::DOUBLE * 1000 / covered) FILTER (WHERE covered > 0)) AS BIGINT),
			TRY_CAST(round(sum(bytes_in::DOUBLE * 8000 / covered) FILTER (WHERE covered > 0)) AS BIGINT),
			TRY_CAST(round(sum(bytes_out::DOUBLE * 8000 / covered) FILTER (WHERE covered > 0)) AS BIGINT)
		FROM (SELECT (at_ms - %d) // %d AS bucket, server_id, sum(covered_ms) AS covered, sum(viewer_ms) AS viewer_ms,
				max(viewers_max) AS viewers_max, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
			FROM %s GROUP BY ALL)
		GROUP BY bucket`, p.fromMs, p.stepMs, source), func(rows *sql.Rows) error {
		var bucket, covered int64
		var viewerMs, viewersMax, in, out, viewers, inBps, outBps sql.NullInt64
		if err := rows.Scan(&bucket, &covered, &viewerMs, &viewersMax, &in, &out, &viewers, &inBps, &outBps); err != nil {
			return err
		}
		point := &points[bucket]
		point.CoveredMs = covered
		point.ViewerMs, point.ViewersMax = nullable(viewerMs), nullable(viewersMax)
		point.BytesIn, point.BytesOut = nullable(in), nullable(out)
		point.Level = store.Level{ViewersMilli: nullable(viewers), InBps: nullable(inBps), OutBps: nullable(outBps)}
		return nil
	})
}

// expected fills in how much time the servers should have covered: from when each one was
// first heard of until expectFor after its last sign of life, but not beyond now.
func (r *reading) expected(p plan, where string, points []store.Point) error {
	if where == "" {
		where = "true"
	}
	nowMs := r.db.opts.Now().UnixMilli()
	return r.query(fmt.Sprintf(`SELECT first_ms, last_ms FROM (SELECT server_id, min(first_ms) AS first_ms FROM server_dim WHERE %s GROUP BY ALL)
		JOIN (SELECT server_id, max(last_ms) AS last_ms FROM (
			FROM server_seen
			UNION ALL SELECT server_id, max(ts_ms) FROM server_hot_a GROUP BY ALL
			UNION ALL SELECT server_id, max(ts_ms) FROM server_hot_b GROUP BY ALL) GROUP BY ALL) USING (server_id)`, where),
		func(rows *sql.Rows) error {
			var first, last int64
			if err := rows.Scan(&first, &last); err != nil {
				return err
			}
			end := min(last+expectFor.Milliseconds(), nowMs)
			begin := max(first, p.fromMs)
			for i := (begin - p.fromMs) / p.stepMs; i < p.n; i++ {
				at := p.fromMs + i*p.stepMs
				if at >= end {
					break
				}
				points[i].ExpectedMs += max(min(end, at+p.stepMs)-max(begin, at), 0)
			}
			return nil
		})
}

// StreamSeries is one stream, with its viewers by technology. A bucket in which the
// stream's server reported and the stream was not there has the state offline. See
// store.Reader.
func (db *DB) StreamSeries(ctx context.Context, key fleet.StreamKey, w store.Window, step time.Duration) (store.Series, []store.TechSeries, error) {
	p, err := db.planSeries(w, step)
	if err != nil {
		return store.Series{}, nil, err
	}
	series := emptySeries(p)
	var techs []store.TechSeries
	err = db.read(ctx, "stream series", func(r *reading) error {
		server, found, err := r.serverID(key.Server)
		if err != nil || !found {
			return err
		}
		id, found, err := r.streamID(key)
		if err != nil {
			return err
		}
		if found {
			if techs, err = r.streamPoints(p, id, series.Points); err != nil {
				return err
			}
		}
		if err := r.offline(p, server, series.Points); err != nil {
			return err
		}
		return r.expected(p, fmt.Sprintf("server_id = %d", server), series.Points)
	})
	return series, techs, err
}

func (r *reading) streamPoints(p plan, id uint64, points []store.Point) ([]store.TechSeries, error) {
	source, err := r.source(selection{kind: &streamKind, tier: p.tier, fromMs: p.fromMs, toMs: p.toMs(), id: id, oneID: true})
	if err != nil {
		return nil, err
	}
	newest := make([]int64, len(points))
	byTech := map[fleet.Tech][]fleet.Int{}
	err = r.query(fmt.Sprintf(`SELECT (at_ms - %d) // %d AS bucket, part, tech, sum(covered_ms)::BIGINT,
			TRY_CAST(sum(viewer_ms) AS BIGINT), max(viewers_max), TRY_CAST(sum(bytes_in) AS BIGINT), TRY_CAST(sum(bytes_out) AS BIGINT),
			arg_max(state, newest_ms), max(newest_ms)
		FROM %s GROUP BY bucket, part, tech`, p.fromMs, p.stepMs, source), func(rows *sql.Rows) error {
		var bucket, covered, at int64
		var part bool
		var tech, state uint8
		var viewerMs, viewersMax, in, out sql.NullInt64
		if err := rows.Scan(&bucket, &part, &tech, &covered, &viewerMs, &viewersMax, &in, &out, &state, &at); err != nil {
			return err
		}
		if part || fleet.Tech(tech) != fleet.TechMixed {
			list := byTech[fleet.Tech(tech)]
			if list == nil {
				list = make([]fleet.Int, len(points))
				byTech[fleet.Tech(tech)] = list
			}
			list[bucket] = list[bucket].Plus(nullable(viewerMs))
		}
		if part {
			return nil
		}
		point := &points[bucket]
		point.CoveredMs += covered
		point.ViewerMs = point.ViewerMs.Plus(nullable(viewerMs))
		point.ViewersMax = point.ViewersMax.Max(nullable(viewersMax))
		point.BytesIn = point.BytesIn.Plus(nullable(in))
		point.BytesOut = point.BytesOut.Plus(nullable(out))
		if at >= newest[bucket] {
			newest[bucket], point.State = at, fleet.StreamState(state)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	techs := make([]store.TechSeries, 0, len(byTech))
	for tech, viewerMs := range byTech {
		techs = append(techs, store.TechSeries{Tech: tech, ViewerMs: viewerMs})
	}
	slices.SortFunc(techs, func(a, b store.TechSeries) int { return int(a.Tech) - int(b.Tech) })
	return techs, nil
}

// offline marks the buckets in which the server reported and the stream was not there.
func (r *reading) offline(p plan, server uint64, points []store.Point) error {
	covered := make([]store.Point, len(points))
	sel := selection{kind: &serverKind, tier: p.tier, fromMs: p.fromMs, toMs: p.toMs(), id: server, oneID: true}
	if err := r.serverPoints(p, sel, covered); err != nil {
		return err
	}
	for i := range points {
		if points[i].State == fleet.StateUnknown && points[i].CoveredMs == 0 && covered[i].CoveredMs > 0 {
			points[i].State = fleet.StateOffline
		}
	}
	return nil
}
