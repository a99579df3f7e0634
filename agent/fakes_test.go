package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vigil/config"
	"vigil/durable"
	"vigil/durable/durabletest"
	"vigil/fleet"
	"vigil/health"
	"vigil/media"
	"vigil/wire"
)

// fakeService is a service as the agent sees it: it keeps what it acknowledges, once,
// and it can behave in every bad way that a network allows.
type fakeService struct {
	t     *testing.T
	codec *wire.Codec

	mu       sync.Mutex
	mode     fault
	modes    func() fault // nil: mode
	settings fleet.Settings
	noStored bool // receipts say nothing about storage
	ledger   map[uint64]*fleet.SeqSet
	packets  []*fleet.Packet // counted, once each
	requests int
	repeats  int
	bodies   map[string][]byte // by idempotency key: one key, one content
	owners   map[uint64]uint64 // epoch -> boot, when clones are refused
	reject   func(*fleet.Packet) bool
	flying   int
	most     int // requests in flight at once
}

type fault string

const (
	works       fault = "works"
	busy        fault = "busy"          // 503, Retry-After 5
	bad500      fault = "bad gateway"   // a proxy says 502 in HTML
	hangs       fault = "hangs"         // never answers, nothing stored
	breaks      fault = "breaks"        // connection broken, nothing stored
	storedBreak fault = "stored, lost"  // stored, and the answer is lost
	storedHang  fault = "stored, hangs" // stored, and the answer never comes
	noToken     fault = "no token"      // 401
	portal      fault = "portal"        // somebody else's 200
	proxyLimit  fault = "proxy limit"   // somebody else's 413
)

func newFakeService(t *testing.T) *fakeService {
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return &fakeService{
		t: t, codec: codec, mode: works, ledger: map[uint64]*fleet.SeqSet{}, bodies: map[string][]byte{}, owners: map[uint64]uint64{},
	}
}

func (f *fakeService) set(mode fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

func (f *fakeService) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.requests++
	f.flying++
	f.most = max(f.most, f.flying)
	mode := f.mode
	if f.modes != nil {
		mode = f.modes()
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.flying--
		f.mu.Unlock()
	}()
	time.Sleep(20 * time.Millisecond)
	switch mode {
	case busy:
		resp := answer(503, "application/json", []byte(`{"kind":"busy","message":"too much to do","hint":"later"}`))
		resp.Header.Set("Retry-After", "5")
		return resp, nil
	case bad500:
		return answer(502, "text/html", []byte("<h1>502</h1>")), nil
	case hangs:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case breaks:
		return nil, errors.New("connection reset by peer")
	case noToken:
		return answer(401, "application/json", []byte(`{"kind":"unauthenticated","message":"token unknown","hint":"make one"}`)), nil
	case portal:
		return answer(200, "text/html", []byte("<h1>Welcome to our hotel</h1>")), nil
	case proxyLimit:
		return answer(413, "text/html", []byte("<h1>413</h1>")), nil
	}
	resp := f.store(req, body)
	switch mode {
	case storedBreak:
		return nil, errors.New("connection reset by peer")
	case storedHang:
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return resp, nil
}

func answer(status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// store counts a packet once, as storage does.
func (f *fakeService) store(req *http.Request, body []byte) *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.codec.Decode(body)
	if err != nil {
		f.t.Errorf("the agent sent a packet that cannot be read: %v", err)
		return answer(400, "application/json", []byte(`{"kind":"invalid","message":"unreadable"}`))
	}
	key := req.Header.Get(wire.HeaderIdempotencyKey)
	if key != p.ID.String() || req.Header.Get("Authorization") != "Bearer secret" || req.Header.Get("Content-Type") != wire.ContentTypePacket {
		f.t.Errorf("headers %v for packet %s", req.Header, p.ID)
	}
	if f.reject != nil && f.reject(p) {
		return answer(400, "application/json", []byte(`{"kind":"invalid","message":"never","hint":"update"}`))
	}
	var boot uint64
	if _, err := fmt.Sscanf(req.Header.Get(wire.HeaderBoot), "%016x", &boot); err != nil {
		f.t.Errorf("boot header: %v", err)
	}
	if owner, owned := f.owners[p.ID.Epoch]; owned && owner != boot {
		return answer(409, "application/json", []byte(`{"kind":"conflict","message":"two agents"}`))
	}
	if before, seen := f.bodies[key]; seen && !bytes.Equal(before, body) {
		f.t.Errorf("packet %s arrived with two contents", key)
	}
	f.bodies[key] = body
	set := f.ledger[p.ID.Epoch]
	if set == nil {
		set = &fleet.SeqSet{}
		f.ledger[p.ID.Epoch] = set
	}
	added, err := set.Add(fleet.SeqRange{First: p.FirstSeq, Last: p.ID.Seq})
	if err != nil {
		f.t.Errorf("packet %s from %d: %v", p.ID, p.FirstSeq, err)
	}
	if added {
		f.packets = append(f.packets, p)
		for _, g := range p.Gaps {
			if _, err := set.Fill(fleet.SeqRange{First: g.FirstSeq, Last: g.LastSeq}); err != nil {
				f.t.Errorf("gap %+v: %v", g, err)
			}
		}
	} else {
		f.repeats++
	}
	r := &fleet.Receipt{Settings: f.settings}
	if !f.noStored {
		r.StoredKnown, r.Stored, r.StoredAhead = true, set.High(), set.Ahead()
	}
	return answer(200, wire.ContentTypeReceipt, wire.EncodeReceipt(r))
}

// received adds up what was counted.
func (f *fakeService) received() (bytesIn, packets int64, gaps uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.packets {
		for _, s := range p.Snapshots {
			bytesIn += s.Totals.BytesIn.Or(0)
		}
		for _, g := range p.Gaps {
			gaps += g.LastSeq - g.FirstSeq + 1
		}
		packets += int64(p.ID.Seq - p.FirstSeq + 1)
	}
	return bytesIn, packets, gaps
}

func (f *fakeService) numbers() (requests, repeats int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests, f.repeats
}

// fakeServer is a media server whose counters never stop.
type fakeServer struct {
	name string
	mu   sync.Mutex
	rng  *rand.Rand
	in   int64 // truth since the beginning
	last int64 // truth at the last answer
	base int64 // truth at the first answer: a tracker begins there
	hang bool
	fail fleet.PollStatus
	slow time.Duration
	poll int
	busy int
	most int

	streams int // 0: three
}

func (s *fakeServer) Collect(ctx context.Context) *fleet.Reading {
	s.mu.Lock()
	s.poll++
	s.busy++
	s.most = max(s.most, s.busy)
	hang, slow := s.hang, s.slow
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
	}()
	if hang {
		<-ctx.Done()
	}
	select {
	case <-time.After(slow + time.Millisecond):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	r := &fleet.Reading{AtMs: now.UnixMilli(), MonoMs: now.UnixMilli(), Status: fleet.StatusOK, LatencyMs: 1}
	r.Server = fleet.ServerInfo{Product: "icecast", BootID: "b", StartedMs: fleet.Of(946684800000)}
	if ctx.Err() != nil || s.fail != fleet.StatusUnknown {
		r.Status = max(s.fail, fleet.StatusUnreachable)
		r.Detail = "get http://admin:hackme@" + s.name + "/stat?token=abc: refused"
		return r
	}
	s.in += s.rng.Int64N(1 << 20)
	if s.last == 0 {
		s.base = s.in
	}
	s.last = s.in
	r.Totals.BytesIn = fleet.Of(s.in)
	streams := s.streams
	if streams == 0 {
		streams = 3
	}
	for i := range streams {
		r.Streams = append(r.Streams, fleet.StreamReading{
			StreamInfo: fleet.StreamInfo{
				Key: fleet.StreamKey{Name: fmt.Sprintf("channel-%d", i)}, State: fleet.StateOnline, Incarnation: "i",
				OnlineSinceMs: fleet.Of(946684800000), Viewers: fleet.Of(s.rng.Int64N(50)), Tech: fleet.TechIcecast,
			},
			BytesIn: fleet.Of(s.in / 3),
		})
	}
	return r
}

// truth is what an agent that started with the first answer must have counted.
func (s *fakeServer) truth() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last - s.base
}

func (s *fakeServer) set(change func(*fakeServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// world is an agent with everything around it, in a bubble.
type world struct {
	*testing.T
	cfg     config.Agent
	fs      *durabletest.FS
	service *fakeService
	servers map[string]*fakeServer
	health  *health.Registry
	seed    uint64

	agent  *Agent
	cancel context.CancelFunc
	done   chan error
}

const interval = 10 * time.Second

func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	bubbleSeed(t, 1, test)
}

func bubbleSeed(t *testing.T, seed uint64, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, fs: durabletest.New(seed), service: newFakeService(t), servers: map[string]*fakeServer{}, health: health.New(time.Now), seed: seed,
			cfg: config.Agent{
				Name: "edge-1", SpoolDir: "/spool", SpoolMaxBytes: 4 << 20, Interval: interval,
				Service: config.AgentService{URL: "https://stats.example.net"},
				Servers: []config.MediaServer{{Name: "s1", Product: "icecast", URL: "http://127.0.0.1/"}, {Name: "s2", Product: "icecast", URL: "http://127.0.0.1/"}},
			},
		}
		for i, s := range w.cfg.Servers {
			w.servers[s.Name] = &fakeServer{name: s.Name, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		}
		test(w)
		if w.agent != nil {
			w.stop()
		}
	})
}

func (w *world) build(fs durable.FS) *Agent {
	w.Helper()
	w.seed++
	a, err := New(w.cfg, Deps{
		Log: slog.New(slog.NewTextHandler(testWriter{w.T}, &slog.HandlerOptions{Level: slog.LevelError})), Health: w.health, FS: fs,
		Now: time.Now, Mono: func() int64 { return time.Now().UnixMilli() }, Seed: w.seed, Rand: seededReader{rand.New(rand.NewPCG(w.seed, 9))},
		Version: "test", Host: "host-1", Service: w.service, Codec: w.service.codec,
		Token:     func() (string, error) { return "secret", nil },
		Collector: func(cfg config.MediaServer, _ media.Deps) (media.Collector, error) { return w.servers[cfg.Name], nil },
	})
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// testWriter shows the log of a failed test. Agents that a test leaves behind write
// nowhere.
type testWriter struct{ t *testing.T }

func (t testWriter) Write(p []byte) (int, error) {
	t.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

type seededReader struct{ r *rand.Rand }

func (s seededReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.r.Uint32())
	}
	return len(p), nil
}

func (w *world) start() {
	w.Helper()
	w.agent = w.build(w.fs)
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.done = make(chan error, 1)
	go func(a *Agent) { w.done <- a.Run(ctx) }(w.agent)
}

func (w *world) stop() {
	w.Helper()
	w.cancel()
	if err := <-w.done; err != nil {
		w.Errorf("Run: %v", err)
	}
	w.agent = nil
}

// powerCut kills the agent and its machine.
func (w *world) powerCut() {
	w.Helper()
	w.fs.FailAt(1, durabletest.PowerCut)
	w.cancel()
	<-w.done // whatever it says
	w.fs.Crash()
	w.agent = nil
}

func (w *world) run(d time.Duration) { time.Sleep(d) }

func (w *world) condition(code string) bool {
	for _, c := range w.health.List() {
		if c.Code == code {
			return true
		}
	}
	return false
}

// accountedFor checks the books of the present epoch: every sequence number was
// received or is in a gap that was reported.
func (w *world) accountedFor() {
	w.Helper()
	var st Stats
	var set *fleet.SeqSet
	for range 3 { // a packet may be under way at this very moment
		st = w.agent.Stats()
		w.service.mu.Lock()
		if set = w.service.ledger[st.Epoch]; set != nil {
			set = set.Clone()
		}
		w.service.mu.Unlock()
		if set != nil && set.High() == st.LastSeq {
			return
		}
		w.run(100 * time.Millisecond)
	}
	w.Errorf("accounted for %+v, want everything up to %d; stats %+v", set, st.LastSeq, st)
}
