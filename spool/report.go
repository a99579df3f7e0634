package spool

import "vigil/fleet"

// DamageKind says what is wrong at a place of a segment file.
type DamageKind string

// The kinds of damage.
const (
	DamageHeader  DamageKind = "header"  // the segment's header is not valid
	DamageRecord  DamageKind = "record"  // a record's payload does not match its checksum
	DamageBytes   DamageKind = "bytes"   // bytes that are no record, before a valid one
	DamageTail    DamageKind = "tail"    // bytes that are no record, at the end: a write cut short
	DamageEpoch   DamageKind = "epoch"   // valid, but of another spool
	DamageVersion DamageKind = "version" // written by a newer version; left alone
	DamageRead    DamageKind = "read"    // the disk does not give the bytes
	DamageState   DamageKind = "state"   // a state record of this version that makes no sense
)

// Damage is one damaged place.
type Damage struct {
	File   string     `json:"file"` // name inside the spool's directory
	Offset int64      `json:"offset"`
	Length int64      `json:"length"` // bytes
	Kind   DamageKind `json:"kind"`
	Detail string     `json:"detail,omitempty"`
}

// Report says what Open found.
type Report struct {
	Epoch     uint64      `json:"epoch"`
	Fresh     bool        `json:"fresh"` // there was no usable spool: a new epoch began
	NextSeq   uint64      `json:"next_seq"`
	Segments  int         `json:"segments"`
	Records   int         `json:"records"`
	Held      int         `json:"held"`
	Damage    []Damage    `json:"damage,omitempty"` // first 1,000
	Damages   int         `json:"damages"`          // all of them
	NewGaps   []fleet.Gap `json:"new_gaps,omitempty"`
	Lost      uint64      `json:"lost"`      // sequence numbers in NewGaps
	Released  bool        `json:"released"`  // held records were released because a marker may be among the damage
	Unwritten bool        `json:"unwritten"` // the disk took nothing: reading works, the first Append tries again
}

// Stats is the state of a spool in numbers.
type Stats struct {
	Epoch            uint64 `json:"epoch"`
	NextSeq          uint64 `json:"next_seq"`
	Records          int    `json:"records"`
	Held             int    `json:"held"`
	InFlight         int    `json:"in_flight"`
	Segments         int    `json:"segments"`
	Bytes            int64  `json:"bytes"`      // on disk, segments
	LiveBytes        int64  `json:"live_bytes"` // of records that wait
	MaxBytes         int64  `json:"max_bytes"`  // 0 when unknown
	OldestMs         int64  `json:"oldest_ms"`  // UTC ms of the oldest record; 0 without records
	NewestMs         int64  `json:"newest_ms"`
	Gaps             int    `json:"gaps"`     // not acknowledged by the service yet
	GapSeqs          uint64 `json:"gap_seqs"` // sequence numbers in them
	DeadLetterBytes  int64  `json:"dead_letter_bytes"`
	QuarantinedBytes int64  `json:"quarantined_bytes"`
}
