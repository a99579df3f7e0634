package fleetsim

import (
	"fmt"
	"math"
	"sync/atomic"
)

// Bytes that only a server's own totals show.
const (
	rtmpHandshakeBytes = 3073 // C0+C1+C2, and the same back
	httpHeaderBytes    = 420
	overheadPermille   = 14 // chunk headers, acknowledgements
)

// Server is one media server of the fleet.
type Server struct {
	fleet     *Fleet
	index     int
	seed      uint64
	key       string
	product   string
	anchor    int64 // where in a day the days of this server's streams begin, ms
	firstBoot int64 // Unix ms
	firstDown int64 // Unix ms; math.MaxInt64 when it never restarts
	streams   []*Stream
	atBoot    atomic.Pointer[bootTallies]
}

// bootTallies remembers what State needs of the current boot. It is derived data: a
// lost or repeated computation changes nothing.
type bootTallies struct {
	boot    Boot
	tallies []tally // of each stream at boot.StartMs, less the connections that came back then
}

func newServer(f *Fleet, i int) *Server {
	seed := hash2(f.cfg.Seed, uint64(i)+1)
	s := &Server{fleet: f, index: i, seed: seed, key: fmt.Sprintf("sim-%04d", i+1), product: ProductNginx}
	if f.cfg.Mix == MixIcecast || f.cfg.Mix == MixBoth && i%5 == 4 {
		s.product = ProductIcecast
	}
	s.anchor = below(hash2(seed, 11), max(f.day*10/12, 1))
	s.firstBoot = f.start - between(hash2(seed, 12), f.day/24, 20*f.day)
	s.firstDown = math.MaxInt64
	if every := f.cfg.RestartEvery.Milliseconds(); every > 0 {
		s.firstDown = f.start + every*int64(i+1)/int64(len(f.servers))
	}
	seats := zipfSeats(seed, f.cfg.Viewers, f.cfg.Streams)
	s.streams = make([]*Stream, f.cfg.Streams)
	for j := range s.streams {
		s.streams[j] = newStream(s, j, seats[j])
	}
	if flash := f.cfg.Flash; flash != nil && flash.Server == i {
		s.streams[0].flash = newFlashCrowd(s.streams[0], flash)
	}
	return s
}

// zipfSeats shares an audience over n streams so that the k-th gets a share
// proportional to 1/k.
func zipfSeats(seed uint64, viewers, n int) []int {
	const one = 1 << 32
	var harmonic int64
	for k := range n {
		harmonic += one / int64(k+1)
	}
	total := int64(viewers) * between(hash2(seed, 13), 50, 150) / 100
	seats := make([]int, n)
	for k := range seats {
		share := total * (one / int64(k+1))
		seats[k] = int(share / harmonic)
		if below(hash3(seed, 14, uint64(k)), harmonic) < share%harmonic {
			seats[k]++
		}
	}
	return seats
}

// Index returns the number of the server in the fleet.
func (s *Server) Index() int { return s.index }

// Fleet returns the fleet that the server belongs to.
func (s *Server) Fleet() *Fleet { return s.fleet }

// Key returns the stable name of the server, such as sim-0001.
func (s *Server) Key() string { return s.key }

// Product returns ProductNginx or ProductIcecast.
func (s *Server) Product() string { return s.product }

// Streams returns all streams of the server, on air or not, the most popular first.
// The caller must not change the slice.
func (s *Server) Streams() []*Stream { return s.streams }

// Boot is a life of a server between two restarts.
type Boot struct {
	Number  int
	StartMs int64
	EndMs   int64 // when it goes down; math.MaxInt64 when it never does
	Up      bool  // false while the server is down: then it tells the next life
}

// Boot returns the life of the server at an instant.
func (s *Server) Boot(atMs int64) Boot {
	if atMs < s.firstDown {
		return Boot{Number: 0, StartMs: s.firstBoot, EndMs: s.firstDown, Up: atMs >= s.firstBoot}
	}
	every, down := s.fleet.cfg.RestartEvery.Milliseconds(), s.fleet.cfg.RestartDown.Milliseconds()
	n := (atMs - s.firstDown) / every
	downAt := s.firstDown + n*every
	return Boot{Number: int(n) + 1, StartMs: downAt + down, EndMs: downAt + every, Up: atMs >= downAt+down}
}

// lives calls visit with every part of [from, to) in which the server is up.
func (s *Server) lives(from, to int64, visit func(boot Boot, from, to int64)) {
	for at := from; at < to; {
		boot := s.Boot(at)
		if begin, end := max(at, boot.StartMs), min(to, boot.EndMs); begin < end {
			visit(boot, begin, end)
		}
		if boot.EndMs >= to {
			return
		}
		at = boot.EndMs
	}
}

// ServerState is what a server would show at an instant. Counters are since boot.
type ServerState struct {
	Boot     Boot
	BytesIn  int64 // of all streams since boot, ended ones included, and protocol overhead
	BytesOut int64
	Accepted int64 // connections since boot
	Streams  int   // on air now
	Viewers  int   // now
}

// StreamState is what a server would show of a stream on air. Counters are since the
// publication began.
type StreamState struct {
	Stream      *Stream
	Publication Publication
	BytesIn     int64
	BytesOut    int64
	ViewerMs    int64
	Viewers     int
}

// State returns what the server would show at an instant and appends its streams on
// air to dst. While the server is down, both are empty but for the boot.
func (s *Server) State(atMs int64, dst []StreamState) (ServerState, []StreamState) {
	boot := s.Boot(atMs)
	state := ServerState{Boot: boot}
	if !boot.Up {
		return state, dst
	}
	base := s.talliesAt(boot)
	for i, st := range s.streams {
		now := st.raw(atMs)
		if atMs > boot.StartMs { // what begins at an instant counts from the next one on
			state.count(st, now.minus(base.tallies[i]))
		}
		pub, onAir := st.Publication(atMs)
		if !onAir {
			continue
		}
		before := st.raw(pub.StartMs)
		stream := StreamState{Stream: st, Publication: pub, Viewers: st.Viewers(atMs)}
		stream.BytesIn = (now.onlineMs - before.onlineMs) * st.BytesPerMs()
		stream.ViewerMs = now.viewerMs - before.viewerMs
		stream.BytesOut = stream.ViewerMs * st.BytesPerMs()
		state.Streams++
		state.Viewers += stream.Viewers
		dst = append(dst, stream)
	}
	return state, dst
}

func (state *ServerState) count(st *Stream, t tally) {
	in, out, connections := st.wire(t)
	state.BytesIn += in
	state.BytesOut += out
	state.Accepted += connections
}

// wire returns what a tally of a stream is to the server's own counters.
func (st *Stream) wire(t tally) (in, out, connections int64) {
	connections = t.joins + t.publishes
	perMs := st.WireBytesPerMs()
	hello := int64(rtmpHandshakeBytes)
	if st.server.product == ProductIcecast {
		hello = httpHeaderBytes
	}
	return perMs*t.onlineMs + hello*connections, perMs*t.viewerMs + hello*connections, connections
}

// WireBytesPerMs is BytesPerMs and the protocol overhead that the server's own
// counters show.
func (st *Stream) WireBytesPerMs() int64 {
	return st.BytesPerMs() + (st.BytesPerMs()*overheadPermille+999)/1000
}

func (s *Server) talliesAt(boot Boot) *bootTallies {
	if have := s.atBoot.Load(); have != nil && have.boot == boot {
		return have
	}
	made := &bootTallies{boot: boot, tallies: make([]tally, len(s.streams))}
	for i, st := range s.streams {
		made.tallies[i] = st.raw(boot.StartMs).minus(st.returning(boot))
	}
	s.atBoot.Store(made)
	return made
}

// returning counts the connections that a restart cut and that come back at once:
// they are accepted again. Those that begin at that very instant anyway are not among
// them.
func (st *Stream) returning(boot Boot) tally {
	var t tally
	if pub, ok := st.Publication(boot.StartMs); ok && (st.endless || pub.StartMs != st.plainStart(boot.StartMs)) {
		t.publishes = 1
	}
	st.seated(boot.StartMs, func(_ int, from, _, _ int64) {
		if from < boot.StartMs {
			t.joins++
		}
	})
	return t
}

// plainStart is when the publication on air at an instant would have begun if the
// server were never down.
func (st *Stream) plainStart(atMs int64) int64 {
	days, ms := floorDiv(atMs-st.anchor, st.server.fleet.day)
	return st.anchor + days*st.server.fleet.day + st.lastStarted(ms).start
}
