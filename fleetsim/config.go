package fleetsim

import (
	"sync"
	"time"
)

// Limits and defaults of a fleet.
const (
	defaultDay     = 24 * time.Hour
	defaultWatch   = 10 * time.Minute
	defaultViewers = 2000
	minDay         = time.Second
	maxServers     = 100_000
	maxStreams     = 10_000
	// historyDays is how long before Config.Start the closed forms are valid. Servers
	// boot up to historyDays-2 days before the start.
	historyDays = 32
)

// Mix says which products the servers of a fleet are.
type Mix uint8

// The mixes.
const (
	MixBoth    Mix = iota // four nginx-rtmp, then one icecast, and so on
	MixNginx              // nginx-rtmp only
	MixIcecast            // icecast only
)

// Names of the products, as used by collectors and configuration.
const (
	ProductNginx   = "nginx-rtmp"
	ProductIcecast = "icecast"
)

// Config describes a fleet. Values out of range are moved to the nearest allowed
// one; the zero value of each field is a sensible choice.
type Config struct {
	Seed    uint64
	Servers int // 1 to 100,000
	Streams int // per server, 1 to 10,000; how many are on air at once depends on Churn
	// Start is where the story begins. Servers have been up for a while by then.
	// Nothing is defined earlier than a day before it.
	Start time.Time
	Mix   Mix
	// Viewers is the audience of one server at the peak of its day, while all streams
	// are on air; half to one and a half times that, by server. Default 2,000.
	// A negative number means none.
	Viewers int
	// Churn makes two streams of three come and go. Without it all publish for ever.
	Churn bool
	// Day is the length of the simulated day (audience curve, publications). Default
	// 24 h; a short one makes much happen in a short test.
	Day time.Duration
	// Watch is the mean time that a viewer stays; single ones stay from a twentieth of
	// it to four times as long. Default 10 min, scaled with Day.
	Watch time.Duration
	// RestartEvery makes each server restart so often, staggered evenly over the fleet,
	// and stay down for RestartDown. 0: never.
	RestartEvery time.Duration
	RestartDown  time.Duration
	// Flash is a flash crowd on the first stream of one server; nil: none.
	Flash *Flash
	// PlainNames gives all streams ASCII names that no format needs to escape. By
	// default every fourth server has a handful of names that are not, two of which
	// nginx-rtmp cannot tell apart.
	PlainNames bool
}

// Flash is a flash crowd: Viewers people come evenly within Ramp, stay for Hold, and
// leave evenly within Decay.
type Flash struct {
	Server  int
	At      time.Time
	Viewers int
	Ramp    time.Duration // default 60 s
	Hold    time.Duration // default 10 min
	Decay   time.Duration // default 10 min
}

// Fleet is the whole simulation.
type Fleet struct {
	cfg     Config
	day     int64 // ms
	watch   int64 // ms
	start   int64 // Unix ms
	origin  int64 // Unix ms; all closed forms count from here
	video   []Media
	audio   []Media
	servers []lazyServer
}

type lazyServer struct {
	once   sync.Once
	server *Server
}

// New returns the fleet that cfg describes. Servers are made when first asked for.
func New(cfg Config) *Fleet {
	cfg = withDefaults(cfg)
	f := &Fleet{
		cfg:     cfg,
		day:     cfg.Day.Milliseconds(),
		watch:   max(cfg.Watch.Milliseconds(), 20),
		start:   cfg.Start.UnixMilli(),
		video:   videoMedia(),
		audio:   audioMedia(),
		servers: make([]lazyServer, cfg.Servers),
	}
	f.origin = f.start - historyDays*f.day
	return f
}

func withDefaults(cfg Config) Config {
	cfg.Servers = min(max(cfg.Servers, 1), maxServers)
	cfg.Streams = min(max(cfg.Streams, 1), maxStreams)
	if cfg.Start.IsZero() {
		cfg.Start = time.UnixMilli(1_800_000_000_000)
	}
	if cfg.Viewers == 0 {
		cfg.Viewers = defaultViewers
	}
	cfg.Viewers = max(cfg.Viewers, 0)
	if cfg.Day == 0 {
		cfg.Day = defaultDay
	}
	cfg.Day = max(cfg.Day, minDay)
	if cfg.Watch <= 0 {
		cfg.Watch = time.Duration(int64(defaultWatch) / 1000 * int64(cfg.Day/time.Millisecond) / int64(defaultDay/time.Second))
	}
	cfg.RestartDown = max(cfg.RestartDown, 0)
	if cfg.RestartEvery > 0 {
		cfg.RestartEvery = max(cfg.RestartEvery, 2*cfg.RestartDown, time.Second)
	}
	if cfg.Flash != nil {
		flash := *cfg.Flash
		flash.Ramp = orDefault(flash.Ramp, time.Minute)
		flash.Hold = orDefault(flash.Hold, 10*time.Minute)
		flash.Decay = orDefault(flash.Decay, 10*time.Minute)
		flash.Viewers = max(flash.Viewers, 0)
		cfg.Flash = &flash
	}
	return cfg
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// Config returns the configuration with all defaults filled in.
func (f *Fleet) Config() Config { return f.cfg }

// Servers returns the number of servers.
func (f *Fleet) Servers() int { return len(f.servers) }

// StartMs returns Config.Start.
func (f *Fleet) StartMs() int64 { return f.start }

// Server returns the i-th server, 0 <= i < Servers.
func (f *Fleet) Server(i int) *Server {
	slot := &f.servers[i]
	slot.once.Do(func() { slot.server = newServer(f, i) })
	return slot.server
}
