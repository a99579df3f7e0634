package duckdb

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vigil/config"
	"vigil/observe"
	"vigil/store"
)

const (
	// layoutVersion is the version of schema.sql. A store with another one is not opened.
	layoutVersion = 2
	databaseFile  = "vigil.duckdb"
	parquetDir    = "parquet"
	temporaryDir  = "tmp"
	// maxReaders bounds the questions that are answered at once; more wait.
	maxReaders = 8
	// walLimit is the size of the write-ahead log at which the engine moves it into the
	// database file. It bounds what a crash leaves to replay: about a second.
	walLimit = "128MB"
)

//go:embed schema.sql
var schemaSQL string

// Errors of this package.
var (
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("duckdb: store is closed")
	// ErrBroken means that a transaction failed half-way: the store must be opened anew.
	ErrBroken = errors.New("duckdb: store must be reopened")
	// ErrDamaged means that a file the store needs is missing or not what it should be.
	ErrDamaged = errors.New("duckdb: store is damaged")
)

// Options are what Open needs.
type Options struct {
	Dir     string // made when it is not there; one process at a time
	Config  config.Storage
	Log     *slog.Logger      // nil: silent
	Metrics *observe.Registry // nil: none
	Now     func() time.Time  // nil: time.Now
}

// DB is an open store. It implements store.Writer and store.Reader. Apply and
// Maintain may run at the same time, each by one goroutine; everything else is safe
// for concurrent use.
type DB struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	// fault is called between the steps of a change with the name of the step that
	// follows or is done; tests make it fail or end the process.
	fault func(step string) error

	// life is held for reading by everything that uses the engine, for writing by
	// Close and Reopen.
	life   sync.RWMutex
	closed bool // guarded by life

	sql    *sql.DB
	writer *rawConn  // of Apply, guarded by applyMu
	lookup *sql.Conn // of Apply, guarded by applyMu

	applyMu    sync.Mutex
	broken     error          // guarded by applyMu: the last Apply failed
	batch      int64          // guarded by applyMu: number of the last batch
	generation int            // guarded by applyMu: of the hot tables that Apply fills
	ids        *idents        // guarded by applyMu
	entries    []*streamEntry // guarded by applyMu: memory that every Apply uses again
	wal        fs.FileInfo    // guarded by applyMu: the write-ahead log whose name is durable

	hotRows [2]atomic.Int64 // rows in each generation

	maintainMu sync.Mutex
	sealedAt   time.Time // guarded by maintainMu
	tidiedAt   time.Time // guarded by maintainMu: when files were last merged and expired
	prunedAt   time.Time // guarded by maintainMu

	files *fileSet
}

var (
	_ store.Writer = (*DB)(nil)
	_ store.Reader = (*DB)(nil)
)

// Open opens or makes the store in a directory, and finishes or takes back what a
// crash left half-done: files that no row names are deleted, files that a row names and
// that are not there are reported by Check and left out of answers.
func Open(ctx context.Context, o Options) (*DB, error) {
	o = withDefaults(o)
	if strings.ContainsAny(o.Dir, "?'") {
		return nil, fmt.Errorf("open store: directory %q has a question mark or an apostrophe in its name", o.Dir)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	o.Dir = dir
	db := &DB{opts: o, log: o.Log, fault: func(string) error { return nil }}
	db.metrics = newMetrics(o.Metrics, db)
	if err := db.open(ctx); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return db, nil
}

func withDefaults(o Options) Options {
	if o.Log == nil {
		o.Log = observe.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range [...]struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Config.RawFor, 48 * time.Hour},
		{&o.Config.MinuteFor, 30 * 24 * time.Hour},
		{&o.Config.QuarterFor, 2 * 365 * 24 * time.Hour},
		{&o.Config.SessionsFor, 90 * 24 * time.Hour},
		{&o.Config.SealEvery, 10 * time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Config.MemoryBytes == 0 {
		o.Config.MemoryBytes = 1 << 30
	}
	if o.Config.Threads == 0 {
		o.Config.Threads = 1
	}
	return o
}

func (db *DB) open(ctx context.Context) error {
	for _, sub := range []string{"", parquetDir, temporaryDir} {
		if err := os.MkdirAll(filepath.Join(db.opts.Dir, sub), 0o750); err != nil {
			return err
		}
	}
	path := filepath.Join(db.opts.Dir, databaseFile)
	connector, err := db.connect(path)
	if err != nil {
		return err
	}
	db.sql = sql.OpenDB(connector)
	db.sql.SetMaxOpenConns(maxReaders + 2) // and one for lookups, one for maintenance
	db.sql.SetMaxIdleConns(maxReaders + 2)
	if err := db.prepare(ctx, path); err != nil {
		db.release()
		return err
	}
	return nil
}

func (db *DB) prepare(ctx context.Context, path string) error {
	var err error
	if err := db.configure(ctx); err != nil {
		return err
	}
	if err := db.createOrCheck(ctx); err != nil {
		return err
	}
	if db.writer, err = openRaw(path); err != nil {
		return err
	}
	if db.lookup, err = db.sql.Conn(ctx); err != nil {
		return fmt.Errorf("connect for lookups: %w", err)
	}
	db.ids = newIdents()
	db.broken = nil
	db.wal = nil
	db.files = newFileSet(filepath.Join(db.opts.Dir, parquetDir))
	if err := db.loadState(ctx); err != nil {
		return err
	}
	return db.tidyFiles(ctx)
}

// configure sets the limits of the engine. Nothing outside the store's directory can be
// read or written by any query, and no extension is ever fetched.
func (db *DB) configure(ctx context.Context) error {
	cfg := db.opts.Config
	for _, statement := range []string{
		"SET autoinstall_known_extensions = false",
		"SET autoload_known_extensions = false",
		"SET memory_limit = '" + strconv.FormatInt(cfg.MemoryBytes>>10, 10) + "KiB'",
		"SET threads = " + strconv.Itoa(cfg.Threads),
		"SET temp_directory = '" + filepath.Join(db.opts.Dir, temporaryDir) + "'",
		"SET checkpoint_threshold = '" + walLimit + "'",
		"SET preserve_insertion_order = false",
		"SET parquet_metadata_cache = true",
		"SET allowed_directories = ['" + db.opts.Dir + "']",
		"SET enable_external_access = false",
	} {
		if _, err := db.sql.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("configure engine: %s: %w", statement, err)
		}
	}
	return nil
}

// createOrCheck makes the tables of a new store in one transaction.
func (db *DB) createOrCheck(ctx context.Context) error {
	var tables int
	if err := db.sql.QueryRowContext(ctx, "SELECT count(*) FROM duckdb_tables()").Scan(&tables); err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	if tables > 0 {
		var version int
		if err := db.sql.QueryRowContext(ctx, "SELECT version FROM meta").Scan(&version); err != nil {
			return fmt.Errorf("%w: read layout version: %w", ErrDamaged, err)
		}
		if version != layoutVersion {
			return fmt.Errorf("store has layout %d, this program knows %d", version, layoutVersion)
		}
		return nil
	}
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	statements := schemaSQL
	for _, k := range kindsInOrder() {
		statements += k.createHot(0) + ";\n" + k.createHot(1) + ";\n"
	}
	statements += "INSERT INTO meta VALUES (" + strconv.Itoa(layoutVersion) + ");"
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	return tx.Commit()
}

// loadState finds the number of the last batch and where hot rows are.
func (db *DB) loadState(ctx context.Context) error {
	err := db.sql.QueryRowContext(ctx, "SELECT greatest((SELECT coalesce(max(batch), 0) FROM journal_position), "+
		"(SELECT coalesce(max(batch), 0) FROM ledger))").Scan(&db.batch)
	if err != nil {
		return fmt.Errorf("read last batch: %w", err)
	}
	for generation := range db.hotRows {
		total := int64(0)
		for _, k := range kindsInOrder() {
			var n int64
			if err := db.sql.QueryRowContext(ctx, "SELECT count(*) FROM "+k.hotTable(generation)).Scan(&n); err != nil {
				return fmt.Errorf("count hot rows: %w", err)
			}
			total += n
		}
		db.hotRows[generation].Store(total)
	}
	// When both have rows, a crash interrupted a seal: one of the two is sealed before
	// the next rotation, no matter which.
	db.generation = 0
	if db.hotRows[0].Load() == 0 && db.hotRows[1].Load() > 0 {
		db.generation = 1
	}
	return nil
}

func (db *DB) enter() error {
	db.life.RLock()
	if db.closed {
		db.life.RUnlock()
		return ErrClosed
	}
	return nil
}

func (db *DB) leave() { db.life.RUnlock() }

// Close waits for readers and closes the store.
func (db *DB) Close() error {
	db.life.Lock()
	defer db.life.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	return db.release()
}

func (db *DB) release() error {
	var errs []error
	if db.lookup != nil {
		errs = append(errs, db.lookup.Close())
		db.lookup = nil
	}
	if db.writer != nil {
		db.writer.close()
		db.writer = nil
	}
	errs = append(errs, db.sql.Close())
	return errors.Join(errs...)
}

// Reopen waits for readers, closes the store and opens it anew, so that its state is
// what is on disk. After an error the store is closed; Reopen may be called again.
func (db *DB) Reopen(ctx context.Context) error {
	db.life.Lock()
	defer db.life.Unlock()
	if !db.closed {
		db.closed = true
		if err := db.release(); err != nil {
			db.log.Warn("store did not close cleanly", "error", err)
		}
	}
	if err := db.open(ctx); err != nil {
		return fmt.Errorf("reopen store %s: %w", db.opts.Dir, err)
	}
	db.closed = false
	return nil
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
