// Package store is the interface of the analytic store: what storage writes and
// what reports read. store/duckdb implements it.
package store

import (
	"context"
	"time"

	"vigil/fleet"
)

// AgentEpoch identifies one sequence of packets.
type AgentEpoch struct {
	Agent string
	Epoch uint64
}

// Position is how far a shard of the journal has been applied: every message up to
// and including Seq.
type Position struct {
	Shard string
	Seq   uint64
}

// Batch is what one transaction stores: packets that are new, the positions of the
// journal they came from, and the dedup state after them.
type Batch struct {
	Packets   []*fleet.Packet              // each one counted for the first time; the caller has checked
	Received  []time.Time                  // when ingest took each packet
	Positions []Position                   // after the batch
	Ledger    map[AgentEpoch]*fleet.Ledger // complete new state of every agent and epoch the batch touched
	Gaps      []ReceivedGap                // packets that were given up: all new gaps, those that the batch's packets name are not looked at
	Arrived   []Arrived                    // packets of the batch that had been given up: their gaps are none any more
}

// Arrived names numbers of given-up packets that are counted after all.
type Arrived struct {
	AgentEpoch
	fleet.SeqRange
	Received time.Time
}

// ReceivedGap is a gap and when it became known.
type ReceivedGap struct {
	AgentGap
	Received time.Time
}

// Writer is the one writer of a store. Not safe for concurrent use, but it may be
// used while any number of Readers read.
type Writer interface {
	// Apply stores a batch in one transaction: all of it or nothing. When it returns
	// nil the batch is on disk (fsynced). After an error the batch may or may not be
	// stored: the caller must reopen the store and start from its Positions.
	Apply(ctx context.Context, b *Batch) error
	// Positions returns the applied position of every shard ever applied.
	Positions(ctx context.Context) ([]Position, error)
	// Ledger returns the dedup state of every agent and epoch.
	Ledger(ctx context.Context) (map[AgentEpoch]*fleet.Ledger, error)
	// Maintain does what is due at the given time: seal hot rows into Parquet
	// with their rollups, merge small files, delete what is over its retention. It may be
	// called concurrently with Apply and returns when nothing more is due.
	Maintain(ctx context.Context, now time.Time) error
}

// Window is a half-open span of time, From <= t < To, in UTC.
type Window struct {
	From, To time.Time
}

// Point is one bucket of a series. Unknown numbers mean that nothing covers them.
type Point struct {
	AtMs       int64 `json:"at_ms"`       // start of the bucket, UTC ms
	CoveredMs  int64 `json:"covered_ms"`  // sum over servers (or the stream) of ms with numbers: 0 is a gap
	ExpectedMs int64 `json:"expected_ms"` // what it would be if every server that was known then had reported
	// Level is what was seen at once, on average: the sum over servers of each one's own
	// average while it was seen. It does not fall where a gap begins. Series of servers and of
	// the fleet have it.
	Level      Level             `json:"level"`
	ViewerMs   fleet.Int         `json:"viewer_ms"`
	ViewersMax fleet.Int         `json:"viewers_max"` // largest in any one interval; for several servers the sum of averages in the busiest moment is not known, so unknown
	BytesIn    fleet.Int         `json:"bytes_in"`
	BytesOut   fleet.Int         `json:"bytes_out"`
	State      fleet.StreamState `json:"state"` // streams only: last state in the bucket
}

// Level is a sum of averages over time.
type Level struct {
	ViewersMilli fleet.Int `json:"viewers_milli"` // thousandths of a viewer
	InBps        fleet.Int `json:"in_bps"`
	OutBps       fleet.Int `json:"out_bps"`
}

// Series is a list of buckets without holes: a bucket that nothing covers is there,
// with CoveredMs 0 and unknown numbers.
type Series struct {
	Window Window        `json:"-"`
	Step   time.Duration `json:"step_ns"`
	Tier   string        `json:"tier"` // raw, minute, quarter, day
	Points []Point       `json:"points"`
}

// TechSeries is the viewers of one technology over the same buckets.
type TechSeries struct {
	Tech     fleet.Tech  `json:"tech"`
	ViewerMs []fleet.Int `json:"viewer_ms"`
}

// PacketRow proves one stored packet.
type PacketRow struct {
	ID         fleet.PacketID
	FirstSeq   uint64
	AtMs       int64
	ReceivedMs int64
	BytesIn    fleet.Int // sum over the packet's servers
	BytesOut   fleet.Int
}

// Traffic is a sum over a window.
type Traffic struct {
	BytesIn   fleet.Int
	BytesOut  fleet.Int
	ViewerMs  fleet.Int
	CoveredMs int64
}

// Reader answers questions. Safe for concurrent use. Every method sees one
// consistent state of the store.
type Reader interface {
	// FleetSeries adds up all servers from the servers' own counters.
	FleetSeries(ctx context.Context, w Window, step time.Duration) (Series, error)
	// ServerSeries is one server. Missing servers give a series of gaps.
	ServerSeries(ctx context.Context, server string, w Window, step time.Duration) (Series, error)
	// StreamSeries is one stream, with its viewers by technology.
	StreamSeries(ctx context.Context, key fleet.StreamKey, w Window, step time.Duration) (Series, []TechSeries, error)
	// StreamEvents are the changes of state in the window, newest first, at most limit, after
	// the last one before the window (so that the state at its beginning is known).
	StreamEvents(ctx context.Context, key fleet.StreamKey, w Window, limit int) ([]fleet.StreamEvent, error)
	// Sessions that ran in the window, newest start first, at most limit.
	Sessions(ctx context.Context, key fleet.StreamKey, w Window, limit int) ([]fleet.Session, error)
	// ServerTraffic sums the servers' counters in the window, per server.
	ServerTraffic(ctx context.Context, w Window) (map[string]Traffic, error)
	// StreamTraffic sums the streams' deltas in the window, per server.
	StreamTraffic(ctx context.Context, w Window) (map[string]Traffic, error)
	// PacketRows lists stored packets, for proofs.
	PacketRows(ctx context.Context, w Window) ([]PacketRow, error)
	// Gaps lists what agents and the service gave up and what has not arrived after all,
	// newest first.
	Gaps(ctx context.Context, w Window) ([]AgentGap, error)
	// Recent returns snapshots that rebuild the live view: for every server the newest
	// one since the given time, with the newest sample of every stream in it.
	Recent(ctx context.Context, since time.Time) ([]RecentSnapshot, error)
	// Stats describes the store itself.
	Stats(ctx context.Context) (Stats, error)
}

// AgentGap is a gap with its agent.
type AgentGap struct {
	Agent string `json:"agent"`
	Epoch uint64 `json:"epoch"`
	fleet.Gap
}

// RecentSnapshot is the newest snapshot of a server and who sent it.
type RecentSnapshot struct {
	Agent    string
	Received time.Time
	Snapshot fleet.Snapshot
}

// Stats describes the store itself.
type Stats struct {
	PacketsStored  int64 `json:"packets_stored"`
	RawRows        int64 `json:"raw_rows"`
	BytesOnDisk    int64 `json:"bytes_on_disk"`
	RawBytesOnDisk int64 `json:"raw_bytes_on_disk"`
	ParquetFiles   int64 `json:"parquet_files"`
	NewestMs       int64 `json:"newest_ms"` // end of the newest interval stored
}
