package mediatest

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vigil/fleetsim"
)

// clock is a clock that tests move.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func testFleet(mix fleetsim.Mix) *fleetsim.Fleet {
	return fleetsim.New(fleetsim.Config{
		Seed: 3, Servers: 1, Streams: 40, Viewers: 120, Start: time.UnixMilli(1_790_000_000_000), Churn: true,
		Day: 10 * time.Minute, Watch: 20 * time.Second, Mix: mix,
	})
}

func emulator(t *testing.T, mix fleetsim.Mix, change func(*Options)) (*Emulator, *clock) {
	t.Helper()
	fleet := testFleet(mix)
	c := &clock{}
	c.ms.Store(fleet.StartMs())
	opts := Options{Truth: fleet.Server(0), Now: c.now, Record: RecordStreams, StallFor: 50 * time.Millisecond}
	if change != nil {
		change(&opts)
	}
	e := New(opts)
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, c
}

func statsURL(e *Emulator) string {
	if e.Product() == fleetsim.ProductIcecast {
		return e.URL() + "/admin/stats"
	}
	return e.URL()
}

func get(t *testing.T, e *Emulator, url string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user, password := e.Credentials(); user != "" {
		req.SetBasicAuth(user, password)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// poll asks the statistics page and returns what the emulator says it said.
func poll(t *testing.T, e *Emulator) Poll {
	t.Helper()
	_, body, err := get(t, e, statsURL(e))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(body, new(any)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("page is not XML: %v", err)
	}
	polls := e.Polls()
	return polls[len(polls)-1]
}

type rtmpPage struct {
	PID      int   `xml:"pid"`
	Uptime   int64 `xml:"uptime"`
	Accepted int64 `xml:"naccepted"`
	BytesIn  int64 `xml:"bytes_in"`
	BytesOut int64 `xml:"bytes_out"`
	Apps     []struct {
		Name    string `xml:"name"`
		Streams []struct {
			Name       string     `xml:"name"`
			Time       int64      `xml:"time"`
			BytesIn    int64      `xml:"bytes_in"`
			BytesOut   int64      `xml:"bytes_out"`
			NClients   int        `xml:"nclients"`
			Clients    []struct{} `xml:"client"`
			Publishing *struct{}  `xml:"publishing"`
		} `xml:"live>stream"`
	} `xml:"server>application"`
}

// TestRecordedIsWhatThePageSays reads the page with a parser and compares it with the
// record, so that oracles may trust the record.
func TestRecordedIsWhatThePageSays(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	for range 20 {
		c.advance(7 * time.Second)
		_, body, err := get(t, e, e.URL())
		if err != nil {
			t.Fatal(err)
		}
		var page rtmpPage
		if err := xml.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		polls := e.Polls()
		said := polls[len(polls)-1]
		if !said.Whole || page.PID != said.PID || page.BytesIn != said.BytesIn || page.BytesOut != said.BytesOut || page.Accepted != said.Accepted {
			t.Fatalf("page %+v, recorded %+v", page, said)
		}
		i := 0
		for _, app := range page.Apps {
			for _, st := range app.Streams {
				var rec *StreamPoll
				for j := range said.PerStream {
					if r := &said.PerStream[j]; r.App == app.Name && r.Shown == st.Name && c.ms.Load()-r.SinceMs == st.Time && r.BytesOut == st.BytesOut {
						rec = r
					}
				}
				if rec == nil || st.BytesIn != rec.BytesIn || st.NClients != rec.Viewers+1 || len(st.Clients) != st.NClients || st.Publishing == nil {
					t.Fatalf("page %+v, recorded %+v", st, rec)
				}
				i++
			}
		}
		if i != len(said.PerStream) || i == 0 {
			t.Fatalf("page has %d streams, record %d", i, len(said.PerStream))
		}
	}
}

// TestSumsEqualTheTruth polls often and compares the sum of what was said with what
// the simulation knows: the server to the byte; a stream to what flowed out of sight.
func TestSumsEqualTheTruth(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	begin := c.ms.Load()
	poll(t, e)
	for range 120 {
		c.advance(5 * time.Second)
		poll(t, e)
	}
	truth := e.Truth().Between(begin, c.ms.Load())
	server, streams := Sums(e.Polls())
	if server.BytesIn != truth.WireIn || server.BytesOut != truth.WireOut {
		t.Errorf("server sums %+v, truth %+v", server, truth)
	}
	var unseen int64
	for _, st := range e.Truth().Streams() {
		got, want := streams[StreamName{st.App(), st.Name()}], st.Between(begin, c.ms.Load())
		if got.BytesIn > want.BytesIn || got.BytesOut > want.BytesOut {
			t.Errorf("%s: sums %+v more than truth %+v", st.Name(), got, want)
		}
		if _, endless := st.Publication(begin); endless && want.Publishes == 0 && want.OnlineMs == c.ms.Load()-begin && got.BytesOut != want.BytesOut {
			t.Errorf("%s never went off air: sums %+v, truth %+v", st.Name(), got, want)
		}
		unseen += want.BytesOut - got.BytesOut
	}
	if unseen*100 > truth.BytesOut*5 {
		t.Errorf("%d of %d bytes out of sight at 5 s polls", unseen, truth.BytesOut)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	f := func(fault Fault, status int, check func(t *testing.T, resp *http.Response, body []byte, err error)) {
		t.Helper()
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			for _, mix := range []fleetsim.Mix{fleetsim.MixNginx, fleetsim.MixIcecast} {
				e, c := emulator(t, mix, nil)
				_, healthy, err := get(t, e, statsURL(e))
				if err != nil {
					t.Fatal(err)
				}
				e.FailNext(1, fault)
				resp, body, err := get(t, e, statsURL(e))
				if status != 0 && (resp == nil || resp.StatusCode != status) {
					t.Fatalf("answer %+v, %v; want status %d", resp, err, status)
				}
				check(t, resp, body, err)
				polls := e.Polls()
				if said := polls[len(polls)-1]; said.Fault != fault || said.Whole == fault.damages() {
					t.Errorf("recorded %+v", said)
				}
				if fault.has(FaultRestartMid) {
					c.advance(time.Second)
				}
				if _, again, err := get(t, e, statsURL(e)); err != nil || len(again) < len(healthy)/2 {
					t.Errorf("not healed: %d bytes, %v", len(again), err)
				}
			}
		})
	}
	refused := func(t *testing.T, _ *http.Response, body []byte, err error) {
		if err != nil || bytes.Contains(body, []byte("bytes")) {
			t.Errorf("body %.100q, %v", body, err)
		}
	}
	broken := func(t *testing.T, _ *http.Response, _ []byte, err error) {
		if err == nil {
			t.Error("whole answer")
		}
	}
	whole := func(t *testing.T, _ *http.Response, body []byte, err error) {
		if err != nil || !bytes.HasPrefix(body, []byte("<?xml")) || !bytes.Contains(body[len(body)-20:], []byte("</")) {
			t.Errorf("body %.100q, %v", body, err)
		}
	}
	f(FaultUnauthorized, 401, refused)
	f(FaultForbidden, 403, refused)
	f(FaultNotFound, 404, refused)
	f(FaultInternal, 500, refused)
	f(FaultReset, 0, broken)
	f(FaultCut, 200, broken)
	f(FaultRestartMid, 200, broken)
	f(FaultStall, 200, whole)
	f(FaultStallBody, 200, whole)
	f(FaultGzip, 200, whole) // net/http unpacks it
	f(FaultChunked, 200, func(t *testing.T, resp *http.Response, body []byte, err error) {
		whole(t, resp, body, err)
		if resp.ContentLength != -1 {
			t.Errorf("length %d", resp.ContentLength)
		}
	})
	f(FaultGzip|FaultChunked, 200, whole)
	f(FaultTruncated, 200, func(t *testing.T, _ *http.Response, body []byte, err error) {
		if err != nil || xml.Unmarshal(body, &struct{}{}) == nil {
			t.Errorf("body %.100q, %v", body, err)
		}
	})
	f(FaultEmpty, 200, func(t *testing.T, _ *http.Response, body []byte, err error) {
		if err != nil || len(body) != 0 {
			t.Errorf("body %.100q, %v", body, err)
		}
	})
	f(FaultHuge, 200, func(t *testing.T, _ *http.Response, body []byte, _ error) {
		if len(body) < HugeBytes {
			t.Errorf("%d bytes", len(body))
		}
	})
	f(FaultRenamed, 200, func(t *testing.T, resp *http.Response, body []byte, err error) {
		whole(t, resp, body, err)
		if bytes.Contains(body, []byte("<bytes_in>")) || bytes.Contains(body, []byte("<total_bytes_sent>")) {
			t.Error("counters have their old names")
		}
	})
	f(FaultDuplicate, 200, whole)
}

func TestStallEndsWithTheClientAndWithClose(t *testing.T) {
	t.Parallel()
	e, _ := emulator(t, fleetsim.MixNginx, func(o *Options) { o.StallFor = time.Hour })
	e.SetFault(FaultStall)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultTransport.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", resp, err)
	}
	done := make(chan error)
	go func() {
		_, _, err := get(t, e, e.URL())
		done <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("Close let a stalled answer through")
	}
}

func find(p Poll, st *fleetsim.Stream) *StreamPoll {
	for i := range p.PerStream {
		if p.PerStream[i].App == st.App() && p.PerStream[i].Name == st.Name() {
			return &p.PerStream[i]
		}
	}
	return nil
}

// TestPublisherKilledOnNginx follows the first stream, which always has viewers.
func TestPublisherKilledOnNginx(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	st := e.Truth().Streams()[0]
	c.advance(time.Second)
	before := find(poll(t, e), st)
	e.KillPublisher(st)
	c.advance(5 * time.Second)
	dead := poll(t, e)
	got := find(dead, st)
	if got == nil || got.Publishing || got.BytesIn != before.BytesIn || got.BytesOut != before.BytesOut || got.SinceMs != before.SinceMs || got.Viewers == 0 {
		t.Fatalf("before %+v, killed %+v", before, got)
	}
	e.RevivePublisher(st)
	revived := c.ms.Load()
	c.advance(5 * time.Second)
	after := poll(t, e)
	got = find(after, st)
	truth := st.Between(revived, c.ms.Load())
	if !got.Publishing || got.SinceMs != before.SinceMs || got.BytesIn != before.BytesIn+truth.BytesIn || got.BytesOut != before.BytesOut+truth.BytesOut {
		t.Fatalf("before %+v, revived %+v, truth since %+v", before, got, truth)
	}
	if server := e.Truth().Between(revived, c.ms.Load()); after.BytesIn-dead.BytesIn != server.WireIn || after.Accepted-dead.Accepted != server.Accepted+1 { // the new publisher
		t.Errorf("server moved from %+v to %+v, truth %+v", dead.BytesIn, after.BytesIn, server)
	}
}

func TestPublisherKilledOnNginxWithoutViewers(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	st := lonely(t, e.Truth(), c.ms.Load(), 30_000)
	e.KillPublisher(st)
	c.advance(5 * time.Second)
	if got := find(poll(t, e), st); got != nil {
		t.Fatalf("a stream without publisher and viewers is shown: %+v", got)
	}
	e.RevivePublisher(st)
	revived := c.ms.Load()
	c.advance(2 * time.Second)
	if got := find(poll(t, e), st); got == nil || got.SinceMs != revived || got.BytesIn != 2_000*st.BytesPerMs() {
		t.Fatalf("revived %+v, at %d", got, revived)
	}
}

// lonely finds a stream that is on air without viewers for a while.
func lonely(t *testing.T, s *fleetsim.Server, fromMs, forMs int64) *fleetsim.Stream {
	t.Helper()
	for _, st := range s.Streams() {
		if sums := st.Between(fromMs, fromMs+forMs); sums.OnlineMs == forMs && sums.ViewerMs == 0 {
			return st
		}
	}
	t.Fatal("no stream without viewers: choose another seed")
	return nil
}

func TestPublisherStalledAndReplacedOnNginx(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	st := e.Truth().Streams()[0]
	before := find(poll(t, e), st)
	e.StallPublisher(st)
	c.advance(15 * time.Second)
	got := find(poll(t, e), st)
	if !got.Publishing || got.BytesIn != before.BytesIn || got.BytesOut != before.BytesOut {
		t.Fatalf("before %+v, stalled %+v", before, got)
	}
	e.RevivePublisher(st)
	e.ReplacePublisher(st)
	c.advance(time.Second)
	got = find(poll(t, e), st)
	if !got.Publishing || got.SinceMs != before.SinceMs || got.BytesIn != before.BytesIn+1000*st.BytesPerMs() {
		t.Fatalf("before %+v, replaced %+v", before, got)
	}
}

func TestSourceKilledAndStalledOnIcecast(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixIcecast, nil)
	st := e.Truth().Streams()[0]
	before := find(poll(t, e), st)
	e.KillPublisher(st)
	c.advance(time.Second)
	if got := find(poll(t, e), st); got != nil {
		t.Fatalf("killed source is shown: %+v", got)
	}
	e.RevivePublisher(st)
	revived := c.ms.Load()
	c.advance(3 * time.Second)
	got := find(poll(t, e), st)
	if got.SinceMs != revived || got.BytesIn != 3000*st.BytesPerMs() || got.BytesOut != st.Between(revived, c.ms.Load()).BytesOut {
		t.Fatalf("before %+v, revived %+v", before, got)
	}
	e.StallPublisher(st)
	c.advance(9 * time.Second)
	if still := find(poll(t, e), st); still == nil || still.BytesIn != got.BytesIn {
		t.Fatalf("stalled for 9 s: %+v", still)
	}
	c.advance(2 * time.Second)
	if gone := find(poll(t, e), st); gone != nil {
		t.Fatalf("stalled for 11 s: %+v", gone)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	before := poll(t, e)
	e.Restart()
	at := c.ms.Load()
	c.advance(3 * time.Second)
	after := poll(t, e)
	truth := e.Truth().Between(at, c.ms.Load())
	if after.PID == before.PID || after.StartMs != at || after.BytesIn != truth.WireIn || after.BytesOut != truth.WireOut {
		t.Errorf("before %d, after %+v, truth %+v", before.PID, after, truth)
	}
	if after.Accepted < int64(before.Streams+before.Viewers) {
		t.Errorf("%d connections accepted after a restart that cut %d", after.Accepted, before.Streams+before.Viewers)
	}
	for _, st := range after.PerStream {
		if st.SinceMs < at || st.BytesIn > 3000*700 {
			t.Errorf("stream outlived the restart: %+v", st)
		}
	}
}

func TestReloadHidesWhatRuns(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixNginx, nil)
	before := poll(t, e)
	e.Reload()
	at := c.ms.Load()
	c.advance(2 * time.Second)
	after := poll(t, e)
	if after.PID == before.PID || after.StartMs != at || after.Streams*4 > before.Streams || after.Viewers*2 > before.Viewers {
		t.Errorf("before %d streams, %d viewers; after a reload %d and %d", before.Streams, before.Viewers, after.Streams, after.Viewers)
	}
	c.advance(10 * time.Minute) // every publication but the endless ones has ended
	late := poll(t, e)
	var in int64
	for _, st := range e.Truth().Streams() {
		pub, ok := st.Publication(at)
		hidden := ok && pub.StartMs < at && pub.EndMs > c.ms.Load()
		shown := find(late, st)
		if hidden && shown != nil && (shown.Publishing || shown.BytesIn != 0) {
			t.Errorf("%s still belongs to the old worker, yet %+v", st.Name(), shown)
		}
		if pub, on := st.Publication(c.ms.Load()); on && pub.StartMs > at && (shown == nil || !shown.Publishing) {
			t.Errorf("%s began after the reload and is not shown", st.Name())
		}
		begin := at
		if ok && pub.StartMs < at {
			begin = min(pub.EndMs, c.ms.Load())
		}
		in += st.Between(begin, c.ms.Load()).OnlineMs * st.WireBytesPerMs()
	}
	if late.BytesIn < in || late.BytesIn > in+3073*late.Accepted {
		t.Errorf("server says %d bytes in, its visible streams had %d", late.BytesIn, in)
	}
}

func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	e, _ := emulator(t, fleetsim.MixNginx, func(o *Options) { o.Workers = 2 })
	a, b, again := poll(t, e), poll(t, e), poll(t, e)
	if a.PID == b.PID || a.PID != again.PID {
		t.Errorf("pids %d, %d, %d", a.PID, b.PID, again.PID)
	}
	if a.Streams == 0 || b.Streams != 0 || b.Viewers == 0 || b.BytesIn != 0 {
		t.Errorf("first worker %d streams; second %d streams, %d viewers, %d bytes", a.Streams, b.Streams, b.Viewers, b.BytesIn)
	}
	e.SetWorkers(1)
	if one := poll(t, e); one.Viewers != a.Viewers+b.Viewers {
		t.Errorf("viewers %d + %d, together %d", a.Viewers, b.Viewers, one.Viewers)
	}
}

func TestIcecastPages(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixIcecast, func(o *Options) { o.StepMs = 5000 })
	c.advance(time.Minute)
	read := func(path string) []byte {
		resp, body, err := get(t, e, e.URL()+path)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("GET %s: %v, %v", path, resp, err)
		}
		return body
	}
	var stats struct {
		Sources []struct {
			Mount     string `xml:"mount,attr"`
			Listeners int    `xml:"listeners"`
			Peak      int    `xml:"listener_peak"`
			Read      int64  `xml:"total_bytes_read"`
		} `xml:"source"`
	}
	if err := xml.Unmarshal(read("/admin/stats"), &stats); err != nil || len(stats.Sources) < 10 {
		t.Fatalf("%+v, %v", stats, err)
	}
	var status struct {
		Icestats struct {
			Source []struct{ Listeners int }
		}
	}
	if err := json.Unmarshal(read("/status-json.xsl"), &status); err != nil {
		t.Fatal(err)
	}
	var mounts struct {
		Source []struct {
			Listeners int `xml:"listeners"`
		} `xml:"source"`
	}
	if err := xml.Unmarshal(read("/admin/listmounts"), &mounts); err != nil {
		t.Fatal(err)
	}
	for i, s := range stats.Sources {
		if s.Peak < s.Listeners || status.Icestats.Source[i].Listeners != s.Listeners || mounts.Source[i].Listeners != s.Listeners {
			t.Errorf("%+v; JSON %+v, mounts %+v", s, status.Icestats.Source[i], mounts.Source[i])
		}
	}
	var clients struct {
		Source struct {
			Clients []struct{ IP, UserAgent, Connected, ID string } `xml:"listener"`
		} `xml:"source"`
	}
	if err := xml.Unmarshal(read("/admin/listclients?mount="+stats.Sources[0].Mount), &clients); err != nil || len(clients.Source.Clients) != stats.Sources[0].Listeners {
		t.Errorf("%d clients of %d, %v", len(clients.Source.Clients), stats.Sources[0].Listeners, err)
	}
	if resp, _, err := get(t, e, e.URL()+"/admin/listclients?mount=/nope"); err != nil || resp.StatusCode != 400 {
		t.Errorf("clients of a missing mount: %v, %v", resp, err)
	}
	for _, fault := range []Fault{FaultBadJSON, FaultEarlyJSON} {
		e.SetFault(fault)
		if json.Valid(read("/status-json.xsl")) {
			t.Errorf("%v makes valid JSON", fault)
		}
	}
	resp, err := http.Get(e.URL() + "/admin/stats")
	if err != nil || resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a password: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestJSONSourceIsAbsentAnObjectOrAnArray(t *testing.T) {
	t.Parallel()
	f := func(mounts int, want string) {
		t.Helper()
		fleet := fleetsim.New(fleetsim.Config{Servers: 1, Streams: max(mounts, 1), Viewers: -1, Mix: fleetsim.MixIcecast, PlainNames: true})
		e := New(Options{Truth: fleet.Server(0), Now: func() time.Time { return time.UnixMilli(fleet.StartMs()) }})
		if mounts == 0 {
			e.KillPublisher(fleet.Server(0).Streams()[0])
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status-json.xsl", nil))
		if !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), `"source"`) != (want != "") || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d mounts: %s", mounts, w.Body)
		}
	}
	f(0, "")
	f(1, `"source":{`)
	f(2, `"source":[{`)
}

func TestIcecastCountersMoveInSteps(t *testing.T) {
	t.Parallel()
	e, c := emulator(t, fleetsim.MixIcecast, func(o *Options) { o.StepMs = 5000 })
	st := e.Truth().Streams()[0]
	values := map[int64]bool{}
	for range 20 {
		c.advance(time.Second)
		values[find(poll(t, e), st).BytesIn] = true
	}
	if len(values) < 4 || len(values) > 6 {
		t.Errorf("%d values in 20 s", len(values))
	}
}

func TestServerThatIsDownResets(t *testing.T) {
	t.Parallel()
	fleet := fleetsim.New(fleetsim.Config{Servers: 1, Streams: 3, RestartEvery: time.Minute, RestartDown: 5 * time.Second})
	c := &clock{}
	c.ms.Store(fleet.Server(0).Boot(fleet.StartMs()).EndMs + 1000)
	e := New(Options{Truth: fleet.Server(0), Now: c.now})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if resp, _, err := get(t, e, e.URL()); err == nil {
		t.Errorf("a server that is down answers %v", resp)
	}
	c.advance(5 * time.Second)
	if said := poll(t, e); !said.Whole {
		t.Errorf("%+v", said)
	}
}

func TestFarm(t *testing.T) {
	t.Parallel()
	fleet := fleetsim.New(fleetsim.Config{Servers: 6, Streams: 4, Viewers: 10})
	farm := NewFarm(fleet, Options{Now: func() time.Time { return time.UnixMilli(fleet.StartMs()) }})
	if err := farm.Start(); err != nil {
		t.Fatal(err)
	}
	defer farm.Close()
	for i, e := range farm.Emulators() {
		url := farm.URL(i)
		if e.Product() == fleetsim.ProductIcecast {
			url += "/admin/stats"
		}
		resp, _, err := get(t, e, url)
		if err != nil || resp.StatusCode != 200 || len(e.Polls()) != 1 {
			t.Errorf("GET %s: %v, %v", url, resp, err)
		}
	}
	if resp, err := http.Get(strings.Replace(farm.URL(0), "sim-0001", "sim-9999", 1)); err != nil || resp.StatusCode != 404 {
		t.Errorf("unknown server: %v, %v", resp, err)
	}
}

func TestNginxNamesCollideAndEscape(t *testing.T) {
	t.Parallel()
	if a, b := nginxShown("é1"), nginxShown("è1"); a != b || a != "  1" {
		t.Errorf("%q, %q", a, b)
	}
	if got := nginxText(`a&b<c>"'`); got != `a&amp;b&lt;c&gt;&quot;'` {
		t.Errorf("escaped %q", got)
	}
}

func benchmarkServe(b *testing.B, mix fleetsim.Mix, path string) {
	fleet := fleetsim.New(fleetsim.Config{Servers: 1, Streams: 600, Churn: true, Mix: mix})
	c := &clock{}
	c.ms.Store(fleet.StartMs())
	e := New(Options{Truth: fleet.Server(0), Now: c.now, Username: "admin", Password: "x"})
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		c.advance(5 * time.Second)
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.SetBasicAuth("admin", "x")
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size), "bytes/page")
}

func BenchmarkNginx(b *testing.B)   { benchmarkServe(b, fleetsim.MixNginx, "/stat") }
func BenchmarkIcecast(b *testing.B) { benchmarkServe(b, fleetsim.MixIcecast, "/admin/stats") }
