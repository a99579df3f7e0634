package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/auth"
	"vigil/catalog"
	"vigil/config"
	"vigil/durable"
	"vigil/fleet"
	"vigil/health"
	"vigil/store"
	"vigil/wire"
)

// patience is the longest wait of a test on a busy machine.
const patience = 60 * time.Second

// testConfig is a node with all roles on free ports.
func testConfig(t *testing.T) *config.Service {
	t.Helper()
	cfg, _, err := config.LoadService(config.Source{Set: []string{
		"data_dir=" + filepath.Join(t.TempDir(), "data"),
		"ingest.listen=127.0.0.1:0", "panel.listen=127.0.0.1:0", "observe.listen=127.0.0.1:0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func initialised(t *testing.T) (*config.Service, *InitResult) {
	t.Helper()
	cfg := testConfig(t)
	result, err := Init(t.Context(), cfg.Nodes[0], InitOptions{Admin: "root", Agents: "*"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, result
}

// start runs a node until the test ends or stop is called.
func start(t *testing.T, cfg *config.Service) (n *Node, stop func()) {
	t.Helper()
	n, err := New(cfg, "", Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.Started():
	case err := <-ended:
		cancel()
		t.Fatalf("the node did not start: %v", err)
	case <-time.After(patience):
		cancel()
		t.Fatal("the node did not start in time")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node did not stop well: %v", err)
		}
	}
	t.Cleanup(stop)
	return n, stop
}

func client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(t *testing.T, n *Node, role, path string) (int, string) {
	t.Helper()
	resp, err := client().Get("http://" + n.Address(role).String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func send(t *testing.T, n *Node, token string, p *fleet.Packet) int {
	t.Helper()
	data, err := wire.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+n.Address("ingest").String()+wire.PacketPath, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", wire.ContentTypePacket)
	req.Header.Set(wire.HeaderIdempotencyKey, p.ID.String())
	req.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", p.Boot))
	req.Header.Set(wire.HeaderHost, "testhost")
	resp, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func packet(seq uint64, at time.Time) *fleet.Packet {
	return &fleet.Packet{
		ID: fleet.PacketID{Agent: "a1", Epoch: 7, Seq: seq}, FirstSeq: seq, Boot: 9,
		Snapshots: []fleet.Snapshot{{
			Server: fleet.ServerInfo{Key: "edge1", Product: "nginx-rtmp", ViewersNow: fleet.Of(3)},
			Totals: fleet.Totals{BytesIn: fleet.Of(1000), BytesOut: fleet.Of(3000)},
			AtMs:   at.UnixMilli(), IntervalMs: 10_000, CoveredMs: 10_000, Status: fleet.StatusOK,
		}},
	}
}

// waitApplied waits until the store has this many packets of the last hour.
func waitApplied(t *testing.T, n *Node, want int) {
	t.Helper()
	var rows []store.PacketRow
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		now := time.Now()
		rows, err = n.Store().PacketRows(t.Context(), store.Window{From: now.Add(-time.Hour), To: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == want {
			return
		}
	}
	t.Fatalf("the store has %d packets, want %d", len(rows), want)
}

func TestPacketsSurviveARestartAndCountOnce(t *testing.T) {
	t.Parallel()
	cfg, created := initialised(t)
	n, stop := start(t, cfg)

	if status, _ := get(t, n, "observe", "/ready"); status != http.StatusOK {
		t.Errorf("GET /ready = %d, want 200", status)
	}
	if _, body := get(t, n, "observe", "/metrics"); !strings.Contains(body, "vigil_node_disk_free_bytes") {
		t.Error("the private listener shows no metrics of the node")
	}
	if status, _ := get(t, n, "panel", "/"); status != http.StatusSeeOther {
		t.Errorf("GET / without a login = %d, want a redirect to the login", status)
	}

	now := time.Now()
	if status := send(t, n, "wrong", packet(1, now)); status != http.StatusUnauthorized {
		t.Errorf("a packet with a wrong token: status %d, want 401", status)
	}
	for range 2 {
		if status := send(t, n, created.AgentToken, packet(1, now)); status != http.StatusOK {
			t.Fatalf("a packet: status %d, want 200", status)
		}
	}
	waitApplied(t, n, 1)
	stop()

	n, _ = start(t, cfg)
	if status := send(t, n, created.AgentToken, packet(1, now)); status != http.StatusOK {
		t.Fatalf("the packet again after a restart: status %d, want 200", status)
	}
	if status := send(t, n, created.AgentToken, packet(2, now.Add(10*time.Second))); status != http.StatusOK {
		t.Fatalf("the next packet: status %d, want 200", status)
	}
	waitApplied(t, n, 2)
	if rows := n.Live().Servers(time.Now()); len(rows) != 1 || rows[0].Key != "edge1" {
		t.Errorf("live servers = %+v, want edge1", rows)
	}
}

func TestRunRefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	cfg, _ := initialised(t)
	refuse := func(what string, kind fleet.Kind, cfg *config.Service) {
		t.Helper()
		n, err := New(cfg, "", Deps{})
		if err != nil {
			t.Fatal(err)
		}
		err = n.Run(t.Context())
		if fleet.KindOf(err) != kind {
			t.Errorf("%s: Run = %v, want kind %v", what, err, kind)
		}
	}
	refuse("never initialised", fleet.KindMissing, testConfig(t))

	other := *cfg
	other.Nodes = []config.Node{cfg.Nodes[0]}
	other.Nodes[0].Name = "other"
	refuse("another node's directory", fleet.KindConflict, &other)

	_, stop := start(t, cfg)
	refuse("in use", fleet.KindConflict, cfg)
	if err := Manage(t.Context(), cfg.Nodes[0], Deps{}, nil); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("Manage while the node runs = %v, want a conflict", err)
	}
	stop()

	dir := cfg.Nodes[0].DataDir
	m, err := readMarker(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Layout = layoutVersion + 1
	if err := writeMarker(dir, m); err != nil {
		t.Fatal(err)
	}
	refuse("a newer layout", fleet.KindConflict, cfg)
	if err := os.WriteFile(filepath.Join(dir, markerFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("a damaged marker", fleet.KindInternal, cfg)
	if _, err := New(cfg, "nobody", Deps{}); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("New with an unknown node = %v, want invalid", err)
	}
}

func TestUncleanEndIsTold(t *testing.T) {
	t.Parallel()
	cfg, _ := initialised(t)
	name := filepath.Join(cfg.Nodes[0].DataDir, runningFile)
	if err := os.WriteFile(name, []byte("2026-05-01T12:00:00Z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, stop := start(t, cfg)
	found := false
	for _, c := range n.Health().List() {
		found = found || c.Code == "node-unclean-end" && strings.Contains(c.Text, "2026-05-01T12:00:00Z")
	}
	if !found {
		t.Errorf("conditions = %+v, want node-unclean-end with the time", n.Health().List())
	}
	stop()
	if _, err := os.Stat(name); err == nil {
		t.Error("the marker is still there after an orderly stop")
	}
}

func TestInterruptedInitCanBeRepeated(t *testing.T) {
	t.Parallel()
	cfg, first := initialised(t)
	dir := cfg.Nodes[0].DataDir
	if err := os.Remove(filepath.Join(dir, markerFile)); err != nil { // as if it had ended just before
		t.Fatal(err)
	}
	second, err := Init(t.Context(), cfg.Nodes[0], InitOptions{Admin: "root", Agents: "*", Password: "correct horse battery staple"})
	if err != nil {
		t.Fatal(err)
	}
	if second.AgentToken == first.AgentToken {
		t.Error("the second run gave the token of the first")
	}
	n, _ := start(t, cfg)
	if tokens := n.Catalog().AgentTokens(); len(tokens) != 1 {
		t.Errorf("%d tokens, want only the second run's", len(tokens))
	}
	if status := send(t, n, first.AgentToken, packet(1, time.Now())); status != http.StatusUnauthorized {
		t.Errorf("the token that nobody was told: status %d, want 401", status)
	}
	if users := n.Catalog().Users(); len(users) != 1 || !users[0].Admin {
		t.Errorf("accounts = %+v, want one admin", users)
	}
}

func TestInitRefusesWhatItDidNotMake(t *testing.T) {
	t.Parallel()
	cfg, _ := initialised(t)
	options := InitOptions{Admin: "root", Agents: "*"}
	if _, err := Init(t.Context(), cfg.Nodes[0], options); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("a second Init = %v, want a conflict", err)
	}
	foreign := config.Node{Name: "vigil", DataDir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(foreign.DataDir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), foreign, options); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("Init in a directory with other files = %v, want a conflict", err)
	}
	options.Password = "a"
	fresh := config.Node{Name: "vigil", DataDir: filepath.Join(t.TempDir(), "d")}
	if _, err := Init(t.Context(), fresh, options); fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("Init with a weak password = %v, want invalid", err)
	}
	if _, err := os.Stat(fresh.DataDir); err == nil {
		t.Error("a refused Init made the directory")
	}
}

func TestManage(t *testing.T) {
	t.Parallel()
	cfg, _ := initialised(t)
	err := Manage(t.Context(), cfg.Nodes[0], Deps{}, func(c *catalog.Catalog) error {
		token, err := AddToken(t.Context(), c, NewToken{Agents: "edge*", Note: "second site"})
		if err != nil {
			return err
		}
		hash, ok := auth.HashAgentToken(token)
		if !ok {
			t.Fatalf("%q is no token", token)
		}
		stored, err := c.AgentToken(hash)
		if err != nil || !stored.Allows("edge7") || stored.Allows("other") {
			t.Errorf("the token = %+v, %v, want one for edge*", stored, err)
		}
		if err := RemoveToken(t.Context(), c, stored.ID); err != nil {
			return err
		}
		if err := RemoveToken(t.Context(), c, stored.ID); fleet.KindOf(err) != fleet.KindMissing {
			t.Errorf("removing a token twice = %v, want missing", err)
		}
		if err := SetPassword(t.Context(), c, "nobody", "correct horse battery staple"); fleet.KindOf(err) != fleet.KindMissing {
			t.Errorf("password of a missing account = %v, want missing", err)
		}
		if err := SetPassword(t.Context(), c, "root", "a"); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("a weak password = %v, want invalid", err)
		}
		return SetPassword(t.Context(), c, "root", "correct horse battery staple")
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	find := func(list []Finding, check string) Finding {
		t.Helper()
		for _, f := range list {
			if f.Check == check {
				return f
			}
		}
		t.Fatalf("no finding about %s in %+v", check, list)
		return Finding{}
	}
	cfg := testConfig(t)
	if f := find(Diagnose(t.Context(), cfg, cfg.Nodes[0]), "data directory"); f.OK || f.Severity != health.Error || f.Hint == "" {
		t.Errorf("a directory that was never initialised: %+v, want an error with a hint", f)
	}
	cfg, _ = initialised(t)
	n, _ := start(t, cfg)
	asked := *cfg
	asked.Observe.Listen = n.Address("observe").String()
	asked.Ingest.Listen = ":8400"
	n.Health().Set(health.Condition{Code: "test-condition", Severity: health.Warning, Text: "Something.", Hint: "do it"})
	list := Diagnose(t.Context(), &asked, cfg.Nodes[0])
	if f := find(list, "running node"); !f.OK {
		t.Errorf("the running node: %+v, want ok", f)
	}
	if f := find(list, "test-condition"); f.OK || f.Hint != "do it" {
		t.Errorf("the node's condition: %+v, want it with its hint", f)
	}
	if f := find(list, "ingest listener"); f.OK || f.Severity != health.Warning {
		t.Errorf("a listener for everybody without TLS: %+v, want a warning", f)
	}
	if f := find(list, "data directory"); !f.OK {
		t.Errorf("the data directory: %+v, want ok", f)
	}
	if _, err := json.Marshal(list); err != nil {
		t.Error(err)
	}
}

// TestDoctorTellsWhyNobodyAnswers tells a stopped node, a dead one and one that hangs
// apart, and looks into certificates.
func TestDoctorTellsWhyNobodyAnswers(t *testing.T) {
	t.Parallel()
	cfg, _ := initialised(t)
	cfg.Observe.Listen = "127.0.0.1:1"
	dir := cfg.Nodes[0].DataDir
	f := func(check string, severity health.Severity, want string) {
		t.Helper()
		for _, f := range Diagnose(t.Context(), cfg, cfg.Nodes[0]) {
			if f.Check == check {
				if f.OK || f.Severity != severity || f.Hint == "" || !strings.Contains(f.Text, want) {
					t.Errorf("%+v, want %s with %q", f, severity, want)
				}
				return
			}
		}
		t.Errorf("no finding about %s", check)
	}
	f("running node", health.Warning, "does not answer")
	if err := os.WriteFile(filepath.Join(dir, runningFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f("running node", health.Error, "ended without being stopped")
	lock, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	f("running node", health.Error, "a process uses its data directory")

	keys := t.TempDir()
	name := func(s string) string { return filepath.Join(keys, s) }
	writePair(t, name("a.pem"), name("a.key"), 1, time.Now())
	writePair(t, name("b.pem"), name("b.key"), 2, time.Now())
	cfg.Ingest.TLSCertificateFile, cfg.Ingest.TLSKeyFile = name("a.pem"), name("b.key")
	f("ingest listener", health.Error, "private key does not match")
	cfg.Ingest.TLSCertificateFile = name("none.pem")
	f("ingest listener", health.Error, "no such file")
}

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	f := func(free, total uint64, want bool) {
		t.Helper()
		if got := isLow(free, total); got != want {
			t.Errorf("isLow(%d, %d) = %v, want %v", free, total, got, want)
		}
	}
	f(100<<30, 4000<<30, false) // little of a large disk is plenty
	f(3<<30, 100<<30, true)
	f(3<<30, 10<<30, false)
	f(100<<20, 200<<20, true)
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		":8490": "127.0.0.1:8490", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "192.0.2.1:1": "192.0.2.1:1", "odd": "odd",
	} {
		if got := reachable(in); got != want {
			t.Errorf("reachable(%q) = %q, want %q", in, got, want)
		}
	}
}
