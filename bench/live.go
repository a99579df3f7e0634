package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vigil/lab"
)

// Sizes of the live benchmark.
const (
	liveAgents = 100
	liveFor    = 60 * time.Second
	liveEvery  = 50 * time.Millisecond
)

// liveBenchmark measures how far the page is behind, as a person would: log in, ask
// for /api/v1/servers, and see when each packet is shown, while 100 agents with 450
// streams each send every ten seconds.
func liveBenchmark(ctx context.Context, env *environment) (_ *result, err error) {
	r := newResult("live")
	l, err := env.open(ctx, "live")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := l.NewService(ctx, lab.ServiceOptions{})
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	client, err := s.Login(ctx)
	if err != nil {
		return nil, err
	}
	agents, d := liveAgents, liveFor
	if env.quick {
		agents, d = 5, 5*time.Second
	}
	w := &liveWatch{waiting: map[string][]sent{}}
	if err := w.run(ctx, s, client, agents, d); err != nil {
		return nil, err
	}
	r.Figures["agents"] = float64(agents)
	r.Figures["streams"] = float64(agents * streamsPerAgent)
	r.Figures["packets_shown"] = float64(len(w.delays))
	r.Figures["behind_p50_ms"] = milliseconds(percentile(w.delays, 50))
	r.Figures["behind_p99_ms"] = milliseconds(percentile(w.delays, 99))
	r.Figures["behind_max_ms"] = milliseconds(percentile(w.delays, 100))
	r.Ratios["behind_max_over_goal"] = milliseconds(percentile(w.delays, 100)) / 2000
	return r, s.Stop()
}

// liveWatch compares when each packet was sent with when the page first showed it or
// something newer of its server.
type liveWatch struct {
	mu      sync.Mutex
	waiting map[string][]sent // by server, oldest first; guarded by mu
	delays  []time.Duration   // from sending to showing
}

type sent struct {
	endMs int64 // of the packet's interval
	at    time.Time
}

func (w *liveWatch) run(ctx context.Context, s *lab.Service, client *lab.Client, agents int, d time.Duration) error {
	g, err := newGenerator(s, agents, time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var sendErr error
	var wg sync.WaitGroup
	wg.Go(func() { sendErr = w.send(ctx, g, agents) })
	lookErr := w.look(ctx, client)
	cancel()
	wg.Wait()
	if len(w.delays) == 0 {
		return errors.Join(sendErr, lookErr, errors.New("the page showed nothing new"))
	}
	return errors.Join(sendErr, lookErr)
}

// send spreads the agents evenly over the interval. Each packet ends at the moment at
// which it is sent.
func (w *liveWatch) send(ctx context.Context, g *generator, agents int) error {
	step := packetInterval / time.Duration(agents)
	tick := time.NewTicker(step)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		seq := uint64(n/agents) + 1
		g.startMs = now.UnixMilli() - int64(seq)*packetInterval.Milliseconds()
		body, id, err := g.packet(n%agents, seq)
		if err != nil {
			return err
		}
		w.mu.Lock()
		key := g.fleet.Server(n % agents).Key()
		w.waiting[key] = append(w.waiting[key], sent{endMs: now.UnixMilli(), at: now})
		w.mu.Unlock()
		wg.Go(func() { _ = g.send(context.WithoutCancel(ctx), body, id, now) }) // a packet that does not arrive is never shown
	}
}

// look asks for the page again and again.
func (w *liveWatch) look(ctx context.Context, client *lab.Client) error {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var page struct {
			Rows []lab.Server `json:"rows"`
		}
		if err := client.Get(ctx, "/api/v1/servers?limit=500", &page); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ask for the page: %w", err)
		}
		shown := time.Now()
		w.mu.Lock()
		for _, server := range page.Rows {
			rest := w.waiting[server.Key]
			for len(rest) > 0 && rest[0].endMs <= server.AtMs {
				w.delays = append(w.delays, shown.Sub(rest[0].at))
				rest = rest[1:]
			}
			w.waiting[server.Key] = rest
		}
		w.mu.Unlock()
	}
}
