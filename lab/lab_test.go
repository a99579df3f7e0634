package lab_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/lab"
	"vigil/media/mediatest/real"
	"vigil/store"
)

// TestTheWholeIsRunAndSettled proves the harness itself: programs start, stop and start
// again on the same ports, answers that are lost make packets come twice, and the book
// agrees with the store.
func TestTheWholeIsRunAndSettled(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newLab(t)
	nginx := must[*real.Nginx](t)(newReal(t).StartNginx(ctx, real.NginxOptions{}))
	service := must[*lab.Service](t)(l.NewService(ctx, lab.ServiceOptions{}))
	noErr(t, service.Start(ctx))
	recorder := must[*lab.Recorder](t)(l.NewRecorder(ctx, service.Ingest))
	agent := must[*lab.Agent](t)(l.NewAgent(lab.AgentOptions{
		Name: "harness", Service: recorder.URL, TokenFile: service.TokenFile,
		Servers: []lab.MediaServer{{Name: "edge", Product: "nginx-rtmp", URL: nginx.StatURL}},
	}))
	var attempts atomic.Int64
	recorder.SetFault(func(fleet.PacketID) lab.Fault { return lab.Fault(attempts.Add(1) % 4) })
	noErr(t, agent.Start(ctx))
	client := must[*lab.Client](t)(service.Login(ctx))
	noErr(t, lab.Await(ctx, 20*time.Second, "the server is shown", func(ctx context.Context) error {
		_, err := client.Server(ctx, "edge")
		return err
	}))
	awaitAcked := func(seq uint64) {
		t.Helper()
		noErr(t, lab.Await(ctx, 60*time.Second, "packets come through", func(context.Context) error {
			if acked := acknowledged(recorder); acked < int(seq) {
				return fmt.Errorf("%d are acknowledged", acked)
			}
			return nil
		}))
	}
	awaitAcked(4)
	noErr(t, service.Restart(ctx))
	awaitAcked(6)
	service.Kill()
	noErr(t, service.Start(ctx))
	awaitAcked(8)
	recorder.SetFault(nil)
	noErr(t, agent.AwaitDrained(ctx, 30*time.Second))
	noErr(t, agent.Stop())
	noErr(t, recorder.AwaitStored(ctx, client, soon))
	noErr(t, service.Stop())
	account := must[lab.Account](t)(recorder.Settle(ctx, service))
	if account.Acked < 8 || account.Stored < account.Acked {
		t.Errorf("account %+v", account)
	}
	several := 0
	for _, e := range recorder.Entries() {
		if e.Acked > 1 {
			several++
		}
	}
	if several == 0 {
		t.Error("no packet was acknowledged more than once: nothing was doubled")
	}
}

// acknowledged counts packets.
func acknowledged(r *lab.Recorder) (n int) {
	for _, e := range r.Entries() {
		if e.Acked > 0 {
			n++
		}
	}
	return n
}

// TestAnAccountFindsWhatIsWrong: a book that never complains would prove nothing.
func TestAnAccountFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	id := func(seq uint64) fleet.PacketID { return fleet.PacketID{Agent: "a", Epoch: 1, Seq: seq} }
	entry := func(seq uint64, acked int) lab.Entry {
		p := &fleet.Packet{ID: id(seq), FirstSeq: seq, Snapshots: []fleet.Snapshot{{Totals: fleet.Totals{BytesIn: fleet.Of(10)}}}}
		return lab.Entry{ID: id(seq), Packet: p, Sent: 1, Acked: acked}
	}
	row := func(seq uint64, in int64) store.PacketRow {
		return store.PacketRow{ID: id(seq), FirstSeq: seq, BytesIn: fleet.Of(in)}
	}
	f := func(name, want string, entries []lab.Entry, rows ...store.PacketRow) {
		t.Helper()
		err := lab.Settle(entries, rows).Err()
		if got := fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", name, got, want)
		}
	}
	f("all is well", "<nil>", []lab.Entry{entry(1, 1), entry(2, 0), entry(3, 0)}, row(1, 10), row(2, 10))
	f("lost", "1 packets acknowledged and not stored", []lab.Entry{entry(1, 1), entry(2, 1)}, row(1, 10))
	f("doubled", "1 packets stored more than once", []lab.Entry{entry(1, 1)}, row(1, 10), row(1, 10))
	merged := row(3, 20)
	merged.FirstSeq = 2
	f("in two", "stored more than once", []lab.Entry{entry(2, 1), entry(3, 1)}, row(2, 10), merged)
	f("from nowhere", "1 packets stored that nobody sent", nil, row(1, 10))
	f("other numbers", "1 packets stored with other numbers", []lab.Entry{entry(1, 1)}, row(1, 11))
}

func TestAProgramThatPanicsFailsItsTest(t *testing.T) {
	t.Parallel()
	f := func(log, want string) {
		t.Helper()
		if got := lab.Complaint(log); got != want {
			t.Errorf("Complaint(%q) = %q, want %q", log, got, want)
		}
	}
	f("time=1 level=INFO msg=starting\n", "")
	f("time=1 level=WARN msg=\"no panic: all is well\"\n", "")
	f("time=1 level=INFO\npanic: runtime error\n\ngoroutine 1\n", "panic: runtime error")
	f("==================\nWARNING: DATA RACE\n", "WARNING: DATA RACE")
	f("fatal error: all goroutines are asleep\n", "fatal error: all goroutines are asleep")
	f("level=ERROR msg=\"panic in a request\" panic=boom\n", "level=ERROR msg=\"panic in a request\" panic=boom")
}
