package lab_test

import (
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vigil/fleet"
	"vigil/fleetsim"
	"vigil/lab"
	"vigil/media/mediatest"
	"vigil/panel/paneltest"
)

// pagePatience is how long a page may take on a machine that does much else. What pages
// promise in seconds is logged.
const pagePatience = 30 * time.Second

// TestPagesOfARealService looks at the pages of vigil run with a real browser, while
// real agents read emulated media servers, and processes are killed.
func TestPagesOfARealService(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	p.logIn(t)
	p.numbersAreThoseOfTheAPI(t)
	p.numbersMove(t)
	p.serviceKilled(t)
	p.agentKilled(t)
	p.search(t)
	p.chart(t)
}

// pages is a browser, a service and three agents, each beside an emulated server.
type pages struct {
	*paneltest.Browser
	service *lab.Service
	agents  []*lab.Agent
	keys    []string // of the servers
	began   time.Time
	spells  [2]mediatest.Spell
}

const pageServers, pageStreams, pageInterval = 3, 40, time.Second

func newPages(t *testing.T) *pages {
	t.Helper()
	ctx, l := t.Context(), newLab(t)
	now := time.Now()
	world := fleetsim.New(fleetsim.Config{
		Seed: 7, Servers: pageServers, Streams: pageStreams, Start: now.Add(-time.Hour), Mix: fleetsim.MixNginx, Viewers: 300, PlainNames: true, Watch: 30 * time.Second,
	})
	farm := mediatest.NewFarm(world, mediatest.Options{})
	noErr(t, farm.Start())
	t.Cleanup(func() { noErr(t, farm.Close()) })
	p := &pages{Browser: must[*paneltest.Browser](t)(paneltest.Start(ctx))}
	t.Cleanup(func() { noErr(t, p.Close()) })
	noErr(t, p.Size(1440, 900))
	p.service = must[*lab.Service](t)(l.NewService(ctx, lab.ServiceOptions{}))
	noErr(t, p.service.Start(ctx))

	// The first agent was there before, with a break, as after an outage of its machine.
	p.spells = [2]mediatest.Spell{{From: now.Add(-30 * time.Minute), To: now.Add(-22 * time.Minute)}, {From: now.Add(-12 * time.Minute), To: now.Add(-4 * time.Minute)}}
	token := strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(p.service.TokenFile))))
	past := &mediatest.Past{Agent: "agent-" + world.Server(0).Key(), Truth: world.Server(0), Every: 10 * time.Second, Spells: p.spells[:]}
	must[int](t)(past.Send(ctx, p.service.Ingest, token))

	p.began = time.Now()
	for i := range pageServers {
		key := world.Server(i).Key()
		agent := must[*lab.Agent](t)(l.NewAgent(lab.AgentOptions{
			Name: "agent-" + key, Service: p.service.Ingest, TokenFile: p.service.TokenFile, Interval: pageInterval,
			Servers: []lab.MediaServer{{Name: key, Product: world.Server(i).Product(), URL: farm.URL(i)}},
		}))
		noErr(t, agent.Start(ctx))
		p.keys, p.agents = append(p.keys, key), append(p.agents, agent)
	}
	return p
}

// see waits until an expression of the page is true.
func (p *pages) see(t *testing.T, what, expression string) {
	t.Helper()
	began := time.Now()
	if err := p.WaitFor(expression, pagePatience); err != nil {
		var text string
		_ = p.Run("return document.documentElement.dataset.conn + ' | ' + document.body.innerText.slice(0, 800)", &text)
		t.Fatalf("%s: %v\npage: %s", what, err, text)
	}
	t.Logf("%v after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// quiet fails for every message of the console except those that allowed accepts.
func (p *pages) quiet(t *testing.T, when string, allowed func(paneltest.Console) bool) {
	t.Helper()
	messages, err := p.Console()
	noErr(t, err)
	for _, m := range messages {
		if allowed == nil || !allowed(m) {
			t.Errorf("console %s: %s: %s", when, m.Level, m.Message)
		}
	}
}

const (
	pageIsLive  = "document.documentElement.dataset.conn === 'live'"
	viewersText = "document.querySelector('#totals .c-viewers .num')?.textContent"
)

func (p *pages) open(t *testing.T, path string) {
	t.Helper()
	noErr(t, p.Go(p.service.Panel+path))
	p.see(t, path+" is live", pageIsLive+" && !document.querySelector('[aria-busy=true]')")
}

func (p *pages) logIn(t *testing.T) {
	t.Helper()
	noErr(t, p.Go(p.service.Panel+"/"))
	p.see(t, "a page before the login is the login", "location.pathname === '/login'")
	noErr(t, p.Type("input[name=name]", "admin"))
	noErr(t, p.Type("input[name=password]", p.service.Password))
	noErr(t, p.Click("button[type=submit]"))
	p.see(t, "the login leads to the first page", "location.pathname === '/' && document.querySelector('.who-name')?.textContent === 'admin'")
	p.see(t, "all servers report", fmt.Sprintf("document.querySelectorAll('#top-servers tbody tr .state.ok').length === %d && /^\\d/.test(%s)", pageServers, viewersText))
	t.Logf("numbers of all servers are there %v after the first agent started", time.Since(p.began).Round(10*time.Millisecond))
	noErr(t, p.Run("window.mark = 1", nil))
	p.quiet(t, "after the login", nil)
}

// twin asks for the JSON of the first page and reads the page in the same moment.
const twin = `const done = arguments[arguments.length - 1];
fetch("/api/v1/now").then((r) => r.json()).then((json) => {
  const text = (s) => document.querySelector(s)?.innerText.replace(/\s+/g, " ").trim() ?? "";
  const rows = (s) => [...document.querySelectorAll(s)].map((r) => [...r.querySelectorAll("a.name > span:last-child, td.r")].map((c) => c.innerText.replace(/\s+/g, " ").trim()));
  done({ json, page: { viewers: text("#totals .c-viewers .big"), out: text("#totals .c-out .big"), in: text("#totals .c-in .big"),
    streams: text("#totals .tile:nth-of-type(4) .big"), servers: text("#totals .tile:nth-of-type(5) .big"),
    top: rows("#top-streams tbody tr") } });
}, (e) => done({ error: String(e) }));`

type looked struct {
	Error string
	JSON  struct {
		Totals struct {
			Viewers fleet.Int `json:"viewers"`
			InBps   fleet.Int `json:"in_bps"`
			OutBps  fleet.Int `json:"out_bps"`
			Streams int64     `json:"streams"`
			Servers int64     `json:"servers"`
			OK      int64     `json:"servers_ok"`
		} `json:"totals"`
		TopStreams []lab.Stream `json:"top_streams"`
	} `json:"json"`
	Page shown `json:"page"`
}

// shown is what is to be read on the first page.
type shown struct {
	Viewers string     `json:"viewers"`
	Out     string     `json:"out"`
	In      string     `json:"in"`
	Streams string     `json:"streams"`
	Servers string     `json:"servers"`
	Top     [][]string `json:"top"`
}

// expected writes the JSON as the page should show it.
func (l *looked) expected() shown {
	totals := l.JSON.Totals
	s := shown{
		Viewers: grouped(totals.Viewers.Or(-1)), Out: bitrate(totals.OutBps.Or(-1)), In: bitrate(totals.InBps.Or(-1)),
		Streams: grouped(totals.Streams), Servers: fmt.Sprintf("%d of %d", totals.OK, totals.Servers),
	}
	for _, row := range l.JSON.TopStreams {
		s.Top = append(s.Top, []string{row.Key.Name, grouped(row.Viewers.Or(-1)), bitrate(row.OutBps.Or(-1))})
	}
	return s
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// bitrate writes a rate with three digits that matter.
func bitrate(n int64) string {
	exponent := 0
	v := float64(n)
	for v >= 999.5 {
		v, exponent = v/1000, exponent+1
	}
	digits := 0
	if exponent > 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(v*1.0005))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + []string{"", "k", "M", "G"}[exponent] + "bit/s"
}

// numbersAreThoseOfTheAPI: numbers move all the time, so the page and the JSON are read
// at once, until a moment is met in which no packet came between the two.
func (p *pages) numbersAreThoseOfTheAPI(t *testing.T) {
	t.Helper()
	var l looked
	for deadline := time.Now().Add(pagePatience); ; {
		l = looked{}
		noErr(t, p.RunAsync(twin, &l))
		want := l.expected()
		if l.Error == "" && len(want.Top) == 10 && fmt.Sprint(l.Page) == fmt.Sprint(want) {
			t.Logf("page and JSON agree: %+v", want)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the page shows\n%+v, the JSON says\n%+v (%s)", l.Page, want, l.Error)
		}
	}
}

func (p *pages) numbersMove(t *testing.T) {
	t.Helper()
	for range 3 {
		var before string
		noErr(t, p.Run("return "+viewersText, &before))
		p.see(t, "the number of viewers moves from "+before, fmt.Sprintf("%s !== %q", viewersText, before))
	}
	p.see(t, "without a reload", "window.mark === 1")
	p.quiet(t, "while numbers move", nil)
}

// Failures of a page whose service is away: its event stream breaks, and is refused
// until the service is back.
var expectedFailures = []string{"net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_EMPTY_RESPONSE"}

func (p *pages) serviceKilled(t *testing.T) {
	t.Helper()
	p.service.Kill()
	p.see(t, "the page says that it is stale", "document.documentElement.dataset.conn === 'away' && !document.querySelector('#away').hidden && document.querySelector('#live-text').textContent === 'Stale'")
	p.see(t, "and of what time and how old its numbers are", `/from \d\d:\d\d:\d\d, \d+ s ago/.test(document.querySelector('#away-text').textContent)`)
	var viewers, age string
	noErr(t, p.Run("return "+viewersText, &viewers))
	noErr(t, p.Run("return document.querySelector('#live-age').textContent", &age))
	p.see(t, "the age grows", fmt.Sprintf("parseInt(document.querySelector('#live-age').textContent.match(/\\d+/)) > parseInt(%q.match(/\\d+/)) + 1", age))
	p.see(t, "and the last numbers stay", fmt.Sprintf("%s === %q && getComputedStyle(document.querySelector('.tile')).borderStyle === 'dashed'", viewersText, viewers))

	noErr(t, p.service.Start(t.Context()))
	p.see(t, "the page is live again", pageIsLive+" && document.querySelector('#away').hidden")
	p.see(t, "numbers move again", fmt.Sprintf("%s !== %q", viewersText, viewers))
	p.see(t, "all servers report again", fmt.Sprintf("document.querySelectorAll('#top-servers tbody tr .state.ok').length === %d", pageServers))
	p.see(t, "without a reload, and still logged in", "window.mark === 1 && document.querySelector('.who-name').textContent === 'admin'")
	p.numbersAreThoseOfTheAPI(t)
	seen := 0
	p.quiet(t, "while the service was away", func(m paneltest.Console) bool {
		place, what, found := strings.Cut(m.Message, " - Failed to load resource: ")
		// Chromium says the same of a stream that broke, in other words.
		if !found {
			what, place = m.Message, p.service.Panel+"/live/now"
		}
		address, err := url.Parse(place)
		ours := err == nil && address.Scheme+"://"+address.Host == p.service.Panel && slices.Contains([]string{"/live/now", "/box/chart"}, address.Path)
		if m.Source == "network" && ours && slices.ContainsFunc(expectedFailures, func(f string) bool { return strings.Contains(what, f) }) {
			seen++
			return true
		}
		return false
	})
	if seen == 0 {
		t.Error("the console tells nothing of the time when the service was away: it is not listened to")
	}
	t.Logf("%d expected failures in the console", seen)
}

func (p *pages) agentKilled(t *testing.T) {
	t.Helper()
	last := len(p.agents) - 1
	p.agents[last].Kill()
	row := fmt.Sprintf("document.getElementById('s-%s')", p.keys[last])
	p.see(t, "the server of a dead agent is silent", fmt.Sprintf("%[1]s?.querySelector('.state.bad svg.i-silent') && %[1]s.querySelector('.state').title.startsWith('Silent') && %[1]s.innerText.includes('Silent')", row)+" === true")
	p.see(t, "it comes first", row+" === document.querySelector('#top-servers tbody tr')")
	p.see(t, "the sums say that it is missing", `document.querySelector('#totals').innerText.includes('1 silent') && /\b2 of 3\b/.test(document.querySelector('#totals').innerText.replace(/\s+/g, ' '))`)
	p.numbersAreThoseOfTheAPI(t)
	p.open(t, "/servers")
	p.see(t, "the list of servers says so in words and with an icon", fmt.Sprintf("%[1]s.querySelector('.badge.bad svg.i-silent') !== null && %[1]s.querySelector('.badge').innerText.trim() === 'Silent'", row))
	p.open(t, "/servers/"+p.keys[last])
	p.see(t, "its page says since when", "/No packet came from this agent since/.test(document.querySelector('#server-head').innerText) && document.querySelector('#server-tiles .last') !== null")
	p.quiet(t, "when an agent is dead", nil)
}

func (p *pages) search(t *testing.T) {
	t.Helper()
	p.open(t, "/streams")
	noErr(t, p.Run("window.mark = 2", nil))
	p.see(t, "all streams are counted", fmt.Sprintf("/^%d (of %[1]d )?streams/.test(document.querySelector('#list .count').innerText)", pageServers*pageStreams))
	noErr(t, p.Type("#q", p.keys[0]+" cam-0003"))
	rows := "[...document.querySelectorAll('#list tbody tr')]"
	p.see(t, "a search for two words finds the one stream", fmt.Sprintf("%s.length === 1 && %[1]s[0].innerText.includes('cam-0003') && %[1]s[0].innerText.includes('%s') && location.search.includes('cam-0003')", rows, p.keys[0]))
	noErr(t, p.Run("const q = document.querySelector('#q'); q.value = ''; q.dispatchEvent(new Event('input', {bubbles: true}))", nil))
	p.see(t, "without words there are all", rows+".length === 50")

	column := "[...document.querySelectorAll('#list tbody tr td:nth-child(%d)')].map((c) => Number(c.innerText.replace(/,/g, '')))"
	viewers := fmt.Sprintf(column, 4)
	descending := ".every((v, i, all) => i === 0 || all[i - 1] >= v)"
	p.see(t, "the most watched come first", viewers+descending)
	noErr(t, p.Click("#list thead th:nth-child(4) a"))
	p.see(t, "the other way round, the least watched", "document.querySelector('#list th[aria-sort=ascending]')?.innerText.trim() === 'Viewers' && "+viewers+".every((v, i, all) => i === 0 || all[i - 1] <= v)")
	noErr(t, p.Click("#list thead th:nth-child(1) a"))
	p.see(t, "by name", "document.querySelector('#list th[aria-sort=ascending]')?.innerText.trim() === 'Stream' && [...document.querySelectorAll('#list tbody .name > span:last-child')].map((n) => n.textContent).every((v, i, all) => i === 0 || all[i - 1] <= v)")
	p.see(t, "without a reload", "window.mark === 2 && "+pageIsLive)
	p.quiet(t, "in the list of streams", nil)
}

// pixels counts, in a band of time of a chart, the pixels of its line and of the hatch
// of a gap.
const pixels = `const [from, to] = arguments;
const box = document.querySelector("[data-chart]");
const d = JSON.parse(box.dataset.chart);
const plot = document.querySelector("[data-plot=viewers]");
const canvas = plot.querySelector("canvas"), over = plot.querySelector(".u-over");
const ratio = canvas.width / canvas.getBoundingClientRect().width;
const c = canvas.getBoundingClientRect(), o = over.getBoundingClientRect();
const x = (s) => Math.round((o.left - c.left + (s - d.from_s) / (d.to_s - d.from_s) * o.width) * ratio);
const top = Math.round((o.top - c.top) * ratio), height = Math.round(o.height * ratio);
const x0 = x(from), x1 = x(to);
const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height }).getContext("2d", { willReadFrequently: true });
copy.drawImage(canvas, 0, 0);
const rgb = (name) => { const n = parseInt(getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1), 16); return [n >> 16, n >> 8 & 255, n & 255]; };
const line = rgb("--viewers"), hatch = rgb("--gap-line");
const columns = (want, share) => {
  const image = copy.getImageData(x0, top, x1 - x0, Math.round(height * share)).data;
  const near = (i) => want.every((v, k) => Math.abs(image[i + k] - v) < 24);
  const seen = new Set();
  for (let i = 0; i < image.length; i += 4) if (image[i + 3] > 128 && near(i)) seen.add((i / 4) % (x1 - x0));
  return seen.size / (x1 - x0);
};
// In the middle of a band are words about it: its upper part shows what it is.
return { line: columns(line, 1), hatch: columns(hatch, 0.4) };`

func (p *pages) chart(t *testing.T) {
	t.Helper()
	p.open(t, "/stream?"+lab.StreamQuery(live(p.keys[0], "cam-0001")))
	p.see(t, "three charts", "document.querySelectorAll('#chart canvas').length === 3 && document.querySelector('.keys .key.gap') !== null")
	f := func(what string, from, to time.Time, line, hatch bool) {
		t.Helper()
		var share struct{ Line, Hatch float64 }
		noErr(t, p.Run(pixels, &share, from.Unix(), to.Unix()))
		t.Logf("%s: the line is in %.0f %% of the columns, the hatch in %.0f %%", what, 100*share.Line, 100*share.Hatch)
		if got := share.Line > 0.9; got != line || !line && share.Line > 0 {
			t.Errorf("%s: a line in %.0f %% of the columns, want it there: %v", what, 100*share.Line, line)
		}
		if got := share.Hatch > 0.9; got != hatch || !hatch && share.Hatch > 0.1 { // where a line is drawn some pixels are of any colour
			t.Errorf("%s: a hatch in %.0f %% of the columns, want it there: %v", what, 100*share.Hatch, hatch)
		}
	}
	const margin = 90 * time.Second
	first, second := p.spells[0], p.spells[1]
	f("before anybody watched", first.From.Add(-20*time.Minute), first.From.Add(-margin), false, false)
	f("while the agent ran", first.From.Add(margin), first.To.Add(-margin), true, false)
	f("while it was away", first.To.Add(margin), second.From.Add(-margin), false, true)
	f("when it ran again", second.From.Add(margin), second.To.Add(-margin), true, false)
	p.see(t, "the table says the same", `[...document.querySelectorAll('.as-table tbody tr')].filter((r) => r.querySelectorAll('.none').length >= 3).length >= 15`)
	p.keep(t, "stream.png")
	p.quiet(t, "on the page of a stream", nil)
}

// keep writes a picture of the page where LAB_PICTURES says, for a person to look at.
func (p *pages) keep(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("LAB_PICTURES")
	if dir == "" {
		return
	}
	picture, err := p.Screenshot(true)
	noErr(t, err)
	noErr(t, os.WriteFile(filepath.Join(dir, name), picture, 0o644))
}
