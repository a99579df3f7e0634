package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// maxPoints bounds the buckets of one series.
const maxPoints = 20_000

// A reading is one question: everything it asks sees the same state of the store.
type reading struct {
	ctx context.Context
	db  *DB
	tx  *sql.Tx
}

// read answers one question inside one transaction.
func (db *DB) read(ctx context.Context, question string, fn func(*reading) error) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	started := time.Now()
	defer db.files.begin()()
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if err := fn(&reading{ctx: ctx, db: db, tx: tx}); err != nil {
		return fmt.Errorf("%s: %w", question, err)
	}
	db.metrics.querySeconds.With(question).Observe(time.Since(started).Seconds())
	return nil
}

// query runs fn for every row.
func (r *reading) query(query string, fn func(*sql.Rows) error) error {
	rows, err := r.tx.QueryContext(r.ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A selection is the rows of one kind that a question needs.
type selection struct {
	kind   *kind
	tier   tier
	fromMs int64 // buckets, or the last milliseconds of raw intervals
	toMs   int64 // behind the last one
	id     uint64
	oneID  bool
}

// rollupColumns are the columns that raw rows and rollups of a kind share, for sums.
func (k *kind) rollupColumns() []string {
	list := append([]string{}, k.groupBy...)
	for _, c := range k.rollup {
		if c.name != "samples" {
			list = append(list, c.name)
		}
	}
	return list
}

// source is the table of all rows of a selection, whatever they are stored in: files
// of the tier, files of finer tiers that are not in it yet, and hot rows. Its columns
// are the id, at_ms, newest_ms and those of rollupColumns.
func (r *reading) source(s selection) (string, error) {
	k := s.kind
	filter := fmt.Sprintf("at_ms >= %d AND at_ms < %d", s.fromMs, s.toMs)
	if s.oneID {
		filter += fmt.Sprintf(" AND %s = %d", k.id, s.id)
	}
	files, err := r.files(s)
	if err != nil {
		return "", err
	}
	var raw, rolled []parquetFile
	for _, f := range files {
		if f.tier == tierRaw {
			raw = append(raw, f)
		} else {
			rolled = append(rolled, f)
		}
	}
	columns := strings.Join(k.rollupColumns(), ", ")
	rawColumns := strings.Join(mapped(k.rollupColumns(), rawExpression), ", ")
	rawSelect := "SELECT " + k.id + ", ts_ms - 1 AS at_ms, ts_ms AS newest_ms, " + rawColumns + " FROM "
	rawWhere := fmt.Sprintf(" WHERE ts_ms > %d AND ts_ms <= %d", s.fromMs, s.toMs)
	branches := []string{rawSelect + k.hotTable(0) + rawWhere, rawSelect + k.hotTable(1) + rawWhere}
	if len(raw) > 0 {
		branches = append(branches, rawSelect+r.db.readParquet(raw)+rawWhere)
	}
	if len(rolled) > 0 {
		branches = append(branches, "SELECT "+k.id+", ts_ms AS at_ms, ts_ms + last_ms AS newest_ms, "+columns+" FROM "+
			r.db.readParquet(rolled)+fmt.Sprintf(" WHERE ts_ms >= %d AND ts_ms < %d", s.fromMs, s.toMs))
	}
	return "(SELECT * FROM (" + strings.Join(branches, " UNION ALL ") + ") WHERE " + filter + ")", nil
}

// rawExpression is what a column of a raw row means: two of them are left out when they
// follow from the others.
func rawExpression(column string) string {
	switch column {
	case "viewer_ms":
		return "coalesce(viewer_ms, viewers * covered_ms) AS viewer_ms"
	case "viewers_max":
		return "coalesce(viewers_max, viewers) AS viewers_max"
	}
	return column
}

func mapped(list []string, fn func(string) string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fn(s)
	}
	return out
}

// files lists the files of a selection.
func (r *reading) files(s selection) ([]parquetFile, error) {
	wanted := []string{"tier = '" + s.tier.name + "'"}
	for t := s.tier; t.widthMs > minuteMs; {
		for _, finer := range tiers {
			if finer.coarser == t.name {
				t = finer
				break
			}
		}
		wanted = append(wanted, "(tier = '"+t.name+"' AND NOT rolled)")
	}
	where := fmt.Sprintf("kind = '%s' AND (%s) AND max_ms >= %d AND min_ms <= %d",
		s.kind.name, strings.Join(wanted, " OR "), s.fromMs, s.toMs)
	if s.oneID {
		where += fmt.Sprintf(" AND min_id <= %d AND max_id >= %d", s.id, s.id)
	}
	return r.present(where)
}

// present lists the files that match and are there.
func (r *reading) present(where string) ([]parquetFile, error) {
	list, err := manifest(r.ctx, r.tx, where+" AND rows > 0")
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, f := range list {
		if !r.db.files.isMissing(f.name) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}

// rawSource is the table of all raw rows of a kind whose ts_ms is in the range, both
// ends included, with the columns of its hot table.
func (r *reading) rawSource(k *kind, fromMs, toMs int64, id uint64, oneID bool) (string, error) {
	where := fmt.Sprintf("kind = '%s' AND tier = 'raw' AND max_ms >= %d AND min_ms <= %d", k.name, fromMs, toMs)
	filter := fmt.Sprintf("ts_ms >= %d AND ts_ms <= %d", fromMs, toMs)
	if oneID {
		where += fmt.Sprintf(" AND min_id <= %d AND max_id >= %d", id, id)
		filter += fmt.Sprintf(" AND %s = %d", k.id, id)
	}
	files, err := r.present(where)
	if err != nil {
		return "", err
	}
	branches := []string{"SELECT * FROM " + k.hotTable(0), "SELECT * FROM " + k.hotTable(1)}
	if len(files) > 0 {
		branches = append(branches, "SELECT * FROM "+r.db.readParquet(files))
	}
	return "(SELECT * FROM (" + strings.Join(branches, " UNION ALL ") + ") WHERE " + filter + ")", nil
}

// serverID finds the id of a server.
func (r *reading) serverID(server string) (uint64, bool, error) {
	var found bool
	var id uint64
	err := r.query("SELECT server_id, server FROM server_dim WHERE server_id IN ("+candidates(func(salt int) uint64 {
		return serverID(server, salt)
	})+")", func(rows *sql.Rows) error {
		var candidate uint64
		var name []byte
		if err := rows.Scan(&candidate, &name); err != nil {
			return err
		}
		if string(name) == server {
			found, id = true, candidate
		}
		return nil
	})
	return id, found, err
}

// streamID finds the id of a stream.
func (r *reading) streamID(key fleet.StreamKey) (uint64, bool, error) {
	server, found, err := r.serverID(key.Server)
	if err != nil || !found {
		return 0, false, err
	}
	found = false
	var id uint64
	err = r.query(fmt.Sprintf("SELECT stream_id, vhost, app, instance, name FROM stream_dim WHERE server_id = %d AND stream_id IN (%s)",
		server, candidates(func(salt int) uint64 { return streamID(key.Server, nameOf(&key), salt) })), func(rows *sql.Rows) error {
		var candidate uint64
		var vhost, app, instance, name []byte
		if err := rows.Scan(&candidate, &vhost, &app, &instance, &name); err != nil {
			return err
		}
		if (streamName{string(vhost), string(app), string(instance), string(name)}) == nameOf(&key) {
			found, id = true, candidate
		}
		return nil
	})
	return id, found, err
}

// candidates are the ids that a name may have.
func candidates(id func(salt int) uint64) string {
	list := make([]string, maxRehashes)
	for salt := range list {
		list[salt] = utoa(id(salt))
	}
	return strings.Join(list, ", ")
}

// A plan says how a series is read: from which tier, and its true window and step.
type plan struct {
	tier   tier
	fromMs int64
	stepMs int64
	n      int64
}

func (p plan) toMs() int64 { return p.fromMs + p.n*p.stepMs }

func (p plan) window() store.Window {
	return store.Window{From: time.UnixMilli(p.fromMs).UTC(), To: time.UnixMilli(p.toMs()).UTC()}
}

// keeps returns how long rows of a tier are kept; 0: for ever.
func (db *DB) keeps(t tier) time.Duration {
	switch t.name {
	case tierRaw:
		return db.opts.Config.RawFor
	case tierMinute:
		return db.opts.Config.MinuteFor
	case tierQuarter:
		return db.opts.Config.QuarterFor
	}
	return 0
}

func (db *DB) has(t tier, fromMs int64) bool {
	keep := db.keeps(t)
	return keep == 0 || fromMs >= db.opts.Now().Add(-keep).UnixMilli()
}

// planSeries takes the coarsest tier whose buckets fit the step and the beginning of the
// window. When that tier is not kept for so long, the finest one that is, with its
// beginning and step widened to its buckets. The end is widened to whole steps.
func (db *DB) planSeries(w store.Window, step time.Duration) (plan, error) {
	from, to, stepMs := w.From.UnixMilli(), w.To.UnixMilli(), step.Milliseconds()
	if stepMs < 1000 || to <= from || from < minTimeMs || to > maxTimeMs {
		return plan{}, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: "The time range or the step is not possible.",
			Hint:    "Take a range that ends after it begins and a step of at least one second.",
		}
	}
	p := plan{fromMs: from, stepMs: stepMs}
	if t, ok := db.fitting(func(widthMs int64) bool { return stepMs%widthMs == 0 && from%widthMs == 0 }, from); ok {
		p.tier = t
	} else {
		p.tier = db.finest(from)
		if width := p.tier.widthMs; width > 0 {
			p.fromMs = floorTo(from, width)
			p.stepMs = (stepMs + width - 1) / width * width
		}
	}
	p.n = (to - p.fromMs + p.stepMs - 1) / p.stepMs
	if p.n > maxPoints {
		return plan{}, &fleet.Error{
			Kind:    fleet.KindTooLarge,
			Message: fmt.Sprintf("The time range has %d steps; a series has at most %d.", p.n, maxPoints),
			Hint:    "Take a longer step or a shorter range.",
		}
	}
	return p, nil
}

// fitting returns the coarsest tier that fits and is kept for long enough.
func (db *DB) fitting(fits func(widthMs int64) bool, fromMs int64) (tier, bool) {
	for i := len(tiers) - 1; i >= 0; i-- {
		if t := tiers[i]; (t.widthMs == 0 || fits(t.widthMs)) && db.has(t, fromMs) {
			return t, true
		}
	}
	return tier{}, false
}

// finest returns the finest tier that is kept for long enough.
func (db *DB) finest(fromMs int64) tier {
	for _, t := range tiers {
		if db.has(t, fromMs) {
			return t
		}
	}
	return tiers[len(tiers)-1]
}

// nullable turns a column into a number that may be unknown.
func nullable(n sql.NullInt64) fleet.Int {
	if !n.Valid {
		return fleet.Int{}
	}
	return fleet.Of(n.Int64)
}
