// Package ingest takes packets from agents: it checks who sends, bounds and checks
// what is sent, makes it durable in the journal, and only then answers 200.
//
// It keeps no state that matters: any ingest may take any packet, and a repeat is
// answered like the first time, because storage counts a packet once. Cheap checks
// come first. Whether there is room is decided before the body is read, so that under
// overload a refusal costs next to nothing and the agent's spool holds the packet.
//
// What an agent may conclude from an answer:
//
//   - 200: the packet is on disk here. Nothing else means that.
//   - 503, 500, or no answer: send it again later.
//   - 409: somebody else sends under this agent's identity.
//   - 401, 403: the token is wrong or not for this agent; a person must act.
//   - 400, 413: this packet will never be taken.
package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"vigil/auth"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/observe"
	"vigil/wire"
)

// Limits of requests.
const (
	readHeaderTimeout = 5 * time.Second
	bodyTimeout       = 20 * time.Second // a full-size packet over a slow line
	idleTimeout       = 2 * time.Minute

	unwantedBodyTimeout = 2 * time.Second  // for the rest of a body whose request was refused
	writeSlack          = 10 * time.Second // for the answer itself, beyond body and journal
	maxHeaderBytes      = 16 << 10
	maxStreams          = 128 // of one HTTP/2 connection

	maxKeyBytes  = 512
	maxHostBytes = 253

	// Decoding is pure computing: more at once than cores only costs memory.
	decodersPerCore = 1
)

// Defaults for zero values of the configuration.
const (
	defaultMaxPacketBytes   = 4 << 20
	defaultMaxDecodedBytes  = 64 << 20
	defaultMaxInFlight      = 512
	defaultMaxInFlightBytes = 256 << 20
	defaultAckTimeout       = 5 * time.Second

	defaultMaxStreamsPerAgent = 500_000
)

// Journal makes packets durable.
type Journal interface {
	// Append returns nil only after the entry is fsynced.
	Append(ctx context.Context, e journal.Entry) error
}

// Deps are what ingest needs from others.
type Deps struct {
	Journal Journal
	Tokens  auth.AgentTokens
	// Stored is what storage last applied of an agent and epoch; false: storage does not
	// know yet. nil: nobody knows.
	Stored  func(agent string, epoch uint64) (*fleet.SeqSet, bool)
	Log     *slog.Logger
	Health  *health.Registry
	Metrics *observe.Registry
	Now     func() time.Time // nil: time.Now
}

// Ingest is the receiving end for packets. Safe for concurrent use.
type Ingest struct {
	cfg     config.Ingest
	deps    Deps
	log     *slog.Logger
	now     func() time.Time
	codec   *wire.Codec
	decode  chan struct{} // places of decoders
	room    *room
	clones  *clones
	claims  *claims
	metrics *metrics

	packets, refused atomic.Uint64
}

// Stats are counters since New.
type Stats struct {
	PacketsAcknowledged uint64
	PacketsRefused      uint64
	ClonesRefused       uint64
}

// New checks its arguments. It starts nothing.
func New(cfg config.Ingest, deps Deps) (*Ingest, error) {
	if deps.Journal == nil || deps.Tokens == nil {
		return nil, errors.New("ingest: journal and tokens are needed")
	}
	cfg = withDefaults(cfg)
	if cfg.MaxPacketBytes > journal.MaxPayloadBytes {
		return nil, &fleet.Error{Kind: fleet.KindInvalid, Message: "ingest.max_packet_bytes is larger than the journal takes", Hint: "use at most 8MiB"}
	}
	if cfg.MaxInFlightBytes < cfg.MaxPacketBytes {
		return nil, &fleet.Error{Kind: fleet.KindInvalid, Message: "ingest.max_in_flight_bytes is smaller than ingest.max_packet_bytes: a large packet would never be taken", Hint: "use at least as much"}
	}
	limits := wire.DefaultLimits()
	limits.CompressedBytes, limits.DecodedBytes = int(cfg.MaxPacketBytes), int(cfg.MaxDecodedBytes)
	codec, err := wire.NewCodec(limits)
	if err != nil {
		return nil, err
	}
	i := &Ingest{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, codec: codec,
		decode:  make(chan struct{}, decodersPerCore*runtime.GOMAXPROCS(0)),
		metrics: newMetrics(deps.Metrics),
	}
	if i.log == nil {
		i.log = observe.Discard()
	}
	if i.now == nil {
		i.now = time.Now
	}
	i.room = &room{maxRequests: int64(cfg.MaxInFlight), maxBytes: cfg.MaxInFlightBytes, metrics: i.metrics}
	i.clones = newClones(i.now, deps.Health, i.log)
	i.claims = newClaims(cfg.MaxStreamsPerAgent, i.now, deps.Health)
	return i, nil
}

func withDefaults(cfg config.Ingest) config.Ingest {
	if cfg.MaxPacketBytes <= 0 {
		cfg.MaxPacketBytes = defaultMaxPacketBytes
	}
	if cfg.MaxDecodedBytes <= 0 {
		cfg.MaxDecodedBytes = defaultMaxDecodedBytes
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = defaultMaxInFlight
	}
	if cfg.MaxInFlightBytes <= 0 {
		cfg.MaxInFlightBytes = defaultMaxInFlightBytes
	}
	if cfg.MaxStreamsPerAgent <= 0 {
		cfg.MaxStreamsPerAgent = defaultMaxStreamsPerAgent
	}
	if cfg.AckTimeout <= 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	return cfg
}

// Stats returns counters.
func (i *Ingest) Stats() Stats {
	return Stats{PacketsAcknowledged: i.packets.Load(), PacketsRefused: i.refused.Load(), ClonesRefused: i.clones.refusals.Load()}
}

// Server returns a hardened http.Server for h. The caller listens, serves and shuts
// it down.
func Server(cfg config.Ingest, h http.Handler, log *slog.Logger) *http.Server {
	cfg = withDefaults(cfg)
	if log == nil {
		log = observe.Discard()
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readHeaderTimeout + bodyTimeout + writeSlack, // also bounds what nobody reads
		WriteTimeout:      readHeaderTimeout + bodyTimeout + cfg.AckTimeout + writeSlack,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12},
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // noise of the internet
	}
}
