package bus

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openLogged opens a bus and returns what it says at the level of an operator.
func openLogged(t *testing.T, dir string) (*Bus, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	b, err := Open(t.Context(), Options{
		Name: "test", Dir: dir, Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b, &out
}

// TestNothingIsWarnedOfWhenAllIsWell starts anew, after an orderly end, and from files
// as a killed process leaves them: none of that asks an operator to do anything.
func TestNothingIsWarnedOfWhenAllIsWell(t *testing.T) {
	t.Parallel()
	dir, killed := t.TempDir(), t.TempDir()
	publish := func(b *Bus) {
		t.Helper()
		s, err := b.OpenStream(t.Context(), StreamConfig{Name: "s", MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := s.Publish(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, out := openLogged(t, dir)
	publish(b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again, out2 := openLogged(t, dir)
	publish(again)
	// Records are newer than the index now, as after kill -9.
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(killed, "lock")); err != nil {
		t.Fatal(err)
	}
	third, out3 := openLogged(t, killed)
	publish(third)
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	for i, said := range []string{out.String(), out2.String(), out3.String()} {
		if said != "" {
			t.Errorf("start %d warned:\n%s", i+1, said)
		}
	}
}

func TestOtherWarningsAreHeard(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := &serverLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	l.Warnf("Filestore [%s] %s", "s", "Stream state too short (2 bytes)")
	l.Errorf("cannot %s", "write")
	if !strings.Contains(out.String(), "too short") || !strings.Contains(out.String(), "cannot write") {
		t.Errorf("log = %q, want the warning and the error", out.String())
	}
}
