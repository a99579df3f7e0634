package fleet

// StreamKey names a stream inside the whole fleet. Name holds the bytes that the
// server reported; servers differ in what they call vhost and instance, and leave
// empty what they do not have.
type StreamKey struct {
	Server   string `json:"server"`
	VHost    string `json:"vhost,omitempty"`
	App      string `json:"app,omitempty"`
	Instance string `json:"instance,omitempty"`
	Name     string `json:"name"`
}

// Media describes what is published. Info and gauges; empty and unknown mean that
// the source does not say.
type Media struct {
	VideoCodec   string `json:"video_codec,omitempty"`
	VideoProfile string `json:"video_profile,omitempty"` // profile and level as the server prints them
	WidthPx      Int    `json:"width_px"`
	HeightPx     Int    `json:"height_px"`
	FpsMilli     Int    `json:"fps_milli"` // thousandths of a frame per second
	AudioCodec   string `json:"audio_codec,omitempty"`
	AudioProfile string `json:"audio_profile,omitempty"`
	Channels     Int    `json:"channels"`
	SampleRateHz Int    `json:"sample_rate_hz"`
	DeclaredBps  Int    `json:"declared_bps"` // bit/s that the encoder claims; never used for totals
}

// StreamInfo is what a reading and a sample share: identity, attributes, gauges.
type StreamInfo struct {
	Key           StreamKey
	Incarnation   string      // changes when the stream's counters begin anew; empty when the source has no such thing
	State         StreamState // what the collector saw; the tracker refines it (idle)
	OnlineSinceMs Int         // UTC ms at which this publication began
	Tech          Tech        // of all viewers; TechMixed means look into ByTech
	ByTech        []TechViewers
	Viewers       Int // gauge; publishers and our own polls never count
	Publishers    Int // gauge
	Media         Media
	PublisherIP   string
	NameCollision bool // several streams of the server were reported under this one name
}

// TechViewers is the number of viewers by one technology (gauge).
type TechViewers struct {
	Tech    Tech  `json:"tech"`
	Viewers int64 `json:"viewers"`
}

// StreamReading is one stream in one poll. Counters are absolute.
type StreamReading struct {
	StreamInfo
	BeginMs       Int // UTC ms, by the agent's clock, at which the counters began (AtMs minus their age); identifies them where Incarnation is empty
	BytesIn       Int // counter, bytes
	BytesOut      Int // counter, bytes
	FramesDropped Int // counter
}

// StreamSample is one stream over one interval. Deltas can be added up.
type StreamSample struct {
	StreamInfo
	CoveredMs     Int // ms of the interval that the deltas cover; unknown means all of it, 0 means no delta could be made
	ViewerMs      Int // viewers x ms over the interval; unknown means Viewers x interval
	ViewersMax    Int // most viewers at once in the interval; unknown means Viewers
	BytesIn       Int // delta, bytes
	BytesOut      Int // delta, bytes
	FramesDropped Int // delta
	Flags         SampleFlags
}

// SampleFlags say what happened to the deltas of a sample.
type SampleFlags uint16

// The flags. The bits are stored: append only.
const (
	FlagCounterReset   SampleFlags = 1 << 0 // a counter went backwards inside one incarnation: the delta is its new value
	FlagNewIncarnation SampleFlags = 1 << 1 // counters began anew since the last poll
	FlagBaseline       SampleFlags = 1 << 2 // first sight: no delta could be made
	FlagClamped        SampleFlags = 1 << 3 // the delta was impossible and was left out
	FlagNameCollision  SampleFlags = 1 << 4
	FlagTailUnobserved SampleFlags = 1 << 5 // it ended between two polls; its last bytes are unknown
	FlagMerged         SampleFlags = 1 << 6 // several intervals merged by a full spool
)

// StreamEvent is a change of a stream's state, seen by the agent.
type StreamEvent struct {
	Key    StreamKey   `json:"key"`
	AtMs   int64       `json:"at_ms"`
	State  StreamState `json:"state"`
	Reason string      `json:"reason,omitempty"` // publish, unpublish, no_data, data, vanished, reload, server_restart, first_sight, replaced
}

// Session is one connection of a viewer or publisher, or the HTTP requests that
// together make one. It is reported when it starts (publishers) and when it ends.
type Session struct {
	ID         string    `json:"id"` // unique inside the server and its incarnation
	Key        StreamKey `json:"key"`
	Role       Role      `json:"role"`
	Tech       Tech      `json:"tech"`
	RemoteIP   string    `json:"remote_ip,omitempty"`
	UserAgent  string    `json:"user_agent,omitempty"`
	StartedMs  int64     `json:"started_ms"`
	LastSeenMs int64     `json:"last_seen_ms"`
	EndedMs    Int       `json:"ended_ms"`             // unknown while it runs
	EndReason  string    `json:"end_reason,omitempty"` // closed, vanished, server_restart, hidden
	BytesIn    Int       `json:"bytes_in"`             // bytes over the life of the session
	BytesOut   Int       `json:"bytes_out"`            // bytes over the life of the session
	Method     string    `json:"method"`               // native_connection, native_session, log_session, log_hash, estimated
	Unobserved bool      `json:"unobserved"`           // the last moments fell between two polls
}
