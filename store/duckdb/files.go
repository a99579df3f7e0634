package duckdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A parquetFile is one row of the manifest. Files never change; a row appears when the
// file is on disk and goes before the file is deleted.
type parquetFile struct {
	name         string // path below the parquet directory, with slashes
	kind         string
	tier         string
	level        int
	rolled       bool // its rows are in the next coarser tier too
	minMs, maxMs int64
	minID, maxID uint64
	rows, bytes  int64
}

// A fileSet keeps deleted files until no reader can still want them. A reader that
// began before a file left the manifest may read it; one that began later cannot know it.
type fileSet struct {
	dir string

	mu      sync.Mutex
	missing map[string]bool // named by the manifest, not on disk
	clock   uint64
	readers map[uint64]struct{} // when each running reader began
	garbage []garbage
}

type garbage struct {
	name string
	at   uint64
}

func newFileSet(dir string) *fileSet {
	return &fileSet{dir: dir, missing: map[string]bool{}, readers: map[uint64]struct{}{}}
}

func (s *fileSet) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// begin registers a reader, before it looks at the manifest.
func (s *fileSet) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	at := s.clock
	s.readers[at] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.readers, at)
	}
}

// discard takes files that have left the manifest.
func (s *fileSet) discard(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	for _, name := range names {
		s.garbage = append(s.garbage, garbage{name, s.clock})
	}
}

// collect deletes the files that no reader can want any more.
func (s *fileSet) collect() error {
	s.mu.Lock()
	oldest := s.clock + 1
	for at := range s.readers {
		oldest = min(oldest, at)
	}
	var free []string
	kept := s.garbage[:0]
	for _, g := range s.garbage {
		if g.at < oldest {
			free = append(free, g.name)
		} else {
			kept = append(kept, g)
		}
	}
	s.garbage = kept
	s.mu.Unlock()
	var errs []error
	for _, name := range free {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *fileSet) isMissing(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing[name]
}

func (s *fileSet) setMissing(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = names
}

const manifestColumns = "name, kind, tier, level, rolled, min_ms, max_ms, min_id, max_id, rows, bytes"

// manifest lists files, oldest first. where may be empty.
func manifest(ctx context.Context, q querier, where string) ([]parquetFile, error) {
	query := "SELECT " + manifestColumns + " FROM parquet_file"
	if where != "" {
		query += " WHERE " + where
	}
	rows, err := q.QueryContext(ctx, query+" ORDER BY min_ms, name")
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer rows.Close()
	var list []parquetFile
	for rows.Next() {
		var f parquetFile
		if err := rows.Scan(&f.name, &f.kind, &f.tier, &f.level, &f.rolled, &f.minMs, &f.maxMs, &f.minID, &f.maxID, &f.rows, &f.bytes); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		list = append(list, f)
	}
	return list, rows.Err()
}

func (f *parquetFile) values() string {
	return fmt.Sprintf("('%s', '%s', '%s', %d, %t, %d, %d, %d, %d, %d, %d)",
		f.name, f.kind, f.tier, f.level, f.rolled, f.minMs, f.maxMs, f.minID, f.maxID, f.rows, f.bytes)
}

// tidyFiles compares the directory with the manifest after a start.
func (db *DB) tidyFiles(ctx context.Context) error {
	list, err := manifest(ctx, db.sql, "")
	if err != nil {
		return err
	}
	named := make(map[string]bool, len(list))
	missing := map[string]bool{}
	for _, f := range list {
		named[f.name] = true
		if _, err := os.Stat(db.files.path(f.name)); err != nil {
			missing[f.name] = true
			db.log.Error("file of the store is missing, its rows are not in any answer", "file", f.name, "rows", f.rows, "error", err)
		}
	}
	db.files.setMissing(missing)
	return filepath.WalkDir(db.files.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(db.files.dir, path)
		if err != nil {
			return err
		}
		if named[filepath.ToSlash(name)] {
			return nil
		}
		db.log.Info("deleting a file that a crash left behind", "file", name)
		return os.Remove(path)
	})
}

// Check reads every file that the store says it has and returns what is wrong with
// them, one error per file.
func (db *DB) Check(ctx context.Context) ([]error, error) {
	if err := db.enter(); err != nil {
		return nil, err
	}
	defer db.leave()
	defer db.files.begin()()
	list, err := manifest(ctx, db.sql, "")
	if err != nil {
		return nil, err
	}
	var bad []error
	for i := range list {
		if err := db.checkFile(ctx, &list[i]); err != nil {
			if ctx.Err() != nil {
				return bad, ctx.Err()
			}
			bad = append(bad, fmt.Errorf("%w: file %s: %w", ErrDamaged, list[i].name, err))
		}
	}
	return bad, nil
}

// checkFile reads every column of a file, so that the checksum-less parts of Parquet
// are at least decompressed and decoded.
func (db *DB) checkFile(ctx context.Context, f *parquetFile) error {
	info, err := os.Stat(db.files.path(f.name))
	if err != nil {
		return err
	}
	if info.Size() != f.bytes {
		return fmt.Errorf("size is %d, not %d", info.Size(), f.bytes)
	}
	var rows int64
	query := "SELECT count(*) FROM (SELECT hash(COLUMNS(*)) FROM " + db.readParquet([]parquetFile{*f}) + ") AS t WHERE NOT (t IS NULL)"
	if err := db.sql.QueryRowContext(ctx, query).Scan(&rows); err != nil {
		return err
	}
	if rows != f.rows {
		return fmt.Errorf("%d rows instead of %d", rows, f.rows)
	}
	return nil
}

// readParquet is the table of all rows of the files.
func (db *DB) readParquet(files []parquetFile) string {
	var b strings.Builder
	b.WriteString("read_parquet([")
	for i, f := range files {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("'" + db.files.path(f.name) + "'")
	}
	b.WriteString("])")
	return b.String()
}

// syncFile makes a file and its name durable.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
