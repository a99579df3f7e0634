// Package bus is the one door to NATS: a server with JetStream inside this process,
// and the few operations that the rest of Vigil needs from it: durable streams and
// small key-value buckets.
//
// A publish or a put that returns nil is on disk: every bus runs with fsync after
// every write. A disk that fails is not trusted again by itself: the server stops
// taking writes, the bus says so in a health condition, and begins again only after a
// test write succeeded and the page cache was dropped, so that what it then believes
// is what the disk holds.
//
// A Bus owns a directory (it holds a lock on it) and all goroutines of the server in
// it. It listens on no port: the clients in this process use pipes. Several buses may
// live in one process, each with its own directory. All methods are safe for
// concurrent use.
package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"vigil/durable"
	"vigil/health"
	"vigil/observe"
)

// Limits of a bus.
const (
	// MaxMessageBytes is the largest message a stream takes.
	MaxMessageBytes = 12 << 20

	maxMemoryBytes      = 64 << 20 // of JetStream outside its files: state of consumers
	maxQueuedMessages   = 4_096    // publishes waiting inside one stream
	maxQueuedBytes      = 64 << 20
	maxConnections      = 256
	unlimitedStoreBytes = 1 << 50 // the server wants a number

	openTimeout     = 60 * time.Second // a large journal after a power cut takes a while
	requestTimeout  = 5 * time.Second  // for calls whose context has no deadline
	reconnectWait   = 50 * time.Millisecond
	closeFlushLimit = 2 * time.Second
)

// Errors of this package.
var (
	// ErrClosed means that the bus was closed.
	ErrClosed = errors.New("bus: closed")
	// ErrUnavailable means that the server did not do it in time or is not able to; what
	// was asked may or may not have happened.
	ErrUnavailable = errors.New("bus: unavailable")
	// ErrFull means that the stream has no room and nothing was stored.
	ErrFull = errors.New("bus: stream is full")
	// ErrTooLarge means that the message is over the limit of the stream.
	ErrTooLarge = errors.New("bus: message is too large")
	// ErrMissing means that there is no such key or message.
	ErrMissing = errors.New("bus: missing")
	// ErrRevision means that the key was changed by somebody else, or exists.
	ErrRevision = errors.New("bus: revision does not match")
)

// Options say how a bus runs.
type Options struct {
	Name          string           // of this node: letters, digits, dash and underscore
	Dir           string           // everything lives below; made when it is not there
	MaxStoreBytes int64            // of all streams and buckets together; 0: no limit but the disk
	Log           *slog.Logger     // nil: silent
	Health        *health.Registry // nil: nobody is told
	Metrics       *observe.Registry
}

// Bus is a running server and a connection to it.
type Bus struct {
	options   Options
	log       *slog.Logger
	startTook time.Duration
	lock      io.Closer
	srv       *server.Server
	conn      *nats.Conn
	js        jetstream.JetStream
	metrics   *metrics

	stop    context.CancelFunc // ends watch
	watcher sync.WaitGroup

	closeOnce sync.Once
	closeErr  error

	mu    sync.Mutex
	conns []*nats.Conn // guarded by mu; one per open stream, closed with the bus
	done  bool         // guarded by mu
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Open starts the server and waits until it serves. It fails when another process has
// the directory open.
func Open(ctx context.Context, o Options) (*Bus, error) {
	return open(ctx, o, watchTiming{every: watchEvery, confirm: confirmFor, backoff: restartBackoff})
}

func open(ctx context.Context, o Options, timing watchTiming) (*Bus, error) {
	if !namePattern.MatchString(o.Name) {
		return nil, fmt.Errorf("bus name %q: want letters, digits, dash, underscore", o.Name)
	}
	if o.Dir == "" {
		return nil, errors.New("bus: no directory")
	}
	if err := durable.OS().MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make bus directory: %w", err)
	}
	lock, err := durable.Lock(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock bus directory: %w", err)
	}
	b := &Bus{options: o, log: o.Log, lock: lock, metrics: newMetrics(o.Metrics)}
	if b.log == nil {
		b.log = observe.Discard()
	}
	if err := b.start(ctx); err != nil {
		b.shutdown()
		return nil, err
	}
	watchCtx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.watcher.Go(func() { b.watch(watchCtx, timing) })
	return b, nil
}

func (b *Bus) start(ctx context.Context) error {
	began := time.Now()
	srv, err := server.NewServer(b.serverOptions())
	if err != nil {
		return fmt.Errorf("configure bus: %w", err)
	}
	b.srv = srv
	srv.SetLoggerV2(&serverLog{log: b.log}, b.log.Enabled(ctx, slog.LevelDebug), false, false)
	srv.Start()
	if !srv.ReadyForConnections(timeLeft(ctx, openTimeout)) {
		return fmt.Errorf("start bus: %w", ErrUnavailable)
	}
	if !srv.JetStreamEnabled() {
		return fmt.Errorf("start storage of bus: %w", ErrUnavailable)
	}
	if b.conn, err = b.connect("bus"); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.conn, jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		return fmt.Errorf("use bus: %w", err)
	}
	if _, err = b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("ask bus: %w", err)
	}
	b.startTook = time.Since(began)
	b.metrics.startSeconds.Set(b.startTook.Seconds())
	b.log.Info("bus started", "took_ms", b.startTook.Milliseconds(), "dir", b.options.Dir)
	return nil
}

func (b *Bus) serverOptions() *server.Options {
	store := b.options.MaxStoreBytes
	if store <= 0 {
		store = unlimitedStoreBytes
	}
	return &server.Options{
		ServerName:             b.options.Name,
		DontListen:             true,
		NoSigs:                 true,
		NoSystemAccount:        true,
		MaxConn:                maxConnections,
		MaxPayload:             MaxMessageBytes + headerRoomBytes,
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               b.options.Dir,
		JetStreamMaxMemory:     maxMemoryBytes,
		JetStreamMaxStore:      store,
		StreamMaxBufferedMsgs:  maxQueuedMessages,
		StreamMaxBufferedSize:  maxQueuedBytes,
		SyncAlways:             true,
	}
}

// connect makes one more connection through a pipe. It lasts until the bus closes.
func (b *Bus) connect(name string) (*nats.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil, ErrClosed
	}
	conn, err := nats.Connect("", nats.InProcessServer(b.srv), nats.Name(name), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			b.log.Debug("bus connection", "name", name, "error", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to bus: %w", err)
	}
	b.conns = append(b.conns, conn)
	return conn, nil
}

// Close ends the connections and then the server, and returns when all files are
// closed. It may be called more than once.
func (b *Bus) Close() error {
	b.closeOnce.Do(func() {
		b.stop()
		b.watcher.Wait()
		b.shutdown()
		b.log.Info("bus stopped")
	})
	return b.closeErr
}

func (b *Bus) shutdown() {
	b.mu.Lock()
	b.done = true
	conns := b.conns
	b.conns = nil
	b.mu.Unlock()
	for _, conn := range conns {
		_ = conn.FlushTimeout(closeFlushLimit) // what was published got its answer or will be retried
		conn.Close()
	}
	if b.srv != nil {
		b.srv.Shutdown()
		b.srv.WaitForShutdown()
	}
	if err := b.lock.Close(); err != nil {
		b.closeErr = fmt.Errorf("unlock bus directory: %w", err)
	}
}

// StartTook is how long Open took until the server answered.
func (b *Bus) StartTook() time.Duration { return b.startTook }

// timeLeft is the time until ctx ends, at most limit.
func timeLeft(ctx context.Context, limit time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(limit, time.Until(deadline))
	}
	return limit
}
