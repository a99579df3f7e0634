// Package live holds what is on air now: the newest sample of every server and
// stream, in memory, fed by storage and read by reports. It answers search and sort
// over hundreds of thousands of streams itself.
package live

import (
	"time"

	"vigil/fleet"
)

// Totals is the fleet now. Only servers that reported lately are added up; the
// others are counted in ServersSilent.
type Totals struct {
	AsOfMs        int64     `json:"as_of_ms"`  // newest snapshot, UTC ms
	OldestMs      int64     `json:"oldest_ms"` // oldest snapshot that is in the sums
	Servers       int64     `json:"servers"`
	ServersOK     int64     `json:"servers_ok"`
	ServersSilent int64     `json:"servers_silent"` // no packet for three intervals
	ServersFailed int64     `json:"servers_failed"` // agent reports that it cannot read them
	Streams       int64     `json:"streams"`        // online or idle
	StreamsIdle   int64     `json:"streams_idle"`
	Viewers       fleet.Int `json:"viewers"`
	Publishers    fleet.Int `json:"publishers"`
	InBps         fleet.Int `json:"in_bps"`
	OutBps        fleet.Int `json:"out_bps"`
}

// ServerRow is one server now.
type ServerRow struct {
	Key         string           `json:"key"`
	Agent       string           `json:"agent"`
	Product     string           `json:"product"`
	Version     string           `json:"version"`
	Verified    string           `json:"verified"`
	Status      fleet.PollStatus `json:"status"`
	Detail      string           `json:"detail"`
	Silent      bool             `json:"silent"`
	AtMs        int64            `json:"at_ms"` // end of the newest interval
	ReceivedMs  int64            `json:"received_ms"`
	IntervalMs  int64            `json:"interval_ms"`
	StartedMs   fleet.Int        `json:"started_ms"`
	Streams     fleet.Int        `json:"streams"`
	Viewers     fleet.Int        `json:"viewers"`
	Publishers  fleet.Int        `json:"publishers"`
	InBps       fleet.Int        `json:"in_bps"`
	OutBps      fleet.Int        `json:"out_bps"`
	LatencyMs   int64            `json:"latency_ms"`
	CPUMilliPct fleet.Int        `json:"cpu_milli_pct"`
	MemRSSBytes fleet.Int        `json:"mem_rss_bytes"`
	ConnsNow    fleet.Int        `json:"conns_now"`
	Workers     fleet.Int        `json:"workers"`
}

// StreamRow is one stream now.
type StreamRow struct {
	Key           fleet.StreamKey     `json:"key"`
	State         fleet.StreamState   `json:"state"`
	Silent        bool                `json:"silent"` // its server is silent: the numbers are the last known
	AtMs          int64               `json:"at_ms"`
	OnlineSinceMs fleet.Int           `json:"online_since_ms"`
	Tech          fleet.Tech          `json:"tech"`
	ByTech        []fleet.TechViewers `json:"by_tech,omitempty"`
	Viewers       fleet.Int           `json:"viewers"`
	InBps         fleet.Int           `json:"in_bps"`
	OutBps        fleet.Int           `json:"out_bps"`
	Media         fleet.Media         `json:"media"`
	PublisherIP   string              `json:"publisher_ip,omitempty"`
	Flags         fleet.SampleFlags   `json:"flags"`
}

// StreamQuery selects and orders streams.
type StreamQuery struct {
	Search    string // every word must be part of server, app or name; case does not matter
	Server    string // exact; empty: all
	State     string // online, idle, offline, hidden, silent; empty: all that are not offline
	Sort      string // viewers, in_bps, out_bps, name, server, since; default viewers
	Ascending bool
	Offset    int
	Limit     int // 1 to 1,000
}

// StreamPage is a part of an ordered list.
type StreamPage struct {
	Rows    []StreamRow `json:"rows"`
	Matched int64       `json:"matched"`
	Total   int64       `json:"total"`
	AsOfMs  int64       `json:"as_of_ms"`
}

// Reader is what reports read. Safe for concurrent use.
type Reader interface {
	Totals(now time.Time) Totals
	Servers(now time.Time) []ServerRow // ordered by key
	Server(now time.Time, key string) (ServerRow, bool)
	Streams(now time.Time, q StreamQuery) (StreamPage, error)
	Stream(now time.Time, key fleet.StreamKey) (StreamRow, bool)
	// Version grows with every change, so that pages can tell that something is new.
	Version() uint64
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}
