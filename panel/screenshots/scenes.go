package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vigil/panel/paneltest"
	"vigil/report/reporttest"
)

type scene struct {
	name     string
	scenario reporttest.Scenario
	streams  int
	down     bool // the service is away while the page is open
}

var scenes = []scene{
	{name: "normal", scenario: reporttest.Normal},
	{name: "gaps", scenario: reporttest.Gaps},
	{name: "empty", scenario: reporttest.Empty},
	{name: "silent", scenario: reporttest.Silent},
	{name: "error", scenario: reporttest.Broken},
	{name: "stale", scenario: reporttest.Normal, down: true},
	{name: "huge", scenario: reporttest.Normal, streams: 300_000},
}

var pages = []struct{ name, path string }{
	{"now", "/"},
	{"servers", "/servers"},
	{"server", "/servers/edge-ams-01?range=6h"},
	{"streams", "/streams"},
	{"stream", "/stream?server=edge-fra-01&app=live&name=news-24"},
	{"missing", "/servers/nobody"},
}

// takeScenes takes pictures of every page over a made-up fleet, in good and bad times: for
// whoever changes the pages, not for the documentation.
func takeScenes(ctx context.Context, out, only string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	b, err := paneltest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	for _, s := range scenes {
		if err := takeScene(b, s, out, only); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func takeScene(b *paneltest.Browser, s scene, out, only string) error {
	wanted := func(page, width, scheme string) bool {
		return strings.Contains(strings.Join([]string{s.name, page, width, scheme}, "-")+".png", only)
	}
	world := reporttest.New(reporttest.Config{Now: time.Now, Scenario: s.scenario, Streams: s.streams})
	site, err := paneltest.NewSite(world, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = site.Down() }()
	if err := b.Go(site.URL("/login")); err != nil {
		return err
	}
	for _, width := range []int{1440, 390} {
		for _, scheme := range []string{"light", "dark"} {
			if err := look(b, width, scheme); err != nil {
				return err
			}
			if s.name == "normal" && wanted("login", fmt.Sprint(width), scheme) {
				if err := take(b, site.URL("/login"), filepath.Join(out, fmt.Sprintf("normal-login-%d-%s.png", width, scheme)), nil); err != nil {
					return err
				}
			}
		}
	}
	if err := paneltest.SignIn(b, site); err != nil {
		return err
	}
	for _, page := range pages {
		for _, width := range []int{1440, 390} {
			for _, scheme := range []string{"light", "dark"} {
				if !wanted(page.name, fmt.Sprint(width), scheme) {
					continue
				}
				if err := look(b, width, scheme); err != nil {
					return err
				}
				name := filepath.Join(out, fmt.Sprintf("%s-%s-%d-%s.png", s.name, page.name, width, scheme))
				var before func() error
				if s.down && page.name != "missing" {
					before = func() error { return leave(b, site) }
				}
				if err := take(b, site.URL(page.path), name, before); err != nil {
					return err
				}
				if before != nil {
					if err := site.Up(); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func look(b *paneltest.Browser, width int, scheme string) error {
	if err := b.Size(width, 900); err != nil {
		return err
	}
	return b.Scheme(scheme)
}

// leave takes the service away and waits until the page says so.
func leave(b *paneltest.Browser, site *paneltest.Site) error {
	if err := site.Down(); err != nil {
		return err
	}
	return b.WaitFor("document.documentElement.dataset.conn === 'away'", 20*time.Second)
}

func take(b *paneltest.Browser, url, name string, before func() error) error {
	if err := b.Go(url); err != nil {
		return err
	}
	if err := b.WaitFor("!document.querySelector('[aria-busy=true]') && (!document.body.dataset.build || document.documentElement.dataset.conn !== 'static')", 20*time.Second); err != nil {
		return err
	}
	if before != nil {
		if err := before(); err != nil {
			return err
		}
	}
	time.Sleep(350 * time.Millisecond) // fonts and the charts' first frame
	png, err := b.Screenshot(true)
	if err != nil {
		return err
	}
	fmt.Println(name)
	return os.WriteFile(name, png, 0o644)
}
