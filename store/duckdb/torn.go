package duckdb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	driver "github.com/duckdb/duckdb-go/v2"

	"vigil/durable"
)

const (
	// walEntryHeader is the length and the checksum before every entry of the engine's
	// write-ahead log.
	walEntryHeader = 16
	// tornFile keeps the end that was last cut off, for whoever wants to know what it was.
	tornFile      = databaseFile + ".wal.torn"
	maxTornKept   = 16 << 20
	tornFileMode  = 0o640
	mostTornFixes = 2 // of one start: after the first cut the log ends behind a whole entry
)

// tornLog matches what the engine says of an entry whose checksum is wrong. The text is
// the only place in which it tells where.
var tornLog = regexp.MustCompile(`replaying WAL file "([^"]+)": Corrupt WAL file: entry at byte position (\d+) computed checksum`)

// connect opens the database. When the write-ahead log ends in what is no entry, it cuts
// that off first.
//
// The engine takes a log that ends in the middle of an entry for what it is, a crash
// before the sync, and goes on without it. But it refuses to open at all when the bytes
// are there and are wrong, and that is what a power cut leaves too: a file system may
// have noted the new length of a file whose new bytes were not written, which reads as
// zeros. What was never synced was never reported as stored. Should the damage lie before
// that, then numbers, dedup state and positions go back together, and storage applies the
// rest again from the journal, which says so if it has it no more.
func (db *DB) connect(path string) (*driver.Connector, error) {
	for fixes := 0; ; fixes++ {
		connector, err := driver.NewConnector(path, nil)
		if err == nil {
			return connector, nil
		}
		torn := tornLog.FindStringSubmatch(err.Error())
		if torn == nil || fixes == mostTornFixes || filepath.Dir(torn[1]) != filepath.Dir(path) {
			return nil, fmt.Errorf("open database: %w", err)
		}
		position, convErr := strconv.ParseInt(torn[2], 10, 64)
		if convErr != nil || position < walEntryHeader {
			return nil, fmt.Errorf("open database: %w", err)
		}
		cut, cutErr := cutLog(torn[1], position-walEntryHeader)
		if cutErr != nil {
			return nil, fmt.Errorf("open database: %w", errors.Join(err, cutErr))
		}
		db.log.Warn("write-ahead log ended in what was never written whole, as after a power cut", "file", torn[1],
			"kept_bytes", position-walEntryHeader, "cut_bytes", cut, "error", err)
	}
}

// cutLog shortens a write-ahead log, after keeping what it cuts off, and returns how much
// that is.
func cutLog(name string, size int64) (cut int64, err error) {
	disk := durable.OS()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("cut write-ahead log: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("cut write-ahead log: %w", closeErr)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("cut write-ahead log: %w", err)
	}
	end, err := io.ReadAll(io.NewSectionReader(f, size, maxTornKept))
	if err != nil {
		return 0, fmt.Errorf("keep the end of the write-ahead log: %w", err)
	}
	if err := durable.WriteFile(disk, filepath.Join(filepath.Dir(name), tornFile), end, tornFileMode); err != nil {
		return 0, fmt.Errorf("keep the end of the write-ahead log: %w", err)
	}
	if err := f.Truncate(size); err != nil {
		return 0, fmt.Errorf("cut write-ahead log: %w", err)
	}
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("cut write-ahead log: %w", err)
	}
	return info.Size() - size, nil
}
