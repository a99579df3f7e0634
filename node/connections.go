package node

import (
	"net"
	"net/netip"
	"sync"
	"syscall"

	"vigil/observe"
)

// Limits of open connections of one listener. Connections cost a file descriptor each,
// and the journal and the store need descriptors, too: without a limit anybody who
// reaches a port can stop both, without a token or a login.
const (
	maxConnections = 10_000
	// descriptorShare is the part of the process's descriptors that one listener may use at most:
	// one in so many.
	descriptorShare = 4
	// addressShare is the part of a listener's connections that one address may use: one in
	// so many. It is large because everybody behind one proxy has one address.
	addressShare = 2
)

// mostConnections is the limit for one listener of this process.
func mostConnections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxConnections
	}
	return int(min(maxConnections, max(limit.Cur/descriptorShare, addressShare)))
}

// limitedListener closes connections over the limits as soon as it has accepted them:
// the other end sees at once that there is no room and can try another node.
type limitedListener struct {
	net.Listener
	most    int
	refused observe.Counter

	mu        sync.Mutex
	open      int                // guarded by mu
	byAddress map[netip.Addr]int // guarded by mu
}

func limitConnections(ln net.Listener, most int, refused observe.Counter) *limitedListener {
	return &limitedListener{Listener: ln, most: most, refused: refused, byAddress: map[netip.Addr]int{}}
}

// Accept returns the next connection for which there is room.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(conn)
		if l.enter(from) {
			return &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		l.refused.Inc()
		_ = conn.Close() // nothing was sent on it
	}
}

func (l *limitedListener) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most || l.byAddress[from] >= max(l.most/addressShare, 1) {
		return false
	}
	l.open++
	l.byAddress[from]++
	return true
}

func (l *limitedListener) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byAddress[from]--; l.byAddress[from] == 0 {
		delete(l.byAddress, from)
	}
}

func addressOf(conn net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
