package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/journal"
	"vigil/wire"
)

// A memoryJournal keeps messages in memory. It survives the storage that reads it.
type memoryJournal struct {
	mu      sync.Mutex
	grown   chan struct{}
	shards  map[string][]journal.Message
	dropped map[string]uint64 // messages up to this one are gone
	applied map[string]uint64
	damaged map[uint64]bool // messages with these numbers cannot be read
	fail    error           // of the next Read
}

func newMemoryJournal(shards int) *memoryJournal {
	j := &memoryJournal{grown: make(chan struct{}), shards: map[string][]journal.Message{}, dropped: map[string]uint64{}, applied: map[string]uint64{}}
	for i := range shards {
		j.shards[fmt.Sprintf("shard-%d", i)] = nil
	}
	return j
}

func (j *memoryJournal) Shards() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var names []string
	for name := range j.shards {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (j *memoryJournal) append(shard string, entries ...journal.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	seq := uint64(len(j.shards[shard])) + 1
	j.shards[shard] = append(j.shards[shard], journal.Message{Shard: shard, Seq: seq, Entries: entries})
	close(j.grown)
	j.grown = make(chan struct{})
}

func (j *memoryJournal) Read(ctx context.Context, shard string, after uint64, fn func(journal.Message) error) error {
	for {
		j.mu.Lock()
		if err := j.fail; err != nil {
			j.fail = nil
			j.mu.Unlock()
			return err
		}
		list, dropped, grown := j.shards[shard], j.dropped[shard], j.grown
		j.mu.Unlock()
		switch {
		case after < dropped:
			return &journal.GapError{Shard: shard, Missing: fleet.SeqRange{First: after + 1, Last: dropped}}
		case after > uint64(len(list)):
			return &journal.AheadError{Shard: shard, After: after, Last: uint64(len(list))}
		case after < uint64(len(list)):
			after++
			if j.damaged[after] {
				return damagedAt(shard, after)
			}
			if err := fn(list[after-1]); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}

func (j *memoryJournal) Last(_ context.Context, shard string) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return uint64(len(j.shards[shard])), nil
}

func (j *memoryJournal) Applied(shard string, upTo uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if upTo > uint64(len(j.shards[shard])) {
		return errors.New("applied more than there is")
	}
	j.applied[shard] = upTo
	return nil
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// makePacket is packet seq of an agent: one server, two streams, with bytes that tell which
// packet they came from.
func makePacket(agent string, epoch, first, seq uint64, gaps ...fleet.Gap) *fleet.Packet {
	at := start.Add(time.Duration(seq) * 10 * time.Second).UnixMilli()
	s := fleet.Snapshot{AtMs: at, IntervalMs: 10_000 * int64(seq-first+1), Status: fleet.StatusOK}
	s.CoveredMs = s.IntervalMs
	s.Server = fleet.ServerInfo{Key: "server-of-" + agent, Product: "nginx-rtmp", ViewersNow: fleet.Of(5)}
	for i := range 2 {
		x := fleet.StreamSample{BytesIn: fleet.Of(bytesOf(first, seq)), BytesOut: fleet.Of(3)}
		x.Key = fleet.StreamKey{Server: s.Server.Key, App: "live", Name: fmt.Sprintf("stream-%d", i)}
		x.State, x.Viewers, x.Tech = fleet.StateOnline, fleet.Of(5), fleet.TechRTMP
		s.Streams = append(s.Streams, x)
	}
	s.Totals.BytesIn = fleet.Of(2 * bytesOf(first, seq))
	return &fleet.Packet{ID: fleet.PacketID{Agent: agent, Epoch: epoch, Seq: seq}, FirstSeq: first, Boot: 1, Snapshots: []fleet.Snapshot{s}, Gaps: gaps}
}

// bytesOf gives every packet its own amount, and a merged one the sum of its parts.
func bytesOf(first, seq uint64) int64 {
	total := int64(0)
	for n := first; n <= seq; n++ {
		total += 1000 + int64(n)*int64(n)
	}
	return total
}

func entryOf(tb testing.TB, p *fleet.Packet) journal.Entry {
	tb.Helper()
	payload, err := wire.Encode(p)
	if err != nil {
		tb.Fatal(err)
	}
	return journal.Entry{ID: p.ID, FirstSeq: p.FirstSeq, ReceivedMs: p.Snapshots[0].AtMs + 300, Boot: p.Boot, Payload: payload}
}
