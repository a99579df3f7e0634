package node

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"vigil/health"
)

// When the disk counts as nearly full.
const (
	diskEvery        = 15 * time.Second
	diskWarnFraction = 10 // one tenth free, or
	diskWarnBytes    = 4 << 30
	diskErrorBytes   = 512 << 20
)

// runWatch looks at what no other part looks at: the space on the disk, and how many
// conditions there are.
func (n *Node) runWatch(ctx context.Context, ready func()) error {
	free := n.deps.Metrics.Gauge("vigil_node_disk_free_bytes", "Space left on the disk of the data directory.")
	conditions := n.deps.Metrics.Gauge("vigil_node_conditions", "Conditions that are shown now, by severity.", "severity")
	ticker := time.NewTicker(diskEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		left, total, err := diskSpace(n.self.DataDir)
		switch {
		case err != nil:
			n.deps.Log.Warn("cannot read free space", "dir", n.self.DataDir, "error", err)
		case isLow(left, total):
			n.deps.Health.Set(diskLow(n.self.DataDir, left, total))
		default:
			n.deps.Health.Clear("disk-low")
		}
		if err == nil {
			free.Set(float64(left))
		}
		for _, severity := range health.Severities() {
			conditions.With(severity.String()).Set(float64(n.deps.Health.Count(severity)))
		}
		if first {
			ready()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// isLow reports whether little is free, both as a share and in bytes: a tenth of a
// large disk is plenty.
func isLow(free, total uint64) bool {
	return free < total/diskWarnFraction && free < diskWarnBytes || free < diskErrorBytes
}

func diskSpace(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	size := uint64(s.Bsize)
	return s.Bavail * size, s.Blocks * size, nil
}
