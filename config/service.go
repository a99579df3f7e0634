package config

import "time"

// Service is the file that `vigil run` reads. It describes all nodes of the
// installation and is the same on every node; -node says which one this is.
type Service struct {
	Nodes []Node `toml:"node"`

	Log     Log     `toml:"log"`
	Observe Observe `toml:"observe"`
	Ingest  Ingest  `toml:"ingest"`
	Journal Journal `toml:"journal"`
	Storage Storage `toml:"storage"`
	Panel   Panel   `toml:"panel"`
}

// Node is one machine of the installation.
type Node struct {
	Name    string   `toml:"name"`
	DataDir string   `toml:"data_dir"`
	Roles   []string `toml:"roles"` // ingest, storage, panel; all when empty
}

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // auto, text, json
}

// Observe is the private listener: metrics, pprof, /live, /ready.
type Observe struct {
	Listen string `toml:"listen"` // host:port; empty: off
}

// Ingest takes packets from agents.
type Ingest struct {
	Listen             string        `toml:"listen"`
	TLSCertificateFile string        `toml:"tls_certificate_file"`
	TLSKeyFile         string        `toml:"tls_key_file"`
	MaxPacketBytes     int64         `toml:"max_packet_bytes"`  // compressed
	MaxDecodedBytes    int64         `toml:"max_decoded_bytes"` // after decompression
	MaxInFlight        int           `toml:"max_in_flight"`     // requests being worked on at once; more get 503
	MaxInFlightBytes   int64         `toml:"max_in_flight_bytes"`
	AckTimeout         time.Duration `toml:"ack_timeout"`    // longest wait for the journal
	AgentInterval      time.Duration `toml:"agent_interval"` // told to agents; 0: they keep their own
}

// Journal is the durable log between ingest and storage.
type Journal struct {
	Shards         int           `toml:"shards"`
	MaxBytes       int64         `toml:"max_bytes"` // of all shards together
	MaxAge         time.Duration `toml:"max_age"`
	PublishTimeout time.Duration `toml:"publish_timeout"` // then another shard is tried
	SyncAlways     bool          `toml:"-"`               // always true; tests of the harness itself may turn it off
}

// Storage applies the journal and answers questions.
type Storage struct {
	RawFor      time.Duration `toml:"raw_for"`
	MinuteFor   time.Duration `toml:"minute_for"`
	QuarterFor  time.Duration `toml:"quarter_for"` // 15-minute rollups
	SessionsFor time.Duration `toml:"sessions_for"`
	ApplyEvery  time.Duration `toml:"apply_every"`  // longest wait before a transaction
	SealEvery   time.Duration `toml:"seal_every"`   // hot rows become Parquet
	MemoryBytes int64         `toml:"memory_bytes"` // for the engine
	Threads     int           `toml:"threads"`
}

// Panel serves people: pages and the JSON API.
type Panel struct {
	Listen             string        `toml:"listen"`
	TLSCertificateFile string        `toml:"tls_certificate_file"`
	TLSKeyFile         string        `toml:"tls_key_file"`
	SessionFor         time.Duration `toml:"session_for"` // a login lasts this long
}
