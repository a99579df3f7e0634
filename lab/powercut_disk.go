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

	"vigil/durable"
)

const (
	// goingDown is the ioctl that shuts a file system down: XFS_IOC_GOINGDOWN, which ext4
	// took over as EXT4_IOC_SHUTDOWN. noLogFlush is the flag that makes it a power cut:
	// what is in memory only, of data and of the file system's journal, never gets out.
	goingDown  = 0x8004587d
	noLogFlush = 2

	diskBytes     = 512 << 20 // sparse; XFS wants 300 MiB
	umountTimeout = 2 * time.Minute
	haltTimeout   = 20 * time.Second
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
// mount also means that nothing of the old one's cache is left. The mount is shared, so
// that unmounting reaches the copies that new name spaces of other programs have.
func (d *Disk) mount(ctx context.Context) error {
	if _, err := run(ctx, "mount", "-t", d.Kind, "-o", "loop", d.image, d.Mount); err != nil {
		return err
	}
	if err := unix.Mount("", d.Mount, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share %s: %w", d.Mount, err)
	}
	return nil
}

// Cut stops the file system as a power cut does: nothing that was not synced gets to the
// disk any more, and every system call on it that begins later fails.
//
// Unlike a power cut it lets programs live. A sync that is under way at that moment may
// even return success although nothing was synced (ext4 and XFS of Linux 6.18 both do
// that). So halt the programs that have files open before, with Halt, and either kill
// them after, or thaw them to see what they say on a dead disk.
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
	return Await(ctx, umountTimeout, d.Mount+" is back", func(ctx context.Context) error {
		if err := unix.Unmount(d.Mount, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
			return err
		}
		if err := d.mount(ctx); err != nil {
			return err
		}
		// As long as somebody somewhere holds the old one, in a name space of its own, mounting
		// gives that one back: dead, though parts of it can still be read from memory.
		return durable.WriteFile(durable.OS(), filepath.Join(d.Mount, "probe"), []byte("alive"), 0o600)
	})
}

// Halt freezes a program and waits until none of its threads can do anything more: each
// is stopped, or inside a system call on a disk and stopped when that ends. With settle
// it waits until those have ended too.
func (p *program) Halt(ctx context.Context, settle bool) error {
	if err := p.Freeze(); err != nil {
		return err
	}
	return Await(ctx, haltTimeout, p.name+" stands still", func(context.Context) error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Process().PID()))
		if err != nil {
			return err
		}
		for _, file := range threads {
			stat, err := os.ReadFile(file)
			if err != nil {
				continue // the thread has ended
			}
			_, rest, _ := strings.Cut(string(stat), ") ") // behind the name
			if state := rest[:min(1, len(rest))]; state != "T" && (settle || state != "D") {
				return fmt.Errorf("a thread is in state %q", state)
			}
		}
		return nil
	})
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
