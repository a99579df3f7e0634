package mediatest

import (
	"vigil/fleetsim"
)

// world is what happened to an emulated server on top of its simulated truth. Events
// are kept with their times, so numbers stay exact integrals of the truth less what
// the events took away.
type world struct {
	restartMs int64 // last Restart, Unix ms; 0: none
	restarts  int
	reloadMs  int64 // last Reload (nginx)
	streams   map[*fleetsim.Stream][]outage
}

// outage is an interval in which nothing comes from the publisher of one stream.
type outage struct {
	from, to int64 // Unix ms; to is forever while it lasts
	gone     bool  // the publisher is not even connected
	replaced bool  // it came back as another connection
}

const forever = int64(1<<63 - 1)

func (w *world) calm() bool { return w.restartMs == 0 && w.reloadMs == 0 && len(w.streams) == 0 }

// Restart stops the server and starts it at once: all counters begin anew, all
// connections are made again.
func (e *Emulator) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.restart(e.nowMs())
}

func (e *Emulator) restart(atMs int64) {
	e.world.restartMs, e.world.reloadMs = atMs, 0
	e.world.restarts++
	clear(e.peaks)
}

// Reload is nginx's HUP: a new worker takes new connections and is the only one to
// answer; all sessions that were open stay with the old one, out of sight. A stream
// comes back into sight with its next publication. Icecast's reload changes nothing.
func (e *Emulator) Reload() {
	if e.Product() == fleetsim.ProductIcecast {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.world.reloadMs = e.nowMs()
	e.world.restarts++
}

// KillPublisher makes the publisher of a stream vanish until RevivePublisher.
func (e *Emulator) KillPublisher(st *fleetsim.Stream) { e.begin(st, true) }

// StallPublisher makes the publisher of a stream stay connected and send nothing,
// until RevivePublisher. Icecast disconnects it after 10 s.
func (e *Emulator) StallPublisher(st *fleetsim.Stream) { e.begin(st, false) }

// RevivePublisher ends what KillPublisher or StallPublisher began: a killed publisher
// comes back as a new connection, a stalled one goes on.
func (e *Emulator) RevivePublisher(st *fleetsim.Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	outages := e.world.streams[st]
	if n := len(outages); n > 0 && outages[n-1].to == forever {
		outages[n-1].to = e.nowMs()
		outages[n-1].replaced = outages[n-1].gone
	}
}

// ReplacePublisher kills the publisher and lets another one take over at once.
func (e *Emulator) ReplacePublisher(st *fleetsim.Stream) {
	e.KillPublisher(st)
	e.RevivePublisher(st)
}

func (e *Emulator) begin(st *fleetsim.Stream, gone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.world.streams == nil {
		e.world.streams = map[*fleetsim.Stream][]outage{}
	}
	outages := e.world.streams[st]
	now := e.nowMs()
	if n := len(outages); n > 0 && outages[n-1].to == forever {
		if outages[n-1].gone {
			return // there is no publisher to whom it could happen
		}
		outages[n-1].to = now
	}
	e.world.streams[st] = append(outages, outage{from: now, to: forever, gone: gone})
}

// bootMs is when the counters of the server began.
func (w *world) bootMs(boot fleetsim.Boot) int64 {
	return max(boot.StartMs, w.restartMs, w.reloadMs)
}
