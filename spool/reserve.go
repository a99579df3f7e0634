package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// quarantine copies damaged bytes to a file of their own, for a person to look at.
// It does what it can: the bytes are of no use to the spool.
func (c *core) quarantine(d Damage) {
	if c.quarantined+d.Length > c.opt.MaxBytes/quarantineShare {
		return
	}
	f, err := c.opt.FS.Open(c.path(d.File))
	if err != nil {
		return
	}
	defer f.Close()
	data := make([]byte, d.Length)
	n, _ := f.ReadAt(data, d.Offset)
	if n == 0 {
		return
	}
	number, _ := segmentNumber(d.File)
	out, err := c.opt.FS.Create(c.path(fmt.Sprintf("%s%x-%d.bin", quarantinePrefix, number, d.Offset)), 0o600)
	if err != nil {
		return
	}
	defer out.Close()
	_, err = out.Write(data[:n])
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		c.log.Debug("damaged bytes are not kept", "file", d.File, "offset", d.Offset, "error", err)
	}
	c.quarantined += int64(n)
}

// keepReserve makes the file that relieve gives away, and reports whether it is
// there. It is filled with bytes that no file system can leave out.
func (c *core) keepReserve() bool {
	f, err := c.opt.FS.Create(c.path(reserveName), 0o600)
	if err != nil {
		return errors.Is(err, fs.ErrExist)
	}
	defer f.Close()
	data := make([]byte, reserveBytes(c.opt.MaxBytes))
	x := uint64(0x9e3779b97f4a7c15)
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = c.opt.FS.Remove(c.path(reserveName))
	}
	return err == nil
}

// refill brings the reserve back after it was given away. While the disk stays full
// it merges held records, so that the little space there is goes to packets.
func (c *core) refill() {
	for range maxRefillSteps {
		if !c.lowDisk {
			return
		}
		if c.keepReserve() {
			c.lowDisk = false
			return
		}
		if merged, err := c.mergeBatch(); !merged || err != nil {
			return
		}
	}
}

// relieve makes some space on a disk that others have filled: the reserve and the
// quarantine go. Nothing that waits is dropped for it, and no position in the index
// changes. It reports whether trying again makes sense.
func (c *core) relieve() bool {
	entries, err := c.opt.FS.ReadDir(c.opt.Dir)
	if err != nil {
		return false
	}
	won := false
	for _, e := range entries {
		if e.Name != reserveName && !strings.HasPrefix(e.Name, quarantinePrefix) {
			continue
		}
		if c.opt.FS.Remove(c.path(e.Name)) != nil {
			continue
		}
		won = true
		if e.Name == reserveName {
			c.lowDisk = true
		} else {
			c.quarantined -= e.Size
		}
	}
	return won
}
