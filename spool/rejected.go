package spool

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// Files beside the segments. None of them is needed to open a spool.
const (
	deadLetterName   = "rejected.jsonl"     // packets that the service will never take
	deadLetterOld    = "rejected.old.jsonl" // the ones before
	quarantinePrefix = "damaged-"           // bytes that could not be read as records
	reserveName      = "reserve"            // given away when the disk is full

	maxReserveBytes = 256 << 10
	maxRejectReason = 512 // bytes kept of a reason
	maxQuarantines  = 64  // files
	maxRefillSteps  = 8   // merged batches for one packet, on a full disk
)

func reserveBytes(maxBytes int64) int64 { return min(maxBytes/64, maxReserveBytes) }

// letter is one line of the dead-letter file.
type letter struct {
	RejectedMs int64  `json:"rejected_ms"`
	Epoch      string `json:"epoch"`
	FirstSeq   uint64 `json:"first_seq"`
	Seq        uint64 `json:"seq"`
	AtMs       int64  `json:"at_ms"`
	Reason     string `json:"reason"`
	Bytes      int64  `json:"bytes"`
	Payload    string `json:"payload,omitempty"` // base64; left out when too large
}

func (c *core) reject(seq uint64, reason string) error {
	if seq >= c.next {
		return fmt.Errorf("%w: rejection of %d, next is %d", ErrSeq, seq, c.next)
	}
	i := c.index.find(seq)
	if i < 0 {
		return nil
	}
	// The letter comes first: should the process die in between, the packet is sent
	// and rejected once more, which makes a second letter but loses nothing.
	if err := c.writeLetter(&c.index.entries[i], reason); err != nil {
		c.log.Warn("rejected packet is not kept", "seq", seq, "error", err)
	}
	c.met.rejected.Add(float64(c.index.entries[i].span()))
	if err := c.giveUp([]int{i}, ReasonRejected); err != nil {
		return fmt.Errorf("store the gap for rejected packet %d: %w", seq, err)
	}
	return nil
}

// writeLetter appends to the dead-letter file. When half the share is used up, the
// file becomes the old one, and the old one is forgotten.
func (c *core) writeLetter(e *entry, reason string) error {
	limit := c.opt.MaxBytes / deadLetterShare / 2
	l := letter{
		RejectedMs: c.opt.Now().UnixMilli(), Epoch: fmt.Sprintf("%016x", c.epoch), FirstSeq: e.first, Seq: e.seq,
		AtMs: e.atMs, Reason: clip(reason, maxRejectReason), Bytes: e.length,
	}
	if payload, err := c.read(e); err == nil && int64(base64.StdEncoding.EncodedLen(len(payload))) < limit/2 {
		l.Payload = base64.StdEncoding.EncodeToString(payload)
	}
	line, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode letter: %w", err)
	}
	line = append(line, '\n')
	if c.letterBytes+int64(len(line)) > limit {
		if err := c.opt.FS.Rename(c.path(deadLetterName), c.path(deadLetterOld)); err != nil && c.letterBytes > 0 {
			return fmt.Errorf("rotate dead letters: %w", err)
		}
		c.letterBytes = 0
	}
	if err := c.appendLetter(line); err != nil {
		return fmt.Errorf("write dead letter: %w", err)
	}
	return nil
}

func (c *core) appendLetter(line []byte) error {
	f, err := c.opt.FS.OpenAppend(c.path(deadLetterName))
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = c.opt.FS.Create(c.path(deadLetterName), 0o600); err == nil {
			err = c.opt.FS.SyncDir(c.opt.Dir)
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if !c.letterBegun && c.letterBytes > 0 {
		// A crash may have cut the last line short: begin on a new one.
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.Write(line)
	c.letterBytes += int64(n)
	c.letterBegun = err == nil
	if err != nil {
		return err
	}
	return f.Sync()
}

// clip shortens text to at most n bytes of valid UTF-8.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n]
		for len(text) > 0 && !utf8.ValidString(text) && len(text) > n-utf8.UTFMax {
			text = text[:len(text)-1]
		}
	}
	return strings.ToValidUTF8(text, "?")
}
