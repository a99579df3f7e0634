package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// goingDown is the ioctl that shuts a file system down: XFS_IOC_GOINGDOWN, which ext4
	// took over as EXT4_IOC_SHUTDOWN. noLogFlush is the flag that makes it a power cut:
	// what is in memory only, of data and of the file system's journal, never gets out.
	goingDown  = 0x8004587d
	noLogFlush = 2

	diskBytes     = 512 << 20 // sparse; XFS wants 300 MiB
	umountTimeout = 20 * time.Second
	ownerFile     = "disks-of-pid"
)

// Disk is a file system of its own, in a file, whose power can be cut.
type Disk struct {
	Mount string
	Kind  string // ext4 or xfs

	image string
}

// NewDisk makes and mounts a file system: ext4 or xfs. It ends with the lab. Only root
// can do that. What file systems a killed test left behind is unmounted first.
func (l *Lab) NewDisk(ctx context.Context, name, kind string) (*Disk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cut power: only root can mount and shut down file systems; run the tests as root")
	}
	dropAbandoned(filepath.Dir(l.dir))
	if err := os.WriteFile(filepath.Join(l.dir, ownerFile), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	mount, err := l.subdir(name)
	if err != nil {
		return nil, err
	}
	d := &Disk{Mount: mount, Kind: kind, image: mount + ".img"}
	image, err := os.Create(d.image)
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	if err := errors.Join(image.Truncate(diskBytes), image.Close()); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	quiet := map[string]string{"ext4": "-q", "xfs": "-q"}[kind]
	if _, err := exec.LookPath("mkfs." + kind); err != nil || quiet == "" {
		return nil, fmt.Errorf("make disk: no mkfs.%s; try: apt-get install --no-install-recommends e2fsprogs xfsprogs: %w", kind, err)
	}
	if _, err := run(ctx, "mkfs."+kind, quiet, d.image); err != nil {
		return nil, err
	}
	l.closeLater(d.drop)
	return d, d.mount(ctx)
}

// mount attaches a loop device that goes away with the mount. A new device for every
// mount also means that nothing of the old one's cache is left.
func (d *Disk) mount(ctx context.Context) error {
	_, err := run(ctx, "mount", "-t", d.Kind, "-o", "loop", d.image, d.Mount)
	return err
}

// Cut stops the file system as a power cut does: nothing that was not synced gets to the
// disk any more, and every system call on it fails. Who has files open goes on running;
// kill them, then call Restore.
func (d *Disk) Cut() error {
	dir, err := os.Open(d.Mount)
	if err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	defer dir.Close() // only for the call
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, noLogFlush); err != nil {
		return fmt.Errorf("cut power of %s: %w", d.Mount, err)
	}
	return nil
}

// Restore mounts the file system again, which makes it recover. Nobody may have files
// open.
func (d *Disk) Restore(ctx context.Context) error {
	err := Await(ctx, umountTimeout, "nobody uses "+d.Mount, func(context.Context) error {
		return unix.Unmount(d.Mount, 0)
	})
	if err != nil {
		return err
	}
	return d.mount(ctx)
}

// Check looks at the file system with its own tool. It must be unmounted for that, and is
// mounted again.
func (d *Disk) Check(ctx context.Context) error {
	if err := unix.Unmount(d.Mount, 0); err != nil {
		return fmt.Errorf("check %s: %w", d.Mount, err)
	}
	tool := []string{"e2fsck", "-f", "-n", d.image}
	if d.Kind == "xfs" {
		tool = []string{"xfs_repair", "-n", d.image}
	}
	_, err := run(ctx, tool[0], tool[1:]...)
	return errors.Join(err, d.mount(ctx))
}

// drop unmounts, now or when the last user is gone.
func (d *Disk) drop() error {
	err := unix.Unmount(d.Mount, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil // it is not mounted
	}
	return err
}

// dropAbandoned unmounts the disks of labs whose test was killed.
func dropAbandoned(parent string) {
	owners, _ := filepath.Glob(filepath.Join(parent, "vigil-lab-*", ownerFile)) // the pattern is good
	for _, file := range owners {
		pid, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + string(pid)); err == nil {
			continue
		}
		dir := filepath.Dir(file)
		mounts, _ := os.ReadFile("/proc/self/mounts") // without it there is nothing to do
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
				_ = unix.Unmount(fields[1], unix.MNT_DETACH) // best effort
			}
		}
		_ = os.RemoveAll(dir)
	}
}
