package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"vigil/auth"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/wire"
)

// fakeJournal keeps entries in memory; hold and fail say how an append ends.
type fakeJournal struct {
	hold func(ctx context.Context) error

	mu      sync.Mutex
	entries []journal.Entry
}

func (f *fakeJournal) Append(ctx context.Context, e journal.Entry) error {
	if f.hold != nil {
		if err := f.hold(ctx); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, e)
	return nil
}

func (f *fakeJournal) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

type fakeTokens struct {
	tokens map[auth.TokenHash]auth.AgentToken
	err    error
}

func (f *fakeTokens) AgentToken(hash auth.TokenHash) (auth.AgentToken, error) {
	if f.err != nil {
		return auth.AgentToken{}, f.err
	}
	t, ok := f.tokens[hash]
	if !ok {
		return auth.AgentToken{}, auth.ErrMissing
	}
	return t, nil
}

// site is an ingest with a fake journal, a token for agents named edge-*, and a clock.
type site struct {
	t       testing.TB
	ingest  *Ingest
	journal *fakeJournal
	tokens  *fakeTokens
	health  *health.Registry
	token   string
	clock   time.Time
}

func newSite(t testing.TB, cfg config.Ingest) *site {
	t.Helper()
	text, hash := auth.NewAgentToken()
	s := &site{
		t: t, journal: &fakeJournal{}, token: text, clock: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		tokens: &fakeTokens{tokens: map[auth.TokenHash]auth.AgentToken{hash: {Hash: hash, ID: hash.ID(), Agent: "edge-*"}}},
	}
	s.health = health.New(s.now)
	var err error
	s.ingest, err = New(cfg, Deps{
		Journal: s.journal, Tokens: s.tokens, Health: s.health, Now: s.now,
		Stored: func(agent string, epoch uint64) (*fleet.SeqSet, bool) {
			if agent != "edge-1" || epoch != 7 {
				return nil, false
			}
			set, _ := fleet.SeqSetFrom(40, []fleet.SeqRange{{First: 43, Last: 44}})
			return set, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) now() time.Time { return s.clock }

func packet(agent string, seq uint64) *fleet.Packet {
	return &fleet.Packet{
		ID: fleet.PacketID{Agent: agent, Epoch: 7, Seq: seq}, FirstSeq: seq, Boot: 1, AgentVersion: "test", Host: "host-a",
		Snapshots: []fleet.Snapshot{{
			Server: fleet.ServerInfo{Key: "media-1", Product: "nginx-rtmp", Verified: "spec"},
			AtMs:   1_700_000_000_000 + int64(seq), IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK,
			Totals: fleet.Totals{BytesIn: fleet.Of(1000), BytesOut: fleet.Of(2000)},
		}},
	}
}

func encode(t testing.TB, p *fleet.Packet) []byte {
	t.Helper()
	body, err := wire.Encode(p)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return body
}

// request makes a correct request for a packet; edit changes what a test is about.
func (s *site) request(p *fleet.Packet, edit ...func(*http.Request)) *http.Request {
	s.t.Helper()
	return s.requestOf(p, encode(s.t, p), edit...)
}

func (s *site) requestOf(p *fleet.Packet, body []byte, edit ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest("POST", wire.PacketPath, bytes.NewReader(body))
	r.Header.Set("Content-Type", wire.ContentTypePacket)
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set(wire.HeaderIdempotencyKey, p.ID.String())
	r.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", p.Boot))
	r.Header.Set(wire.HeaderHost, p.Host)
	for _, f := range edit {
		f(r)
	}
	return r
}

func (s *site) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ingest.Handler().ServeHTTP(w, r)
	return w
}

type answer struct{ Kind, Message, Hint string }

func readAnswer(t testing.TB, w *httptest.ResponseRecorder) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Errorf("answer %d %q: %v", w.Code, w.Body, err)
	}
	return a
}

func TestPacketIsDurableThenAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{AgentInterval: 15 * time.Second})
	p := packet("edge-1", 42)
	w := s.serve(s.request(p))
	if w.Code != 200 || w.Header().Get("Content-Type") != wire.ContentTypeReceipt {
		t.Fatalf("answer %d %q %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	receipt, err := wire.DecodeReceipt(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !receipt.StoredKnown || receipt.Stored != 40 || len(receipt.StoredAhead) != 1 || receipt.Settings.IntervalMs != 15_000 {
		t.Errorf("receipt = %+v", receipt)
	}
	e := s.journal.entries[0]
	if e.ID != p.ID || e.FirstSeq != 42 || e.Boot != 1 || e.ReceivedMs != s.clock.UnixMilli() || !bytes.Equal(e.Payload, encode(t, p)) {
		t.Errorf("entry = %+v", e)
	}
	// Nothing known of another epoch.
	other := packet("edge-2", 1)
	w = s.serve(s.request(other))
	if receipt, err := wire.DecodeReceipt(w.Body.Bytes()); err != nil || receipt.StoredKnown {
		t.Errorf("receipt of an unknown agent = %+v, %v", receipt, err)
	}
	// The very same request again is answered the same.
	if w := s.serve(s.request(p)); w.Code != 200 {
		t.Errorf("repeat: %d %s", w.Code, w.Body)
	}
	if got := s.ingest.Stats(); got.PacketsAcknowledged != 3 || got.PacketsRefused != 0 {
		t.Errorf("stats = %+v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	body := func(data []byte) func(*http.Request) {
		return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data)) }
	}
	otherToken, _ := auth.NewAgentToken()
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
		kind   string
	}{
		"GET":                      {func(r *http.Request) { r.Method = "GET" }, 400, "invalid"},
		"content type":             {set("Content-Type", "application/json"), 400, "invalid"},
		"content encoding":         {set("Content-Encoding", "gzip"), 400, "invalid"},
		"no token":                 {set("Authorization", ""), 401, "unauthenticated"},
		"unknown token":            {set("Authorization", "Bearer "+otherToken), 401, "unauthenticated"},
		"malformed token":          {set("Authorization", "Bearer xyz"), 401, "unauthenticated"},
		"no key":                   {set(wire.HeaderIdempotencyKey, ""), 400, "invalid"},
		"long key":                 {set(wire.HeaderIdempotencyKey, strings.Repeat("x", 600)), 400, "invalid"},
		"key of another packet":    {set(wire.HeaderIdempotencyKey, "edge-1/0000000000000007/43"), 400, "invalid"},
		"no boot":                  {set(wire.HeaderBoot, ""), 400, "invalid"},
		"boot is no number":        {set(wire.HeaderBoot, "000000000000000g"), 400, "invalid"},
		"boot is short":            {set(wire.HeaderBoot, "1"), 400, "invalid"},
		"no body":                  {body(nil), 400, "invalid"},
		"garbage":                  {body([]byte("garbage")), 400, "invalid"},
		"told to be too large":     {func(r *http.Request) { r.ContentLength = 1<<20 + 1 }, 413, "too_large"},
		"body ends early":          {func(r *http.Request) { r.ContentLength++ }, 503, "unavailable"},
		"too large without length": {func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 2<<20)), -1 }, 413, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, config.Ingest{MaxPacketBytes: 1 << 20})
			w := s.serve(s.request(packet("edge-1", 42), c.edit))
			if w.Code != c.status {
				t.Errorf("status %d %s, want %d", w.Code, w.Body, c.status)
			}
			if a := readAnswer(t, w); a.Kind != c.kind || a.Message == "" {
				t.Errorf("answer = %+v, want kind %s", a, c.kind)
			}
			if n := s.journal.count(); n != 0 {
				t.Errorf("%d entries in the journal", n)
			}
			if s.ingest.room.requests.Load() != 0 || s.ingest.room.bytes.Load() != 0 {
				t.Error("the place was not given back")
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The token decides which agents may send, whatever the packet says.
func TestTokenBindsTheAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	w := s.serve(s.request(packet("core-1", 1)))
	if a := readAnswer(t, w); w.Code != 403 || a.Kind != "forbidden" || !strings.Contains(a.Message, "core-1") {
		t.Errorf("answer %d %+v", w.Code, a)
	}
	if s.journal.count() != 0 {
		t.Error("a packet of a foreign agent is in the journal")
	}
}

// Not being able to check a token must not look like a wrong token: agents would stop.
// An agent with a token for its own media servers cannot report those of others.
func TestTokenBindsTheServers(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	text, hash := auth.NewAgentToken()
	s.tokens.tokens[hash] = auth.AgentToken{Hash: hash, ID: hash.ID(), Agent: "edge-*", Servers: "berlin-*"}
	s.token = text
	p := packet("edge-1", 1)
	s.refusedFor(p, 403, `media server "media-1"`)
	own := p.Snapshots[0]
	own.Server.Key = "berlin-1"
	p.Snapshots = []fleet.Snapshot{own, p.Snapshots[0]}
	s.refusedFor(p, 403, `media server "media-1"`)
	p.Snapshots = p.Snapshots[:1]
	s.taken(p)
}

func TestTokenStoreFailureIsTemporary(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	s.tokens.err = errors.New("no memory of tokens")
	w := s.serve(s.request(packet("edge-1", 1)))
	if a := readAnswer(t, w); w.Code != 503 || a.Kind != "unavailable" || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer %d %+v", w.Code, a)
	}
}

// A small frame that says, or turns out, to be huge costs no memory.
func TestBombsAreRefused(t *testing.T) {
	t.Parallel()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	bomb := enc.EncodeAll(make([]byte, 256<<20), nil)
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	s := newSite(t, config.Ingest{MaxDecodedBytes: 1 << 20})
	w := s.serve(s.request(packet("edge-1", 1), func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(bomb)), int64(len(bomb))
	}))
	if a := readAnswer(t, w); w.Code != 413 && w.Code != 400 {
		t.Errorf("answer %d %+v", w.Code, a)
	}
	if s.journal.count() != 0 {
		t.Error("the bomb is in the journal")
	}
}

func TestJournalFailureIsNeverAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{AckTimeout: 50 * time.Millisecond})
	for name, hold := range map[string]func(context.Context) error{
		"full": func(context.Context) error {
			return &fleet.Error{Kind: fleet.KindUnavailable, Message: "the journal is full"}
		},
		"silent": func(ctx context.Context) error {
			<-ctx.Done()
			return &fleet.Error{Kind: fleet.KindUnavailable, Message: "too late", Err: ctx.Err()}
		},
		"plain": func(context.Context) error { return errors.New("not a fleet error") },
	} {
		s.journal.hold = hold
		w := s.serve(s.request(packet("edge-1", 42)))
		want := 503
		if name == "plain" {
			want = 500
		}
		if w.Code != want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if want == 503 {
			if seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || seconds < unavailableWaitSeconds || seconds > unavailableWaitSeconds+unavailableJitter {
				t.Errorf("%s: Retry-After %q", name, w.Header().Get("Retry-After"))
			}
		}
	}
	if got := s.ingest.Stats(); got.PacketsAcknowledged != 0 || s.journal.count() != 0 {
		t.Errorf("stats = %+v, %d entries", got, s.journal.count())
	}
	s.journal.hold = nil
	if w := s.serve(s.request(packet("edge-1", 42))); w.Code != 200 {
		t.Errorf("the same packet later: %d %s", w.Code, w.Body)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	s.journal.hold = func(context.Context) error { panic("broken") }
	w := s.serve(s.request(packet("edge-1", 1)))
	if a := readAnswer(t, w); w.Code != 500 || a.Kind != "internal" {
		t.Errorf("answer %d %+v", w.Code, a)
	}
	if s.ingest.room.requests.Load() != 0 {
		t.Error("the place was not given back")
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	get := func(query, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", wire.PingPath+query, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return s.serve(r)
	}
	w := get("?agent=edge-9", s.token)
	var pong struct {
		OK     bool   `json:"ok"`
		Agents string `json:"agents"`
		TimeMs int64  `json:"time_ms"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &pong); err != nil || w.Code != 200 || !pong.OK || pong.Agents != "edge-*" || pong.TimeMs != s.clock.UnixMilli() {
		t.Errorf("ping: %d %s, %v", w.Code, w.Body, err)
	}
	if w := get("", s.token); w.Code != 200 {
		t.Errorf("ping without a name: %d", w.Code)
	}
	if w := get("?agent=core", s.token); w.Code != 403 {
		t.Errorf("ping of a foreign agent: %d", w.Code)
	}
	if w := get("", "x"); w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("ping without a token: %d", w.Code)
	}
	if w := s.serve(httptest.NewRequest("GET", "/", nil)); w.Code != 404 {
		t.Errorf("another page: %d", w.Code)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	deps := Deps{Journal: &fakeJournal{}, Tokens: &fakeTokens{}}
	if _, err := New(config.Ingest{}, Deps{}); err == nil {
		t.Error("New without a journal")
	}
	for _, cfg := range []config.Ingest{{MaxPacketBytes: 64 << 20, MaxInFlightBytes: 1 << 30}, {MaxPacketBytes: 1 << 20, MaxInFlightBytes: 1 << 10}} {
		if _, err := New(cfg, deps); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("New(%+v) = %v, want invalid", cfg, err)
		}
	}
}

// listen serves s on a real connection.
func (s *site) listen() string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	srv := Server(s.ingest.cfg, s.ingest.Handler(), nil)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	s.t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

// The refusal does not depend on the body: this connection never sends one.
func TestBusyIsSaidWithoutTheBody(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{MaxInFlight: 1})
	inside, leave := make(chan struct{}), make(chan struct{})
	s.journal.hold = func(context.Context) error { close(inside); <-leave; return nil }
	first := make(chan int)
	go func() { first <- s.serve(s.request(packet("edge-1", 1))).Code }()
	<-inside

	conn, err := net.Dial("tcp", s.listen())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\n%s: edge-2/0000000000000007/1\r\n%s: %016x\r\nContent-Length: 1000\r\n\r\n",
		wire.PacketPath, wire.ContentTypePacket, s.token, wire.HeaderIdempotencyKey, wire.HeaderBoot, 2)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 503") || !strings.Contains(string(answer[:n]), "\r\nRetry-After: ") {
		t.Errorf("answer = %q, %v", answer[:n], err)
	}
	close(leave)
	if code := <-first; code != 200 {
		t.Errorf("the first packet: %d", code)
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{MaxPacketBytes: 1000, MaxInFlightBytes: 1500})
	release, err := s.ingest.room.enter(1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ingest.room.enter(501); fleet.KindOf(err) != fleet.KindBusy {
		t.Errorf("enter = %v, want busy", err)
	}
	if r, err := s.ingest.room.enter(500); err != nil {
		t.Errorf("enter of what fits = %v", err)
	} else {
		r()
	}
	release()
	if s.ingest.room.bytes.Load() != 0 || s.ingest.room.requests.Load() != 0 {
		t.Error("places were not given back")
	}
}

// One agent whose requests never end must not take the places of the others.
func TestOneAgentCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{MaxInFlight: maxPerAgent + 1})
	text, hash := auth.NewAgentToken()
	s.tokens.tokens[hash] = auth.AgentToken{Hash: hash, ID: hash.ID(), Agent: "greedy"}
	addr := s.listen()
	for range 3 * maxPerAgent {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\nAuthorization: Bearer %s\r\n%s: k\r\n%s: 0000000000000001\r\n\r\n",
			wire.PacketPath, wire.ContentTypePacket, text, wire.HeaderIdempotencyKey, wire.HeaderBoot)
	}
	waitFor(t, "the greedy agent to have its places", func() bool { return s.ingest.room.requests.Load() == maxPerAgent })
	if w := s.serve(s.request(packet("edge-1", 1))); w.Code != 200 {
		t.Errorf("another agent: %d %s", w.Code, w.Body)
	}
}
