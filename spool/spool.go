// Package spool is the agent's disk queue: packets wait in it, synced, until the
// service has them. DESIGN.md beside this file has the picture, the invariants and
// the crash cases.
package spool

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"vigil/durable"
	"vigil/fleet"
	"vigil/observe"
)

// Errors that callers branch on.
var (
	// ErrFull means that the spool could not make room within MaxBytes for the record.
	ErrFull = errors.New("spool: no room for the record")
	// ErrTooLarge means that a payload is over the limit (Options.MaxBytes/16, at most
	// 16 MiB). Trying again does not help.
	ErrTooLarge = errors.New("spool: payload is too large")
	// ErrSeq means that Append was called with another sequence number than NextSeq,
	// or that a call names a number that was never given out.
	ErrSeq = errors.New("spool: sequence number is wrong")
	// ErrRewound means that the service has packets of this epoch that this spool has
	// not written yet: the directory is an old copy (a restored snapshot) or there is
	// a clone of it. The remedy is NewEpoch.
	ErrRewound = errors.New("spool: service has packets that this spool never wrote")
	// ErrBusy means that records are in flight, so that their numbers cannot change.
	ErrBusy = errors.New("spool: records are in flight")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("spool: closed")
)

// Options say where the spool lives and how large it may become.
type Options struct {
	Dir      string
	MaxBytes int64 // on disk, everything included; at least MinMaxBytes
	FS       durable.FS
	Now      func() time.Time
	Log      *slog.Logger
	Metrics  *observe.Registry
	Rand     io.Reader // makes the epoch; crypto/rand outside tests
	// Merge makes one payload of several that follow each other, oldest first. The
	// numbers must add up exactly. The new packet's sequence range is the first
	// packet's FirstSeq to the last packet's Seq. nil: never merge. It is called under
	// the spool's lock and must not call back.
	Merge func(payloads [][]byte) ([]byte, error)
}

// Record is one packet in the spool.
type Record struct {
	FirstSeq uint64 // equal to Seq unless packets were merged; 0 in Append means Seq
	Seq      uint64
	AtMs     int64 // UTC ms; of the newest packet when merged
	Held     bool  // was appended while the service did not answer: mergeable, not sent before Release
	Payload  []byte
}

// Spool is an open spool. All methods may be called concurrently; they take turns,
// also while the disk works.
type Spool struct {
	mu   sync.Mutex
	core *core
}

// Epoch is the random number under which this spool's sequence numbers are unique.
func (s *Spool) Epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.epoch
}

// NextSeq is the sequence number that the next Append must carry. It never goes
// back within an epoch.
func (s *Spool) NextSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.next
}

// OpenReport says what Open found.
func (s *Spool) OpenReport() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.report
}

// Append stores a packet: when it returns nil, the packet is on disk and synced.
// When there is no room within MaxBytes it makes some first: held records are merged
// to coarser time, then the oldest are dropped with a gap. After an error the packet
// is not taken and NextSeq is unchanged; nothing older was lost because of it. The
// caller keeps the packet and may try again, also with other content.
func (s *Spool) Append(rec Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.append(rec)
}

// Newest returns the newest record that may be sent: not held, not in flight.
func (s *Spool) Newest() (Record, bool, error) {
	return s.look(true)
}

// Oldest returns the oldest record that may be sent: not held, not in flight.
func (s *Spool) Oldest() (Record, bool, error) {
	return s.look(false)
}

func (s *Spool) look(newest bool) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return Record{}, false, ErrClosed
	}
	defer s.core.show()
	rec, e, err := s.core.pick(newest)
	return rec, e != nil, err
}

// Take is Newest or Oldest, and marks the record as in flight: it is neither taken
// again nor dropped until Return, Ack, Reject or a restart.
func (s *Spool) Take(newest bool) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return Record{}, false, ErrClosed
	}
	defer s.core.show()
	return s.core.take(newest)
}

// Return ends the flight of a record that may not have arrived.
func (s *Spool) Return(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.giveBack(seq)
}

// Release says that held records may be sent from now on, and so must not be merged
// any more. The marker is synced before it returns nil. Without held records it does
// nothing.
func (s *Spool) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.release()
}

// Ack says that the service has the record that ends at seq. Unknown numbers are
// ignored: an acknowledgement may come twice. An error means that space could not be
// given back yet; the acknowledgement counts all the same. ErrSeq when the number was never given out.
func (s *Spool) Ack(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.ack(seq)
}

// AckStored says that the service has applied everything up to and including high,
// and the ranges ahead. ErrRewound when that is more than was ever written here.
func (s *Spool) AckStored(high uint64, ahead []fleet.SeqRange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.ackStored(high, ahead)
}

// Reject moves the record that ends at seq to the dead-letter file, because the
// service will never take it, and records a gap.
func (s *Spool) Reject(seq uint64, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.reject(seq, reason)
}

// Gaps returns the gaps, oldest first, that no packet carries yet, at most 256 of
// them.
func (s *Spool) Gaps() []fleet.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.gaps.open()
}

// GapsCarried says that the packet seq, which is in the spool, carries these gaps,
// as Gaps returned them. They are forgotten when that packet is acknowledged; when it
// is lost instead, or the process restarts before, Gaps returns them again.
func (s *Spool) GapsCarried(seq uint64, gaps []fleet.Gap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.gapsCarried(seq, gaps)
}

// Rewrite makes the payload of a record anew under another identity, or says that
// the record is not to be kept.
type Rewrite func(rec Record, epoch, seq uint64) (payload []byte, keep bool, err error)

// NewEpoch gives the spool a new random epoch and numbers the records that rewrite
// keeps from 1: the way out when two agents run on copies of one spool. Gaps belong
// to the old epoch and are forgotten. ErrBusy while records are in flight. After an
// error the old epoch stands.
func (s *Spool) NewEpoch(rewrite Rewrite) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	return s.core.newEpoch(rewrite)
}

// Stats is the present state in numbers.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.stats()
}

// Close notes the position, so that a clean restart sends nothing twice, and gives
// the directory free.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closed {
		return ErrClosed
	}
	defer s.core.show()
	s.core.closed = true
	return s.core.close()
}
