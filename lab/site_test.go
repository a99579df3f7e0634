package lab_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/lab"
	"vigil/media/mediatest/real"
	"vigil/store"
)

// How long conditions are waited for. They are upper ends for a busy machine; what is
// promised in numbers of polls is counted in polls.
const (
	soon     = 30 * time.Second
	pageSoon = 10 * time.Second // until a page is right after something came back
)

// site is what several scenarios share: one service, a recorder in front of it, and a
// place for media servers. Each scenario has media servers and an agent of its own.
type site struct {
	*lab.Lab
	real     *real.Lab
	service  *lab.Service
	recorder *lab.Recorder
	client   *lab.Client

	mu     sync.Mutex
	agents []*lab.Agent // guarded by mu
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Lab: newLab(t), real: newReal(t)}
	s.service = must[*lab.Service](t)(s.NewService(t.Context(), lab.ServiceOptions{}))
	noErr(t, s.service.Start(t.Context()))
	s.recorder = must[*lab.Recorder](t)(s.NewRecorder(t.Context(), s.service.Ingest))
	s.client = must[*lab.Client](t)(s.service.Login(t.Context()))
	return s
}

// watch starts an agent.
func (s *site) watch(t *testing.T, name string, interval time.Duration, servers ...lab.MediaServer) *lab.Agent {
	t.Helper()
	agent := must[*lab.Agent](t)(s.NewAgent(lab.AgentOptions{
		Name: name, Service: s.recorder.URL, TokenFile: s.service.TokenFile, Interval: interval, Servers: servers,
	}))
	noErr(t, agent.Start(t.Context()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents = append(s.agents, agent)
	return agent
}

func rtmp(name string, n *real.Nginx) lab.MediaServer {
	return lab.MediaServer{Name: name, Product: "nginx-rtmp", URL: n.StatURL}
}

func icecast(name string, i *real.Icecast) lab.MediaServer {
	return lab.MediaServer{
		Name: name, Product: "icecast", URL: i.URL, Username: real.IcecastAdmin, Password: real.IcecastPassword,
		ClientListEvery: time.Second,
	}
}

// polls returns what the agent told about one server, in order of time.
func (s *site) polls(server string) []fleet.Snapshot {
	var all []fleet.Snapshot
	for _, e := range s.recorder.Entries() {
		for _, snap := range e.Packet.Snapshots {
			if snap.Server.Key == server {
				all = append(all, snap)
			}
		}
	}
	slices.SortFunc(all, func(a, b fleet.Snapshot) int { return cmp.Compare(a.AtMs, b.AtMs) })
	return all
}

// awaitPoll waits until something that an agent told about a server satisfies a
// condition, among what was read after a time.
func (s *site) awaitPoll(t *testing.T, server, what string, afterMs int64, ok func(fleet.Snapshot) bool) {
	t.Helper()
	noErr(t, lab.Await(t.Context(), soon, what, func(context.Context) error {
		polls := s.polls(server)
		for _, p := range polls {
			if p.AtMs > afterMs && ok(p) {
				return nil
			}
		}
		if len(polls) == 0 {
			return fmt.Errorf("nothing was told about %s", server)
		}
		return fmt.Errorf("%d polls; the last: %+v", len(polls), polls[len(polls)-1])
	}))
}

func anyPoll(fleet.Snapshot) bool    { return true }
func goodPoll(p fleet.Snapshot) bool { return p.Status.HasNumbers() }

// sample returns what a snapshot says of a stream.
func sample(p fleet.Snapshot, name string) (fleet.StreamSample, bool) {
	for _, st := range p.Streams {
		if st.Key.Name == name {
			return st, true
		}
	}
	return fleet.StreamSample{}, false
}

// pollsUntil counts the polls after a time, up to the first with a stream in a state.
func (s *site) pollsUntil(t *testing.T, server, stream string, afterMs int64, state fleet.StreamState) (n int) {
	t.Helper()
	reached := func(p fleet.Snapshot) bool {
		st, ok := sample(p, stream)
		return ok && st.State == state
	}
	s.awaitPoll(t, server, fmt.Sprintf("%s is %v", stream, state), afterMs, reached)
	for _, p := range s.polls(server) {
		if p.AtMs <= afterMs {
			continue
		}
		n++
		if reached(p) {
			break
		}
	}
	return n
}

// counted adds up what was told about a stream; with an empty name, what servers count
// themselves.
func (s *site) counted(server, name string) (in, out int64) {
	for _, p := range s.polls(server) {
		if name == "" {
			in, out = in+p.Totals.BytesIn.Or(0), out+p.Totals.BytesOut.Or(0)
			continue
		}
		for _, st := range p.Streams {
			if st.Key.Name == name {
				in, out = in+st.BytesIn.Or(0), out+st.BytesOut.Or(0)
			}
		}
	}
	return in, out
}

// awaitServer waits until the JSON of the pages shows a server in a way.
func (s *site) awaitServer(t *testing.T, key, what string, within time.Duration, ok func(lab.Server) bool) lab.Server {
	t.Helper()
	var row lab.Server
	noErr(t, lab.Await(t.Context(), within, key+": "+what, func(ctx context.Context) (err error) {
		if row, err = s.client.Server(ctx, key); err == nil && !ok(row) {
			err = fmt.Errorf("the page shows %+v", row)
		}
		return err
	}))
	return row
}

// awaitStream is awaitServer for a stream.
func (s *site) awaitStream(t *testing.T, key fleet.StreamKey, what string, within time.Duration, ok func(lab.Stream) bool) lab.Page {
	t.Helper()
	var page lab.Page
	noErr(t, lab.Await(t.Context(), within, key.Name+": "+what, func(ctx context.Context) (err error) {
		page, err = s.client.StreamPage(ctx, lab.StreamQuery(key))
		switch {
		case err != nil:
		case page.Stream == nil:
			err = fmt.Errorf("the page shows no stream of now")
		case !ok(*page.Stream):
			err = fmt.Errorf("the page shows %+v", *page.Stream)
		}
		return err
	}))
	return page
}

func live(server, name string) fleet.StreamKey {
	return fleet.StreamKey{Server: server, App: "live", Name: name}
}

func mount(server, name string) fleet.StreamKey { return fleet.StreamKey{Server: server, Name: name} }

// isLive tells whether a stream is on air with so many viewers and with data.
func isLive(viewers int64) func(lab.Stream) bool {
	return func(s lab.Stream) bool {
		return s.State == "online" && s.Viewers == fleet.Of(viewers) && s.InBps.Or(0) > 0 && (viewers == 0 || s.OutBps.Or(0) > 0)
	}
}

// settle stops everything in order and sets the recorder's book against its store. The store
// is left open for the test.
func (s *site) settle(t *testing.T) store.Reader {
	t.Helper()
	for _, a := range s.agents {
		noErr(t, a.AwaitDrained(t.Context(), soon))
		noErr(t, a.Stop())
	}
	noErr(t, s.recorder.AwaitStored(t.Context(), s.client, soon))
	noErr(t, s.service.Stop())
	account, err := s.recorder.Settle(t.Context(), s.service)
	t.Logf("%d packets sent, %d acknowledged, %d stored", account.Sent, account.Acked, account.Stored)
	if err != nil {
		t.Error(err)
	}
	if account.Acked == 0 || account.Stored < account.Acked {
		t.Errorf("%d packets stored of %d acknowledged", account.Stored, account.Acked)
	}
	db, err := s.service.OpenStore(t.Context())
	noErr(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// checkDeltas looks at every number that was told: none is negative, none is larger
// than what can have passed in its time.
func (s *site) checkDeltas(t *testing.T, mostPerSecond int64) {
	t.Helper()
	for _, e := range s.recorder.Entries() {
		for _, p := range e.Packet.Snapshots {
			// Counters that move in steps may show several seconds at once.
			most := mostPerSecond * (p.IntervalMs + 7_000) / 1000
			check := func(what string, n fleet.Int) {
				if v, ok := n.Get(); ok && (v < 0 || v > most) {
					t.Errorf("packet %s, server %s over %d ms: %s = %d, want 0 to %d", e.ID, p.Server.Key, p.IntervalMs, what, v, most)
				}
			}
			check("bytes in", p.Totals.BytesIn)
			check("bytes out", p.Totals.BytesOut)
			for _, st := range p.Streams {
				check(st.Key.Name+" bytes in", st.BytesIn)
				check(st.Key.Name+" bytes out", st.BytesOut)
			}
		}
	}
}

// payloadBps is the bit rate of what is inside the tags of an FLV file: what servers
// count. Everything around it is the container's.
func payloadBps(t *testing.T, clip real.Clip) float64 {
	t.Helper()
	const fileHeader, tagHeader, tagTail = 13, 11, 4
	data := must[[]byte](t)(os.ReadFile(clip.Path))
	sum := 0
	for at := fileHeader; at+tagHeader <= len(data); {
		size := int(binary.BigEndian.Uint32(data[at:]) & 0xffffff) // a byte of type, three of size
		sum += size
		at += tagHeader + size + tagTail
	}
	return float64(sum) * 8 / clip.Seconds
}

// near reports whether got is within a share of want.
func near(got, want, share float64) bool { return got >= want*(1-share) && got <= want*(1+share) }
