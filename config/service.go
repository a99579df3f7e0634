package config

import "time"

// Service is the file that `vigil run` reads. Every key has a default: a file with
// nothing but data_dir, or no file at all, runs the whole service on one machine.
type Service struct {
	// DataDir is the directory that holds everything the service keeps: the journal,
	// the store and the accounts. `vigil init` makes it; `vigil run` refuses a
	// directory that was never initialised, so that a wrong path cannot look like an
	// empty fleet.
	DataDir string `toml:"data_dir" default:"/var/lib/vigil" kind:"file"`

	// Nodes describes the machines of the installation. It may be left out: then
	// there is one node with the name vigil, which has all roles. This version runs
	// one node; a file with more than one is refused.
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
	// Name is what the node is called in logs and metrics. Do not change it later.
	Name string `toml:"name" required:"true" kind:"node" example:"vigil"`
	// DataDir is the data directory of this node. Empty means the data_dir at the
	// top of the file.
	DataDir string `toml:"data_dir" default:"" kind:"file"`
	// Roles are what the node does: ingest takes packets from agents, storage keeps
	// and answers, panel serves people. Empty means all. A panel needs storage on
	// the same node.
	Roles []string `toml:"roles" default:"" one_of:"ingest|storage|panel"`
}

// Log says what is logged and how. The log goes to standard error.
type Log struct {
	// Level is the least that is logged: debug, info, warn or error. Levels of single
	// packages may follow it: "info,spool=debug".
	Level string `toml:"level" default:"info" kind:"level"`
	// Format is how a line looks: text, json, or auto, which is text on a terminal and
	// JSON otherwise.
	Format string `toml:"format" default:"auto" one_of:"auto|text|json"`
}

// Observe is the private listener: /metrics, /debug/pprof/, /live, /ready and
// /conditions. It has no password; keep it on an address that only operators reach.
type Observe struct {
	// Listen is the address as host:port. Empty turns it off.
	Listen string `toml:"listen" default:"127.0.0.1:8490" kind:"listen"`
}

// Ingest takes packets from agents.
type Ingest struct {
	// Listen is the address as host:port. The default is reached from this machine
	// only. Write ":8400" to take packets from everywhere, and give a certificate
	// then, because agents send their token with every packet.
	Listen string `toml:"listen" default:"127.0.0.1:8400" kind:"listen"`
	// TLSCertificateFile is a PEM file with the certificate and its chain. Empty means
	// plain HTTP.
	TLSCertificateFile string `toml:"tls_certificate_file" default:"" kind:"file"`
	// TLSKeyFile is a PEM file with the private key.
	TLSKeyFile string `toml:"tls_key_file" default:"" kind:"file"`
	// MaxPacketBytes is the largest packet taken, compressed.
	MaxPacketBytes int64 `toml:"max_packet_bytes" default:"4MiB" limit:"64KiB..8MiB" kind:"size"`
	// MaxDecodedBytes is the largest packet taken, after decompression.
	MaxDecodedBytes int64 `toml:"max_decoded_bytes" default:"64MiB" limit:"1MiB..1GiB" kind:"size"`
	// MaxInFlight is how many requests are worked on at once. More get the answer
	// busy and come back.
	MaxInFlight int `toml:"max_in_flight" default:"512" limit:"1..100000"`
	// MaxInFlightBytes is how much memory the packets being worked on may take
	// together. More get the answer busy and come back.
	MaxInFlightBytes int64 `toml:"max_in_flight_bytes" default:"256MiB" limit:"1MiB..1TiB" kind:"size"`
	// MaxStreamsPerAgent is how many different streams one agent may name within an hour.
	// Packets that name more wait in the agent's spool for the next hour: each name takes
	// room in the store for ever.
	MaxStreamsPerAgent int `toml:"max_streams_per_agent" default:"500000" limit:"1000..100000000"`
	// AckTimeout is the longest wait for the journal before an agent is told to come
	// back.
	AckTimeout time.Duration `toml:"ack_timeout" default:"5s" limit:"100ms..1m"`
	// AgentInterval is the interval that agents are asked to use. 0s lets each keep
	// its own.
	AgentInterval time.Duration `toml:"agent_interval" default:"0s" limit:"0s..5m"`
}

// Journal is the durable log between ingest and storage. A packet is acknowledged when
// it is on disk here.
type Journal struct {
	// Shards is how many logs work side by side. It can grow later and must not
	// shrink.
	Shards int `toml:"shards" default:"4" limit:"1..64"`
	// MaxBytes is the disk space of all shards together. It must hold what storage may
	// be behind: packets that are not applied yet are never dropped, and when they fill
	// it agents are told to come back later.
	MaxBytes int64 `toml:"max_bytes" default:"8GiB" limit:"64MiB..1PiB" kind:"size"`
	// MaxAge is how long packets are kept although they are applied. They go earlier when
	// the space is more than half full.
	MaxAge time.Duration `toml:"max_age" default:"7d" limit:"1h..365d"`
	// PublishTimeout is how long one shard may take before another is tried.
	PublishTimeout time.Duration `toml:"publish_timeout" default:"1s" limit:"50ms..30s"`
	SyncAlways     bool          `toml:"-"` // always true; tests of the harness itself may turn it off
}

// Storage applies the journal and answers questions.
type Storage struct {
	// RawFor is how long every single sample is kept.
	RawFor time.Duration `toml:"raw_for" default:"2d" limit:"1h..3650d"`
	// MinuteFor is how long sums per minute are kept.
	MinuteFor time.Duration `toml:"minute_for" default:"30d" limit:"1h..3650d"`
	// QuarterFor is how long sums per 15 minutes are kept. Sums per day are kept for
	// ever.
	QuarterFor time.Duration `toml:"quarter_for" default:"730d" limit:"1h..36500d"`
	// SessionsFor is how long single connections of viewers and publishers are kept.
	SessionsFor time.Duration `toml:"sessions_for" default:"90d" limit:"1h..3650d"`
	// ApplyEvery is the longest wait before taken packets become one transaction.
	// Longer is cheaper, shorter is fresher.
	ApplyEvery time.Duration `toml:"apply_every" default:"1s" limit:"10ms..1m"`
	// SealEvery is how often new rows become Parquet files.
	SealEvery time.Duration `toml:"seal_every" default:"10m" limit:"10s..1d"`
	// MemoryBytes is how much memory the database engine may use.
	MemoryBytes int64 `toml:"memory_bytes" default:"1GiB" limit:"128MiB..1TiB" kind:"size"`
	// Threads is how many threads the database engine may use for one question or one
	// change. 0 means one, which costs the least: threads of the engine that have nothing
	// to do wait actively. Questions of several people run side by side anyway.
	Threads int `toml:"threads" default:"0" limit:"0..1024"`
}

// Panel serves people: pages and the JSON API.
type Panel struct {
	// Listen is the address as host:port. The default is reached from this machine
	// only. Give a certificate, or put a TLS proxy in front, before you open it.
	Listen string `toml:"listen" default:"127.0.0.1:8480" kind:"listen"`
	// TLSCertificateFile is a PEM file with the certificate and its chain. Empty means
	// plain HTTP.
	TLSCertificateFile string `toml:"tls_certificate_file" default:"" kind:"file"`
	// TLSKeyFile is a PEM file with the private key.
	TLSKeyFile string `toml:"tls_key_file" default:"" kind:"file"`
	// SessionFor is how long a login lasts.
	SessionFor time.Duration `toml:"session_for" default:"30d" limit:"5m..365d"`
}
