// Package commandtest tests a program of package command: scripts in testdata run it as
// a process, and its part of the reference page must be what its commands say.
package commandtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"vigil/command"
)

// notifyTimeout is how long a program may take to start or to stop on a busy machine.
const notifyTimeout = 60 * time.Second

// maxNotifyBytes is more than any state that a program tells.
const maxNotifyBytes = 256

// Scripts runs every script of testdata. Besides the commands of testscript there are
// service-manager, which listens as systemd does for a unit of Type=notify, and
// wait-notify STATE, which waits until the program tells a state: wait-notify READY=1.
func Scripts(t *testing.T, update bool) {
	t.Helper()
	var managers sync.Map // of the scripts that run now, by the name of the socket
	testscript.Run(t, testscript.Params{
		Dir: "testdata", UpdateScripts: update, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"service-manager": func(ts *testscript.TestScript, _ bool, _ []string) { serviceManager(ts, &managers) },
			"wait-notify": func(ts *testscript.TestScript, _ bool, args []string) {
				if len(args) != 1 {
					ts.Fatalf("wait-notify STATE")
				}
				waitNotify(ts, &managers, args[0])
			},
		},
	})
}

func serviceManager(ts *testscript.TestScript, managers *sync.Map) {
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
	managers.Store(name, conn)
}

func waitNotify(ts *testscript.TestScript, managers *sync.Map, state string) {
	v, ok := managers.Load(ts.Getenv("NOTIFY_SOCKET"))
	if !ok {
		ts.Fatalf("service-manager comes before wait-notify")
	}
	conn := v.(*net.UnixConn)
	ts.Check(conn.SetReadDeadline(time.Now().Add(notifyTimeout)))
	buf := make([]byte, maxNotifyBytes)
	n, err := conn.Read(buf)
	ts.Check(err)
	if string(buf[:n]) != state {
		ts.Fatalf("the program told %q, want %q", buf[:n], state)
	}
}

// Reference compares the program's part of the page with what its commands say. The
// part stands between two marks. With update it writes the part anew.
func Reference(t *testing.T, p *command.Program, page string, update bool) {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- %s: made by make docs -->\n", p.Name), fmt.Sprintf("<!-- end of %s -->\n", p.Name)
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost the marks of %s", page, p.Name)
	}
	want := before + begin + "\n" + p.Reference() + "\n" + end + after
	if want == string(data) {
		return
	}
	if !update {
		t.Fatalf("%s is not what the commands say; run: make docs", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
