package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vigil/auth"
	"vigil/config"
	"vigil/durable/durabletest"
	"vigil/failover"
	"vigil/fleet"
	"vigil/ingest"
	"vigil/journal"
	"vigil/media"
)

// memoryJournal counts packets once.
type memoryJournal struct {
	mu  sync.Mutex
	set fleet.SeqSet
}

func (j *memoryJournal) Append(_ context.Context, e journal.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.set.Add(fleet.SeqRange{First: e.FirstSeq, Last: e.ID.Seq})
	return err
}

func (j *memoryJournal) stored(string, uint64) (*fleet.SeqSet, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.set.Clone(), true
}

type oneToken struct {
	hash  auth.TokenHash
	token auth.AgentToken
}

func (o oneToken) AgentToken(hash auth.TokenHash) (auth.AgentToken, error) {
	if hash != o.hash {
		return auth.AgentToken{}, auth.ErrMissing
	}
	return o.token, nil
}

type fixedResolver []netip.Addr

func (f fixedResolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if network == "ip4" {
		return f, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// The real ingest on two addresses of the loopback, the real failover between: one of
// the two is taken away, and every packet is still acknowledged within a second.
func TestAgentAgainstRealIngestOnTwoAddresses(t *testing.T) {
	t.Parallel()
	text, hash := auth.NewAgentToken()
	book := &memoryJournal{}
	in, err := ingest.New(config.Ingest{AgentInterval: time.Second}, ingest.Deps{
		Journal: book, Tokens: oneToken{hash, auth.AgentToken{Hash: hash, ID: hash.ID(), Agent: "edge-*"}}, Stored: book.stored,
	})
	if err != nil {
		t.Fatal(err)
	}
	servers, port := twoListeners(t, in.Handler())
	tr, err := failover.New(failover.Options{
		Host: "stats.test", Port: port, Resolver: fixedResolver{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	a, err := New(config.Agent{
		Name: "edge-1", SpoolDir: "/spool", SpoolMaxBytes: 4 << 20, Interval: time.Second,
		Service: config.AgentService{URL: "http://stats.test"},
		Servers: []config.MediaServer{{Name: "s1", Product: "nginx-rtmp", URL: "http://127.0.0.1/stat"}},
	}, Deps{
		FS: durabletest.New(1), Service: tr, Token: func() (string, error) { return text, nil },
		Collector: func(config.MediaServer, media.Deps) (media.Collector, error) { return newManyStreams(20), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := a.Check(t.Context()); !r.OK() || r.Service.Failover == nil {
		t.Errorf("check: %+v", r.Service)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	wait := func(what string, enough func(Stats) bool) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for !enough(a.Stats()) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, a.Stats())
			}
			time.Sleep(20 * time.Millisecond) // real sockets need real time
		}
	}
	wait("first packets", func(s Stats) bool { return s.PacketsAcknowledged >= 2 })
	current := tr.Explain().Addresses[0].Addr
	if err := servers[current].Close(); err != nil {
		t.Error(err)
	}
	before := a.Stats().PacketsAcknowledged
	wait("packets after the loss of "+current, func(s Stats) bool { return s.PacketsAcknowledged >= before+2 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := a.Stats(); st.PacketsAcknowledged != st.PacketsSpooled || book.set.High() != st.PacketsSpooled || st.LastError != "" {
		t.Errorf("stats %+v, stored %d", st, book.set.High())
	}
	if r := a.Check(t.Context()); !r.Service.OK {
		t.Errorf("check: %+v", r.Service)
	}
	a.deps.Token = func() (string, error) { wrong, _ := auth.NewAgentToken(); return wrong, nil }
	if r := a.Check(t.Context()); r.Service.OK || r.Service.Hint == "" {
		t.Errorf("check with a wrong token: %+v", r.Service)
	}
}

func twoListeners(t *testing.T, handler http.Handler) (map[string]*http.Server, uint16) {
	t.Helper()
	servers := map[string]*http.Server{}
	var port uint16
	for _, addr := range []string{"127.0.0.2", "127.0.0.3"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String())
		if err != nil {
			t.Fatal(err)
		}
		port = netip.MustParseAddrPort(l.Addr().String()).Port()
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
		servers[addr] = server
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		}()
		t.Cleanup(func() { _ = server.Close() })
	}
	return servers, port
}
