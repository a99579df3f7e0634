// Command screenshots takes the pictures of the documentation: of a demo, with a fixed
// seed, with an hour behind it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"vigil/demo"
	"vigil/panel/paneltest"
)

// What the pictures show.
const (
	seed      = 1
	servers   = 20
	streams   = 2000
	interval  = 5 * time.Second
	past      = time.Hour
	startWait = 10 * time.Minute // the past is made first
	pageWait  = 30 * time.Second
)

type picture struct {
	name, path string
	width      int
	scheme     string
}

// pictures are those of the documentation. The first is the one in the README.
var pictures = []picture{
	{"now", "/", 1280, "light"},
	{"now-dark", "/", 1280, "dark"},
	{"now-narrow", "/", 390, "light"},
	{"servers", "/servers", 1280, "light"},
	{"server-gap", "/servers/sim-0004", 1280, "light"},
	{"streams", "/streams", 1280, "light"},
	{"streams-narrow", "/streams", 390, "dark"},
	{"stream", "/stream?server=sim-0001&app=live&name=cam-0001", 1280, "light"},
	{"stream-dark", "/stream?server=sim-0001&app=live&name=cam-0001", 1280, "dark"},
}

func main() {
	out := flag.String("out", "docs/images", "write the pictures into this `DIR`")
	only := flag.String("only", "", "take only pictures whose name contains this `TEXT`")
	madeUp := flag.Bool("made-up", false, "take every page over a made-up fleet instead, in good and bad times")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	take := takeDemo
	if *madeUp {
		take = takeScenes
	}
	if err := take(ctx, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// takeDemo runs a demo, takes the pictures, and ends the demo.
func takeDemo(ctx context.Context, out, only string) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	b, err := paneltest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	said := &greeting{done: make(chan struct{})}
	demoCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- demo.Run(demoCtx, demo.Options{
			Seed: seed, Servers: servers, Streams: streams, Interval: interval, Past: past, Listen: "127.0.0.1:0", Out: said,
		})
	}()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	select {
	case <-said.done:
	case err := <-ended:
		ended <- nil
		return errors.Join(errors.New("the demo ended before it began"), err)
	case <-time.After(startWait):
		return fmt.Errorf("the demo did not begin within %v", startWait)
	}
	if err := signIn(b, said); err != nil {
		return err
	}
	for _, p := range pictures {
		if !strings.Contains(p.name, only) {
			continue
		}
		if err := look(b, p.width, p.scheme); err != nil {
			return err
		}
		if err := take(b, said.url+p.path, filepath.Join(out, p.name+".png"), nil); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// signIn logs in and waits until all servers have told rates.
func signIn(b *paneltest.Browser, said *greeting) error {
	if err := look(b, pictures[0].width, pictures[0].scheme); err != nil {
		return err
	}
	if err := b.Go(said.url + "/login"); err != nil {
		return err
	}
	if err := errors.Join(b.Type("input[name=name]", said.user), b.Type("input[name=password]", said.password), b.Click("button[type=submit]")); err != nil {
		return err
	}
	if err := b.WaitFor(fmt.Sprintf(`/\b%[1]d of %[1]d\b/.test(document.querySelector("#totals")?.innerText.replace(/\s+/g, " "))`, servers), pageWait); err != nil {
		return err
	}
	time.Sleep(3 * interval) // the first poll of an agent has no rates yet
	return nil
}

// greeting is what the demo says when it is there: where, and how to log in.
type greeting struct {
	done                chan struct{} // closed when the fields are set
	url, user, password string

	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

var greetingForm = regexp.MustCompile(`Look at +(\S+)\s+Log in +(\S+)\s+Password +(\S+)\s`)

func (g *greeting) Write(text []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.text.Write(text)
	if found := greetingForm.FindStringSubmatch(g.text.String()); found != nil && g.url == "" {
		g.url, g.user, g.password = found[1], found[2], found[3]
		close(g.done)
	}
	return len(text), nil
}
