package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// settle is how long after its end an hour is merged: late packets of the same hour
	// are then mostly there.
	settle = 5 * time.Minute
	// tidyEvery is how often files are merged and expired when none was added.
	tidyEvery = time.Minute
	// pruneEvery is how often rows that a newer one replaced are deleted.
	pruneEvery = 10 * time.Minute
	// maxMergeFiles bounds one merge.
	maxMergeFiles = 512
)

// A mergeRule says which files of a tier are merged, by the time they cover.
type mergeRule struct {
	tier   string
	level  int   // of the files that are merged
	spanMs int64 // files of the same span are merged when it is over
}

// Rows are merged at most twice: by hour and by day, or by day and by month. That is
// what keeps a question about one stream to a few files, and the work per row bounded.
var mergeRules = [...]mergeRule{
	{tierRaw, 0, hourMs},
	{tierMinute, 0, hourMs},
	{tierMinute, 1, dayMs},
	{tierQuarter, 0, dayMs},
	{tierQuarter, 1, 32 * dayMs},
	{tierDay, 0, 32 * dayMs},
}

// Maintain does what is due. See store.Writer.
func (db *DB) Maintain(ctx context.Context, now time.Time) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	db.maintainMu.Lock()
	defer db.maintainMu.Unlock()
	if db.sealedAt.IsZero() {
		db.sealedAt = now // the first seal comes one period after the start
	}
	m := maintaining{db: db, now: now, began: time.Now()}
	if err := m.sealDue(ctx); err != nil {
		return err
	}
	if m.sealed || now.Sub(db.tidiedAt) >= tidyEvery || now.Before(db.tidiedAt) {
		if err := m.mergeDue(ctx); err != nil {
			return err
		}
		if err := db.expire(ctx, now); err != nil {
			return err
		}
		db.tidiedAt = now
	}
	if err := db.prune(ctx, now); err != nil {
		return err
	}
	return db.files.collect()
}

// maintaining is one call of Maintain.
type maintaining struct {
	db     *DB
	now    time.Time // what the caller said
	began  time.Time // when that was, by the clock of the process
	sealed bool
}

// sealDue seals what is due. It is called between the steps of merging too: merging a day
// of a large fleet takes minutes, and the hot tables must not grow meanwhile.
func (m *maintaining) sealDue(ctx context.Context) error {
	for {
		now := m.now.Add(time.Since(m.began))
		generation, due := m.db.rotate(now)
		if !due {
			return nil
		}
		if err := m.db.seal(ctx, generation); err != nil {
			return err
		}
		m.db.sealedAt, m.sealed = now, true
		if err := m.db.checkpoint(ctx); err != nil {
			return err
		}
	}
}

// checkpoint moves the write-ahead log into the database file. It is short after a
// seal, because most of what the log holds has just been dropped. Apply waits for it.
func (db *DB) checkpoint(ctx context.Context) error {
	db.applyMu.Lock()
	defer db.applyMu.Unlock()
	if _, err := db.sql.ExecContext(ctx, "CHECKPOINT"); err != nil {
		// A reader with an old state is in the way. The engine does it by itself later.
		db.log.Debug("checkpoint put off", "error", err)
	}
	return ctx.Err()
}

func (m *maintaining) mergeDue(ctx context.Context) error {
	for _, rule := range mergeRules {
		// What one rule makes the next one may merge, so each looks anew.
		list, err := manifest(ctx, m.db.sql, fmt.Sprintf("tier = '%s' AND level = %d", rule.tier, rule.level))
		if err != nil {
			return err
		}
		for _, k := range kindsInOrder() {
			if rule.tier != tierRaw && !k.rolls() {
				continue
			}
			if err := m.mergeKind(ctx, k, rule, list); err != nil {
				return fmt.Errorf("merge %s %s files: %w", k.name, rule.tier, err)
			}
		}
	}
	return nil
}

func (m *maintaining) mergeKind(ctx context.Context, k *kind, rule mergeRule, list []parquetFile) error {
	db := m.db
	spans := map[int64][]parquetFile{}
	for _, f := range list {
		if f.kind != k.name {
			continue
		}
		at := f.maxMs
		if rule.tier == tierRaw {
			at-- // a raw row belongs to the bucket that holds its last millisecond
		}
		span := floorTo(at, rule.spanMs)
		if span+rule.spanMs+settle.Milliseconds() <= m.now.UnixMilli() && !db.files.isMissing(f.name) && len(spans[span]) < maxMergeFiles {
			spans[span] = append(spans[span], f)
		}
	}
	for span, files := range spans {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(files) < 2 && files[0].rolled {
			continue
		}
		if err := m.merge(ctx, k, rule, span, files); err != nil {
			return err
		}
	}
	return nil
}

// merge replaces files by fewer ones with the same rows, partial rows of one bucket
// added up, and, when they are not in the next coarser tier yet, adds them to it. All
// of that becomes true in one transaction.
func (m *maintaining) merge(ctx context.Context, k *kind, rule mergeRule, span int64, files []parquetFile) error {
	db, started := m.db, time.Now()
	t := tierNamed(rule.tier)
	roll := !files[0].rolled
	source := db.readParquet(files)
	total := int64(0)
	for _, f := range files {
		total += f.rows
	}
	slices, err := db.slicesOf(ctx, k, source, "true", total)
	if err != nil {
		return err
	}
	var made []parquetFile
	for _, slice := range slices {
		where := "true" + slice.where(k)
		query := "SELECT * FROM " + source + " WHERE " + where
		if t.widthMs > 0 {
			query = k.rollAgain(source, where, t.widthMs)
		}
		f, err := db.write(ctx, output{kind: k, tier: rule.tier, level: rule.level + 1, rolled: true, atMs: span}, query)
		if err == nil && roll {
			made = append(made, f)
			coarser := tierNamed(t.coarser)
			f, err = db.write(ctx, output{kind: k, tier: coarser.name, rolled: coarser.coarser == "", atMs: span},
				k.rollAgain(source, where, coarser.widthMs))
		}
		if err != nil {
			db.unmake(made)
			return err
		}
		made = append(made, f)
		if err := m.sealDue(ctx); err != nil {
			db.unmake(made)
			return err
		}
	}
	if err := db.fault("merge files written"); err != nil {
		return err
	}
	if err := db.replaceFiles(ctx, files, made); err != nil {
		return err
	}
	db.metrics.merged(total, time.Since(started))
	db.log.Debug("merged files", "kind", k.name, "tier", rule.tier, "files", len(files), "into", len(made), "rows", total, "took", time.Since(started))
	return nil
}

// replaceFiles changes the manifest and gives the old files up.
func (db *DB) replaceFiles(ctx context.Context, old, made []parquetFile) error {
	names := make([]string, len(old))
	quoted := make([]string, len(old))
	for i, f := range old {
		names[i] = f.name
		quoted[i] = "'" + f.name + "'"
	}
	err := db.transact(ctx, func(tx *sql.Tx) error {
		if len(old) > 0 {
			if _, err := tx.ExecContext(ctx, "DELETE FROM parquet_file WHERE name IN ("+strings.Join(quoted, ", ")+")"); err != nil {
				return fmt.Errorf("write manifest: %w", err)
			}
		}
		if err := insertFiles(ctx, tx, made); err != nil {
			return err
		}
		return db.fault("merge commit")
	})
	if err != nil {
		return err
	}
	db.files.discard(names)
	return nil
}

// expire gives up the files that are over their retention. A file goes when its newest
// row is too old, and never before its rows are in the next coarser tier.
func (db *DB) expire(ctx context.Context, now time.Time) error {
	cfg := db.opts.Config
	var conditions []string
	for _, r := range [...]struct {
		where string
		keep  time.Duration
	}{
		{"kind IN ('stream', 'server', 'packet') AND tier = 'raw'", cfg.RawFor},
		{"kind IN ('event', 'session')", cfg.SessionsFor},
		{"tier = 'minute'", cfg.MinuteFor},
		{"tier = 'quarter'", cfg.QuarterFor},
	} {
		conditions = append(conditions, fmt.Sprintf("(%s AND rolled AND max_ms < %d)", r.where, now.Add(-r.keep).UnixMilli()))
	}
	list, err := manifest(ctx, db.sql, strings.Join(conditions, " OR "))
	if err != nil || len(list) == 0 {
		return err
	}
	if err := db.replaceFiles(ctx, list, nil); err != nil {
		return fmt.Errorf("delete old files: %w", err)
	}
	db.metrics.filesExpired.Add(float64(len(list)))
	return nil
}

// prune deletes rows that a newer row replaced, and small things over their retention.
func (db *DB) prune(ctx context.Context, now time.Time) error {
	if now.Sub(db.prunedAt) < pruneEvery {
		return nil
	}
	infoBefore := now.Add(-db.opts.Config.RawFor).UnixMilli()
	gapBefore := now.Add(-db.opts.Config.QuarterFor).UnixMilli()
	for _, statement := range []string{
		"DELETE FROM journal_position AS p WHERE batch < (SELECT max(batch) FROM journal_position AS n WHERE n.shard = p.shard)",
		"DELETE FROM ledger AS l WHERE batch < (SELECT max(batch) FROM ledger AS n WHERE n.agent = l.agent AND n.epoch = l.epoch)",
		fmt.Sprintf("DELETE FROM stream_info AS i WHERE ts_ms < %d AND ts_ms < (SELECT max(ts_ms) FROM stream_info AS n WHERE n.stream_id = i.stream_id)", infoBefore),
		fmt.Sprintf("DELETE FROM server_info AS i WHERE ts_ms < %d AND ts_ms < (SELECT max(ts_ms) FROM server_info AS n WHERE n.server_id = i.server_id)", infoBefore),
		fmt.Sprintf("DELETE FROM agent_gap WHERE NOT withdrawn AND received_ms < %d", gapBefore),
		// What arrived after all is remembered for as long as there is a gap that it may be a part of.
		"DELETE FROM agent_gap AS w WHERE withdrawn AND NOT EXISTS (FROM agent_gap AS g WHERE NOT g.withdrawn AND g.agent = w.agent AND g.epoch = w.epoch)",
	} {
		if _, err := db.sql.ExecContext(ctx, statement); err != nil {
			return errors.Join(fmt.Errorf("prune: %w", err), ctx.Err())
		}
	}
	db.prunedAt = now
	db.applyMu.Lock()
	db.ids.sweep(now.UnixMilli())
	db.applyMu.Unlock()
	return nil
}
