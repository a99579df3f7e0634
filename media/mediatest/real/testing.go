package real

import (
	"context"
	"os"
)

// TB is the part of testing.TB that ForTest needs, so that programs can use this
// package without linking the testing package.
type TB interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// ForTest returns a lab in a directory of its own that ends with the test.
func ForTest(tb TB) *Lab {
	tb.Helper()
	// Not TempDir: its parents are closed to other users, and Icecast becomes one.
	dir, err := os.MkdirTemp("", "vigil-real-")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lab, err := NewLab(ctx, dir)
	if err != nil {
		cancel()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		lab.Close()
		cancel()
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove lab: %v", err)
		}
	})
	return lab
}
