package mediatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"vigil/fleetsim"
)

// Limits of an emulator.
const (
	defaultMaxPolls = 10_000
	defaultStallFor = 30 * time.Second
	shutdownWait    = time.Second
)

// Record says how much of each answer is remembered.
type Record uint8

// The amounts.
const (
	RecordServer  Record = iota // the server's numbers
	RecordStreams               // and those of every stream
	RecordNothing
)

// Options describe an emulated server.
type Options struct {
	Truth *fleetsim.Server // required: decides product and numbers
	Now   func() time.Time // time.Now when nil
	// Username and Password protect the pages of Icecast's administrator (admin and
	// hackme when empty) and, when Username is set, nginx's statistics.
	Username, Password string
	// StepMs makes Icecast's byte counters move in steps of about so many ms, as the
	// real one's do (5,000). 0: at every instant.
	StepMs int64
	// Workers is the number of worker processes of nginx, 1 or 2. With 2 each answer
	// shows one of them in turn: publishers are on the first, and the viewers of every
	// second stream wait on the other one, where nothing comes.
	Workers  int
	Record   Record
	MaxPolls int           // answers remembered, the oldest are forgotten first; default 10,000
	StallFor time.Duration // how long FaultStall says nothing; default 30 s
}

// Emulator is one emulated media server. All methods are safe for concurrent use.
type Emulator struct {
	opts    Options
	truth   *fleetsim.Server
	closing chan struct{}

	closeOnce sync.Once

	listenMu sync.Mutex
	server   *http.Server
	url      string

	mu        sync.Mutex // guards what follows; held while an answer is made, not while it is sent
	faults    Fault
	nextN     int
	next      Fault
	skew      time.Duration
	workers   int
	world     world
	peaks     map[*fleetsim.Stream]peak
	asked     int64 // requests so far
	polls     []Poll
	forgot    int64 // records before polls[0]
	pageBytes int   // how large pages have been
	scratch   []fleetsim.StreamState
	sessions  []fleetsim.Session
}

// New returns an emulator of the product of opts.Truth. It does not listen: see Start.
func New(opts Options) *Emulator {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxPolls <= 0 {
		opts.MaxPolls = defaultMaxPolls
	}
	if opts.StallFor <= 0 {
		opts.StallFor = defaultStallFor
	}
	if opts.Truth.Product() == fleetsim.ProductIcecast && opts.Username == "" {
		opts.Username, opts.Password = "admin", "hackme"
	}
	return &Emulator{
		opts:    opts,
		truth:   opts.Truth,
		closing: make(chan struct{}),
		workers: min(max(opts.Workers, 1), 2),
		peaks:   map[*fleetsim.Stream]peak{},
	}
}

// Truth returns the simulated server behind the emulator.
func (e *Emulator) Truth() *fleetsim.Server { return e.truth }

// Product returns the name of the emulated product.
func (e *Emulator) Product() string { return e.truth.Product() }

// Credentials returns what the pages ask for; empty when they are open.
func (e *Emulator) Credentials() (username, password string) {
	return e.opts.Username, e.opts.Password
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (e *Emulator) Start() error {
	server, url, err := serve(e)
	if err != nil {
		return fmt.Errorf("start emulator %s: %w", e.truth.Key(), err)
	}
	e.listenMu.Lock()
	defer e.listenMu.Unlock()
	e.server, e.url = server, url
	return nil
}

// URL is where a collector polls, as it is written in the agent's configuration: the
// statistics page of nginx, the root of Icecast. Empty before Start.
func (e *Emulator) URL() string {
	e.listenMu.Lock()
	defer e.listenMu.Unlock()
	return pollURL(e.url, e.Product())
}

func pollURL(base, product string) string {
	if base == "" || product == fleetsim.ProductIcecast {
		return base
	}
	return base + "/stat"
}

// Close ends stalls and stops listening. Answers that are being sent are cut.
func (e *Emulator) Close() error {
	e.closeOnce.Do(func() { close(e.closing) })
	e.listenMu.Lock()
	defer e.listenMu.Unlock()
	return stop(e.server)
}

func serve(h http.Handler) (*http.Server, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close; its error says only that
	return server, "http://" + listener.Addr().String(), nil
}

func stop(server *http.Server) error {
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}

// SetFault makes all answers from now on faulty; 0 heals the server. Faults may be
// combined with |.
func (e *Emulator) SetFault(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults, e.nextN = f, 0
}

// FailNext makes the next n answers faulty, in addition to SetFault.
func (e *Emulator) FailNext(n int, f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextN, e.next = n, f
}

// SetSkew moves the clock that the server shows (Date, start times) against the true
// one. Durations stay true.
func (e *Emulator) SetSkew(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skew = d
}

// SetWorkers changes the number of worker processes of nginx, 1 or 2.
func (e *Emulator) SetWorkers(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.workers = min(max(n, 1), 2)
}

func (e *Emulator) nowMs() int64 { return e.opts.Now().UnixMilli() }
