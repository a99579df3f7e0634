package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/health"
	"vigil/lab"
)

// TestServiceSaysSoWhenSyncFails makes every fsync of the service fail while packets come
// in. It must not acknowledge one of them, must say why, and must go on by itself when the
// disk works again.
func TestServiceSaysSoWhenSyncFails(t *testing.T) {
	ctx, seed := t.Context(), seedOf(t)
	stage := newFaultStage(t, newLab(t), seed, "")
	trials := number(t, callsVariable, 1)
	for range trials {
		injection := must[*lab.Injection](t)(stage.Service.Inject(ctx, "fsync,fdatasync:error=EIO"))
		// What was synced just before is acknowledged still.
		noErr(t, sleep(ctx, time.Second))
		began := time.Now().UnixMilli()
		conditions := awaitTrouble(t, stage)
		noErr(t, sleep(ctx, time.Second))
		ended := time.Now().UnixMilli()
		failed := must[int](t)(injection.End())
		t.Logf("%d calls failed, the service says: %s", failed, conditions)
		if failed == 0 {
			t.Error("no call failed: nothing was tested")
		}
		for _, e := range stage.Recorder.Entries() {
			if e.AckedMs > began && e.AckedMs < ended {
				t.Errorf("packet %s was acknowledged while no sync succeeded", e.ID)
			}
		}
		healed := time.Now()
		noErr(t, stage.AwaitAcknowledged(ctx, healed))
		t.Logf("packets are acknowledged again %v after the disk works", time.Since(healed).Round(10*time.Millisecond))
	}
	awaitNoTrouble(t, stage)
	audit := must[*lab.Audit](t)(stage.Settle(ctx, lab.NoPages))
	report(t, stage, audit, "every fsync of the service fails for seconds (EIO)", trials, seed)
}

// TestFailedCallsLoseNothing makes single system calls of the service fail, on the files
// of the database and of the journal.
func TestFailedCallsLoseNothing(t *testing.T) {
	faults := []string{
		"fsync,fdatasync:error=EIO:when=1", "fsync,fdatasync:error=EIO:when=2", "fsync,fdatasync:error=EIO:when=3+4",
		"write,pwrite64:error=ENOSPC:when=1", "write,pwrite64:error=ENOSPC:when=2", "write,pwrite64:error=EIO:when=3+5",
	}
	ctx, seed := t.Context(), seedOf(t)
	stage := newFaultStage(t, newLab(t), seed, "")
	rounds, failed := number(t, callsVariable, 1), 0
	if rounds == 1 {
		faults = []string{faults[1], faults[3]} // agents are patient: each fault costs many seconds
	}
	for range rounds {
		for i, fault := range faults {
			injection := must[*lab.Injection](t)(stage.Service.Inject(ctx, fault, filesBelow(t, stage.Service.DataDir)...))
			noErr(t, sleep(ctx, 1500*time.Millisecond))
			if i%2 == 1 {
				stage.Service.Kill() // before it could mend anything
			}
			n := must[int](t)(injection.End())
			t.Logf("%s: %d calls failed", fault, n)
			failed += n
			healed := time.Now()
			noErr(t, stage.Heal(ctx))
			noErr(t, stage.AwaitAcknowledged(ctx, healed))
		}
	}
	if failed == 0 {
		t.Error("no call failed: nothing was tested")
	}
	audit := must[*lab.Audit](t)(stage.Settle(ctx, lab.NoPages))
	report(t, stage, audit, fmt.Sprintf("%d single calls of the service fail (fsync EIO, write ENOSPC and EIO)", failed), rounds*len(faults), seed)
}

// TestFullDiskLosesNothing fills the disk of the service under load, and makes room again.
func TestFullDiskLosesNothing(t *testing.T) {
	ctx, seed, l := t.Context(), seedOf(t), newLab(t)
	disk := must[*lab.Disk](t)(l.NewDisk(ctx, "disk-of-service", "ext4"))
	stage := newFaultStage(t, l, seed, filepath.Join(disk.Mount, "data"))
	trials := number(t, callsVariable, 1)
	for range trials {
		ballast := filepath.Join(disk.Mount, "ballast")
		if err := fill(ballast); err == nil {
			t.Fatal("the disk did not become full")
		}
		t.Logf("the service says: %s", awaitTrouble(t, stage))
		noErr(t, sleep(ctx, 2*time.Second))
		noErr(t, os.Remove(ballast))
		healed := time.Now()
		noErr(t, stage.AwaitAcknowledged(ctx, healed))
		t.Logf("packets are acknowledged again %v after there is room", time.Since(healed).Round(10*time.Millisecond))
	}
	awaitNoTrouble(t, stage)
	audit := must[*lab.Audit](t)(stage.Settle(ctx, lab.NoPages))
	report(t, stage, audit, "the disk of the service is full for seconds", trials, seed)
}

func newFaultStage(t *testing.T, l *lab.Lab, seed uint64, dataDir string) *lab.Stage {
	t.Helper()
	return must[*lab.Stage](t)(l.NewStage(t.Context(), lab.StageOptions{
		Agents: 3, Streams: 3, Swarm: 4, Seed: seed, DataDir: dataDir,
		Set: []string{"storage.seal_every=10s", "journal.max_bytes=64MiB", "storage.memory_bytes=256MiB"},
	}))
}

// fill writes until the disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<20); ; {
		if _, err := f.Write(block); err != nil {
			for len(block) > 512 { // the last free bytes too
				if block = block[:len(block)/2]; err != nil {
					_, err = f.Write(block)
				}
			}
			return errors.Join(errors.New("disk is full"), f.Sync(), f.Close())
		}
	}
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	noErr(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && (strings.HasSuffix(path, ".blk") || strings.Contains(filepath.Base(path), "duckdb")) {
			files = append(files, path)
		}
		return nil // files come and go while the service runs
	}))
	return files
}

const (
	troubleTimeout = 90 * time.Second
	diskLow        = "disk-low" // the disk of a test is small, so this one proves nothing
)

// awaitTrouble waits until the service says that something is wrong with its disk, in
// a condition that is an error, and returns all such.
func awaitTrouble(t *testing.T, stage *lab.Stage) string {
	t.Helper()
	var said []string
	noErr(t, lab.Await(t.Context(), troubleTimeout, "the service says what is wrong", func(ctx context.Context) error {
		said = nil
		for _, c := range must[health.Report](t)(stage.Service.Conditions(ctx)).Conditions {
			if c.Severity == health.Error && c.Code != diskLow && c.Text != "" && c.Hint != "" {
				said = append(said, c.Code+": "+c.Text)
			}
		}
		if len(said) == 0 {
			return errors.New("it says nothing")
		}
		return nil
	}))
	return strings.Join(said, " | ")
}

// awaitNoTrouble waits until all errors are over.
func awaitNoTrouble(t *testing.T, stage *lab.Stage) {
	t.Helper()
	noErr(t, lab.Await(t.Context(), troubleTimeout, "all errors are over", func(ctx context.Context) error {
		report, err := stage.Service.Conditions(ctx)
		if err != nil {
			return err
		}
		for _, c := range report.Conditions {
			if c.Severity == health.Error && c.Code != diskLow {
				return fmt.Errorf("still: %s: %s", c.Code, c.Text)
			}
		}
		return nil
	}))
}
