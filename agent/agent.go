package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"vigil/config"
	"vigil/durable"
	"vigil/failover"
	"vigil/fleet"
	"vigil/health"
	"vigil/media"
	"vigil/observe"
	"vigil/spool"
	"vigil/wire"
)

// Limits.
const (
	minInterval = time.Second
	maxInterval = 5 * time.Minute
	// A request may take so long altogether; failover has shorter bounds inside.
	requestTimeout = 45 * time.Second
	// What is in flight when the agent stops gets so long to be answered.
	stopGrace = 2 * time.Second
)

// Deps are what an agent takes from outside. All fields are optional.
type Deps struct {
	Log     *slog.Logger
	Metrics *observe.Registry
	Health  *health.Registry
	FS      durable.FS
	Now     func() time.Time // wall clock, for labels
	Mono    func() int64     // ms that never go backwards
	Rand    io.Reader        // of boot and epoch; crypto/rand when nil
	Seed    uint64           // of the jitter; random when 0
	Version string           // of the agent
	Host    string           // of this machine; asked for when empty

	// Service carries requests to the service; a failover.Transport for the configured
	// address when nil.
	Service http.RoundTripper
	// Token returns the token; read from the configured file when nil.
	Token func() (string, error)
	// Collector makes the collector of a media server; media.New when nil.
	Collector func(config.MediaServer, media.Deps) (media.Collector, error)
	// Codec may be shared by many agents in one process.
	Codec *wire.Codec
}

// Agent is one agent. Run may be called once; the other methods at any time.
type Agent struct {
	cfg     config.Agent
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	codec   *wire.Codec
	url     *url.URL // of PacketPath
	boot    uint64
	service http.RoundTripper
	closer  io.Closer // of service, when it is ours
	servers []*server

	appended chan struct{} // something new is in the spool; room for one

	// appending orders the numbering of packets against a change of the epoch.
	appending sync.Mutex
	spool     *spool.Spool  // set by Run
	unsaved   *fleet.Packet // could not be appended: merged into the next one

	mu       sync.Mutex
	settings fleet.Settings
	offline  bool                // packets are appended held
	badAddrs map[netip.Addr]bool // of the service, those that failed last
	stats    counters
	ships    shipState
	random   *mathrand.Rand
}

// server is one media server. It belongs to the poller, except for what is said.
type server struct {
	cfg       config.MediaServer
	collector media.Collector
	tracker   *media.Tracker
	readings  chan *fleet.Reading // of the running poll; room for one
	polling   bool
}

// New returns an agent. It opens nothing. Errors are *fleet.Error.
func New(cfg config.Agent, deps Deps) (*Agent, error) {
	deps = withDefaults(deps)
	if cfg.Name == "" {
		cfg.Name = deps.Host
	}
	a := &Agent{
		cfg: cfg, deps: deps, log: deps.Log.With("agent", cfg.Name), metrics: newMetrics(deps.Metrics),
		codec: deps.Codec, appended: make(chan struct{}, 1), badAddrs: map[netip.Addr]bool{},
		random: mathrand.New(mathrand.NewPCG(deps.Seed, 3)),
	}
	var boot [8]byte
	if _, err := io.ReadFull(deps.Rand, boot[:]); err != nil {
		return nil, fmt.Errorf("make a boot number: %w", err)
	}
	a.boot = binary.LittleEndian.Uint64(boot[:])
	if a.codec == nil {
		codec, err := wire.NewCodec(wire.DefaultLimits())
		if err != nil {
			return nil, err
		}
		a.codec = codec
	}
	if err := a.connect(); err != nil {
		return nil, err
	}
	if err := a.collectors(); err != nil {
		return nil, err
	}
	a.settings = fleet.Settings{IntervalMs: clampInterval(cfg.Interval).Milliseconds()}
	return a, nil
}

func withDefaults(d Deps) Deps {
	if d.Log == nil {
		d.Log = observe.Discard()
	}
	if d.FS == nil {
		d.FS = durable.OS()
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Mono == nil {
		start := time.Now()
		d.Mono = func() int64 { return time.Since(start).Milliseconds() }
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Seed == 0 {
		d.Seed = mathrand.Uint64()
	}
	if d.Host == "" {
		d.Host, _ = os.Hostname() // empty is allowed
	}
	if d.Collector == nil {
		d.Collector = media.New
	}
	return d
}

// connect prepares the way to the service.
func (a *Agent) connect() error {
	base, err := url.Parse(a.cfg.Service.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: "the url of the service is not an http or https address",
			Hint:    "write it like https://stats.example.net",
		}
	}
	a.url = base.JoinPath(wire.PacketPath)
	a.url.Path = "/" + strings.TrimPrefix(a.url.Path, "/") // JoinPath leaves it out when there was no path
	a.url.User, a.url.RawQuery, a.url.Fragment = nil, "", ""
	if a.deps.Token == nil {
		a.deps.Token = tokenFile(a.cfg.Service.TokenFile)
	}
	if a.service = a.deps.Service; a.service != nil {
		return nil
	}
	options, err := a.failoverOptions(base)
	if err != nil {
		return err
	}
	transport, err := failover.New(options)
	if err != nil {
		return fmt.Errorf("prepare the way to the service: %w", err)
	}
	a.service, a.closer = transport, transport
	return nil
}

func (a *Agent) collectors() error {
	seen := make(map[string]bool)
	for _, cfg := range a.cfg.Servers {
		if cfg.Name == "" || seen[cfg.Name] {
			return &fleet.Error{
				Kind:    fleet.KindInvalid,
				Message: fmt.Sprintf("the name %q of a media server is empty or used twice", cfg.Name),
				Hint:    "give every media server a name of its own",
			}
		}
		seen[cfg.Name] = true
		collector, err := a.deps.Collector(cfg, media.Deps{
			Transport: failover.PlainTransport(failover.PlainOptions{Timeout: cfg.Timeout}),
			Now:       a.deps.Now, Mono: a.deps.Mono,
		})
		if err != nil {
			return err
		}
		a.servers = append(a.servers, &server{
			cfg: cfg, collector: collector, tracker: media.NewTracker(media.TrackerOptions{}),
			readings: make(chan *fleet.Reading, 1),
		})
	}
	return nil
}

// Run opens the spool, polls and ships until ctx ends, and returns nil then. It
// returns an error when it cannot begin: the spool is in use or cannot be read.
func (a *Agent) Run(ctx context.Context) error {
	s, err := a.openSpool()
	if err != nil {
		return err
	}
	a.appending.Lock()
	a.spool = s
	a.appending.Unlock()
	a.mu.Lock()
	a.offline = s.Stats().Held > 0 // an outage outlived the last run: release at the first success
	a.mu.Unlock()
	a.log.Info("agent started", "version", a.deps.Version, "epoch", fmt.Sprintf("%016x", s.Epoch()), "boot", fmt.Sprintf("%016x", a.boot),
		"next_seq", s.NextSeq(), "servers", len(a.servers))
	var group sync.WaitGroup
	group.Go(func() { a.poll(ctx) })
	group.Go(func() { a.ship(ctx) })
	group.Wait()
	if a.closer != nil {
		err = a.closer.Close()
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	a.log.Info("agent stopped")
	return nil
}

func (a *Agent) openSpool() (*spool.Spool, error) {
	s, err := spool.Open(spool.Options{
		Dir: a.cfg.SpoolDir, MaxBytes: a.cfg.SpoolMaxBytes, FS: a.deps.FS, Now: a.deps.Now, Log: a.log,
		Metrics: a.deps.Metrics, Rand: a.deps.Rand, Merge: a.mergePayloads,
	})
	if errors.Is(err, durable.ErrLocked) {
		return nil, &fleet.Error{
			Kind:    fleet.KindConflict,
			Message: fmt.Sprintf("the spool %s is used by another process; two agents cannot share one", a.cfg.SpoolDir),
			Hint:    "stop the other agent, or give this one its own spool_dir",
			Err:     err,
		}
	}
	if err != nil {
		return nil, spoolError(a.cfg.SpoolDir, err)
	}
	if r := s.OpenReport(); r.Damages > 0 {
		a.log.Warn("spool was damaged and is mended", "damages", r.Damages, "packets_lost", r.Lost)
	}
	return s, nil
}

// spoolError says what to do about a spool that cannot be opened. Damage is no such
// case: it becomes a gap.
func spoolError(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &fleet.Error{
			Kind: fleet.KindForbidden, Message: fmt.Sprintf("this user may not use the spool %s", dir),
			Hint: "run as the user who owns spool_dir, or make the directory and give it to this user", Err: err,
		}
	}
	return &fleet.Error{
		Kind: fleet.KindUnavailable, Message: fmt.Sprintf("the spool %s cannot be opened, so nothing can be recorded", dir),
		Hint: "look for a full or broken disk under spool_dir", Err: err,
	}
}

// mergePayloads makes room in the spool. It is called under the spool's lock.
func (a *Agent) mergePayloads(payloads [][]byte) ([]byte, error) {
	merged, err := a.codec.MergePayloads(payloads)
	if err == nil {
		a.count(func(c *counters) { c.merged += uint64(len(payloads)) })
	}
	return merged, err
}

// jitter returns a random duration from 0 to d.
func (a *Agent) jitter(d time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Duration(a.random.Float64() * float64(d))
}

func (a *Agent) failoverOptions(base *url.URL) (failover.Options, error) {
	seeds, err := parseSeeds(a.cfg.Service.Addresses)
	if err != nil {
		return failover.Options{}, err
	}
	tlsConfig, err := a.tlsConfig(base)
	if err != nil {
		return failover.Options{}, err
	}
	return failover.Options{
		Host: base.Hostname(), Seeds: seeds, TLS: tlsConfig, Now: a.deps.Now, Seed: a.deps.Seed,
		Store:    addressFile{fs: a.deps.FS, name: filepath.Join(a.cfg.SpoolDir, addressFileName)},
		OnChange: a.failoverEvent,
	}, nil
}
