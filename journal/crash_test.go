package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"vigil/bus"
	"vigil/config"
)

const crashDirEnv = "VIGIL_JOURNAL_CRASH_DIR"

var crashConfig = config.Journal{Shards: 3, MaxBytes: 1 << 30, PublishTimeout: 10 * time.Second}

// TestCrashWriter is the process that TestKilledWriterLosesNothingAcknowledged kills:
// it appends as fast as it can and prints what was acknowledged.
func TestCrashWriter(t *testing.T) {
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		return // started by the other test only
	}
	b, err := bus.Open(context.Background(), bus.Options{Name: "crash", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(context.Background(), b, Options{Config: crashConfig})
	if err != nil {
		t.Fatal(err)
	}
	var out sync.Mutex
	for w := range 16 {
		go func() {
			agent := fmt.Sprintf("edge-%d-%d", os.Getpid(), w)
			for seq := uint64(1); ; seq++ {
				if err := j.Append(context.Background(), entry(agent, seq)); err != nil {
					continue
				}
				out.Lock()
				fmt.Println("acked", entry(agent, seq).ID)
				out.Unlock()
			}
		}()
	}
	select {} // until it is killed
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	for range 3 { // the second and third open what the one before left
		runUntilKilled(t, dir, 150, acked)
	}
	j := openJournal(t, openBus(t, dir), crashConfig)
	var mu sync.Mutex
	times := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var reading sync.WaitGroup
	for _, shard := range j.Shards() {
		last, err := j.Last(ctx, shard)
		if err != nil {
			t.Fatal(err)
		}
		if last == 0 {
			continue
		}
		reading.Go(func() {
			enough := errors.New("enough")
			if err := j.Read(ctx, shard, 0, func(m Message) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range m.Entries {
					times[e.ID.String()]++
				}
				if m.Seq == last {
					return enough
				}
				return nil
			}); err != enough {
				t.Errorf("Read of %s: %v", shard, err)
			}
		})
	}
	reading.Wait()
	for id := range acked {
		if times[id] != 1 {
			t.Errorf("acknowledged %s is there %d times", id, times[id])
		}
	}
	t.Logf("%d acknowledged, %d in the journal", len(acked), len(times))
}

// runUntilKilled starts the writer, kills it after it acknowledged n entries, and adds
// all that it said.
func runUntilKilled(t *testing.T, dir string, n int, acked map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashWriter$")
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for count := 0; lines.Scan(); {
		id, ok := strings.CutPrefix(lines.Text(), "acked ")
		if !ok {
			continue
		}
		acked[id] = true
		if count++; count == n {
			if err := cmd.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the writer ended by itself")
	}
}
