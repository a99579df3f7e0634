package fleet

// ServerInfo is what a reading and a snapshot share about one media server:
// identity, attributes, gauges.
type ServerInfo struct {
	Key           string // given by the operator, stable
	Product       string // nginx-rtmp, icecast, ...
	Version       string
	Collector     string // name and version of the collector
	Verified      string // real or spec: what the collector was tested against
	BootID        string // changes when the server's counters begin anew
	StartedMs     Int    // UTC ms
	Workers       Int    // worker processes seen (nginx)
	ConnLimit     Int
	ConnsNow      Int // gauge
	StreamsNow    Int // gauge: streams with a publisher
	PublishersNow Int // gauge
	ViewersNow    Int // gauge
	CPUMilliPct   Int // gauge, thousandths of a percent of all cores
	MemRSSBytes   Int // gauge
}

// Totals are the server's own traffic counters. In a reading they are absolute, in
// a snapshot they are deltas. They include what streams cannot show: protocol
// overhead and the last bytes of what ended between two polls.
type Totals struct {
	BytesIn       Int
	BytesOut      Int
	ConnsAccepted Int
	ConnsRejected Int
}

// Reading is what one poll of one media server said.
type Reading struct {
	Server        ServerInfo
	Totals        Totals // counters
	AtMs          int64  // UTC ms at which the answer was complete
	MonoMs        int64  // the agent's monotonic clock at that moment; rates use this one
	Status        PollStatus
	Detail        string // why the status is not ok, in words for the operator
	LatencyMs     int64
	UnknownFields int64 // elements the collector did not know: an early warning of a changed API
	Streams       []StreamReading
	// Sessions are the connections seen in this poll. SessionsComplete says that the
	// list is whole for every stream in SessionScope (all streams when nil), so a
	// session that is missing from it has ended.
	Sessions         []Session
	SessionsComplete bool
	SessionScope     []StreamKey
}

// Snapshot is one media server over one interval.
type Snapshot struct {
	Server        ServerInfo
	Totals        Totals // deltas
	AtMs          int64  // UTC ms, end of the interval
	IntervalMs    int64  // length of the interval by the monotonic clock; 0 when no delta could be made
	CoveredMs     int64  // ms of the interval for which numbers exist: less than IntervalMs after failed polls in a merged snapshot
	ViewerMs      Int    // viewers x ms; unknown means ViewersNow x IntervalMs
	ViewersMax    Int    // unknown means ViewersNow
	Status        PollStatus
	Detail        string
	LatencyMs     int64
	UnknownFields int64
	Flags         SampleFlags
	Streams       []StreamSample
	Events        []StreamEvent
	Sessions      []Session
}
