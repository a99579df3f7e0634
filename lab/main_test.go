package lab_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"vigil/lab"
	"vigil/media/mediatest/real"
)

// raceVariable makes the tests run programs with the race detector.
const raceVariable = "LAB_RACE"

// programs builds the programs once, when the first test needs them.
var programs = sync.OnceValues(func() (*lab.Programs, error) {
	return lab.Build(context.Background(), lab.BuildOptions{Dir: os.Getenv(dirVariable), Race: os.Getenv(raceVariable) != ""})
})

// dirVariable tells where TestMain wants the programs.
const dirVariable = "LAB_PROGRAMS"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vigil-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Setenv(dirVariable, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// These tests wait most of the time: as many run at once as there are processors would
	// be far too few.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := showResults(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir) // the system clears what is left
	os.Exit(code)
}

// newLab returns a lab for a test, with built programs.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	return lab.New(t, must[*lab.Programs](t)(programs()))
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newReal returns a place for real media servers. It fails the test, with the command
// that installs them, when they are missing.
func newReal(t *testing.T) *real.Lab {
	t.Helper()
	return real.ForTest(t)
}
