package storage

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	deadLetterFile = "dead-letters.jsonl"
	// maxDeadLetterBytes is the size at which the file becomes the old one, replacing the
	// one before.
	maxDeadLetterBytes = 64 << 20
)

// A deadLetter is one packet that was not counted, as one line of JSON.
type deadLetter struct {
	Packet     string    `json:"packet"` // agent/epoch/seq
	FirstSeq   uint64    `json:"first_seq"`
	Shard      string    `json:"shard"`
	ReceivedAt time.Time `json:"received_at"`
	Reason     string    `json:"reason"` // conflict, quarantined
	Why        string    `json:"why"`
	Payload    []byte    `json:"payload"` // as received, base64
}

func newDeadLetter(shard string, p *arrived, reason string, why error) deadLetter {
	return deadLetter{
		Packet: p.entry.ID.String(), FirstSeq: p.entry.FirstSeq, Shard: shard, ReceivedAt: p.received,
		Reason: reason, Why: why.Error(), Payload: p.entry.Payload,
	}
}

// deadLetters is the file. It belongs to the goroutine of the applier.
type deadLetters struct{ dir string }

func newDeadLetters(dir string) *deadLetters { return &deadLetters{dir: dir} }

// write appends letters and syncs them. They are rare, so the file is opened each time.
func (d *deadLetters) write(letters []deadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(d.dir, deadLetterFile)
	if info, err := os.Stat(path); err == nil && info.Size() > maxDeadLetterBytes {
		if err := os.Rename(path, path+".old"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	for i := range letters {
		if err := out.Encode(&letters[i]); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}
