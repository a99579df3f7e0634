package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"vigil/durable"
	"vigil/durable/durabletest"
)

func TestWriteFileOnDisk(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "a", "b", "state")
	fsys := durable.OS()
	if err := fsys.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".tmp", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second, longer", ""} {
		if err := durable.WriteFile(fsys, name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := durable.ReadFile(fsys, name)
		if err != nil || string(got) != want {
			t.Errorf("ReadFile = %q, %v; want %q", got, err, want)
		}
	}
	entries, err := fsys.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 || entries[0].Name != "state" {
		t.Errorf("ReadDir = %v, %v", entries, err)
	}
	if _, err := durable.ReadFile(fsys, name+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of nothing: %v", err)
	}
}

func TestFilesOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys := durable.OS()
	name := filepath.Join(dir, "f")
	f, err := fsys.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Create(name, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v", err)
	}
	for range 2 {
		if _, err := f.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("Z")); err != nil {
		t.Fatal(err)
	}
	if size, err := f.Size(); err != nil || size != 5 {
		t.Errorf("Size() = %d, %v; want 5: writes go to the end", size, err)
	}
	if err := errors.Join(f.Sync(), f.Close(), fsys.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Rename(name, name+"2"); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(name + "2"); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir(filepath.Join(dir, "none")); err == nil {
		t.Error("SyncDir of nothing succeeded")
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fsys.MkdirAll(name, 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("MkdirAll over a file: %v", err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(dir); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.Lock(dir)
	if err != nil {
		t.Fatalf("Lock after Close: %v", err)
	}
	again.Close()
	if _, err := durable.Lock(filepath.Join(dir, "none")); err == nil {
		t.Error("Lock of nothing succeeded")
	}
}

func TestFailedSyncPoisons(t *testing.T) {
	t.Parallel()
	fsys := durabletest.New(1)
	if err := fsys.MkdirAll("/d", 0o700); err != nil {
		t.Fatal(err)
	}
	raw, err := fsys.Create("/d/f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := durable.Poisoning(raw)
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	fsys.Inject(durabletest.Fault{Ops: durabletest.OpSync, N: 1, Mode: durabletest.NotDone})
	if err := f.Sync(); err == nil {
		t.Fatal("Sync succeeded")
	}
	_, writeErr := f.Write([]byte("y"))
	for what, err := range map[string]error{"Sync": f.Sync(), "Write": writeErr, "Truncate": f.Truncate(0)} {
		if !errors.Is(err, durable.ErrPoisoned) {
			t.Errorf("%s after a failed Sync: %v", what, err)
		}
	}
	if n, err := f.ReadAt(make([]byte, 1), 0); n != 1 || err != nil {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
}

// TestWriteFileIsAllOrNothing breaks each call of WriteFile in each way: after a power
// cut the old or the new content is there, and after nil the new one.
func TestWriteFileIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []durabletest.Mode{
		durabletest.NotDone, durabletest.Done, durabletest.Torn, durabletest.NoSpace, durabletest.PowerCut,
	} {
		for n := 1; n < 20; n++ {
			for seed := range uint64(10) {
				fsys := durabletest.New(seed)
				fsys.Put("/d/f", []byte("old content"))
				fsys.FailAt(n, mode)
				err := durable.WriteFile(fsys, "/d/f", []byte("new"), 0o600)
				fsys.Crash()
				got := string(fsys.Bytes("/d/f"))
				if got != "new" && (err == nil || got != "old content") {
					t.Fatalf("call %d %s seed %d: error %v, content %q", n, mode, seed, err, got)
				}
				if err := durable.WriteFile(fsys, "/d/f", []byte("third"), 0o600); err != nil {
					t.Fatalf("call %d %s seed %d: next WriteFile: %v", n, mode, seed, err)
				}
			}
		}
	}
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	fsys := durabletest.New(1)
	fsys.Put("/d/f", []byte("abc"))
	fsys.Inject(durabletest.Fault{Ops: durabletest.OpRead, N: 1, Mode: durabletest.NotDone})
	if _, err := durable.ReadFile(fsys, "/d/f"); err == nil {
		t.Error("ReadFile succeeded although the disk does not read")
	}
}
