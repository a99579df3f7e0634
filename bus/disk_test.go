//go:build unix

package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"vigil/health"
)

const diskDirEnv = "VIGIL_BUS_DISK_DIR"

// A limit on the size of files makes every write beyond it fail, like a full disk,
// and needs no privileges. It holds for a whole process, so the test runs in one of
// its own.
func TestWriteErrorIsReportedAndHeals(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(diskDirEnv); dir != "" {
		writeErrorHeals(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriteErrorIsReportedAndHeals$", "-test.v")
	cmd.Env = append(os.Environ(), diskDirEnv+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func limitFiles(t *testing.T, bytes uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = bytes
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
}

func writeErrorHeals(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ) // writes get the error instead
	h := health.New(nil)
	b, err := open(t.Context(), Options{Name: "test", Dir: dir, Health: h}, watchTiming{every: 50 * time.Millisecond, confirm: 100 * time.Millisecond, backoff: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := openStream(t, b, StreamConfig{Name: "one"})
	read := make(chan Message, 1000)
	go s.Read(t.Context(), 0, func(m Message) error { read <- m; return nil })

	publish := func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Publish(ctx, append(fmt.Appendf(nil, "message %d ", n), make([]byte, 20<<10)...))
		return err
	}
	acked := map[string]bool{}
	limitFiles(t, 300<<10)
	for n := 1; ; n++ {
		if n > 100 {
			t.Fatal("the limit did not make a publish fail")
		}
		if err := publish(n); err != nil {
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("publish on a full disk = %v, want ErrUnavailable", err)
			}
			break
		}
		acked[fmt.Sprint("message ", n)] = true
	}
	waitFor(t, "the condition is set", func() bool {
		list := h.List()
		return len(list) == 1 && list[0].Code == conditionCode && list[0].BlocksReady
	})
	time.Sleep(300 * time.Millisecond) // several tries to begin anew
	// The limit is one on each file, so storage that began anew with another file may have
	// room. What it then acknowledges must be there like everything else.
	if err := publish(1000); err == nil {
		acked["message 1000"] = true
	}
	limitFiles(t, 1<<40)
	waitFor(t, "publishing works again", func() bool { return publish(1001) == nil })
	acked["message 1001"] = true
	waitFor(t, "the condition is cleared", func() bool { return len(h.List()) == 0 })

	var last uint64
	deadline := time.After(20 * time.Second)
	for len(acked) > 0 {
		select {
		case m := <-read:
			if m.Seq != last+1 {
				t.Errorf("message %d after %d", m.Seq, last)
			}
			last = m.Seq
			word := strings.SplitN(string(m.Data[:20]), " ", 3)
			delete(acked, word[0]+" "+word[1])
		case <-deadline:
			t.Fatalf("acknowledged and not read: %v", acked)
		}
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
