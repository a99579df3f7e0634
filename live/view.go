package live

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"vigil/fleet"
)

const (
	// silentAfter is how many intervals without a packet make a server silent.
	silentAfter = 3
	// defaultIntervalMs stands for the interval of a server that has not told it yet.
	defaultIntervalMs = 10_000
	// offlineFor is how long a stream that ended is still listed.
	offlineFor = 24 * time.Hour
	// maxOffline bounds how many of those there are; the oldest go first.
	maxOffline = 100_000
	// forgetServerAfter is how long a silent server is still listed.
	forgetServerAfter = 7 * 24 * time.Hour
	// maxAheadMs is how far the clock of a server's agent may be ahead before its snapshots
	// do not count as newest any more: one from tomorrow must not hide all of today.
	maxAheadMs = 60_000
	// maxIntervalMs is the longest interval that is believed: an hour is twelve times what an
	// agent can be told. A server is silent after a few of them.
	maxIntervalMs = 3_600_000
	// sweepEvery is how often what is too old is dropped.
	sweepEvery = time.Minute
	unknown    = -1
)

// View is what is on air now. Safe for concurrent use.
type View struct {
	mu      sync.RWMutex
	servers map[string]*server // guarded by mu
	sorted  []*server          // by key; guarded by mu
	count   int                // streams in all servers; guarded by mu
	offline int                // of those, offline ones; guarded by mu
	asOfMs  int64              // newest snapshot; guarded by mu
	version uint64             // guarded by mu
	changed chan struct{}      // closed at the next change; nil until somebody asks; guarded by mu
	swept   time.Time          // guarded by mu
	most    int                // streams to keep; set by New
	// sweepAbove is the number of streams that calls for a sweep at once. It lies above
	// what the last one left, so that a full view is not searched at every snapshot.
	sweepAbove int       // guarded by mu
	dropped    uint64    // streams forgotten for want of room; guarded by mu
	scratch    []byte    // guarded by mu for writing
	added      []*stream // since the name order was made; guarded by mu
	members    uint64    // grows when streams come or go; guarded by mu

	orders orders
}

var _ Reader = (*View)(nil)

// server is one server and its streams. Guarded by View.mu.
type server struct {
	key      string
	lower    string
	agent    string
	received time.Time
	interval int64 // ms, of the last interval that was not merged
	newestMs int64 // the time that a newer snapshot must have
	row      ServerRow
	streams  map[string]*stream // by packed name
	online   int64
	idle     int64
	viewers  fleet.Int // sum over streams
	round    uint64    // number of the last snapshot that listed streams
	rank     int64     // place among the servers; guarded by orders.mu
}

// A stream takes about 300 bytes with its name. Unknown numbers are -1. Guarded by
// View.mu, except what never changes: server, packed, lower and the offsets.
type stream struct {
	server   *server
	packed   string // the key of server.streams: lengths and parts of the name
	lower    string // app and name in lower case, for searching; a part of packed if that is the same
	offsets  [4]uint32
	appEnd   uint32 // in lower
	state    fleet.StreamState
	tech     fleet.Tech
	gone     bool
	flags    fleet.SampleFlags
	media    unique.Handle[fleet.Media]
	ip       string
	byTech   []fleet.TechViewers
	viewers  int64
	inBps    int64
	outBps   int64
	onlineMs int64
	atMs     int64
	round    uint64
}

// New returns an empty view.
func New() *View {
	return &View{servers: map[string]*server{}, most: maxStreams, sweepAbove: maxStreams}
}

// Apply puts one snapshot into the view. One that is older than what is shown of its
// server changes nothing, so packets may come in any order. The view keeps no reference
// to the snapshot.
func (v *View) Apply(agent string, received time.Time, s *fleet.Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	atMs := min(s.AtMs, received.UnixMilli()+maxAheadMs)
	srv := v.servers[s.Server.Key]
	if srv == nil {
		srv = v.addServer(s.Server.Key)
	} else if atMs < srv.newestMs {
		return
	}
	srv.newestMs = atMs
	srv.applyRow(agent, received, s)
	if s.Status.HasNumbers() {
		v.applyStreams(srv, s)
	}
	v.asOfMs = max(v.asOfMs, atMs)
	v.version++
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
	if received.Sub(v.swept) >= sweepEvery || v.offline > 2*maxOffline || v.count > v.sweepAbove {
		v.sweep(received)
	}
}

func (v *View) addServer(key string) *server {
	key = strings.Clone(key)
	srv := &server{key: key, lower: strings.ToLower(key), streams: map[string]*stream{}, interval: defaultIntervalMs}
	srv.row = ServerRow{Key: key}
	v.servers[key] = srv
	i, _ := slices.BinarySearchFunc(v.sorted, key, func(s *server, key string) int { return strings.Compare(s.key, key) })
	v.sorted = slices.Insert(v.sorted, i, srv)
	return srv
}

// keep returns old when it says the same, so that no packet's memory is held.
func keep(old, s string) string {
	if old == s {
		return old
	}
	return strings.Clone(s)
}

func (srv *server) applyRow(agent string, received time.Time, s *fleet.Snapshot) {
	if s.IntervalMs > 0 && s.Flags&fleet.FlagMerged == 0 {
		srv.interval = min(s.IntervalMs, maxIntervalMs)
	}
	srv.agent = keep(srv.agent, agent)
	srv.received = received
	old := &srv.row
	info := &s.Server
	row := ServerRow{
		Key: srv.key, Agent: srv.agent, Product: keep(old.Product, info.Product), Version: keep(old.Version, info.Version),
		Verified: keep(old.Verified, info.Verified), Status: s.Status, Detail: keep(old.Detail, s.Detail),
		AtMs: s.AtMs, ReceivedMs: received.UnixMilli(), IntervalMs: srv.interval, StartedMs: info.StartedMs,
		LatencyMs: s.LatencyMs, Workers: info.Workers,
	}
	if s.Status.HasNumbers() {
		row.Streams, row.Viewers, row.Publishers = info.StreamsNow, info.ViewersNow, info.PublishersNow
		row.InBps, row.OutBps = rate(s.Totals.BytesIn, s.CoveredMs), rate(s.Totals.BytesOut, s.CoveredMs)
		row.CPUMilliPct, row.MemRSSBytes, row.ConnsNow = info.CPUMilliPct, info.MemRSSBytes, info.ConnsNow
	}
	srv.row = row
}

// rate is bytes over a time in bit/s, rounded to the nearest.
func rate(bytes fleet.Int, coveredMs int64) fleet.Int {
	b, known := bytes.Get()
	if !known || coveredMs <= 0 || b < 0 {
		return fleet.Int{}
	}
	if b > (1<<63-1)/8000-1 {
		return fleet.Of(b / coveredMs * 8000)
	}
	return fleet.Of((b*8000 + coveredMs/2) / coveredMs)
}

// applyStreams brings the streams of a server up to date. One that is not in the
// snapshot has ended; when only a part of the server could be read, it may still run.
func (v *View) applyStreams(srv *server, s *fleet.Snapshot) {
	srv.round++
	for i := range s.Streams {
		sample := &s.Streams[i]
		v.scratch = pack(v.scratch[:0], &sample.Key)
		st := srv.streams[string(v.scratch)]
		if st == nil {
			st = v.addStream(srv, &sample.Key)
		}
		if st.state == fleet.StateOffline {
			v.offline--
		}
		st.apply(sample, s)
		st.round = srv.round
		if st.state == fleet.StateOffline {
			v.offline++
		}
	}
	srv.online, srv.idle, srv.viewers = 0, 0, fleet.Int{}
	for _, st := range srv.streams {
		if st.round != srv.round {
			v.vanish(st, s)
		}
		switch st.state {
		case fleet.StateOnline:
			srv.online++
		case fleet.StateIdle:
			srv.idle++
		}
		if st.round == srv.round && st.viewers != unknown {
			srv.viewers = srv.viewers.Plus(fleet.Of(st.viewers))
		}
	}
}

func (v *View) vanish(st *stream, s *fleet.Snapshot) {
	if st.state == fleet.StateOffline {
		return
	}
	st.viewers, st.inBps, st.outBps, st.byTech = unknown, unknown, unknown, nil
	if s.Status == fleet.StatusPartial {
		st.state = fleet.StateHidden
		return
	}
	st.state = fleet.StateOffline
	st.atMs = s.AtMs // since when it is offline
	v.offline++
}

func (st *stream) apply(x *fleet.StreamSample, s *fleet.Snapshot) {
	covered := x.CoveredMs.Or(s.IntervalMs)
	st.state, st.tech, st.flags, st.atMs = x.State, x.Tech, x.Flags, s.AtMs
	if x.NameCollision {
		st.flags |= fleet.FlagNameCollision
	}
	st.viewers, st.onlineMs = numberOr(x.Viewers), numberOr(x.OnlineSinceMs)
	st.inBps, st.outBps = numberOr(rate(x.BytesIn, covered)), numberOr(rate(x.BytesOut, covered))
	st.ip = keep(st.ip, x.PublisherIP)
	if st.media == (unique.Handle[fleet.Media]{}) || st.media.Value() != x.Media {
		st.media = unique.Make(x.Media)
	}
	if len(x.ByTech) == 0 {
		st.byTech = nil
	} else if !slices.Equal(st.byTech, x.ByTech) {
		st.byTech = slices.Clone(x.ByTech)
	}
}

func (v *View) addStream(srv *server, key *fleet.StreamKey) *stream {
	st := newStream(srv, key, string(v.scratch))
	srv.streams[st.packed] = st
	v.count++
	v.members++
	v.added = append(v.added, st)
	return st
}

func (v *View) removeStream(st *stream) {
	if st.state == fleet.StateOffline {
		v.offline--
	}
	delete(st.server.streams, st.packed)
	st.gone = true
	v.count--
	v.members++
}

// sweep drops what ended long ago.
func (v *View) sweep(now time.Time) {
	v.swept = now
	before := now.Add(-offlineFor).UnixMilli()
	var ended []*stream
	for _, srv := range slices.Clone(v.sorted) {
		if now.Sub(srv.received) > forgetServerAfter {
			v.removeServer(srv)
			continue
		}
		for _, st := range srv.streams {
			switch {
			case st.state != fleet.StateOffline:
			case st.atMs < before:
				v.removeStream(st)
			case v.offline > maxOffline:
				ended = append(ended, st)
			}
		}
	}
	if excess := v.offline - maxOffline; excess > 0 {
		slices.SortFunc(ended, func(a, b *stream) int { return int(min(max(a.atMs-b.atMs, -1), 1)) })
		for _, st := range ended[:min(excess, len(ended))] {
			v.removeStream(st)
		}
	}
	v.makeRoom(now)
}

func (v *View) removeServer(srv *server) {
	for _, st := range srv.streams {
		v.removeStream(st)
	}
	delete(v.servers, srv.key)
	v.sorted = slices.DeleteFunc(v.sorted, func(s *server) bool { return s == srv })
}

func (srv *server) silent(now time.Time) bool {
	return now.Sub(srv.received) > silentAfter*time.Duration(srv.interval)*time.Millisecond
}

// Version grows with every change.
func (v *View) Version() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.version
}

// Changed returns a channel that is closed at the next change.
func (v *View) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.changed
}

// Totals is the fleet now. Numbers of a server count while it is neither silent nor
// failed; viewers come from the server's own count, or from its streams when the server
// has none.
func (v *View) Totals(now time.Time) Totals {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := Totals{AsOfMs: v.asOfMs, Servers: int64(len(v.sorted))}
	for _, srv := range v.sorted {
		if srv.silent(now) {
			t.ServersSilent++
			continue
		}
		if !srv.row.Status.HasNumbers() {
			t.ServersFailed++
			continue
		}
		t.ServersOK++
		if t.OldestMs == 0 || srv.row.AtMs < t.OldestMs {
			t.OldestMs = srv.row.AtMs
		}
		t.Streams += srv.online + srv.idle
		t.StreamsIdle += srv.idle
		viewers := srv.row.Viewers
		if !viewers.Known() {
			viewers = srv.viewers
		}
		t.Viewers = t.Viewers.Plus(viewers)
		t.Publishers = t.Publishers.Plus(srv.row.Publishers)
		t.InBps, t.OutBps = t.InBps.Plus(srv.row.InBps), t.OutBps.Plus(srv.row.OutBps)
	}
	return t
}

// Servers lists all servers by key.
func (v *View) Servers(now time.Time) []ServerRow {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rows := make([]ServerRow, len(v.sorted))
	for i, srv := range v.sorted {
		rows[i] = srv.row
		rows[i].Silent = srv.silent(now)
	}
	return rows
}

// Server returns one server.
func (v *View) Server(now time.Time, key string) (ServerRow, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	srv, found := v.servers[key]
	if !found {
		return ServerRow{}, false
	}
	row := srv.row
	row.Silent = srv.silent(now)
	return row, true
}
