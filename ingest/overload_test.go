package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vigil/auth"
	"vigil/bus"
	"vigil/catalog"
	"vigil/config"
	"vigil/journal"
	"vigil/wire"
)

func post(client *http.Client, url, token string, key string, boot uint64, body []byte) (int, error) {
	r, err := http.NewRequest("POST", url+wire.PacketPath, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", wire.ContentTypePacket)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set(wire.HeaderIdempotencyKey, key)
	r.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", boot))
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// Ten times more agents than there are places, and a journal that takes 20 ms for each
// packet: what gets in is acknowledged about as fast as without the crowd, everybody
// else is refused, and nothing is acknowledged that is not in the journal.
func TestOverloadDoesNotSlowDownWhatIsTaken(t *testing.T) {
	t.Parallel()
	const places, tries = 8, 3
	for try := 1; ; try++ {
		alone, refused := crowd(t, places, places)
		if refused != 0 {
			t.Errorf("%.0f per second refused although there was a place for each", refused)
		}
		crowded, refused := crowd(t, places, 10*places)
		if refused == 0 {
			t.Error("nobody was refused: this was no overload")
		}
		t.Logf("acknowledged per second: %.0f alone, %.0f in a crowd of ten times more, which was refused %.0f times per second", alone, crowded, refused)
		if crowded >= alone/2 { // the crowd itself runs on the same cores, so this is about collapse
			return
		}
		// Whatever else runs on the machine may have had the cores in one of the two
		// moments. A collapse is there every time.
		if try == tries {
			t.Fatalf("acknowledged per second fell from %.0f to %.0f, %d times in a row", alone, crowded, tries)
		}
	}
}

// crowd lets agents send as fast as they are answered for a while.
func crowd(t *testing.T, places, agents int) (ackedPerSecond, refusedPerSecond float64) {
	t.Helper()
	s := newSite(t, config.Ingest{MaxInFlight: places})
	s.journal.hold = func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
	url := "http://" + s.listen()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: agents}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var ok, busy atomic.Int64
	var sending sync.WaitGroup
	began := time.Now()
	end := began.Add(1500 * time.Millisecond)
	for a := range agents {
		sending.Go(func() {
			for seq := uint64(1); time.Now().Before(end); seq++ {
				p := packet(fmt.Sprint("edge-", a), seq)
				body, err := codec.Encode(p)
				if err != nil {
					t.Error(err)
					return
				}
				code, err := post(client, url, s.token, p.ID.String(), uint64(a), body)
				switch {
				case err != nil:
					t.Errorf("post: %v", err)
				case code == http.StatusOK:
					ok.Add(1)
				case code == http.StatusServiceUnavailable:
					busy.Add(1)
					time.Sleep(50 * time.Millisecond) // a twentieth of the least that Retry-After asks for
				default:
					t.Errorf("status %d", code)
				}
			}
		})
	}
	sending.Wait()
	took := time.Since(began).Seconds()
	if int64(s.journal.count()) != ok.Load() {
		t.Errorf("%d acknowledged, %d in the journal", ok.Load(), s.journal.count())
	}
	return float64(ok.Load()) / took, float64(busy.Load()) / took
}

// Slow senders hold places only as long as a body may take; here the connection ends.
func TestSlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	ln := s.listen()
	conn, err := net.Dial("tcp", ln)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\n%s: edge-2/0000000000000007/1\r\n%s: %016x\r\nContent-Length: 1000\r\n\r\nonly the beginning",
		wire.PacketPath, wire.ContentTypePacket, s.token, wire.HeaderIdempotencyKey, wire.HeaderBoot, 2)
	waitFor(t, "the request has a place", func() bool { return s.ingest.room.requests.Load() == 1 })
	conn.Close()
	waitFor(t, "the place is free again", func() bool { return s.ingest.room.requests.Load() == 0 })
	if s.journal.count() != 0 {
		t.Error("half a packet is in the journal")
	}
}

func TestBodyDeadlineIsSet(t *testing.T) {
	t.Parallel()
	s := newSite(t, config.Ingest{})
	w := &deadlines{header: http.Header{}}
	r := s.request(packet("edge-1", 1))
	s.ingest.Handler().ServeHTTP(w, r)
	if len(w.read) != 2 || time.Until(w.read[0]) > bodyTimeout || time.Until(w.read[0]) < bodyTimeout/2 || !w.read[1].IsZero() {
		t.Errorf("read deadlines = %v", w.read)
	}
}

// deadlines is a ResponseWriter that remembers the deadlines that were set.
type deadlines struct {
	header http.Header
	read   []time.Time
}

func (d *deadlines) Header() http.Header                { return d.header }
func (d *deadlines) Write(p []byte) (int, error)        { return len(p), nil }
func (d *deadlines) WriteHeader(int)                    {}
func (d *deadlines) SetReadDeadline(at time.Time) error { d.read = append(d.read, at); return nil }

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// The real parts together: what was answered with 200 is in the journal after all of
// it was closed and opened again.
func TestAcknowledgedPacketsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := bus.Open(t.Context(), bus.Options{Name: "test", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := catalog.Open(t.Context(), b, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, hash := auth.NewAgentToken()
	if err := accounts.AddAgentToken(t.Context(), auth.AgentToken{Hash: hash, Agent: "*"}); err != nil {
		t.Fatal(err)
	}
	cfg := config.Journal{Shards: 2, MaxBytes: 64 << 20, PublishTimeout: 10 * time.Second}
	j, err := journal.Open(t.Context(), b, journal.Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	in, err := New(config.Ingest{AckTimeout: 20 * time.Second}, Deps{Journal: j, Tokens: accounts})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ingest: in, token: text}
	url := "http://" + s.listen()
	acked := map[string]bool{}
	for seq := range uint64(20) {
		p := packet("edge", seq+1)
		if code, err := post(http.DefaultClient, url, text, p.ID.String(), 1, encode(t, p)); err != nil || code != 200 {
			t.Fatalf("packet %d: %d, %v", seq+1, code, err)
		}
		acked[p.ID.String()] = true
	}
	j.Close()
	accounts.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	if b, err = bus.Open(t.Context(), bus.Options{Name: "test", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if j, err = journal.Open(t.Context(), b, journal.Options{Config: cfg}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var reading sync.WaitGroup
	for _, shard := range j.Shards() {
		reading.Go(func() {
			_ = j.Read(ctx, shard, 0, func(m journal.Message) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range m.Entries {
					if p, err := wire.Decode(e.Payload, wire.DefaultLimits()); err != nil || p.ID != e.ID {
						t.Errorf("entry %s: %v", e.ID, err)
					}
					delete(acked, e.ID.String())
				}
				if len(acked) == 0 {
					cancel()
				}
				return nil
			})
		})
	}
	reading.Wait()
	if len(acked) != 0 {
		t.Errorf("acknowledged and not in the journal: %v", acked)
	}
}
