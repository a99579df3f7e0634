package duckdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// sealRows is how many hot rows are sealed at the latest, so that memory stays
	// bounded when the fleet is large.
	sealRows = 8_000_000
	// sliceRows is how many rows are sorted at once and so the size of one file: about
	// 200 MB while sorting.
	sliceRows = 2_000_000
	// maxSealHours bounds the files of one seal when agents deliver a long backlog: older
	// hours share one file.
	maxSealHours = 48
	// Encoding measured on samples: plain and dictionary pages under zstd are smaller
	// than delta pages, because neighbouring rows of one server repeat each other. A
	// small row group makes reading one stream cheap.
	parquetOptions = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v1, ROW_GROUP_SIZE 30720"
)

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// rotate lets Apply fill the other generation and returns the one that is now at
// rest. It reports false when there is nothing to seal or not yet.
func (db *DB) rotate(now time.Time) (generation int, due bool) {
	db.applyMu.Lock()
	defer db.applyMu.Unlock()
	if other := 1 - db.generation; db.hotRows[other].Load() > 0 {
		return other, true // a seal was interrupted
	}
	rows := db.hotRows[db.generation].Load()
	if rows == 0 || (rows < sealRows && now.Sub(db.sealedAt) < db.opts.Config.SealEvery) {
		return 0, false
	}
	db.generation = 1 - db.generation
	return 1 - db.generation, true
}

// seal moves one generation of hot rows into files. Apply goes on meanwhile.
func (db *DB) seal(ctx context.Context, generation int) error {
	started := time.Now()
	var made []parquetFile
	for _, k := range kindsInOrder() {
		files, err := db.sealKind(ctx, k, generation)
		made = append(made, files...)
		if err != nil {
			db.unmake(made)
			return fmt.Errorf("seal %s rows: %w", k.name, err)
		}
	}
	if err := db.fault("seal files written"); err != nil {
		return err
	}
	if err := db.commitSeal(ctx, generation, made); err != nil {
		return err
	}
	rows := db.hotRows[generation].Swap(0)
	db.metrics.sealed(rows, time.Since(started))
	db.log.Debug("sealed hot rows", "rows", rows, "files", len(made), "took", time.Since(started))
	return nil
}

func (db *DB) commitSeal(ctx context.Context, generation int, made []parquetFile) error {
	return db.transact(ctx, func(tx *sql.Tx) error {
		if err := insertFiles(ctx, tx, made); err != nil {
			return err
		}
		var script strings.Builder
		fmt.Fprintf(&script, "CREATE OR REPLACE TABLE server_seen AS SELECT server_id, max(last_ms) AS last_ms FROM "+
			"(FROM server_seen UNION ALL SELECT server_id, ts_ms FROM %s) GROUP BY server_id;\n", serverKind.hotTable(generation))
		for _, k := range kindsInOrder() {
			script.WriteString("DROP TABLE " + k.hotTable(generation) + ";\n" + k.createHot(generation) + ";\n")
		}
		if _, err := tx.ExecContext(ctx, script.String()); err != nil {
			return fmt.Errorf("empty hot tables: %w", err)
		}
		return db.fault("seal commit")
	})
}

func (db *DB) transact(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func insertFiles(ctx context.Context, tx *sql.Tx, files []parquetFile) error {
	if len(files) == 0 {
		return nil
	}
	values := make([]string, len(files))
	for i := range files {
		values[i] = files[i].values()
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO parquet_file ("+manifestColumns+") VALUES "+strings.Join(values, ", ")); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// sealKind writes the raw rows and the minutes of one kind.
func (db *DB) sealKind(ctx context.Context, k *kind, generation int) ([]parquetFile, error) {
	table := k.hotTable(generation)
	hours, err := hoursOf(ctx, db.sql, table)
	if err != nil {
		return nil, err
	}
	var made []parquetFile
	for _, h := range hours {
		where := fmt.Sprintf("ts_ms > %d AND ts_ms <= %d", h.fromMs, h.toMs)
		slices, err := db.slicesOf(ctx, k, table, where, h.rows)
		if err != nil {
			return made, err
		}
		for _, slice := range slices {
			part := where + slice.where(k)
			raw := output{kind: k, tier: tierRaw, rolled: true, atMs: h.toMs - hourMs}
			f, err := db.write(ctx, raw, "SELECT * FROM "+table+" WHERE "+part)
			if err != nil {
				return made, err
			}
			made = append(made, f)
			if !k.rolls() {
				continue
			}
			raw.tier, raw.rolled = tierMinute, false
			if f, err = db.write(ctx, raw, k.rollRaw(table, part, minuteMs)); err != nil {
				return made, err
			}
			made = append(made, f)
		}
	}
	return made, nil
}

// An hourOfRows is the rows of one hour, or of many old hours together. Like
// intervals the hour leaves out its beginning and holds its end.
type hourOfRows struct {
	fromMs, toMs int64
	rows         int64
}

func hoursOf(ctx context.Context, q querier, table string) ([]hourOfRows, error) {
	rows, err := q.QueryContext(ctx, fmt.Sprintf("SELECT (ts_ms - 1) // %d AS hour, count(*) FROM %s GROUP BY hour ORDER BY hour DESC", hourMs, table))
	if err != nil {
		return nil, fmt.Errorf("list hours: %w", err)
	}
	defer rows.Close()
	var list []hourOfRows
	for rows.Next() {
		var hour, n int64
		if err := rows.Scan(&hour, &n); err != nil {
			return nil, fmt.Errorf("list hours: %w", err)
		}
		if len(list) == maxSealHours {
			last := &list[len(list)-1]
			last.fromMs, last.rows = hour*hourMs, last.rows+n
			continue
		}
		list = append(list, hourOfRows{fromMs: hour * hourMs, toMs: (hour + 1) * hourMs, rows: n})
	}
	// The beginning of time belongs to the oldest hour.
	if n := len(list); n > 0 {
		list[n-1].fromMs--
	}
	return list, rows.Err()
}

// A slice is a range of ids, both ends included.
type slice struct {
	whole  bool
	lo, hi uint64
}

func (s slice) where(k *kind) string {
	if s.whole {
		return ""
	}
	return fmt.Sprintf(" AND %s BETWEEN %d AND %d", k.id, s.lo, s.hi)
}

// sliceShift makes the grains that slices are put together from: streams of one
// server that share the next four bits.
const sliceShift = 64 - serverBits - 4

// slicesOf divides rows by id into parts of about sliceRows.
func (db *DB) slicesOf(ctx context.Context, k *kind, source, where string, total int64) ([]slice, error) {
	if k.id == "" || total <= sliceRows*3/2 {
		return []slice{{whole: true}}, nil
	}
	rows, err := db.sql.QueryContext(ctx, fmt.Sprintf("SELECT %s >> %d AS grain, count(*) FROM %s WHERE %s GROUP BY grain ORDER BY grain",
		k.id, sliceShift, source, where))
	if err != nil {
		return nil, fmt.Errorf("slice rows: %w", err)
	}
	defer rows.Close()
	var list []slice
	var lo, grain uint64
	var n, held int64
	for rows.Next() {
		if err := rows.Scan(&grain, &n); err != nil {
			return nil, fmt.Errorf("slice rows: %w", err)
		}
		if held > 0 && held+n > sliceRows {
			border := grain << sliceShift
			list = append(list, slice{lo: lo, hi: border - 1})
			lo, held = border, 0
		}
		held += n
	}
	return append(list, slice{lo: lo, hi: ^uint64(0)}), rows.Err()
}

// An output says what a new file is.
type output struct {
	kind   *kind
	tier   string
	level  int
	rolled bool
	atMs   int64 // for its name
}

// write makes one file of the rows of a query, sorted, and makes it durable.
func (db *DB) write(ctx context.Context, o output, query string) (parquetFile, error) {
	f := parquetFile{kind: o.kind.name, tier: o.tier, level: o.level, rolled: o.rolled}
	// The name is random: no clock and no counter could promise that it is new.
	f.name = fmt.Sprintf("%s/%s/%s-%d-%s.parquet", f.kind, f.tier, time.UnixMilli(max(o.atMs, 0)).UTC().Format("2006-01-02T15"), o.level, strings.ToLower(rand.Text()))
	path := db.files.path(f.name)
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return f, err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return f, err
		}
	}
	if _, err := db.sql.ExecContext(ctx, "COPY ("+query+" ORDER BY "+o.kind.orderBy()+") TO '"+path+"' ("+parquetOptions+")"); err != nil {
		_ = os.Remove(path) // what is left of it is rubbish
		return f, fmt.Errorf("write file: %w", err)
	}
	if err := syncFile(path); err != nil {
		return f, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	f.bytes = info.Size()
	return f, db.describe(ctx, o.kind, &f)
}

// describe fills in what the manifest says about a file from the file itself.
func (db *DB) describe(ctx context.Context, k *kind, f *parquetFile) error {
	id := "0::UBIGINT"
	if k.id != "" {
		id = k.id
	}
	err := db.sql.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*), coalesce(min(ts_ms), 0), coalesce(max(ts_ms), 0), "+
		"coalesce(min(%s), 0), coalesce(max(%s), 0) FROM %s", id, id, db.readParquet([]parquetFile{*f}))).
		Scan(&f.rows, &f.minMs, &f.maxMs, &f.minID, &f.maxID)
	if err != nil {
		return fmt.Errorf("read new file %s: %w", f.name, err)
	}
	return nil
}

// unmake deletes files that did not become part of the store.
func (db *DB) unmake(files []parquetFile) {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	db.files.discard(names)
}
