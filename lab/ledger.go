package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/media/mediatest"
	"vigil/store"
)

const (
	showProblems = 5 // of each kind
	// stampSlackMs is how far the rounding of two clocks in milliseconds can be apart.
	stampSlackMs = 2
)

// Ledger is everything that the store of a service knows about packets.
type Ledger struct {
	Rows    []store.PacketRow
	Counted map[store.AgentEpoch]*fleet.Ledger // the dedup state
	Gaps    []store.AgentGap
	Servers map[string]store.Traffic // sums of the servers' own counters
	Streams map[string]store.Traffic // sums over their streams
	Damage  []error                  // what the store's own check found
}

// ReadLedger opens the store of a service that does not run, and reads it.
func (s *Service) ReadLedger(ctx context.Context) (_ *Ledger, err error) {
	db, err := s.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var l Ledger
	if l.Rows, err = db.PacketRows(ctx, Everything()); err != nil {
		return nil, err
	}
	if l.Counted, err = db.Ledger(ctx); err != nil {
		return nil, err
	}
	if l.Gaps, err = db.Gaps(ctx, Everything()); err != nil {
		return nil, err
	}
	if l.Servers, err = db.ServerTraffic(ctx, Everything()); err != nil {
		return nil, err
	}
	if l.Streams, err = db.StreamTraffic(ctx, Everything()); err != nil {
		return nil, err
	}
	if l.Damage, err = db.Check(ctx); err != nil {
		return nil, err
	}
	return &l, nil
}

// Books are all that is known about what agents counted: what media servers said, what
// passed the recorder, what is stored, what pages show.
type Books struct {
	Said    map[string][]mediatest.Poll // by key of the server
	Entries []Entry
	Ledger  *Ledger
	Pages   []PageSum
}

// Audit is the books set against each other.
type Audit struct {
	Account
	Lives      int // runs of agents that had packets stored
	Computed   int // packets whose numbers were computed from what the media server said
	Uncomputed int // packets behind one that is not there: nothing to compute them from
	GivenUp    int // packet numbers in gaps
	BytesOut   int64
	Paged      int // pages that were held against rows
	Problems   []string
}

func (a *Audit) problem(format string, args ...any) {
	a.Problems = append(a.Problems, fmt.Sprintf(format, args...))
}

// Err is nil when the books agree.
func (a *Audit) Err() error {
	errs := []error{a.Account.Err()}
	if n := len(a.Problems); n > 0 {
		errs = append(errs, fmt.Errorf("%d disagreements: %v", n, a.Problems[:min(n, showProblems)]))
	}
	return errors.Join(errs...)
}

// Audit sets the books against each other: every acknowledged packet is stored once and
// as it was sent; its numbers are what the media server said at its poll less what it
// said at the poll before; dedup state, rows, gaps, sums and pages agree.
func (b *Books) Audit() *Audit {
	a := &Audit{Account: Settle(b.Entries, b.Ledger.Rows)}
	stored := map[fleet.PacketID]bool{}
	for _, row := range b.Ledger.Rows {
		stored[row.ID] = true
		a.BytesOut += row.BytesOut.Or(0)
	}
	var there []Entry
	for _, e := range b.Entries {
		if stored[e.ID] {
			there = append(there, e)
		}
	}
	for _, damage := range b.Ledger.Damage {
		a.problem("damage: %v", damage)
	}
	a.checkCounted(b)
	a.checkSums(there, b.Ledger)
	for _, life := range livesOf(there) {
		a.Lives++
		a.checkLife(life, b.Said)
	}
	for _, page := range b.Pages {
		a.checkPage(page, there)
	}
	return a
}

// checkCounted compares the dedup state with rows and gaps, and looks for holes below
// what was acknowledged.
func (a *Audit) checkCounted(b *Books) {
	rows := map[store.AgentEpoch]*fleet.SeqSet{}
	fill := func(agent string, epoch, first, last uint64) uint64 {
		key := store.AgentEpoch{Agent: agent, Epoch: epoch}
		if rows[key] == nil {
			rows[key] = &fleet.SeqSet{}
		}
		added, err := rows[key].Fill(fleet.SeqRange{First: first, Last: last})
		if err != nil {
			a.problem("%s/%016x: %v", agent, epoch, err)
		}
		return added
	}
	for _, row := range b.Ledger.Rows {
		fill(row.ID.Agent, row.ID.Epoch, row.FirstSeq, row.ID.Seq)
	}
	for _, gap := range b.Ledger.Gaps {
		a.GivenUp += int(fill(gap.Agent, gap.Epoch, gap.FirstSeq, gap.LastSeq))
	}
	acked, epochs := map[store.AgentEpoch]uint64{}, map[string]uint64{}
	for _, e := range b.Entries {
		if key := (store.AgentEpoch{Agent: e.ID.Agent, Epoch: e.ID.Epoch}); e.Acked > 0 {
			acked[key] = max(acked[key], e.ID.Seq)
		}
		// A spool that takes itself for a copy numbers what it has anew, and what the service had
		// already would be counted again.
		if first, known := epochs[e.ID.Agent]; known && first != e.ID.Epoch {
			a.problem("%s took its spool for a copy of another one", e.ID.Agent)
		}
		epochs[e.ID.Agent] = e.ID.Epoch
	}
	for key, want := range rows {
		counted := b.Ledger.Counted[key]
		if counted == nil {
			a.problem("%s/%016x has rows and no dedup state", key.Agent, key.Epoch)
			continue
		}
		got := counted.Settled()
		if got.High() != want.High() || !slices.Equal(got.Ahead(), want.Ahead()) {
			a.problem("%s/%016x: dedup state is 1-%d and %v, rows and gaps are 1-%d and %v",
				key.Agent, key.Epoch, got.High(), got.Ahead(), want.High(), want.Ahead())
		}
		if want.High() < acked[key] {
			a.problem("%s/%016x: number %d is neither stored nor given up, %d was acknowledged", key.Agent, key.Epoch, want.High()+1, acked[key])
		}
	}
	for key := range b.Ledger.Counted {
		if rows[key] == nil {
			a.problem("%s/%016x has a dedup state and no rows", key.Agent, key.Epoch)
		}
	}
}

// checkSums compares the store's sums with the sums of the packets.
func (a *Audit) checkSums(there []Entry, l *Ledger) {
	type sums struct{ in, out, streamsIn, streamsOut fleet.Int }
	want := map[string]sums{}
	for _, e := range there {
		for i := range e.Packet.Snapshots {
			s := &e.Packet.Snapshots[i]
			w := want[s.Server.Key]
			w.in, w.out = w.in.Plus(s.Totals.BytesIn), w.out.Plus(s.Totals.BytesOut)
			for _, st := range s.Streams {
				w.streamsIn, w.streamsOut = w.streamsIn.Plus(st.BytesIn), w.streamsOut.Plus(st.BytesOut)
			}
			want[s.Server.Key] = w
		}
	}
	for key, w := range want {
		got := sums{l.Servers[key].BytesIn, l.Servers[key].BytesOut, l.Streams[key].BytesIn, l.Streams[key].BytesOut}
		if got != w {
			a.problem("server %s: sums (in, out, of streams in, out) are %v, of its packets %v", key, got, w)
		}
	}
	for key := range l.Servers {
		if _, known := want[key]; !known {
			a.problem("server %s has sums and no packets", key)
		}
	}
}

// livesOf sorts packets into runs of agents, each in the order of its packets.
func livesOf(entries []Entry) [][]Entry {
	type life struct {
		agent string
		epoch uint64
		boot  uint64
	}
	lives := map[life][]Entry{}
	for _, e := range entries {
		key := life{e.ID.Agent, e.ID.Epoch, e.Packet.Boot}
		lives[key] = append(lives[key], e)
	}
	all := make([][]Entry, 0, len(lives))
	for _, list := range lives {
		slices.SortFunc(list, func(x, y Entry) int { return cmp.Compare(x.ID.Seq, y.ID.Seq) })
		all = append(all, list)
	}
	return all
}

// checkLife computes the numbers of the packets of one run of an agent from what its
// media servers said.
func (a *Audit) checkLife(life []Entry, said map[string][]mediatest.Poll) {
	at := map[string][]mediatest.Poll{} // what may have been said at the last packet's poll
	whole := true
	for i, e := range life {
		if i == 0 || e.Packet.FirstSeq != life[i-1].ID.Seq+1 {
			// The first number of a run is only remembered, so the first packet must have none.
			// A hole inside a run breaks the chain.
			whole = i == 0
			at = map[string][]mediatest.Poll{}
		}
		for n := range e.Packet.Snapshots {
			s := &e.Packet.Snapshots[n]
			if strings.HasPrefix(s.Server.Key, swarmPrefix) {
				continue // its numbers are made up, and compared with what was sent
			}
			now, ok := a.checkSnapshot(e.ID, s, at[s.Server.Key], said[s.Server.Key], whole)
			if ok {
				at[s.Server.Key] = now
			}
		}
	}
}

// checkSnapshot compares one snapshot and returns the answers that it can be of.
func (a *Audit) checkSnapshot(id fleet.PacketID, s *fleet.Snapshot, before, said []mediatest.Poll, whole bool) (now []mediatest.Poll, ok bool) {
	merged := s.Flags&fleet.FlagMerged != 0
	out, known := s.Totals.BytesOut.Get()
	in := s.Totals.BytesIn.Or(0)
	if !s.Status.HasNumbers() && !merged {
		if known {
			a.problem("%s: %v bytes out although the poll failed", id, out)
		}
		return nil, false
	}
	reach := s.LatencyMs
	if merged {
		reach = s.IntervalMs
	}
	could := saidBetween(said, s.AtMs-reach-stampSlackMs, s.AtMs)
	switch {
	case len(could) == 0:
		a.problem("%s: its numbers are of %d, and %s said nothing then", id, s.AtMs, s.Server.Key)
		return nil, false
	case !known && before == nil:
		return could, true
	case !known:
		a.problem("%s: no bytes out, and it is not the first of its run", id)
		return could, true
	case before == nil && (merged || !whole):
		a.Uncomputed++
		return could, true
	case before == nil:
		a.problem("%s: %d bytes out in the first packet of a run", id, out)
		return could, true
	}
	a.Computed++
	for _, p := range could {
		if slices.ContainsFunc(before, func(b mediatest.Poll) bool {
			sums, _ := mediatest.Sums([]mediatest.Poll{b, p})
			return sums.BytesOut == out && sums.BytesIn == in
		}) {
			now = append(now, p)
		}
	}
	if len(now) == 0 {
		last, first := could[len(could)-1], before[len(before)-1]
		sums, _ := mediatest.Sums([]mediatest.Poll{first, last})
		a.problem("%s at %d: %d in and %d out, but %s said %d and %d more at %d than at %d", id, s.AtMs, in, out, s.Server.Key,
			sums.BytesIn, sums.BytesOut, last.At.UnixMilli(), first.At.UnixMilli())
		return could, true
	}
	return now, true
}

// saidBetween returns the whole answers of a span of time, both ends included.
func saidBetween(said []mediatest.Poll, fromMs, toMs int64) []mediatest.Poll {
	i, _ := slices.BinarySearchFunc(said, fromMs, func(p mediatest.Poll, ms int64) int { return cmp.Compare(p.At.UnixMilli(), ms) })
	var list []mediatest.Poll
	for ; i < len(said) && said[i].At.UnixMilli() <= toMs; i++ {
		if said[i].Whole {
			list = append(list, said[i])
		}
	}
	return list
}

// PageSum is what a page says about a span of time, of one server or, with an empty
// key, of the fleet.
type PageSum struct {
	Server  string
	FromMs  int64 `json:"from_ms"`
	ToMs    int64 `json:"to_ms"`
	Summary struct {
		InBytes  fleet.Int `json:"in_bytes"`
		OutBytes fleet.Int `json:"out_bytes"`
	} `json:"summary"`
	Points []struct {
		InBytes  fleet.Int `json:"in_bytes"`
		OutBytes fleet.Int `json:"out_bytes"`
	} `json:"points"`
}

// PageSum asks the JSON of a server's page, or of the first page when the key is empty.
func (c *Client) PageSum(ctx context.Context, server string) (PageSum, error) {
	path := "/api/v1/now"
	if server != "" {
		path = "/api/v1/servers/" + server
	}
	var page struct {
		Chart *PageSum `json:"chart"`
	}
	if err := c.Get(ctx, path, &page); err != nil {
		return PageSum{}, err
	}
	if page.Chart == nil {
		return PageSum{}, fmt.Errorf("%s has no chart", path)
	}
	page.Chart.Server = server
	return *page.Chart, nil
}

// checkPage compares a page with the packets whose intervals end in its window.
func (a *Audit) checkPage(page PageSum, there []Entry) {
	var in, out, pointsIn, pointsOut fleet.Int
	for _, e := range there {
		for i := range e.Packet.Snapshots {
			s := &e.Packet.Snapshots[i]
			if (page.Server == "" || page.Server == s.Server.Key) && page.FromMs < s.AtMs && s.AtMs <= page.ToMs {
				in, out = in.Plus(s.Totals.BytesIn), out.Plus(s.Totals.BytesOut)
			}
		}
	}
	for _, p := range page.Points {
		pointsIn, pointsOut = pointsIn.Plus(p.InBytes), pointsOut.Plus(p.OutBytes)
	}
	if page.Summary.InBytes != in || page.Summary.OutBytes != out || pointsIn != in || pointsOut != out {
		a.problem("page of %q: %v in and %v out, its points %v and %v, the packets in its time %v and %v", page.Server,
			page.Summary.InBytes, page.Summary.OutBytes, pointsIn, pointsOut, in, out)
	}
	if out.Known() {
		a.Paged++
	}
}

// LongestSilence is the longest time without any acknowledgement between the first and
// the last one.
func LongestSilence(entries []Entry) time.Duration {
	var at []int64
	for _, e := range entries {
		if e.AckedMs > 0 {
			at = append(at, e.AckedMs)
		}
	}
	slices.Sort(at)
	longest := int64(0)
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i]-at[i-1])
	}
	return time.Duration(longest) * time.Millisecond
}
