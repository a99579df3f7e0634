// Package reporttest is a made-up fleet for tests of reports and pages: a store and a
// live view whose numbers follow from the time alone, with switches for everything
// that can be wrong (nothing there yet, gaps, silence, a store that fails).
package reporttest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/live"
)

// Scenario is what is the matter with the fleet.
type Scenario int

// The scenarios.
const (
	Normal Scenario = iota // all well, one server partial, a short gap in the past
	Empty                  // no agent ever reported
	Gaps                   // one server failed, one silent, one unknown in part, large holes in the past
	Silent                 // nobody reports any more
	Broken                 // the store fails; the live view stands
)

// interval is how often the made-up agents report.
const interval = 10 * time.Second

// silentFor is how long nobody reported in the scenario Silent.
const silentFor = 4*time.Minute + 12*time.Second

// maxOrders is how many ordered lists of streams are kept.
const maxOrders = 6

// Config describes a world.
type Config struct {
	Now      func() time.Time
	Scenario Scenario
	Streams  int // 0: a few dozen with telling names
}

// World is a made-up fleet: a store.Reader and a live.Reader. Safe for concurrent use.
type World struct {
	now     func() time.Time
	servers []server
	streams []stream

	orderMu sync.Mutex // guards what follows, up to mu; taken before mu
	orders  map[order][]live.StreamRow
	rowsOf  order // the tick of rows
	rows    []live.ServerRow

	mu       sync.Mutex // guards what follows
	scenario Scenario
	version  uint64
	changed  chan struct{}
}

type server struct {
	key, product, version, verified string
	phase                           float64
	scale                           float64
	streams                         []int // indexes of World.streams
}

type stream struct {
	key    fleet.StreamKey
	server int
	base   float64 // viewers at an average moment
	phase  float64
	bps    float64
	tech   fleet.Tech
	state  fleet.StreamState
	media  fleet.Media
	since  time.Duration // before now
}

// ErrStore is what the store answers in the scenario Broken.
var ErrStore = errors.New("reporttest: the store is switched off")

// New makes a world.
func New(cfg Config) *World {
	w := &World{now: cfg.Now, scenario: cfg.Scenario, version: 1, changed: make(chan struct{}), orders: map[order][]live.StreamRow{}}
	w.build(cfg.Streams)
	return w
}

// Set changes what is the matter, and says so to whoever waits for a change.
func (w *World) Set(s Scenario) {
	w.mu.Lock()
	w.scenario = s
	w.mu.Unlock()
	w.Tick()
}

// Tick says that a packet came in.
func (w *World) Tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	close(w.changed)
	w.changed = make(chan struct{})
}

// Version implements live.Reader.
func (w *World) Version() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// Changed implements live.Reader.
func (w *World) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *World) scene() Scenario {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.scenario
}

var (
	places   = [...]string{"fra", "ams", "sin", "nyc", "gru", "syd"}
	products = [...]struct{ product, version, verified string }{
		{"nginx-rtmp", "1.1.4", "real"}, {"icecast", "2.4.4", "real"}, {"nginx-rtmp", "1.1.4", "real"},
		{"nginx-rtmp", "1.2.2", "real"}, {"icecast", "2.5.0", "spec"}, {"nginx-rtmp", "1.1.4", "real"},
	}
	shows = [...]string{
		"news-24", "football-final", "jazz-lounge", "city-cam-north", "keynote", "night-drive", "cooking-live", "harbour-cam",
		"lofi-radio", "parliament", "esports-arena", "morning-show", "classic-rock", "kids-corner", "weather", "studio-b",
		"chess-masters", "wildlife", "talk-at-ten", "backstage",
	}
)

func (w *World) build(streams int) {
	named := streams == 0
	if named {
		streams = 58
	}
	count := len(places) * 2
	for i := range count {
		p := products[i%len(products)]
		w.servers = append(w.servers, server{
			key:     fmt.Sprintf("edge-%s-%02d", places[i/2], i%2+1),
			product: p.product, version: p.version, verified: p.verified,
			phase: float64(i) * 0.37, scale: 1 + float64(i%5)*0.4,
		})
	}
	for i := range streams {
		w.streams = append(w.streams, makeStream(i, named, w.servers))
		s := &w.servers[w.streams[i].server]
		s.streams = append(s.streams, i)
	}
}

func makeStream(i int, named bool, servers []server) stream {
	at := i % len(servers)
	name := fmt.Sprintf("cam-%06d", i)
	if named {
		name = shows[i%len(shows)]
		if i >= len(shows) {
			name += fmt.Sprintf("-%dp", []int{1080, 720}[i/len(shows)%2])
		}
	}
	s := stream{
		key: fleet.StreamKey{Server: servers[at].key, App: []string{"live", "events", "radio"}[i%3], Name: name}, server: at,
		base: 4200 / math.Pow(float64(i+1), 0.85), phase: noise("phase", int64(i)) * 2 * math.Pi,
		bps: 1.2e6 + 4e6*noise("bps", int64(i)), tech: fleet.TechRTMP, state: fleet.StateOnline,
		since: time.Duration(20+noise("since", int64(i))*90_000) * time.Second,
		media: fleet.Media{
			VideoCodec: "H264", VideoProfile: "High 4.1", WidthPx: fleet.Of(1920), HeightPx: fleet.Of(1080),
			FpsMilli: fleet.Of(50_000), AudioCodec: "AAC", AudioProfile: "LC", Channels: fleet.Of(2), SampleRateHz: fleet.Of(48_000),
		},
	}
	if servers[at].product == "icecast" {
		s.key.App, s.tech, s.bps = "", fleet.TechIcecast, 192_000
		s.key.Name = "/" + name + ".aac"
		s.media = fleet.Media{AudioCodec: "AAC", Channels: fleet.Of(2), SampleRateHz: fleet.Of(44_100), DeclaredBps: fleet.Of(192_000)}
	} else if i%4 == 0 {
		s.tech = fleet.TechMixed
	}
	switch i % 19 {
	case 11:
		s.state, s.base = fleet.StateIdle, 3
	case 17:
		s.state, s.base = fleet.StateOffline, 0
	}
	return s
}

// noise is a number from 0 to 1 that follows from its arguments.
func noise(what string, n int64) float64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", what, n)
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// viewersAt is how many watch a stream at a moment.
func (s *stream) viewersAt(at time.Time) int64 {
	if s.state == fleet.StateOffline {
		return 0
	}
	day := float64(at.Unix()%86400) / 86400
	wave := 1 + 0.35*math.Sin(2*math.Pi*(day-0.3)) + 0.08*math.Sin(float64(at.Unix())/410+s.phase) + 0.03*math.Sin(float64(at.Unix())/67+2*s.phase)
	return int64(math.Round(s.base * wave))
}

func (s *stream) outBpsAt(at time.Time) int64 { return int64(float64(s.viewersAt(at)) * s.bps * 0.42) }

func (s *stream) inBpsAt(at time.Time) int64 {
	if s.state != fleet.StateOnline {
		return 0
	}
	return int64(s.bps * (0.97 + 0.05*math.Sin(float64(at.Unix())/31+s.phase)))
}

// tick is the end of the last interval at a moment.
func tick(at time.Time) time.Time { return at.Truncate(interval) }
