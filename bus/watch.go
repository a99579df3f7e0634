package bus

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"vigil/health"
)

// Limits of the watch over the server.
const (
	watchEvery = 2 * time.Second
	// A stream that is being made looks like one that could not be recovered, and beginning
	// anew takes all streams away for a moment: only what stays wrong counts.
	confirmFor         = 2 * time.Second
	restartBackoff     = 5 * time.Second
	restartBackoffMost = 1 * time.Minute
	probeBytes         = 1 << 20 // a test write: less free space than this is none
)

// watchTiming is the pace of the watch; tests are faster.
type watchTiming struct{ every, confirm, backoff time.Duration }

const conditionCode = "bus-cannot-write"

// watch asks the server whether it can write. After a write error it stops writing to
// that stream for ever, or to all when the disk is full, so somebody has to begin its
// storage anew; otherwise a disk that was full for a minute would need a human.
func (b *Bus) watch(ctx context.Context, timing watchTiming) {
	ticker := time.NewTicker(timing.every)
	defer ticker.Stop()
	backoff := timing.backoff
	var nextTry time.Time
	var since time.Time // of the problem; zero while there is none
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		problem := b.problem()
		if problem == "" {
			b.metrics.healthy.Set(1)
			b.options.Health.Clear(conditionCode)
			backoff = timing.backoff
			b.metrics.storeBytes.Set(float64(b.usedBytes()))
			since = time.Time{}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < timing.confirm {
			continue
		}
		b.metrics.healthy.Set(0)
		b.options.Health.Set(health.Condition{
			Code: conditionCode, Title: "The journal's disk fails", Severity: health.Error, BlocksReady: true,
			Text: "Writing to " + b.options.Dir + " failed. Nothing is acknowledged until it works again; agents keep their packets.",
			Hint: "Look for a full or failing disk. Writing is tried again by itself, at least once a minute.",
		})
		if time.Now().Before(nextTry) {
			continue
		}
		if err := b.restartStorage(); err != nil {
			b.log.Error("cannot begin the bus storage anew", "problem", problem, "error", err, "retry_after", backoff)
			nextTry = time.Now().Add(backoff)
			backoff = min(2*backoff, restartBackoffMost)
			continue
		}
		b.metrics.restarts.Inc()
		b.log.Warn("bus storage was begun anew", "problem", problem)
	}
}

// problem says why the server cannot write, or nothing.
func (b *Bus) problem() string {
	if !b.srv.JetStreamEnabled() {
		return "storage is disabled"
	}
	// With details, because one of the errors is not about storage: on a busy machine the
	// server may need more than the millisecond it is given to say that it takes connections.
	for _, problem := range b.srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if problem.Type != server.HealthzErrorConn {
			return problem.Error
		}
	}
	return ""
}

func (b *Bus) usedBytes() uint64 {
	info, err := b.srv.Jsz(nil)
	if err != nil {
		return 0
	}
	return info.Store
}

// restartStorage ends JetStream and starts it again from what is on disk. A failed
// fsync leaves pages in memory that look written and are not, so they are dropped
// first: recovery must see what the disk has, and cut off what it has not.
func (b *Bus) restartStorage() error {
	if err := probeWrite(b.options.Dir); err != nil {
		return err
	}
	if err := b.srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("end storage: %w", err)
	}
	if err := dropPageCache(b.options.Dir); err != nil {
		return err
	}
	o := b.serverOptions()
	if err := b.srv.EnableJetStream(&server.JetStreamConfig{
		StoreDir: o.StoreDir, MaxMemory: o.JetStreamMaxMemory, MaxStore: o.JetStreamMaxStore, SyncAlways: true,
	}); err != nil {
		return fmt.Errorf("start storage: %w", err)
	}
	return nil
}

// probeWrite finds out whether a write to the directory reaches the disk.
func probeWrite(dir string) error {
	data := make([]byte, probeBytes)
	if _, err := rand.Read(data); err != nil { // compression below us must not make it small
		return fmt.Errorf("make test data: %w", err)
	}
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return fmt.Errorf("test write: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("test write: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("test write: %w", err)
	}
	return nil
}

// dropPageCache makes the next read of every file below dir come from the disk.
func dropPageCache(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("drop page cache: %w", err)
		}
		defer f.Close()
		if err := dropPages(f); err != nil {
			return fmt.Errorf("drop page cache of %s: %w", entry.Name(), err)
		}
		return nil
	})
}
