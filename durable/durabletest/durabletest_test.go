package durabletest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"vigil/durable"
)

func create(t *testing.T, f *FS, name string) durable.File {
	t.Helper()
	if err := f.MkdirAll("/d", 0o700); err != nil {
		t.Fatal(err)
	}
	h, err := f.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func put(t *testing.T, h io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(h, text); err != nil {
		t.Fatal(err)
	}
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCutKeepsWhatWasSynced, and sees every fate of what was not.
func TestPowerCutKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	fates := map[string]bool{}
	for seed := range uint64(200) {
		f := New(seed)
		h := create(t, f, "/d/f")
		put(t, h, "synced")
		ok(t, h.Sync(), f.SyncDir("/d"))
		put(t, h, "tail")
		f.Crash()
		got := f.Bytes("/d/f")
		rest, there := bytes.CutPrefix(got, []byte("synced"))
		if !there {
			t.Fatalf("seed %d: %q", seed, got)
		}
		switch {
		case len(rest) == 0:
			fates["lost"] = true
		case string(rest) == "tail":
			fates["whole"] = true
		case strings.HasPrefix("tail", string(rest)):
			fates["beginning"] = true
		case rest[0] == 0:
			fates["zeros first"] = true
		default:
			t.Fatalf("seed %d: tail %q", seed, rest)
		}
		if _, err := h.Write([]byte("x")); err == nil {
			t.Fatal("a file is open after a power cut")
		}
	}
	if len(fates) != 4 {
		t.Errorf("fates %v, want 4", fates)
	}
}

func TestNamesNeedSyncDir(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(60) {
		f := New(seed)
		h := create(t, f, "/d/new")
		ok(t, h.Sync())
		f.Put("/d/old", []byte("o"))
		f.Put("/d/gone", []byte("g"))
		ok(t, f.Rename("/d/old", "/d/renamed"), f.Remove("/d/gone"))
		f.Crash()
		seen[strings.Join(f.Names(), " ")] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d outcomes of 3 independent changes, want 8: %v", len(seen), seen)
	}
	f := New(1)
	create(t, f, "/d/new")
	ok(t, f.SyncDir("/d"))
	f.Crash()
	if len(f.Names()) != 1 {
		t.Error("a synced name is gone")
	}
}

// TestSyncAfterFailedSyncLies, as Linux does.
func TestSyncAfterFailedSyncLies(t *testing.T) {
	t.Parallel()
	f := New(1)
	h := create(t, f, "/d/f")
	ok(t, f.SyncDir("/d"))
	put(t, h, "lost")
	f.Inject(Fault{Ops: OpSync, N: 1, Mode: NotDone})
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync: %v", err)
	}
	put(t, h, "kept")
	ok(t, h.Sync())
	if got := f.Bytes("/d/f"); string(got) != "lostkept" {
		t.Errorf("readers see %q", got)
	}
	f.Crash()
	if got := f.Bytes("/d/f"); string(got) != "\x00\x00\x00\x00kept" {
		t.Errorf("on disk is %q", got)
	}
}

func TestKillKeepsWrites(t *testing.T) {
	t.Parallel()
	f := New(3)
	h := create(t, f, "/d/f")
	lock, err := f.Lock("/d")
	ok(t, err)
	if _, err := f.Lock("/d"); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Lock: %v", err)
	}
	put(t, h, "abc")
	f.Kill()
	if string(f.Bytes("/d/f")) != "abc" {
		t.Errorf("content %q", f.Bytes("/d/f"))
	}
	again, err := f.Lock("/d")
	ok(t, err)
	ok(t, lock.Close()) // the dead process's lock does not open the new one
	if _, err := f.Lock("/d"); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("Lock: %v", err)
	}
	ok(t, again.Close())
	for _, err := range []error{h.Sync(), h.Truncate(0), h.Close()} {
		if err == nil {
			t.Error("a file of the dead process works")
		}
	}
	if _, err := h.Size(); err == nil {
		t.Error("Size of a dead file works")
	}
	if _, err := h.ReadAt(nil, 0); err == nil {
		t.Error("ReadAt of a dead file works")
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{NotDone, Done, Torn, NoSpace, PowerCut} {
		f := New(5)
		h := create(t, f, "/d/f")
		f.FailAt(1, mode)
		n, err := h.Write([]byte("0123456789"))
		want := map[Mode]error{NotDone: syscall.EIO, Done: syscall.EIO, Torn: syscall.EIO, NoSpace: syscall.ENOSPC, PowerCut: ErrPowerCut}[mode]
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v", mode, err)
		}
		if stored := len(f.Bytes("/d/f")); mode == NotDone && stored != 0 || mode == Done && stored != 10 || n != stored {
			t.Errorf("%s: %d bytes stored, %d said", mode, stored, n)
		}
		if f.Dead() != (mode == PowerCut) {
			t.Errorf("%s: Dead() = %v", mode, f.Dead())
		}
		_, err = f.ReadDir("/d")
		if dead := errors.Is(err, ErrPowerCut); dead != (mode == PowerCut) {
			t.Errorf("%s: ReadDir: %v", mode, err)
		}
	}
	if s := fmt.Sprint(OpWrite, OpWrite|OpSync); s != "write ops 0x6" {
		t.Errorf("names %q", s)
	}
}

func TestPathAndHeal(t *testing.T) {
	t.Parallel()
	f := New(1)
	a, b := create(t, f, "/d/a"), create(t, f, "/d/b")
	f.Inject(Fault{Path: "b", N: 1, Mode: NotDone, Times: -1})
	ok(t, a.Sync())
	if b.Sync() == nil || b.Sync() == nil {
		t.Error("no fault for b")
	}
	f.Heal()
	ok(t, b.Sync(), b.Close())
	if n := f.Ops(OpSync); n != 4 {
		t.Errorf("Ops(OpSync) = %d, want 4", n)
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	f := New(1)
	h := create(t, f, "/d/f")
	f.SetCapacity(6)
	put(t, h, "1234")
	if n, err := h.Write([]byte("5678")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write = %d, %v", n, err)
	}
	ok(t, h.Truncate(1))
	put(t, h, "23")
	if size, err := h.Size(); err != nil || size != 3 {
		t.Errorf("Size() = %d, %v", size, err)
	}
}

func TestMissingThings(t *testing.T) {
	t.Parallel()
	f := New(1)
	h := create(t, f, "/d/f")
	_, openErr := f.Open("/d/none")
	_, appendErr := f.OpenAppend("/d/none")
	_, createErr := f.Create("/none/f", 0o600)
	_, dirErr := f.ReadDir("/none")
	_, lockErr := f.Lock("/none")
	for what, err := range map[string]error{
		"Open": openErr, "OpenAppend": appendErr, "Create": createErr, "ReadDir": dirErr, "Lock": lockErr,
		"Remove": f.Remove("/d/none"), "Rename": f.Rename("/d/none", "/d/x"),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: %v", what, err)
		}
	}
	if _, err := f.Create("/d/f", 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create again: %v", err)
	}
	put(t, h, "abc")
	if n, err := h.ReadAt(make([]byte, 5), 1); n != 2 || err != io.EOF {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if f.Bytes("/d/none") != nil {
		t.Error("Bytes of nothing")
	}
	c := f.Clone(2)
	put(t, h, "d")
	if string(c.Bytes("/d/f")) != "abc" || len(c.Names()) != 1 {
		t.Errorf("clone has %q", c.Bytes("/d/f"))
	}
}
