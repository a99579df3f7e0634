package panel_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"vigil/panel/paneltest"
	"vigil/report/reporttest"
)

// patience is how long a page may take to show something. Pages do it in a fraction of
// a second; a busy machine gets more.
const patience = 90 * time.Second

func start(t *testing.T, cfg reporttest.Config) (*paneltest.Browser, *paneltest.Site) {
	t.Helper()
	cfg.Now = time.Now
	site, err := paneltest.NewSite(reporttest.New(cfg), time.Now, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = site.Down() })
	b, err := paneltest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	must(t, b.Size(1440, 900))
	return b, site
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func see(t *testing.T, b *paneltest.Browser, what, expression string) {
	t.Helper()
	if err := b.WaitFor(expression, patience); err != nil {
		var text string
		_ = b.Run("return document.documentElement.dataset.conn + ' | ' + document.body.innerText.slice(0, 600)", &text)
		t.Fatalf("%s: %v\npage: %s", what, err, text)
	}
}

// quiet fails when the console holds anything but what is allowed.
func quiet(t *testing.T, b *paneltest.Browser, allowed ...string) {
	t.Helper()
	messages, err := b.Console()
	must(t, err)
next:
	for _, m := range messages {
		for _, part := range allowed {
			if strings.Contains(m.Message, part) {
				continue next
			}
		}
		if m.Level == "SEVERE" || m.Level == "WARNING" {
			t.Errorf("console: %s: %s", m.Level, m.Message)
		}
	}
}

const conn = "document.documentElement.dataset.conn"

var everyPage = []string{"/", "/servers", "/servers/edge-ams-01", "/streams", "/stream?server=edge-fra-01&app=live&name=news-24"}

func TestLoginAndEveryPage(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{Scenario: reporttest.Gaps})

	must(t, b.Go(site.URL("/streams?q=news")))
	see(t, b, "a page before the login is the login", "location.pathname === '/login'")
	must(t, b.Type("input[name=name]", paneltest.Name))
	must(t, b.Type("input[name=password]", "wrong wrong wrong"))
	must(t, b.Click("button[type=submit]"))
	see(t, b, "a wrong password says so", "document.querySelector('[role=alert]')?.innerText.length > 10 && document.querySelector('input[name=name]').value === '"+paneltest.Name+"'")
	quiet(t, b, "401 (Unauthorized)")
	must(t, b.Type("input[name=password]", paneltest.Password))
	must(t, b.Click("button[type=submit]"))
	see(t, b, "the login leads to where one wanted to go", "location.pathname + location.search === '/streams?q=news'")

	for _, path := range everyPage {
		must(t, b.Go(site.URL(path)))
		see(t, b, path+" gets live", conn+" === 'live'")
		see(t, b, path+" has numbers", "[...document.querySelectorAll('main .num')].filter(e => /\\d/.test(e.textContent)).length > 5")
		see(t, b, path+" has loaded its boxes", "!document.querySelector('[aria-busy=true]')")
		if path != "/servers" && path != "/streams" {
			see(t, b, path+" draws its charts", "document.querySelectorAll('.plot canvas').length === 3")
			see(t, b, path+" shows gaps", "[...document.querySelectorAll('.key.gap')].length > 0")
		}
		checkAccess(t, b, path)
	}
	quiet(t, b)

	must(t, b.Click("button.quiet"))
	see(t, b, "signing out leads to the login", "location.pathname === '/login'")
	must(t, b.Go(site.URL("/")))
	see(t, b, "and it stays so", "location.pathname === '/login'")
	quiet(t, b)
}

func TestNumbersChangeWithoutReload(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{})
	must(t, paneltest.SignIn(b, site))
	see(t, b, "live", conn+" === 'live'")
	// A mark on the window and on a row tells whether the page, or the row, was replaced.
	must(t, b.Run("window.mark = 1; document.getElementById('s-edge-fra-01').mark = 1; window.moved = 0; "+
		"new MutationObserver(l => l.forEach(m => window.moved += m.removedNodes.length)).observe(document.querySelector('#top-servers'), {subtree: true, childList: true})", nil))
	site.World.Set(reporttest.Gaps)
	see(t, b, "an unreachable server appears", "document.querySelector('#totals').innerText.includes('1 unreachable')")
	see(t, b, "its row comes first and says so", "document.querySelector('#top-servers tbody tr').innerText.includes('Unreachable')")
	site.World.Set(reporttest.Silent)
	see(t, b, "no reporting server is no number", "document.querySelector('#totals .c-viewers .none')?.title.includes('no server is reporting')")
	site.World.Set(reporttest.Normal)
	see(t, b, "numbers are back", "/^\\d+,\\d+$/.test(document.querySelector('#totals .c-viewers .num')?.textContent)")
	see(t, b, "no reload", "window.mark === 1")
	see(t, b, "rows were changed in place", "document.getElementById('s-edge-fra-01').mark === 1")
	quiet(t, b)
}

func TestPageSurvivesARestartOfTheService(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{})
	must(t, paneltest.SignIn(b, site))
	see(t, b, "live", conn+" === 'live'")
	must(t, b.Run("window.mark = 1", nil))
	var before string
	must(t, b.Run("return document.querySelector('#totals .c-viewers .num').textContent", &before))

	must(t, site.Down())
	see(t, b, "the page says that it is stale", conn+" === 'away' && !document.querySelector('#away').hidden")
	see(t, b, "and how old its numbers are", `/from \d\d:\d\d:\d\d, \d+ s ago/.test(document.querySelector('#away-text').textContent)`)
	var first, second string
	must(t, b.Run("return document.querySelector('#live-age').textContent", &first))
	see(t, b, "the age ticks", fmt.Sprintf("document.querySelector('#live-age').textContent !== %q", first))
	must(t, b.Run("return document.querySelector('#totals .c-viewers .num').textContent", &second))
	if before != second {
		t.Errorf("viewers while away = %s, want the last known %s", second, before)
	}

	site.World.Set(reporttest.Gaps)
	must(t, site.Up())
	see(t, b, "live again", conn+" === 'live' && document.querySelector('#away').hidden")
	see(t, b, "with new numbers", "document.querySelector('#totals').innerText.includes('1 unreachable')")
	see(t, b, "without a reload", "window.mark === 1")
	quiet(t, b, "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")

	site.SignOutAll()
	must(t, site.Down())
	must(t, site.Up())
	see(t, b, "a session that ended says so", conn+" === 'out' && document.querySelector('#away-do').textContent === 'Sign in again'")
	see(t, b, "and keeps the numbers", "/\\d/.test(document.querySelector('#totals .c-viewers .num').textContent)")
}

func TestEmptyFleetFillsByItself(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{Scenario: reporttest.Empty})
	must(t, paneltest.SignIn(b, site))
	see(t, b, "says what to do", "document.querySelector('main').innerText.includes('vigil-agent')")
	for _, path := range []string{"/servers", "/streams"} {
		must(t, b.Go(site.URL(path)))
		see(t, b, path+" says what to do", "document.querySelector('main').innerText.includes('vigil-agent')")
	}
	must(t, b.Go(site.URL("/")))
	see(t, b, "live", conn+" !== 'static'")
	site.World.Set(reporttest.Normal)
	see(t, b, "fills with the first packet", "document.querySelectorAll('#top-servers tbody tr').length === 10")
	quiet(t, b)
}

func TestABrokenStoreCostsItsBoxesOnly(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{Scenario: reporttest.Broken})
	must(t, paneltest.SignIn(b, site))
	see(t, b, "live numbers stand", "/\\d/.test(document.querySelector('#totals .c-viewers .num').textContent)")
	see(t, b, "the chart says why it is missing", "document.querySelector('#chart [role=alert]')?.innerText.includes('store cannot be read')")
	site.World.Set(reporttest.Normal)
	time.Sleep(2100 * time.Millisecond)                                       // the failure is remembered for two seconds, so that a sick store is left alone
	must(t, b.Run("document.querySelector('#chart .again a')?.click()", nil)) // it may have tried again by itself
	see(t, b, "trying again brings it", "document.querySelectorAll('#chart canvas').length === 3")
	quiet(t, b)
}

func TestSearchSortAndPagesOfManyStreams(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{Streams: 24_000})
	must(t, paneltest.SignIn(b, site))
	must(t, b.Go(site.URL("/streams")))
	see(t, b, "counts them all", "document.querySelector('#list').innerText.includes('of 24,000 streams')")
	see(t, b, "live", conn+" === 'live'")
	must(t, b.Run("window.mark = 1", nil))
	firstName := "document.querySelector('#list tbody tr .name').textContent"

	must(t, b.Type("#q", "cam-000123 ams"))
	see(t, b, "search", firstName+".includes('cam-000123') && location.search.includes('q=cam-000123')")
	must(t, b.Run("const q = document.querySelector('#q'); q.value = ''; q.dispatchEvent(new Event('input', {bubbles: true}))", nil))
	see(t, b, "search emptied", "document.querySelectorAll('#list tbody tr').length === 50")

	must(t, b.Run("document.querySelector('#list thead th a').click()", nil))
	see(t, b, "by name", "document.querySelector('#list th[aria-sort=ascending]')?.innerText.trim() === 'Stream'")
	must(t, b.Run("document.querySelector('#list thead th a').click()", nil))
	see(t, b, "by name, the other way", "document.querySelector('#list th[aria-sort=descending]')?.innerText.trim() === 'Stream' && "+firstName+".includes('cam-023999')")

	must(t, b.Run("document.querySelector('.pager a[rel=next]').click()", nil))
	see(t, b, "next page", "location.search.includes('offset=50') && document.querySelector('.pager').innerText.includes('51')")
	must(t, b.Run("return history.back()", nil))
	see(t, b, "back", "!location.search.includes('offset=50') && "+firstName+".includes('cam-023999')")
	see(t, b, "live again", conn+" === 'live'")
	quiet(t, b)
}

func TestPagesWorkWithoutScripts(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{})
	must(t, paneltest.SignIn(b, site))
	must(t, b.CDP("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil))
	for _, path := range everyPage {
		must(t, b.Go(site.URL(path)))
		see(t, b, path, "document.documentElement.dataset.conn === 'static' && [...document.querySelectorAll('main .num')].filter(e => /\\d/.test(e.textContent)).length > 5")
	}
	must(t, b.Go(site.URL("/streams?q=news-24&sort=name&order=desc")))
	see(t, b, "search by form", "document.querySelectorAll('#list tbody tr').length === 3")
	must(t, b.Go(site.URL("/")))
	see(t, b, "the table has what the charts would show", "document.querySelectorAll('.as-table tbody tr').length === 120")
}

// access returns what keeps people out: controls without a name, text that is hard to
// read, tables and landmarks that make no sense to a screen reader.
const access = `
const faults = [];
const name = (e) => (e.labels?.[0]?.innerText || e.labels?.[0]?.textContent || e.getAttribute("aria-label") || e.title || e.innerText || "").trim();
for (const e of document.querySelectorAll("input:not([type=hidden]), select, button, a[href], summary")) {
  if (!name(e)) faults.push("no name: " + e.outerHTML.slice(0, 120));
}
for (const t of document.querySelectorAll("main table")) {
  if (!t.querySelector("thead th[scope=col]")) faults.push("table without column headers");
  for (const r of t.querySelectorAll("tbody tr")) if (!r.querySelector("th[scope=row]")) { faults.push("row without header: " + r.innerText.slice(0, 60)); break; }
}
for (const l of ["main", "header", "nav[aria-label]", ".skip", "h1"]) if (!document.querySelector(l)) faults.push("no " + l);
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids)) if (ids.filter((x) => x === id).length > 1) faults.push("id twice: " + id);
for (const e of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) faults.push("labelled by nothing: " + e.id);
const lum = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
const rgba = (s) => { const m = s.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m.slice(0, 3), 1] : m; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
const ground = (e) => {
  const layers = [];
  for (let at = e; at; at = at.parentElement) { const c = rgba(getComputedStyle(at).backgroundColor); if (c[3] > 0) layers.push(c); if (c[3] === 1) break; }
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const seen = new Set();
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (!walk.currentNode.nodeValue.trim() || seen.has(e) || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || e.closest(".sr, .skip, noscript")) continue;
  seen.add(e);
  const bg = ground(e);
  let opacity = 1;
  for (let at = e; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  const fg = rgba(getComputedStyle(e).color);
  const mixed = over([fg[0], fg[1], fg[2], fg[3] * opacity], bg);
  const [a, b] = [lum(mixed), lum(bg)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) faults.push("contrast " + ratio.toFixed(2) + ": " + e.className + " " + walk.currentNode.nodeValue.trim().slice(0, 40));
}
const wide = Math.max(document.documentElement.scrollWidth, innerWidth);
if (wide > arguments[0] + 1) faults.push("the page is wider than the window: " + wide + " > " + arguments[0]);
return [...new Set(faults)].slice(0, 20);`

func checkAccess(t *testing.T, b *paneltest.Browser, path string) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1440, 390} {
			must(t, b.Scheme(scheme))
			must(t, b.Size(width, 900))
			time.Sleep(50 * time.Millisecond) // one frame with the new style
			var faults []string
			must(t, b.Run(access, &faults, width))
			for _, f := range faults {
				t.Errorf("%s %s %d: %s", path, scheme, width, f)
			}
		}
	}
	must(t, b.Scheme("light"))
	must(t, b.Size(1440, 900))
}

// A machine that freezes closes no connection and refuses none: only the missing beat
// tells.
func TestASilentServiceIsNoticed(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{})
	proxy, err := paneltest.NewProxy(site.Addr)
	must(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	real := site.Addr
	site.Addr = proxy.Addr()
	must(t, paneltest.SignIn(b, site))
	site.Addr = real
	see(t, b, "live", conn+" === 'live'")
	must(t, b.Run("window.mark = 1", nil))
	proxy.Freeze(true)
	began := time.Now()
	see(t, b, "silence is noticed", conn+" === 'away' && !document.querySelector('#away').hidden")
	if took := time.Since(began); took > 40*time.Second { // without beats it would be minutes, until TCP gives up
		t.Errorf("silence was noticed after %s, want three beats and a little", took)
	}
	site.World.Set(reporttest.Gaps)
	proxy.Freeze(false)
	see(t, b, "live again with new numbers", conn+" === 'live' && document.querySelector('#totals').innerText.includes('1 unreachable')")
	see(t, b, "without a reload", "window.mark === 1")
	quiet(t, b)
}

func TestChartsTakeNewNumbersInPlace(t *testing.T) {
	t.Parallel()
	b, site := start(t, reporttest.Config{})
	must(t, paneltest.SignIn(b, site))
	see(t, b, "charts", "document.querySelectorAll('#chart canvas').length === 3")
	must(t, b.Run("document.querySelector('#chart canvas').mark = 1; window.mark = 1", nil))
	// New numbers of the same shape are drawn by the charts that are there.
	must(t, b.Run(`const box = document.querySelector('[data-chart]'); const d = JSON.parse(box.dataset.chart);
d.viewers = d.viewers.map((v) => v && v * 3); box.dataset.chart = JSON.stringify(d);`, nil))
	see(t, b, "new numbers", "document.querySelector('[data-plot=viewers] .key b').textContent.match(/^(4|5)\\d,\\d+$/) !== null && document.querySelector('#chart canvas').mark === 1")
	must(t, b.Click(".ranges a:nth-child(3)"))
	see(t, b, "another range", "document.querySelector('#chart-title').textContent === 'Last 24 hours' && location.search === '?range=24h' && document.querySelectorAll('#chart canvas').length === 3")
	see(t, b, "without a reload", "window.mark === 1")
	must(t, b.Scheme("dark"))
	see(t, b, "charts are there in the other scheme", "document.querySelectorAll('#chart canvas').length === 3")
	quiet(t, b)
}
