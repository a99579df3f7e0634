package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/node"
	"vigil/observe"
)

// Limits of a demo, so that it stays on one machine.
const (
	maxServers = 500
	maxStreams = 500_000 // in the whole fleet
	minFor     = 5 * time.Second
)

// Waits of a demo.
const (
	startWait = 30 * time.Second // for the node to be ready
	drainWait = 30 * time.Second // for all packets to be stored at the end
	stopWait  = 60 * time.Second // for the node to stop
)

// defaultPanel is where the panel listens when the port is free.
const defaultPanel = "127.0.0.1:8480"

// Options say what the demo runs.
type Options struct {
	Dir      string        // keeps the data here; empty: a temporary directory, removed at the end
	Servers  int           // 1 to 500
	Streams  int           // in the whole fleet, 1 to 500,000
	Seed     uint64        // of the simulated fleet
	Interval time.Duration // between two polls of a server, 1 s to 5 min
	Past     time.Duration // make so much history before it starts, up to 24 h; 0: none
	For      time.Duration // stop by itself after this time; 0: run until interrupted
	JSON     bool          // print one JSON object at the end and nothing else
	Real     bool          // real nginx-rtmp and Icecast instead of the simulated fleet
	Listen   string        // of the panel; empty: 127.0.0.1:8480, or a free port when that is taken
	Version  string        // shown in the panel

	Out io.Writer // for people and the JSON object
	Log *slog.Logger
}

// check returns the options with defaults filled in.
func (o Options) check() (Options, error) {
	invalid := func(hint, format string, args ...any) error {
		return &fleet.Error{Kind: fleet.KindInvalid, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	if o.Servers == 0 {
		o.Servers = 20
	}
	if o.Streams == 0 {
		o.Streams = 100 * o.Servers
	}
	if o.Interval == 0 {
		o.Interval = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = observe.Discard()
	}
	switch {
	case o.Servers < 1 || o.Servers > maxServers:
		return o, invalid("take 20, or fewer on a small machine", "a demo has 1 to %d servers, not %d", maxServers, o.Servers)
	case o.Streams < o.Servers || o.Streams > maxStreams:
		return o, invalid("take 100 for each server", "a demo of %d servers has %d to %d streams, not %d", o.Servers, o.Servers, maxStreams, o.Streams)
	case o.Interval < time.Second || o.Interval > 5*time.Minute:
		return o, invalid("take 2s", "the interval of a demo is 1s to 5m, not %v", o.Interval)
	case o.Past < 0 || o.Past > maxPast:
		return o, invalid("take 1h", "the past of a demo is 0s to %v, not %v", maxPast, o.Past)
	case o.Past > 0 && o.Real:
		return o, invalid("leave out one of the two", "real servers have no past")
	case o.For != 0 && o.For < minFor:
		return o, invalid("take 30s", "a demo runs for at least %v, not %v", minFor, o.For)
	}
	return o, nil
}

// source is a fleet of media servers with its agents.
type source interface {
	// start runs the media servers and hires an agent for each.
	start(ctx context.Context, to destination, c *crew) error
	// truth returns the bytes that truly left the servers while stored packets cover them,
	// by the name of the server and its agent; false when nobody knows.
	truth(stored map[string]span) (bytesOut int64, known bool)
	// close ends everything. It may be called at any time after start.
	close() error
}

// span is the time that the stored packets of one agent cover. Both ends are the moment
// at which an answer of its server had been read.
type span struct{ firstMs, lastMs int64 }

// destination is where agents send their packets, and their scratch space.
type destination struct {
	url       string
	tokenFile string
	dir       string // for spools
	interval  time.Duration
	log       *slog.Logger
}

// Run runs a demo until ctx ends or its time is over. It returns a *fleet.Error when
// anything was lost, doubled or wrong.
func Run(ctx context.Context, o Options) error {
	o, err := o.check()
	if err != nil {
		return err
	}
	began := time.Now()
	dir, cleanUp, err := directory(o.Dir)
	if err != nil {
		return err
	}
	defer cleanUp()
	d := &demo{o: o, dir: dir, began: began, health: health.New(time.Now)}
	if o.Real {
		d.source = newRealFleet(o)
	} else {
		d.source = newSimulatedFleet(o, began)
	}
	return d.run(ctx)
}

// directory returns where the data goes, and how to leave it behind.
func directory(wanted string) (dir string, cleanUp func(), err error) {
	if wanted != "" {
		dir, err := filepath.Abs(wanted)
		if err != nil {
			return "", nil, err
		}
		return dir, func() {}, os.MkdirAll(dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "vigil-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make a directory for the demo: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // a temporary directory; the system clears what is left
}

// demo is one running demo.
type demo struct {
	o      Options
	dir    string
	began  time.Time
	health *health.Registry
	source source
	crew   crew
	node   *node.Node
	login  credentials
	ages   ageWatch
}

func (d *demo) run(ctx context.Context) (err error) {
	cfg, err := d.configuration()
	if err != nil {
		return err
	}
	if d.login, err = prepare(ctx, cfg, d.dir); err != nil {
		return err
	}
	d.node, err = node.New(cfg, "", node.Deps{
		Log: d.o.Log.With("part", "service"), Metrics: observe.NewRegistry(), Health: d.health, Version: d.o.Version,
	})
	if err != nil {
		return err
	}
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.node.Run(nodeCtx) }()
	defer func() {
		stopNode()
		select {
		case nodeErr := <-ended:
			err = errors.Join(err, nodeErr)
		case <-time.After(stopWait):
			err = errors.Join(err, errors.New("the service did not stop in time"))
		}
	}()
	select {
	case <-d.node.Started():
	case nodeErr := <-ended:
		ended <- nil
		return fmt.Errorf("start the service: %w", nodeErr)
	case <-time.After(startWait):
		return fmt.Errorf("the service was not ready within %v", startWait)
	case <-ctx.Done():
		return nil
	}
	return d.watch(ctx)
}

// watch runs the fleet until the demo's time is over, and settles the account.
func (d *demo) watch(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.source.close()) }()
	err = d.source.start(ctx, destination{
		url:       "http://" + d.node.Address(config.RoleIngest).String(),
		tokenFile: d.login.tokenFile,
		dir:       filepath.Join(d.dir, "agents"),
		interval:  d.o.Interval,
		log:       d.o.Log,
	}, &d.crew)
	if err != nil {
		return err
	}
	d.crew.start(ctx)
	defer func() { err = errors.Join(err, d.crew.rest()) }()
	if !d.o.JSON {
		d.greet()
	}
	stopAges := d.ages.start(func() int64 { return d.node.Storage().Stats().NewestMs })
	wait(ctx, d.o.For)
	stopAges()

	// The account is settled even when the demo was interrupted.
	settleCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWait)
	defer cancel()
	result, err := d.settle(settleCtx)
	if err != nil {
		return err
	}
	if err := result.print(d.o.Out, d.o.JSON); err != nil {
		return err
	}
	return result.verdict()
}

// wait returns when ctx ends or after d, which is for ever when it is 0.
func wait(ctx context.Context, d time.Duration) {
	if d == 0 {
		<-ctx.Done()
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
