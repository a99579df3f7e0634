package paneltest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy stands between a browser and a site and can fall silent: connections stay
// open, new ones are accepted, and nothing passes, as when a machine freezes.
type Proxy struct {
	listener net.Listener
	to       string
	frozen   atomic.Bool
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// NewProxy starts a proxy to an address.
func NewProxy(to string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, to: to, conns: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	return p, nil
}

// Addr is where the browser connects to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Freeze lets nothing pass, or lets it pass again.
func (p *Proxy) Freeze(on bool) { p.frozen.Store(on) }

// Close ends all connections.
func (p *Proxy) Close() error {
	p.frozen.Store(false) // what waits may go
	err := p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wait.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[server] = true, true
		p.mu.Unlock()
		p.wait.Go(func() { p.carry(c, server) })
		p.wait.Go(func() { p.carry(server, c) })
	}
}

func (p *Proxy) carry(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for p.frozen.Load() && !errors.Is(err, io.EOF) {
			time.Sleep(20 * time.Millisecond)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
