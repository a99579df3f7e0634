package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"vigil/fleet"
	"vigil/fleetsim"
	"vigil/lab"
	"vigil/media/mediatest"
	"vigil/wire"
)

// agentFor is how long the agent is watched after its first packet.
const agentFor = 2 * time.Minute

// agentBenchmark measures vigil-agent beside one nginx-rtmp server with 450 streams,
// asked every ten seconds. The server is emulated and the service takes everything at
// once, in this process.
func agentBenchmark(ctx context.Context, env *environment) (_ *result, err error) {
	r := newResult("agent")
	l, err := env.open(ctx, "agent")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sim := fleetsim.New(fleetsim.Config{Seed: 1, Servers: 1, Streams: streamsPerAgent, Start: time.Now().Add(-time.Hour), Mix: fleetsim.MixNginx})
	server := mediatest.New(mediatest.Options{Truth: sim.Server(0), Record: mediatest.RecordNothing})
	if err := server.Start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	taken := make(chan struct{}, 1_000)
	service, closeService, err := takeAll(taken)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeService()) }()
	tokenFile := filepath.Join(l.Dir(), "token")
	if err := os.WriteFile(tokenFile, []byte("bench\n"), 0o600); err != nil {
		return nil, err
	}
	a, err := l.NewAgent(lab.AgentOptions{
		Name: "bench", Service: service, TokenFile: tokenFile, Interval: packetInterval,
		Servers: []lab.MediaServer{{Name: "edge", Product: server.Product(), URL: server.URL()}},
	})
	if err != nil {
		return nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	d := agentFor
	if env.quick {
		d = 15 * time.Second
	}
	if err := awaitOne(ctx, taken); err != nil {
		return nil, err
	}
	if err := measureAgent(ctx, r, a, taken, d); err != nil {
		return nil, err
	}
	return r, a.Stop()
}

func measureAgent(ctx context.Context, r *result, a *lab.Agent, taken <-chan struct{}, d time.Duration) error {
	before, err := usageOf(a.Process().PID())
	if err != nil {
		return err
	}
	began := time.Now()
	packets := 0
	for time.Since(began) < d {
		if err := awaitOne(ctx, taken); err != nil {
			return err
		}
		packets++
	}
	after, err := usageOf(a.Process().PID())
	if err != nil {
		return err
	}
	cpu := after.cpu - before.cpu
	r.Figures["streams"] = streamsPerAgent
	r.Figures["packets"] = float64(packets)
	r.Figures["cpu_pct_of_a_core"] = 100 * cpu.Seconds() / time.Since(began).Seconds()
	r.Figures["cpu_ms_per_packet"] = milliseconds(cpu) / float64(packets)
	r.Figures["rss_mib"] = float64(after.rss) / (1 << 20)
	r.Figures["rss_peak_mib"] = float64(after.rssPeak) / (1 << 20)
	r.Ratios["cpu_over_goal"] = r.Figures["cpu_pct_of_a_core"] / 0.5
	r.Ratios["rss_over_goal"] = r.Figures["rss_mib"] / 30
	return nil
}

func awaitOne(ctx context.Context, taken <-chan struct{}) error {
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(3 * packetInterval):
		return fmt.Errorf("no packet for %v", 3*packetInterval)
	}
}

// takeAll is a service that makes nothing durable and says yes to everything: only the
// agent is measured.
func takeAll(taken chan<- struct{}) (url string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p, err := readPacket(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", wire.ContentTypeReceipt)
		_, _ = w.Write(wire.EncodeReceipt(&fleet.Receipt{Stored: p.ID.Seq, StoredKnown: true})) // the agent sends again when it does not come
		taken <- struct{}{}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() error {
		err := server.Close()
		if serveErr := <-ended; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	}, nil
}
