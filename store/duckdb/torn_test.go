package duckdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// TestStoreOpensAfterAPowerCutInItsLog: whatever a power cut makes of the end of the
// write-ahead log that was not synced, the store opens with everything that was, and takes
// the rest again.
func TestStoreOpensAfterAPowerCutInItsLog(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w, before := newWorld(5, 2, 20), newWorld(5, 2, 20) // the same world, one batch earlier
	live := t.TempDir()
	db := openTest(t, live, &clock{w.start})
	for n := range 5 {
		before.round(t, n)
		if err := db.Apply(ctx, w.round(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	database, synced := readPair(t, live)
	last := w.round(t, 5)
	if err := db.Apply(ctx, last); err != nil {
		t.Fatal(err)
	}
	_, whole := readPair(t, live)
	unsynced := whole[len(synced):]
	entry := func(size uint64, content []byte) []byte {
		header := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, size), 1)
		return append(header, content...)
	}
	zeroed := bytes.Clone(unsynced)
	clear(zeroed[len(zeroed)/3:])
	holed := bytes.Clone(unsynced)
	clear(holed[len(holed)/3 : len(holed)/2])
	flipped := bytes.Clone(unsynced)
	flipped[len(flipped)/2] ^= 1
	for name, end := range map[string][]byte{
		"zeros":              make([]byte, 4096),
		"few zeros":          make([]byte, walEntryHeader+1),
		"a wrong entry":      entry(32, make([]byte, 32)),
		"half an entry":      entry(1000, make([]byte, 32)),
		"half a header":      make([]byte, 7),
		"an absurd length":   entry(1<<62, make([]byte, 32)),
		"a batch cut off":    unsynced[:len(unsynced)/2],
		"a batch, zero end":  zeroed,
		"a batch with holes": holed,
		"a batch, one bit":   flipped,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range map[string][]byte{databaseFile: database, databaseFile + ".wal": append(bytes.Clone(synced), end...)} {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			torn := openTest(t, dir, &clock{w.start})
			checkWorld(t, torn, before)
			// What is written behind the cut is found again.
			if err := torn.Apply(ctx, last); err != nil {
				t.Fatal(err)
			}
			if err := torn.Reopen(ctx); err != nil {
				t.Fatal(err)
			}
			checkWorld(t, torn, w)
		})
	}
}

// readPair reads the database and its write-ahead log.
func readPair(t *testing.T, dir string) (database, wal []byte) {
	t.Helper()
	return must[[]byte](t)(os.ReadFile(filepath.Join(dir, databaseFile))), must[[]byte](t)(os.ReadFile(filepath.Join(dir, databaseFile+".wal")))
}
