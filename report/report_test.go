package report_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/fleet"
	"vigil/live"
	"vigil/report"
	"vigil/report/reporttest"
	"vigil/store"
)

var noon = time.Date(2026, 3, 14, 12, 0, 7, 0, time.UTC)

func reports(scenario reporttest.Scenario) *report.Reports {
	now := func() time.Time { return noon }
	w := reporttest.New(reporttest.Config{Now: now, Scenario: scenario})
	return report.New(w, w, now)
}

func hour(t *testing.T) report.Range {
	t.Helper()
	g, err := report.RangeNamed("1h")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNow(t *testing.T) {
	t.Parallel()
	now, err := reports(reporttest.Gaps).Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := now.Totals; got.Servers != 12 || got.ServersFailed != 1 || got.ServersSilent != 1 || got.ServersOK != 10 {
		t.Errorf("totals = %+v", got)
	}
	for i, want := range []string{report.ServerFailed, report.ServerSilent, report.ServerPartial, report.ServerOK} {
		if now.Servers[i].State != want {
			t.Errorf("server %d is %s, want %s: trouble comes first", i, now.Servers[i].State, want)
		}
	}
	if now.Servers[0].Viewers.Known() {
		t.Errorf("viewers of a server that cannot be read = %v, want unknown", now.Servers[0].Viewers)
	}
	if age, _ := now.Totals.AgeMs.Get(); age != 7000 {
		t.Errorf("age = %d ms, want 7000", age)
	}
	if len(now.Explain) < 4 {
		t.Errorf("explain lists %d steps", len(now.Explain))
	}
	if c := now.Chart; len(c.Points) != 120 || c.Summary.GapBuckets == 0 {
		t.Errorf("chart has %d points and %d gaps", len(c.Points), c.Summary.GapBuckets)
	}
}

func TestAnEmptyFleetHasNoNumbers(t *testing.T) {
	t.Parallel()
	now, err := reports(reporttest.Empty).Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if now.Totals.Viewers.Known() || now.Totals.AgeMs.Known() || now.Chart.Summary.OutBytes.Known() || !now.Chart.Empty() {
		t.Errorf("an empty fleet has numbers: %+v %+v", now.Totals, now.Chart.Summary)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	r := reports(reporttest.Normal)
	if _, err := r.Server(t.Context(), "nobody", hour(t)); fleet.KindOf(err) != fleet.KindMissing {
		t.Errorf("Server(nobody): %v, want missing", err)
	}
	if _, err := r.Stream(t.Context(), fleet.StreamKey{Server: "edge-fra-01", Name: "x\x00<"}, hour(t)); fleet.KindOf(err) != fleet.KindMissing || strings.Contains(err.Error(), "\x00") {
		t.Errorf("Stream(x): %q, want missing and printable", err)
	}
}

func TestAFailingStoreIsExplained(t *testing.T) {
	t.Parallel()
	r := reports(reporttest.Broken)
	_, err := r.FleetChart(t.Context(), hour(t))
	if fleet.KindOf(err) != fleet.KindUnavailable || !errors.Is(err, reporttest.ErrStore) {
		t.Errorf("FleetChart: %v, want unavailable with its cause", err)
	}
	if p := report.ProblemOf(err); strings.Contains(p.Message+p.Hint, "reporttest") || p.Hint == "" {
		t.Errorf("ProblemOf = %+v, want no inner cause and a hint", p)
	}
	page, err := r.Server(t.Context(), "edge-fra-01", hour(t))
	if err != nil || page.Server == nil || page.ChartError == nil {
		t.Errorf("Server: %v, want the live part and the reason for the rest", err)
	}
	status, err := r.Status(t.Context())
	if err != nil || status.Store != nil || status.StoreError == nil {
		t.Errorf("Status: %+v, %v", status, err)
	}
}

// slow never answers before the caller gives up.
type slow struct{ store.Reader }

func (slow) FleetSeries(ctx context.Context, _ store.Window, _ time.Duration) (store.Series, error) {
	<-ctx.Done()
	return store.Series{}, ctx.Err()
}

func TestACallerWhoLeavesIsNoFailureOfTheStore(t *testing.T) {
	t.Parallel()
	w := reporttest.New(reporttest.Config{Now: time.Now})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := report.New(slow{w}, w, time.Now).FleetChart(ctx, hour(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("FleetChart: %v, want canceled", err)
	}
}

func TestServersAndStreamsAreBounded(t *testing.T) {
	t.Parallel()
	r := reports(reporttest.Normal)
	servers := func(q report.ServerQuery) {
		t.Helper()
		if _, err := r.Servers(q); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("Servers(%+v): %v, want invalid", q, err)
		}
	}
	servers(report.ServerQuery{})
	servers(report.ServerQuery{Limit: report.MaxServersPage + 1})
	servers(report.ServerQuery{Limit: 1, Offset: -1})
	servers(report.ServerQuery{Limit: 1, Sort: "x"})
	servers(report.ServerQuery{Limit: 1, State: "x"})
	servers(report.ServerQuery{Limit: 1, Search: strings.Repeat("x", report.MaxSearchBytes+1)})
	streams := func(q live.StreamQuery) {
		t.Helper()
		if _, err := r.Streams(q); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("Streams(%+v): %v, want invalid", q, err)
		}
	}
	streams(live.StreamQuery{Limit: report.MaxStreamsPage + 1})
	streams(live.StreamQuery{Limit: 1, Sort: "x"})
	streams(live.StreamQuery{Limit: 1, State: "x"})
	page, err := r.Servers(report.ServerQuery{Limit: 5, Offset: 10, Sort: "key", Ascending: true, Search: "EDGE"})
	if err != nil || len(page.Rows) != 2 || page.Matched != 12 || page.Rows[1].Key != "edge-syd-02" {
		t.Errorf("Servers: %d rows of %d, %v", len(page.Rows), page.Matched, err)
	}
}

// Names are bytes from a media server; what a row's query says must lead back to it.
func TestKeyQueryRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
		key := fleet.StreamKey{
			Server: part.Draw(t, "server"), VHost: part.Draw(t, "vhost"), App: part.Draw(t, "app"),
			Instance: part.Draw(t, "instance"), Name: part.Draw(t, "name"),
		}
		values, err := url.ParseQuery(report.KeyQuery(key))
		if err != nil {
			t.Fatal(err)
		}
		if got := report.KeyFrom(values); got != key {
			t.Fatalf("got %q, want %q", got, key)
		}
	})
}
