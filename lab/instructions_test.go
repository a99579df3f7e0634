package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/fleetsim"
	"vigil/lab"
	"vigil/media/mediatest"
	"vigil/panel/paneltest"
)

// TestTheEmptyPageTellsTheTruth does what the page of an empty fleet says, word by
// word, with real programs: only addresses and paths are those of the test. The page
// then fills by itself.
func TestTheEmptyPageTellsTheTruth(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newLab(t)
	built := must[*lab.Programs](t)(programs())
	service := must[*lab.Service](t)(l.NewService(ctx, lab.ServiceOptions{}))
	noErr(t, service.Start(ctx))
	p := &pages{Browser: must[*paneltest.Browser](t)(paneltest.Start(ctx)), service: service}
	t.Cleanup(func() { noErr(t, p.Close()) })
	noErr(t, p.Size(1440, 900))
	noErr(t, p.Go(service.Panel+"/login"))
	noErr(t, p.Type("input[name=name]", "admin"))
	noErr(t, p.Type("input[name=password]", service.Password))
	noErr(t, p.Click("button[type=submit]"))
	p.see(t, "the page waits for the first agent", "document.querySelector('#start-title')?.textContent === 'Waiting for the first agent' && "+pageIsLive)
	var printed []string
	noErr(t, p.Run("return [...document.querySelectorAll('.steps pre')].map((e) => e.textContent)", &printed))
	if len(printed) != 3 {
		t.Fatalf("the page prints %d texts to copy, want 3: %q", len(printed), printed)
	}

	// The token, while the service is stopped.
	noErr(t, service.Stop())
	words := strings.Fields(printed[0])
	if words[0] != "vigil" {
		t.Fatalf("the first command is %q", printed[0])
	}
	out, err := service.Command(ctx, strings.Join(words[1:3], " "), words[3:]...)
	noErr(t, err)
	_, token, found := strings.Cut(out, "agent token: ")
	if !found {
		t.Fatalf("%s printed no token: %s", printed[0], out)
	}
	noErr(t, service.Start(ctx))

	// The file, with the places of the test.
	world := fleetsim.New(fleetsim.Config{Servers: 1, Streams: 3, Mix: fleetsim.MixNginx, Start: time.Now()})
	emulator := mediatest.New(mediatest.Options{Truth: world.Server(0)})
	noErr(t, emulator.Start())
	t.Cleanup(func() { noErr(t, emulator.Close()) })
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.toml")
	noErr(t, os.WriteFile(filepath.Join(dir, "token"), []byte(strings.TrimSpace(token)+"\n"), 0o600))
	text := printed[1]
	for _, place := range [][2]string{
		{`"https://this-service.example.net"`, fmt.Sprintf("%q", service.Ingest)},
		{`"/etc/vigil-agent/token"`, fmt.Sprintf("%q", filepath.Join(dir, "token"))},
		{`"http://127.0.0.1:8080/stat"`, fmt.Sprintf("%q", emulator.URL())},
	} {
		if strings.Count(text, place[0]) != 1 {
			t.Fatalf("the printed file has %s %d times:\n%s", place[0], strings.Count(text, place[0]), text)
		}
		text = strings.Replace(text, place[0], place[1], 1)
	}
	noErr(t, os.WriteFile(file, []byte(text), 0o600))

	// The commands of the agent. Its spool and its private listener would be those of
	// the machine.
	own := []string{"-set", "spool_dir=" + filepath.Join(dir, "spool"), "-set", "observe.listen=127.0.0.1:0", "-set", "interval=1s", "-set", "log.level=error"}
	commands := strings.Split(strings.TrimSpace(printed[2]), "\n")
	for i, command := range commands {
		words := strings.Fields(strings.ReplaceAll(command, "/etc/vigil-agent/agent.toml", file))
		if words[0] != "vigil-agent" {
			t.Fatalf("the command is %q", command)
		}
		program := exec.CommandContext(ctx, built.Agent, append(words[1:], own...)...)
		program.Stdout, program.Stderr = t.Output(), t.Output()
		if i < len(commands)-1 {
			noErr(t, program.Run())
			continue
		}
		noErr(t, program.Start())
		t.Cleanup(func() { _, _ = program.Process.Kill(), program.Wait() }) // killed on purpose
	}
	p.see(t, "the page fills by itself", "document.getElementById('s-edge-01') !== null && /^\\d/.test(document.querySelector('#totals .c-viewers .num')?.textContent)")
}
