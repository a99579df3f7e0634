package lab_test

import (
	"strings"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/lab"
	"vigil/media/mediatest"
	"vigil/store"
)

// goodBooks are the books of one agent that ran twice, with three packets each. Its media
// server counts 1,000 bytes out and 100 in per second.
func goodBooks() *lab.Books {
	start := time.UnixMilli(1_800_000_000_000)
	said := func(second int64) mediatest.Poll {
		return mediatest.Poll{At: start.Add(time.Duration(second) * time.Second), Status: 200, Whole: true, PID: 7, StartMs: 1, BytesIn: 100 * second, BytesOut: 1000 * second}
	}
	key := store.AgentEpoch{Agent: "a", Epoch: 5}
	b := &lab.Books{
		Said: map[string][]mediatest.Poll{},
		Ledger: &lab.Ledger{
			Counted: map[store.AgentEpoch]*fleet.Ledger{key: {}},
			Servers: map[string]store.Traffic{"s": {BytesIn: fleet.Of(400), BytesOut: fleet.Of(4000)}},
			Streams: map[string]store.Traffic{},
		},
	}
	for seq := uint64(1); seq <= 6; seq++ {
		poll := said(int64(seq))
		b.Said["s"] = append(b.Said["s"], poll)
		s := fleet.Snapshot{Server: fleet.ServerInfo{Key: "s"}, AtMs: poll.At.UnixMilli() + 4, IntervalMs: 1000, LatencyMs: 5, Status: fleet.StatusOK}
		if seq != 1 && seq != 4 { // the first of a run
			s.Totals = fleet.Totals{BytesIn: fleet.Of(100), BytesOut: fleet.Of(1000)}
		}
		id := fleet.PacketID{Agent: key.Agent, Epoch: key.Epoch, Seq: seq}
		packet := &fleet.Packet{ID: id, FirstSeq: seq, Boot: 1 + (seq-1)/3, Snapshots: []fleet.Snapshot{s}}
		b.Entries = append(b.Entries, lab.Entry{ID: id, Packet: packet, Sent: 1, Passed: 1, Acked: 1, AckedMs: s.AtMs + 10})
		b.Ledger.Rows = append(b.Ledger.Rows, store.PacketRow{ID: id, FirstSeq: seq, AtMs: s.AtMs, BytesIn: s.Totals.BytesIn, BytesOut: s.Totals.BytesOut})
		_, _ = b.Ledger.Counted[key].Count(fleet.SeqRange{First: seq, Last: seq}) // in order, so it is new
	}
	page := lab.PageSum{Server: "s", FromMs: start.UnixMilli(), ToMs: start.Add(time.Minute).UnixMilli()}
	page.Summary.InBytes, page.Summary.OutBytes = fleet.Of(400), fleet.Of(4000)
	page.Points = append(page.Points, page.Summary)
	b.Pages = []lab.PageSum{page}
	return b
}

// TestAuditFindsWhatIsWrong proves that the audit can fail: each case is one lie in books
// that are good otherwise.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	audit := goodBooks().Audit()
	if err := audit.Err(); err != nil || audit.Computed != 4 || audit.Lives != 2 || audit.Paged != 1 || audit.Acked != 6 || audit.Stored != 6 {
		t.Fatalf("audit of good books = %+v, %v", audit, err)
	}
	f := func(want string, lie func(*lab.Books)) {
		t.Helper()
		b := goodBooks()
		lie(b)
		if err := b.Audit().Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("audit = %v, want %q in it", err, want)
		}
	}
	key := store.AgentEpoch{Agent: "a", Epoch: 5}
	f("acknowledged and not stored", func(b *lab.Books) { b.Ledger.Rows = b.Ledger.Rows[:5] })
	f("stored more than once", func(b *lab.Books) { b.Ledger.Rows = append(b.Ledger.Rows, b.Ledger.Rows[2]) })
	f("stored that nobody sent", func(b *lab.Books) { b.Entries = b.Entries[:5] })
	f("stored with other numbers", func(b *lab.Books) { b.Ledger.Rows[2].BytesOut = fleet.Of(1001) })
	f("dedup state is", func(b *lab.Books) { b.Ledger.Counted[key] = &fleet.Ledger{} })
	f("rows and no dedup state", func(b *lab.Books) { delete(b.Ledger.Counted, key) })
	f("neither stored nor given up", func(b *lab.Books) {
		b.Ledger.Rows, b.Entries = append(b.Ledger.Rows[:2], b.Ledger.Rows[3:]...), append(b.Entries[:2], b.Entries[3:]...)
	})
	f("sums (in, out, of streams in, out) are", func(b *lab.Books) { b.Ledger.Servers["s"] = store.Traffic{BytesOut: fleet.Of(4001)} })
	f("sums and no packets", func(b *lab.Books) { b.Ledger.Servers["other"] = store.Traffic{} })
	f("page of", func(b *lab.Books) { b.Pages[0].Summary.OutBytes = fleet.Of(3999) })
	f("page of", func(b *lab.Books) { b.Pages[0].Points[0].OutBytes = fleet.Of(3999) })
	f("500 more", func(b *lab.Books) { b.Said["s"][2].BytesOut -= 500 })
	f("said nothing then", func(b *lab.Books) { b.Said["s"][2].Whole = false })
	f("for a copy of another one", func(b *lab.Books) { b.Entries[5].ID.Epoch = 6 })
	f("first packet of a run", func(b *lab.Books) {
		b.Entries[3].Packet.Snapshots[0].Totals.BytesOut, b.Ledger.Rows[3].BytesOut = fleet.Of(1000), fleet.Of(1000)
	})
	f("it is not the first of its run", func(b *lab.Books) {
		b.Entries[2].Packet.Snapshots[0].Totals, b.Ledger.Rows[2].BytesIn, b.Ledger.Rows[2].BytesOut = fleet.Totals{}, fleet.Int{}, fleet.Int{}
	})
	f("although the poll failed", func(b *lab.Books) { b.Entries[2].Packet.Snapshots[0].Status = fleet.StatusUnreachable })
}

func TestPlanIsMadeFromItsSeed(t *testing.T) {
	t.Parallel()
	one, same, other := lab.PlanBlows(1, 40, 50), lab.PlanBlows(1, 40, 50), lab.PlanBlows(2, 40, 50)
	differ := false
	for i := range one {
		if one[i] != same[i] {
			t.Errorf("blow %d of one seed is %+v and %+v", i, one[i], same[i])
		}
		differ = differ || one[i] != other[i]
		if one[i].Agents[0] == one[i].Agents[1] {
			t.Errorf("blow %d hits agent %d twice", i, one[i].Agents[0])
		}
	}
	if !differ {
		t.Error("two seeds have one plan")
	}
}
