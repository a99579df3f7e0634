package main

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write the reference page and the scripts' expectations anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vigil-agent": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata", UpdateScripts: *update, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"service-manager": serviceManager, "wait-notify": waitNotify,
		},
	})
}

// notifyTimeout is how long a program may take to start or to stop on a busy machine.
const notifyTimeout = 60 * time.Second

// serviceManager listens as systemd does for a unit of Type=notify.
func serviceManager(ts *testscript.TestScript, _ bool, _ []string) {
	dir, err := os.MkdirTemp("", "vigil") // short: the names of sockets are limited
	ts.Check(err)
	name := filepath.Join(dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() {
		_ = conn.Close()
		_ = os.RemoveAll(dir)
	})
	ts.Setenv("NOTIFY_SOCKET", name)
	sockets.Store(name, conn)
}

// waitNotify waits until the program tells a state: wait-notify READY=1.
func waitNotify(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := sockets.Load(ts.Getenv("NOTIFY_SOCKET"))
	if !ok || len(args) != 1 {
		ts.Fatalf("service-manager first, then wait-notify STATE")
	}
	conn := v.(*net.UnixConn)
	ts.Check(conn.SetReadDeadline(time.Now().Add(notifyTimeout)))
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	ts.Check(err)
	if string(buf[:n]) != args[0] {
		ts.Fatalf("the program told %q, want %q", buf[:n], args[0])
	}
}

var sockets sync.Map // of the scripts that run now, by name

// TestReference keeps this program's part of the page of commands equal to what the
// commands say.
func TestReference(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../../docs/reference/commands.md", "<!-- vigil-agent: made by make docs -->\n", "<!-- end of vigil-agent -->\n"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost the marks of this program", page)
	}
	want := before + begin + "\n" + program().Reference() + "\n" + end + after
	if want == string(data) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the commands say; run: make docs", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
