// Package fleet is the vocabulary of Vigil: agents, packets, media servers,
// streams, samples and sessions, with the unit of every number and whether it
// is a gauge, a counter or a delta. Every other package speaks in these words.
//
// Three forms of the same facts follow each other:
//
//   - A Reading is what one poll of one media server said. Its byte and frame
//     numbers are counters, absolute inside their incarnation.
//   - A Snapshot is what the agent made of two successive readings. Its byte and
//     frame numbers are deltas, so snapshots can be added up.
//   - A Packet is what the agent stores and sends: one snapshot per watched
//     server and an identity (agent, epoch, seq) that makes it count once.
//
// Every number that a source may not know is an Int: unknown is not zero.
// Times are UTC with millisecond resolution. Bytes are bytes, rates are bit/s
// and are always derived from byte deltas.
//
// The package does no I/O and never asks for the time. Values are not safe for
// concurrent modification; they may be read concurrently.
package fleet
