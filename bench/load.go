package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vigil/failover"
	"vigil/fleet"
	"vigil/fleetsim"
	"vigil/lab"
	"vigil/wire"
)

// One generated agent is like one that watches a busy nginx-rtmp server every ten
// seconds.
const (
	streamsPerAgent = 450
	packetInterval  = 10 * time.Second
	senders         = 32 // requests under way at once
)

// generator makes the packets that a fleet's agents would send, with exact deltas of a
// simulated fleet, and sends them. Its work is not counted as the service's.
type generator struct {
	fleet   *fleetsim.Fleet
	codec   *wire.Codec
	client  *http.Client
	ingest  string
	token   string
	startMs int64
	epoch   uint64

	samples atomic.Int64 // acknowledged
	mu      sync.Mutex
	acks    []time.Duration // from the moment a packet was due until it was durable; guarded by mu
}

// newGenerator returns agents whose packets begin at the given time.
func newGenerator(s *lab.Service, agents int, start time.Time) (*generator, error) {
	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return nil, err
	}
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return &generator{
		fleet: fleetsim.New(fleetsim.Config{
			Seed: 1, Servers: agents, Streams: streamsPerAgent, Start: start.Add(-time.Hour), Mix: fleetsim.MixNginx, PlainNames: true,
		}),
		codec: codec, client: &http.Client{Transport: failover.PlainTransport(failover.PlainOptions{Timeout: time.Minute, MaxIdle: senders}), Timeout: time.Minute},
		ingest: s.Ingest, token: strings.TrimSpace(string(token)), startMs: start.UnixMilli(), epoch: uint64(start.UnixNano()),
	}, nil
}

// packet makes packet number seq (from 1) of an agent.
func (g *generator) packet(agent int, seq uint64) ([]byte, fleet.PacketID, error) {
	server := g.fleet.Server(agent)
	id := fleet.PacketID{Agent: "load-" + server.Key(), Epoch: g.epoch, Seq: seq}
	toMs := g.startMs + int64(seq)*packetInterval.Milliseconds()
	fromMs := toMs - packetInterval.Milliseconds()
	state, streams := server.State(toMs, nil)
	moved := server.Between(fromMs, toMs)
	snapshot := fleet.Snapshot{
		Server: fleet.ServerInfo{
			Key: server.Key(), Product: server.Product(), Version: "1.22.1", Collector: "load", Verified: "spec",
			StreamsNow: fleet.Of(int64(state.Streams)), ViewersNow: fleet.Of(int64(state.Viewers)),
		},
		Totals: fleet.Totals{BytesIn: fleet.Of(moved.WireIn), BytesOut: fleet.Of(moved.WireOut), ConnsAccepted: fleet.Of(moved.Accepted)},
		AtMs:   toMs, IntervalMs: packetInterval.Milliseconds(), CoveredMs: packetInterval.Milliseconds(),
		Status: fleet.StatusOK, LatencyMs: 3,
	}
	for _, st := range streams {
		sums := st.Stream.Between(fromMs, toMs)
		snapshot.Streams = append(snapshot.Streams, fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{
				Key:   fleet.StreamKey{Server: server.Key(), App: st.Stream.App(), Name: st.Stream.Name()},
				State: fleet.StateOnline, Tech: fleet.TechRTMP, Viewers: fleet.Of(int64(st.Viewers)), Publishers: fleet.Of(1),
				OnlineSinceMs: fleet.Of(st.Publication.StartMs),
				Media:         fleet.Media{VideoCodec: "H264", AudioCodec: "AAC", WidthPx: fleet.Of(1280), HeightPx: fleet.Of(720)},
			},
			BytesIn: fleet.Of(sums.BytesIn), BytesOut: fleet.Of(sums.BytesOut), FramesDropped: fleet.Of(0),
		})
	}
	body, err := g.codec.Encode(&fleet.Packet{ID: id, FirstSeq: seq, Boot: 1, AgentVersion: "load", Host: "load", Snapshots: []fleet.Snapshot{snapshot}})
	return body, id, err
}

// send sends one packet until it is durable, as an agent would.
func (g *generator) send(ctx context.Context, body []byte, id fleet.PacketID, due time.Time) error {
	for {
		again, err := g.try(ctx, body, id)
		if err != nil {
			return err
		}
		if !again {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	g.samples.Add(streamsPerAgent)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acks = append(g.acks, time.Since(due))
	return nil
}

func (g *generator) try(ctx context.Context, body []byte, id fleet.PacketID) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.ingest+wire.PacketPath, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set("Content-Type", wire.ContentTypePacket)
	req.Header.Set(wire.HeaderIdempotencyKey, id.String())
	req.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", 1))
	resp, err := g.client.Do(req)
	if err != nil {
		return false, err
	}
	answer, readErr := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err := errors.Join(readErr, resp.Body.Close()); err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return false, nil
	case http.StatusServiceUnavailable:
		return true, nil
	}
	return false, fmt.Errorf("packet %v: %s: %s", id, resp.Status, answer)
}

// run sends packets for a time. With a rate of stream samples per second each packet has
// a moment at which it is due, whatever became of the one before; with rate 0 as many
// as the service takes.
func (g *generator) run(ctx context.Context, d time.Duration, rate float64) error {
	began := time.Now()
	deadline := began.Add(d)
	var next atomic.Int64
	errs := make(chan error, senders)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() { errs <- g.sender(ctx, &next, began, deadline, rate) })
	}
	wg.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

func (g *generator) sender(ctx context.Context, next *atomic.Int64, began, deadline time.Time, rate float64) error {
	agents := int64(g.fleet.Servers())
	for {
		n := next.Add(1) - 1
		due := time.Now()
		if rate > 0 {
			due = began.Add(time.Duration(float64(n*streamsPerAgent) / rate * float64(time.Second)))
		}
		if due.After(deadline) {
			return nil
		}
		body, id, err := g.packet(int(n%agents), uint64(n/agents)+1)
		if err != nil {
			return err
		}
		time.Sleep(time.Until(due))
		if rate == 0 {
			due = time.Now()
		}
		if err := g.send(ctx, body, id, due); err != nil {
			return err
		}
	}
}

// percentile returns the p-th percentile (0 to 100) of the acknowledgements.
func (g *generator) percentile(p float64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return percentile(g.acks, p)
}

func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p/100))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
