package agent

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/media"
)

// pollShare is the part of an interval in which polls must end to be in its packet. A
// later answer is in the next one.
const pollShare = 0.9

// poll asks all media servers once per interval, and appends a packet.
func (a *Agent) poll(ctx context.Context) {
	var polls sync.WaitGroup
	defer polls.Wait() // every collector ends with ctx
	next := a.firstTick()
	timer := time.NewTimer(next)
	defer timer.Stop()
	due := a.deps.Mono() + next.Milliseconds()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		interval := a.interval()
		readings := a.pollOnce(ctx, &polls, time.Duration(float64(interval)*pollShare))
		if ctx.Err() == nil || len(readings) > 0 {
			a.record(readings)
		}
		// Ticks keep their place in time however long a poll took. After a pause of the whole
		// machine the missed ones are left out: their time is in the next snapshot.
		now := a.deps.Mono()
		for due <= now {
			due += interval.Milliseconds()
		}
		timer.Reset(time.Duration(due-now) * time.Millisecond)
	}
}

// firstTick spreads the agents of a fleet over the interval. The place of an agent is
// made from its name, so that a restart does not shift its samples.
func (a *Agent) firstTick() time.Duration {
	interval := a.interval().Milliseconds()
	h := fnv.New64a()
	_, _ = h.Write([]byte(a.cfg.Name)) // never fails
	place := int64(h.Sum64() % uint64(interval))
	wait := (place - a.deps.Now().UnixMilli()%interval + interval) % interval
	return time.Duration(wait) * time.Millisecond
}

// reading is what a poll gave, with the server it is of.
type reading struct {
	server *server
	said   *fleet.Reading
}

// pollOnce asks every server that is not still being asked, and returns what has been
// answered in time. One server that hangs costs the others nothing but that time.
func (a *Agent) pollOnce(ctx context.Context, polls *sync.WaitGroup, within time.Duration) []reading {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for _, s := range a.servers {
		if s.polling {
			continue
		}
		s.polling = true
		polls.Go(func() { s.readings <- s.collector.Collect(ctx) })
	}
	var done []reading
	late := false
	for _, s := range a.servers {
		var said *fleet.Reading
		if !late {
			select {
			case said = <-s.readings:
			case <-deadline.C:
				late = true
			case <-ctx.Done():
				late = true
			}
		}
		if said == nil {
			select {
			case said = <-s.readings:
			default:
				continue
			}
		}
		s.polling = false
		done = append(done, reading{s, said})
	}
	return done
}

// record turns readings into one packet in the spool.
func (a *Agent) record(readings []reading) {
	packet := &fleet.Packet{
		ID: fleet.PacketID{Agent: a.cfg.Name}, Boot: a.boot, AgentVersion: a.deps.Version, Host: a.deps.Host,
	}
	for _, r := range readings {
		r.said.Server.Key = r.server.cfg.Name
		snapshot := r.server.tracker.Step(r.said)
		snapshot.Server.Key = r.server.cfg.Name
		cleanSnapshot(&snapshot)
		a.noteServer(r.server, &snapshot)
		packet.Snapshots = append(packet.Snapshots, snapshot)
	}
	if len(packet.Snapshots) == 0 && len(a.servers) > 0 {
		return // everything is late: it will be in the next packet
	}
	a.append(packet)
}

func (a *Agent) interval() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return clampInterval(time.Duration(a.settings.IntervalMs) * time.Millisecond)
}

func clampInterval(d time.Duration) time.Duration {
	if d <= 0 {
		return 10 * time.Second
	}
	return min(max(d, minInterval), maxInterval)
}

// apply takes the settings that the service asks for. They hold until it asks for
// others; a restart begins with the configuration.
func (a *Agent) apply(want fleet.Settings) {
	own := clampInterval(a.cfg.Interval)
	a.mu.Lock()
	before := a.settings
	if want.IntervalMs > 0 {
		a.settings.IntervalMs = clampInterval(time.Duration(want.IntervalMs) * time.Millisecond).Milliseconds()
	} else {
		a.settings.IntervalMs = own.Milliseconds()
	}
	a.settings.ClientListEveryMs = max(0, want.ClientListEveryMs)
	after := a.settings
	a.mu.Unlock()
	if after == before {
		return
	}
	a.log.Info("settings changed by the service", "interval_ms", after.IntervalMs, "client_list_every_ms", after.ClientListEveryMs)
	if after.ClientListEveryMs == before.ClientListEveryMs {
		return
	}
	for _, s := range a.servers {
		every := s.cfg.ClientListEvery
		if after.ClientListEveryMs > 0 {
			every = max(minInterval, time.Duration(after.ClientListEveryMs)*time.Millisecond)
		}
		if lister, ok := s.collector.(media.ClientLister); ok {
			lister.SetClientListEvery(every)
		}
	}
}
