package reporttest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/live"
)

// conditionOf says how server i is in a scenario.
func conditionOf(s Scenario, i int) (status fleet.PollStatus, detail string, silent bool) {
	switch {
	case s == Silent:
		return fleet.StatusOK, "", true
	case s == Gaps && i == 2:
		return fleet.StatusUnreachable, "connection to 127.0.0.1:8080 was refused: the statistics page of nginx does not answer", false
	case s == Gaps && i == 7:
		return fleet.StatusOK, "", true
	case (s == Gaps || s == Normal || s == Broken) && i == 5:
		return fleet.StatusPartial, "2 of 4 nginx workers answered in time; the numbers are true of those two", false
	}
	return fleet.StatusOK, "", false
}

func (w *World) lastTick(now time.Time, silent bool) time.Time {
	if silent {
		return tick(now.Add(-silentFor))
	}
	return tick(now)
}

// Totals implements live.Reader.
func (w *World) Totals(now time.Time) live.Totals {
	var t live.Totals
	for _, row := range w.Servers(now) {
		t.Servers++
		t.AsOfMs = max(t.AsOfMs, row.AtMs)
		if row.Silent {
			t.ServersSilent++
			continue
		}
		if !row.Status.HasNumbers() {
			t.ServersFailed++
			continue
		}
		t.ServersOK++
		if t.OldestMs == 0 || row.AtMs < t.OldestMs {
			t.OldestMs = row.AtMs
		}
		t.Streams += row.Streams.Or(0)
		t.Viewers, t.Publishers = t.Viewers.Plus(row.Viewers), t.Publishers.Plus(row.Publishers)
		t.InBps, t.OutBps = t.InBps.Plus(row.InBps), t.OutBps.Plus(row.OutBps)
	}
	for i := range w.streams {
		if w.streams[i].state == fleet.StateIdle && t.ServersOK > 0 {
			t.StreamsIdle++
		}
	}
	return t
}

// Servers implements live.Reader.
func (w *World) Servers(now time.Time) []live.ServerRow {
	if w.scene() == Empty {
		return nil
	}
	w.orderMu.Lock()
	defer w.orderMu.Unlock()
	key := order{at: tick(now), scenario: w.scene()}
	if key != w.rowsOf {
		rows := make([]live.ServerRow, 0, len(w.servers))
		for i := range w.servers {
			rows = append(rows, w.serverRow(now, i))
		}
		slices.SortFunc(rows, func(a, b live.ServerRow) int { return cmp.Compare(a.Key, b.Key) })
		w.rowsOf, w.rows = key, rows
	}
	return slices.Clone(w.rows)
}

func (w *World) serverRow(now time.Time, i int) live.ServerRow {
	s := &w.servers[i]
	status, detail, silent := conditionOf(w.scene(), i)
	at := w.lastTick(now, silent)
	row := live.ServerRow{
		Key: s.key, Agent: s.key, Product: s.product, Version: s.version, Verified: s.verified, Status: status, Detail: detail,
		Silent: silent, AtMs: at.UnixMilli(), ReceivedMs: at.Add(180 * time.Millisecond).UnixMilli(),
		IntervalMs: interval.Milliseconds(), LatencyMs: 3 + int64(9*noise(s.key, at.Unix())),
	}
	if !status.HasNumbers() {
		return row
	}
	row.StartedMs = fleet.Of(at.Add(-time.Duration(i+1) * 71 * time.Hour).UnixMilli())
	row.Workers = fleet.Of(4)
	row.ConnsNow = fleet.Of(0)
	row.CPUMilliPct = fleet.Of(int64(9000 + 22000*noise(s.key+"cpu", at.Unix()/60)))
	row.MemRSSBytes = fleet.Of(int64(180+i*13) << 20)
	if s.product == "icecast" {
		row.Workers, row.CPUMilliPct, row.MemRSSBytes = fleet.Int{}, fleet.Int{}, fleet.Int{}
	}
	var viewers, in, out, publishers int64
	for _, j := range s.streams {
		v := &w.streams[j]
		viewers += v.viewersAt(at)
		in, out = in+v.inBpsAt(at), out+v.outBpsAt(at)
		if v.state != fleet.StateOffline {
			publishers++
		}
	}
	row.Streams, row.Publishers, row.Viewers = fleet.Of(publishers), fleet.Of(publishers), fleet.Of(viewers)
	row.ConnsNow = fleet.Of(viewers + publishers)
	row.InBps, row.OutBps = fleet.Of(in), fleet.Of(out)
	return row
}

// Server implements live.Reader.
func (w *World) Server(now time.Time, key string) (live.ServerRow, bool) {
	if w.scene() == Empty {
		return live.ServerRow{}, false
	}
	for i := range w.servers {
		if w.servers[i].key == key {
			return w.serverRow(now, i), true
		}
	}
	return live.ServerRow{}, false
}

func (w *World) streamRow(scene Scenario, now time.Time, i int) live.StreamRow {
	s := &w.streams[i]
	status, _, silent := conditionOf(scene, s.server)
	at := w.lastTick(now, silent)
	row := live.StreamRow{
		Key: s.key, State: s.state, Silent: silent, AtMs: at.UnixMilli(), Tech: s.tech, Media: s.media,
		OnlineSinceMs: fleet.Of(at.Add(-s.since).UnixMilli()),
		Viewers:       fleet.Of(s.viewersAt(at)), InBps: fleet.Of(s.inBpsAt(at)), OutBps: fleet.Of(s.outBpsAt(at)),
		PublisherIP: "203.0.113.17",
	}
	if s.tech == fleet.TechMixed {
		v := s.viewersAt(at)
		row.ByTech = []fleet.TechViewers{{Tech: fleet.TechRTMP, Viewers: v / 4}, {Tech: fleet.TechHLS, Viewers: v - v/4}}
	}
	if s.state == fleet.StateOffline {
		row.OnlineSinceMs, row.PublisherIP = fleet.Int{}, ""
	}
	if !status.HasNumbers() {
		row.State, row.Viewers, row.InBps, row.OutBps = fleet.StateHidden, fleet.Int{}, fleet.Int{}, fleet.Int{}
	}
	if s.tech == fleet.TechIcecast {
		row.OutBps = fleet.Int{} // Icecast counts bytes per server only
	}
	return row
}

// Stream implements live.Reader.
func (w *World) Stream(now time.Time, key fleet.StreamKey) (live.StreamRow, bool) {
	if w.scene() == Empty {
		return live.StreamRow{}, false
	}
	for i := range w.streams {
		if w.streams[i].key == key {
			return w.streamRow(w.scene(), now, i), true
		}
	}
	return live.StreamRow{}, false
}

// Streams implements live.Reader.
func (w *World) Streams(now time.Time, q live.StreamQuery) (live.StreamPage, error) {
	page := live.StreamPage{AsOfMs: w.asOf(now)}
	if w.scene() == Empty {
		return page, nil
	}
	words := strings.Fields(strings.ToLower(q.Search))
	page.Total = int64(len(w.streams))
	for _, row := range w.ordered(now, q.Sort, q.Ascending) {
		if !wanted(row, q, words) {
			continue
		}
		if page.Matched >= int64(q.Offset) && len(page.Rows) < q.Limit {
			page.Rows = append(page.Rows, row)
		}
		page.Matched++
	}
	return page, nil
}

func (w *World) asOf(now time.Time) (newest int64) {
	scene := w.scene()
	if scene == Empty {
		return 0
	}
	for i := range w.servers {
		_, _, silent := conditionOf(scene, i)
		newest = max(newest, w.lastTick(now, silent).UnixMilli())
	}
	return newest
}

// order names one ordered list of all streams.
type order struct {
	at        time.Time // the tick it is true of
	scenario  Scenario
	sort      string
	ascending bool
}

// ordered returns all streams in an order. Lists are kept for their tick: a huge fleet
// is looked at often.
func (w *World) ordered(now time.Time, sort string, ascending bool) []live.StreamRow {
	w.orderMu.Lock()
	defer w.orderMu.Unlock()
	key := order{at: tick(now), scenario: w.scene(), sort: sort, ascending: ascending}
	if rows, ok := w.orders[key]; ok {
		return rows
	}
	if len(w.orders) >= maxOrders {
		clear(w.orders)
	}
	rows := make([]live.StreamRow, 0, len(w.streams))
	for i := range w.streams {
		rows = append(rows, w.streamRow(key.scenario, now, i))
	}
	slices.SortFunc(rows, func(a, b live.StreamRow) int {
		d := compareBy(sort, a, b)
		if !ascending {
			d = -d
		}
		return cmp.Or(d, cmp.Compare(a.Key.Name, b.Key.Name), cmp.Compare(a.Key.Server, b.Key.Server))
	})
	w.orders[key] = rows
	return rows
}

func wanted(row live.StreamRow, q live.StreamQuery, words []string) bool {
	if q.Server != "" && row.Key.Server != q.Server {
		return false
	}
	switch q.State {
	case "":
		if row.State == fleet.StateOffline {
			return false
		}
	case "silent":
		if !row.Silent {
			return false
		}
	default:
		if row.State.String() != q.State {
			return false
		}
	}
	if len(words) == 0 {
		return true
	}
	text := strings.ToLower(row.Key.Server + " " + row.Key.App + " " + row.Key.Name)
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func compareBy(by string, a, b live.StreamRow) int {
	switch by {
	case "in_bps":
		return cmp.Compare(a.InBps.Or(-1), b.InBps.Or(-1))
	case "out_bps":
		return cmp.Compare(a.OutBps.Or(-1), b.OutBps.Or(-1))
	case "name":
		return cmp.Compare(a.Key.Name, b.Key.Name)
	case "server":
		return cmp.Compare(a.Key.Server, b.Key.Server)
	case "since":
		return cmp.Compare(a.OnlineSinceMs.Or(-1), b.OnlineSinceMs.Or(-1))
	}
	return cmp.Compare(a.Viewers.Or(-1), b.Viewers.Or(-1))
}
