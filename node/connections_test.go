package node

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"vigil/observe"
)

func refusals() observe.Counter {
	var none *observe.Registry
	return none.Counter("vigil_node_connections_refused_total", "Refused.", "role").With("test")
}

// Whoever opens connections without end is refused, and gives no trouble to those who
// have one; places come back when connections end.
func TestConnectionsOfAListenerAreBounded(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limitConnections(inner, 8, refusals())
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	answered := func(conn net.Conn) bool {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := conn.Read(make([]byte, 1))
		return err == nil
	}
	var first []net.Conn
	for i := range 4 { // half of all are for one address
		conn := dial()
		if !answered(conn) {
			t.Fatalf("connection %d was refused", i+1)
		}
		first = append(first, conn)
	}
	if answered(dial()) {
		t.Fatal("one address got more than half of all connections")
	}
	if !answered(first[0]) {
		t.Error("an open connection stopped working")
	}
	_ = first[1].Close()
	for end := time.Now().Add(10 * time.Second); !answered(dial()); {
		if time.Now().After(end) {
			t.Fatal("the place of a closed connection did not come back")
		}
	}
}

func TestAllAddressesTogetherAreBounded(t *testing.T) {
	t.Parallel()
	l := limitConnections(nil, 8, refusals())
	taken := 0
	for i := range 20 {
		if l.enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) {
			taken++
		}
	}
	if taken != 8 {
		t.Errorf("%d connections taken, want 8", taken)
	}
}
