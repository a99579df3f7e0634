package fleetsim

import "net/netip"

// Session is one connection of a viewer.
type Session struct {
	ID      uint64 // different for all sessions of a server, 44 bits
	StartMs int64
	EndMs   int64 // first instant at which it is gone
	Bytes   int64 // received until the instant asked about
}

// Viewers returns how many people watch at an instant.
func (st *Stream) Viewers(atMs int64) int {
	if !st.server.Boot(atMs).Up {
		return 0
	}
	n := 0
	st.seated(atMs, func(int, int64, int64, int64) { n++ })
	return n
}

// Sessions calls visit with every viewer connection that is open at an instant.
func (st *Stream) Sessions(atMs int64, visit func(Session)) {
	boot := st.server.Boot(atMs)
	if !boot.Up {
		return
	}
	st.seated(atMs, func(k int, from, to, cycle int64) {
		id := hash3(hash2(st.seed, uint64(cycle)), uint64(k), uint64(boot.Number)) >> 20
		start := max(from, boot.StartMs)
		visit(Session{ID: id, StartMs: start, EndMs: min(to, boot.EndMs), Bytes: (atMs - start) * st.BytesPerMs()})
	})
}

// PublisherID returns the connection number of a publication's publisher.
func (st *Stream) PublisherID(p Publication) uint64 {
	return hash3(st.seed, 7, uint64(p.Number)) >> 20
}

// seated calls visit with every seat that is taken at an instant, its number, the
// interval in Unix ms for which its viewer sits there if the server is never down, and
// a number that differs for all viewers of the seat.
func (st *Stream) seated(atMs int64, visit func(k int, from, to, viewer int64)) {
	if st.flash != nil {
		st.flash.seated(atMs, visit)
	}
	_, ms := floorDiv(atMs-st.anchor, st.server.fleet.day)
	p := st.lastStarted(ms)
	if p == nil || ms >= p.end {
		return
	}
	midnight := atMs - ms
	for k := range st.seats {
		s := st.seat(k)
		from, to := s.window(p.start, p.end)
		if ms < from || ms >= to {
			continue
		}
		sat, left, cycle, ok := s.taken(ms - from)
		if ok {
			visit(k, midnight+from+sat, midnight+min(from+left, to), (midnight+p.start)<<16+cycle)
		}
	}
}

// IP returns the address of the viewer, from the ranges reserved for benchmarks
// (198.18.0.0/15) and documentation (2001:db8::/32): no real person has it.
func (s Session) IP() netip.Addr { return address(mix(s.ID)) }

// UserAgent returns what the viewer's player calls itself.
func (s Session) UserAgent() string {
	agents := [...]string{
		"VLC/3.0.20 LibVLC/3.0.20", "Lavf/60.16.100", "AppleCoreMedia/1.0.0.21F90 (iPhone; U; CPU OS 17_5_1 like Mac OS X; de_de)",
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
		"ExoPlayerLib/2.19.1", "Winamp 5.66", "foobar2000/2.1.5", "WMPlayer/12.0 <test> & \"more\"",
	}
	h := mix(s.ID + 1)
	return agents[min(h%uint64(len(agents)), (h>>32)%uint64(len(agents)))]
}

// PublisherIP returns the address from which a stream is published.
func (st *Stream) PublisherIP() netip.Addr { return address(hash2(st.seed, 8)) }

func address(h uint64) netip.Addr {
	if h%10 == 0 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(h >> 8), byte(h >> 16), byte(h >> 24), byte(h >> 32), 15: byte(h>>40) | 1})
	}
	return netip.AddrFrom4([4]byte{198, 18 + byte(h>>8)&1, byte(h >> 16), byte(h >> 24)})
}
