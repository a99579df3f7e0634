package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/fleetsim"
	"vigil/media/mediatest"
)

// Limits of a stage.
const (
	startTogether = 8                // agents started at the same time
	drainTimeout  = 3 * time.Minute  // agents wait up to a minute before they try again
	settleTimeout = 90 * time.Second // from applied to shown by pages
)

// StageOptions describe a stage.
type StageOptions struct {
	Agents   int
	Streams  int // of each agent's media server
	Swarm    int // senders of packets as fast as they are taken
	Interval time.Duration
	Seed     uint64
	DataDir  string   // of the service; its own when empty
	SpoolDir string   // the parent of the agents' spools; their own when empty
	Set      []string // of the service
}

// Stage is a service and agents beside emulated media servers whose every answer is
// remembered. All packets pass a recorder.
type Stage struct {
	Service  *Service
	Agents   []*Agent
	Recorder *Recorder
	Farm     *mediatest.Farm
	Swarm    *Swarm // nil when there is none
}

// NewStage starts everything and waits until every agent had a packet acknowledged.
func (l *Lab) NewStage(ctx context.Context, o StageOptions) (*Stage, error) {
	world := fleetsim.New(fleetsim.Config{
		Seed: o.Seed, Servers: o.Agents, Streams: o.Streams, Start: time.Now(), Mix: fleetsim.MixNginx, Viewers: 200,
	})
	s := &Stage{Farm: mediatest.NewFarm(world, mediatest.Options{})}
	if err := s.Farm.Start(); err != nil {
		return nil, err
	}
	l.closeLater(s.Farm.Close)
	var err error
	if s.Service, err = l.NewService(ctx, ServiceOptions{DataDir: o.DataDir, Set: o.Set}); err != nil {
		return nil, err
	}
	if err := s.Service.Start(ctx); err != nil {
		return nil, err
	}
	if s.Recorder, err = l.NewRecorder(ctx, s.Service.Ingest); err != nil {
		return nil, err
	}
	for i := range o.Agents {
		key := world.Server(i).Key()
		options := AgentOptions{
			Name: "agent-" + key, Service: s.Recorder.URL, TokenFile: s.Service.TokenFile, Interval: o.Interval,
			Servers: []MediaServer{{Name: key, Product: world.Server(i).Product(), URL: s.Farm.URL(i)}},
		}
		if o.SpoolDir != "" {
			options.SpoolDir = filepath.Join(o.SpoolDir, key)
		}
		agent, err := l.NewAgent(options)
		if err != nil {
			return nil, err
		}
		s.Agents = append(s.Agents, agent)
	}
	if err := s.StartAgents(ctx, s.Agents); err != nil {
		return nil, err
	}
	if o.Swarm > 0 {
		if s.Swarm, err = s.NewSwarm(ctx, l, o.Swarm, o.Seed); err != nil {
			return nil, err
		}
	}
	return s, s.AwaitAcknowledged(ctx, time.Now())
}

// StartAgents starts agents, some at the same time.
func (s *Stage) StartAgents(ctx context.Context, agents []*Agent) error {
	return together(agents, func(a *Agent) error { return a.Start(ctx) })
}

func together(agents []*Agent, do func(*Agent) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(agents))
	room := make(chan struct{}, startTogether)
	for i, a := range agents {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			errs[i] = do(a)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// AwaitAcknowledged waits until every agent had a packet acknowledged after a moment.
func (s *Stage) AwaitAcknowledged(ctx context.Context, after time.Time) error {
	return Await(ctx, drainTimeout, "every agent is heard", func(context.Context) error {
		heard := map[string]bool{}
		for _, e := range s.Recorder.Entries() {
			heard[e.ID.Agent] = heard[e.ID.Agent] || e.AckedMs >= after.UnixMilli()
		}
		for _, a := range s.Agents {
			if !heard[a.Name] {
				return fmt.Errorf("%s was not acknowledged", a.Name)
			}
		}
		return nil
	})
}

// Pages says how much pages must show before they are read.
type Pages int

// What is read of pages, whose newest buckets come late.
const (
	NoPages   Pages = iota
	SomePages       // when they show half of the time
	AllPages        // when they show everything: up to a minute later
)

// Settle ends the load: every agent sends what it has and stops. A restart of the service
// makes it apply all that is in its journal. Then it reads pages, stops the service, and
// compares all books. The service may be started again afterwards.
func (s *Stage) Settle(ctx context.Context, pages Pages) (*Audit, error) {
	s.Recorder.SetFault(nil)
	if s.Swarm != nil {
		if err := s.Swarm.Stop(ctx); err != nil {
			return nil, err
		}
	}
	if err := together(s.Agents, func(a *Agent) error {
		return errors.Join(a.AwaitDrained(ctx, drainTimeout), a.Stop())
	}); err != nil {
		return nil, err
	}
	if err := s.restartAndApply(ctx); err != nil {
		return nil, err
	}
	books := &Books{Entries: s.Recorder.Entries(), Said: map[string][]mediatest.Poll{}}
	for _, e := range s.Farm.Emulators() {
		books.Said[e.Truth().Key()] = e.Polls()
	}
	var err error
	if pages != NoPages {
		oldest, newest := spanOf(books.Entries)
		if pages == SomePages {
			newest = (oldest + newest) / 2
		}
		if books.Pages, err = s.readPages(ctx, newest); err != nil {
			return nil, err
		}
	}
	if err := s.Service.Stop(); err != nil {
		return nil, err
	}
	if books.Ledger, err = s.Service.ReadLedger(ctx); err != nil {
		return nil, err
	}
	return books.Audit(), s.Recorder.Err()
}

// restartAndApply restarts the service and waits until it has applied what its journal
// had at the start, which its log says.
func (s *Stage) restartAndApply(ctx context.Context) error {
	if err := s.Service.Restart(ctx); err != nil {
		return err
	}
	return Await(ctx, startTimeout, "the journal is applied", func(context.Context) error {
		if !strings.Contains(s.Service.Process().Output(), "storage has caught up with the journal") {
			return errors.New("the log does not say so")
		}
		return nil
	})
}

// spanOf returns the ends of the oldest and the newest interval.
func spanOf(entries []Entry) (oldestMs, newestMs int64) {
	for _, e := range entries {
		for i := range e.Packet.Snapshots {
			at := e.Packet.Snapshots[i].AtMs
			newestMs = max(newestMs, at)
			if oldestMs == 0 || at < oldestMs {
				oldestMs = at
			}
		}
	}
	return oldestMs, newestMs
}

// readPages reads what pages show of the fleet and of every server, when that covers
// everything up to an instant.
func (s *Stage) readPages(ctx context.Context, upToMs int64) ([]PageSum, error) {
	client, err := s.Service.Login(ctx)
	if err != nil {
		return nil, err
	}
	var pages []PageSum
	err = Await(ctx, settleTimeout, "pages show everything", func(ctx context.Context) error {
		page, err := client.PageSum(ctx, "")
		if err == nil && page.ToMs < upToMs {
			err = fmt.Errorf("the page ends %d ms too early", upToMs-page.ToMs)
		}
		if err != nil {
			// Pages are whole buckets: there is nothing new for a while.
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			return err
		}
		pages = []PageSum{page}
		return nil
	})
	for _, e := range s.Farm.Emulators() {
		if err != nil {
			return nil, err
		}
		var page PageSum
		page, err = client.PageSum(ctx, e.Truth().Key())
		pages = append(pages, page)
	}
	return pages, err
}

// BlowKind is what goes wrong.
type BlowKind string

// The blows.
const (
	KillAgent    BlowKind = "kill -9 an agent"
	KillService  BlowKind = "kill -9 the service"
	KillBoth     BlowKind = "kill -9 the service and an agent"
	KillTwo      BlowKind = "kill -9 two agents"
	KillStarting BlowKind = "kill -9 the service, and again while it starts"
	FreezeAgent  BlowKind = "freeze an agent"
	FreezeBoth   BlowKind = "freeze the service, kill -9 an agent"
	FreezeKill   BlowKind = "freeze the service, then kill -9 it"
	StopService  BlowKind = "stop the service in order"
)

// Blow is one fault at one moment.
type Blow struct {
	Kind   BlowKind
	Agents [2]int        // whom it hits
	After  time.Duration // since the one before was healed
	Hold   time.Duration // until it is healed
	Again  time.Duration // between two kills
}

// PlanBlows draws blows. The same seed gives the same ones. Every kind comes up before any
// comes up again.
func PlanBlows(seed uint64, n, agents int) []Blow {
	random := rand.New(rand.NewPCG(seed, 1))
	kinds := []BlowKind{KillAgent, KillService, KillBoth, KillTwo, KillStarting, FreezeAgent, FreezeBoth, FreezeKill, StopService}
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	blows := make([]Blow, n)
	for i := range blows {
		if i%len(kinds) == 0 {
			random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		}
		first, hold := random.IntN(agents), time.Second
		if i >= len(kinds) && random.IntN(8) == 0 {
			hold *= 12 // longer than any time-out of a request
		}
		blows[i] = Blow{
			Kind: kinds[i%len(kinds)], Agents: [2]int{first, (first + 1 + random.IntN(agents-1)) % agents},
			After: upTo(1500 * time.Millisecond), Hold: upTo(hold), Again: upTo(700 * time.Millisecond),
		}
	}
	return blows
}

// Strike does what the blow says, and heals it.
func (s *Stage) Strike(ctx context.Context, b Blow) error {
	one, two := s.Agents[b.Agents[0]], s.Agents[b.Agents[1]]
	if err := rest(ctx, b.After); err != nil {
		return err
	}
	var err error
	switch b.Kind {
	case KillAgent:
		one.Kill()
	case KillService:
		s.Service.Kill()
	case KillBoth:
		s.Service.Kill()
		one.Kill()
	case KillTwo:
		one.Kill()
		two.Kill()
	case KillStarting:
		s.Service.Kill()
		err = errors.Join(s.Service.Launch(), rest(ctx, b.Again))
		s.Service.Kill()
	case FreezeAgent:
		err = errors.Join(one.Freeze(), rest(ctx, b.Hold), one.Thaw())
	case FreezeBoth:
		err = errors.Join(s.Service.Freeze(), rest(ctx, b.Again))
		one.Kill()
		err = errors.Join(err, rest(ctx, b.Hold), s.Service.Thaw())
	case FreezeKill:
		err = errors.Join(s.Service.Freeze(), rest(ctx, b.Hold))
		s.Service.Kill()
	case StopService:
		err = s.Service.Stop()
	default:
		err = fmt.Errorf("there is no blow %q", b.Kind)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Kind, err)
	}
	if err := rest(ctx, b.Hold); err != nil {
		return err
	}
	return s.Heal(ctx)
}

// Heal starts everything that does not run.
func (s *Stage) Heal(ctx context.Context) error {
	if !s.Service.Process().Running() {
		if err := s.Service.Start(ctx); err != nil {
			return err
		}
	}
	return s.StartAgents(ctx, slices.DeleteFunc(slices.Clone(s.Agents), func(a *Agent) bool { return a.Process().Running() }))
}

// Weather makes the recorder cut, lose and double some packets by seed: once in so many.
func (s *Stage) Weather(seed uint64, onceIn int) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 2))
	s.Recorder.SetFault(func(fleet.PacketID) Fault {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(onceIn) > 0 {
			return Pass
		}
		return Fault(1 + random.IntN(int(Double)))
	})
}

// rest waits, unless ctx ends before.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
