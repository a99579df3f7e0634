package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/lab"
)

// TestPowerCutLosesWhatIsNotSynced proves the tool: a cut that lost nothing would prove
// nothing.
func TestPowerCutLosesWhatIsNotSynced(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			disk := must[*lab.Disk](t)(newLab(t).NewDisk(ctx, "disk", kind))
			synced, unsynced := filepath.Join(disk.Mount, "synced"), filepath.Join(disk.Mount, "unsynced")
			data := make([]byte, 100_000)
			f := must[*os.File](t)(os.Create(synced))
			_, err := f.Write(data)
			noErr(t, errors.Join(err, f.Sync()))
			_, err = f.Write(data) // a tail that is not synced
			noErr(t, errors.Join(err, f.Close(), os.WriteFile(unsynced, data, 0o644)))
			noErr(t, disk.Cut())
			if err := os.WriteFile(unsynced, data, 0o644); err == nil {
				t.Error("a file could be written after the cut")
			}
			noErr(t, disk.Restore(ctx))
			if info := must[os.FileInfo](t)(os.Stat(synced)); info.Size() != int64(len(data)) {
				t.Errorf("synced file has %d bytes, want %d", info.Size(), len(data))
			}
			if info, err := os.Stat(unsynced); err == nil && info.Size() > 0 {
				t.Errorf("a file that was never synced has %d bytes after the cut, want none", info.Size())
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// TestPowerCutsLoseNothingAcknowledged cuts the power of the service's disk, of the
// agents' disk and of both, under load, at random moments, on ext4 and on XFS. Half of
// the time the programs live on for a moment on a dead disk, and must not say that they
// took anything.
func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	for _, on := range []struct{ service, spools string }{{"ext4", "xfs"}, {"xfs", "ext4"}} {
		t.Run(fmt.Sprintf("service on %s, spools on %s", on.service, on.spools), func(t *testing.T) {
			ctx, seed, l := t.Context(), seedOf(t), newLab(t)
			cuts := number(t, cutsVariable, 6)
			data := must[*lab.Disk](t)(l.NewDisk(ctx, "disk-of-service", on.service))
			spools := must[*lab.Disk](t)(l.NewDisk(ctx, "disk-of-agents", on.spools))
			stage := must[*lab.Stage](t)(l.NewStage(ctx, lab.StageOptions{
				Agents: 6, Streams: 3, Swarm: 8, Seed: seed,
				DataDir: filepath.Join(data.Mount, "data"), SpoolDir: spools.Mount,
				Set: []string{"storage.seal_every=10s", "journal.max_bytes=64MiB", "storage.memory_bytes=256MiB"},
			}))
			random, torn := rand.New(rand.NewPCG(seed, 3)), 0
			for i := range cuts {
				c := cut{service: i%3 != 1, agents: i%3 != 0, linger: time.Duration(random.Int64N(int64(time.Second))) * time.Duration(random.IntN(2))}
				load := time.Duration(random.Int64N(int64(1500 * time.Millisecond)))
				t.Logf("%d: after %v, %+v", i, load, c)
				noErr(t, sleep(ctx, load))
				c.strike(t, stage, data, spools)
				healed := time.Now()
				noErr(t, stage.Heal(ctx))
				noErr(t, stage.AwaitAcknowledged(ctx, healed))
				if c.service && strings.Contains(stage.Service.Process().Output(), "write-ahead log ended") {
					torn++
				}
			}
			t.Logf("%d times the end of the store's log was cut off", torn)
			audit := must[*lab.Audit](t)(stage.Settle(ctx, lab.NoPages))
			report(t, stage, audit, fmt.Sprintf("power cuts: service on %s, agents on %s", on.service, on.spools), cuts, seed)
			noErr(t, errors.Join(data.Check(ctx), spools.Check(ctx)))
		})
	}
}

// cut is one power cut.
type cut struct {
	service, agents bool          // whose disk
	linger          time.Duration // of the programs on the dead disk; 0: they die with it
}

// halter is a program that can be held still.
type halter interface {
	Halt(ctx context.Context, settle bool) error
	Thaw() error
	Kill()
}

func (c cut) strike(t *testing.T, stage *lab.Stage, data, spools *lab.Disk) {
	t.Helper()
	ctx := t.Context()
	var disks []*lab.Disk
	var hit []halter
	if c.service {
		disks, hit = append(disks, data), append(hit, stage.Service)
	}
	if c.agents {
		disks = append(disks, spools)
		for _, agent := range stage.Agents {
			hit = append(hit, agent)
		}
	}
	for _, p := range hit {
		noErr(t, p.Halt(ctx, c.linger > 0))
	}
	for _, disk := range disks {
		noErr(t, disk.Cut())
	}
	if c.linger > 0 {
		for _, p := range hit {
			noErr(t, p.Thaw())
		}
		noErr(t, sleep(ctx, c.linger))
	}
	for _, p := range hit {
		p.Kill()
	}
	for _, disk := range disks {
		noErr(t, disk.Restore(ctx))
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
