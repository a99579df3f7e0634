// Keeps an open page true. It listens to the page's event stream, puts changed boxes
// into the page without flicker, lets ages tick, and says plainly when the service is
// away: what is on the screen stays, dimmed, with its age, until the service is back.

const doc = document.documentElement;
const body = document.body;
const $ = (id) => document.getElementById(id);

// ---- times and ages --------------------------------------------------------------

let skew = body.dataset.now ? Number(body.dataset.now) - Date.now() : 0; // service clock minus ours
let asOf = Number(body.dataset.asof || 0); // time of the newest data on the page
const now = () => Date.now() + skew;

export function ageText(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function timeText(ms) {
  const far = Math.abs(now() - ms) > 20 * 3600e3;
  return (far ? day : clock).format(ms);
}

function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

function localTimes(root) {
  for (const el of root.querySelectorAll("[data-t]")) {
    const ms = Number(el.dataset.t);
    setText(el, timeText(ms));
    el.title = full.format(ms);
  }
}

function tickAges() {
  for (const el of document.querySelectorAll("[data-age]")) {
    setText(el, ageText(now() - Number(el.dataset.age)));
  }
}

for (const el of document.querySelectorAll("[data-zone]")) {
  setText(el, `in ${Intl.DateTimeFormat().resolvedOptions().timeZone || "your time zone"}`);
}

// ---- putting new content in place ------------------------------------------------

// morph makes one element look like another and touches only what differs, so that
// focus, selection and scrolling stay. Children with an id are matched by it.
export function morph(from, to) {
  if (from.isEqualNode(to)) return;
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.localName === "details") && name !== "class") from.removeAttribute(name);
  }
  if (!to.hasAttribute("class")) from.removeAttribute("class");
  // Charts and ticking times write their own content.
  if (from.hasAttribute("data-keep") || from.hasAttribute("data-t")) return;
  const byId = new Map();
  for (const child of from.children) if (child.id) byId.set(child.id, child);
  let at = from.firstChild;
  for (const want of [...to.childNodes]) {
    const keyed = want.nodeType === 1 && want.id ? byId.get(want.id) : null;
    if (keyed) {
      if (keyed !== at) from.insertBefore(keyed, at);
      else at = at.nextSibling;
      morph(keyed, want);
      continue;
    }
    if (at && at.nodeType === want.nodeType && at.nodeName === want.nodeName && !(at.nodeType === 1 && (at.id || want.id))) {
      const here = at;
      at = at.nextSibling;
      if (here.nodeType === 1) morph(here, want);
      else if (here.nodeValue !== want.nodeValue) here.nodeValue = want.nodeValue;
      continue;
    }
    from.insertBefore(want, at);
  }
  while (at) {
    const next = at.nextSibling;
    from.removeChild(at);
    at = next;
  }
}

function put(id, html) {
  const have = $(id);
  if (!have) return;
  if (have.hasAttribute("data-grow")) {
    location.reload(); // the first agent reported: the page has another shape now
    return;
  }
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const want = holder.content.firstElementChild;
  if (!want) return;
  localTimes(want);
  morph(have, want);
  window.htmx?.process(have);
}

// ---- the event stream ------------------------------------------------------------

const missedBeats = 3;
const backoffMin = 400;
const backoffMax = 8000;
const soonMs = 1500; // a break shorter than this is not worth a banner
const oldMs = 60000; // data older than this is worth saying even when we are connected
const hiddenAfter = 30000; // browsers allow few streams at once: hidden pages give theirs back

let source = null;
let url = "";
let beatMs = 3000;
let heard = 0; // when we last heard anything
let lostAt = 0; // when the connection broke; 0 while it stands
let attempt = 0;
let retryAt = 0;
let retryTimer = 0;
let hiddenTimer = 0;
let final = ""; // out: signed out; gone: the question has no answer any more

function on(event, handle) {
  source.addEventListener(event, (e) => {
    heard = Date.now();
    let data;
    try { data = JSON.parse(e.data); } catch { return; }
    if (data.now_ms) skew = data.now_ms - Date.now();
    if (data.as_of_ms) asOf = data.as_of_ms;
    handle(data);
    show();
  });
}

function connect() {
  clearTimeout(retryTimer);
  retryTimer = 0;
  source?.close();
  if (!url || document.hidden && hiddenTimer === -1) return;
  heard = Date.now();
  source = new EventSource(url);
  const mine = source;
  on("hello", (d) => {
    beatMs = d.beat_ms || beatMs;
    if (d.build && body.dataset.build && d.build !== body.dataset.build) doc.dataset.newer = "1";
  });
  on("patch", (d) => {
    lostAt = 0;
    attempt = 0;
    final = "";
    for (const [id, html] of Object.entries(d.boxes || {})) put(id, html);
    tickAges();
  });
  on("beat", () => {});
  on("bye", () => { attempt = 0; connect(); });
  source.onerror = () => {
    if (mine !== source) return;
    const refused = source.readyState === EventSource.CLOSED;
    source.close();
    lose();
    if (refused) probe(); else retry();
  };
  show();
}

function lose() {
  if (!lostAt) lostAt = Date.now();
  show();
}

// An event stream does not tell why it was refused; a plain request does.
async function probe() {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), 5000);
  try {
    const answer = await fetch(url, { signal: stop.signal, cache: "no-store", redirect: "manual", headers: { Accept: "text/event-stream" } });
    if (answer.status === 401 || answer.type === "opaqueredirect") final = "out";
    else if (answer.status === 404 || answer.status === 400) final = "gone";
  } catch { /* away: try again */ } finally {
    clearTimeout(timer);
    stop.abort();
  }
  if (final) show(); else retry();
}

function retry() {
  if (retryTimer) return;
  const longest = Math.min(backoffMax, backoffMin * 1.7 ** attempt);
  attempt++;
  const wait = longest * (0.5 + Math.random() / 2);
  retryAt = Date.now() + wait;
  retryTimer = setTimeout(connect, wait);
  show();
}

// ---- saying how it is --------------------------------------------------------------

function show() {
  const pill = $("live-pill");
  if (!pill) return;
  pill.hidden = false;
  const away = lostAt && Date.now() - lostAt > soonMs;
  const age = asOf ? now() - asOf : 0;
  let conn = "live";
  let word = "Live";
  if (final) { conn = final; word = final === "out" ? "Signed out" : "Stopped"; }
  else if (away) { conn = "away"; word = "Stale"; }
  else if (lostAt) { conn = "reconnecting"; word = "Reconnecting"; }
  else if (!source) { conn = "paused"; word = "Paused"; }
  else if (asOf && age > oldMs) { conn = "old"; word = "No new data"; }
  doc.dataset.conn = conn;
  setText($("live-text"), word);
  setText($("live-age"), asOf ? (conn === "old" ? `for ${ageText(age)}` : `data ${ageText(age)} old`) : "");
  $("live-age").title = asOf ? `newest data: ${full.format(asOf)}` : "";
  banner(conn, age);
}

function banner(conn, age) {
  const box = $("away");
  const act = $("away-do");
  const newer = doc.dataset.newer === "1" && conn === "live";
  box.hidden = !(conn === "away" || conn === "out" || conn === "gone" || newer);
  if (box.hidden) return;
  box.classList.toggle("error", !newer);
  box.classList.toggle("info", newer);
  const since = asOf ? `What you see is from ${timeText(asOf)}, ${ageText(age)} ago, and stays as it is. ` : "What you see stays as it is. ";
  act.hidden = conn === "away";
  if (newer) {
    setText($("away-title"), "The panel was updated.");
    setText($("away-text"), "This page still runs the one before.");
    act.href = location.href;
    setText(act, "Reload");
  } else if (conn === "out") {
    setText($("away-title"), "You are signed out.");
    setText($("away-text"), since);
    act.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    setText(act, "Sign in again");
  } else if (conn === "gone") {
    setText($("away-title"), "This page cannot be kept up to date.");
    setText($("away-text"), since);
    act.href = location.href;
    setText(act, "Reload");
  } else {
    const left = Math.ceil((retryAt - Date.now()) / 1000);
    setText($("away-title"), "The service does not answer.");
    setText($("away-text"), since + (retryTimer && left > 0 ? `Trying again in ${left} s.` : "Trying again…"));
  }
}

// ---- charts refresh by themselves ----------------------------------------------------

const chartMin = 10000;
let chartAt = Date.now();

async function refreshChart() {
  const box = $("chart");
  if (!box?.dataset.step || lostAt || document.hidden) return;
  if (Date.now() - chartAt < Math.max(chartMin, Number(box.dataset.step) / 2)) return;
  chartAt = Date.now();
  const src = box.dataset.src;
  try {
    const answer = await fetch(src, { signal: AbortSignal.timeout(15000), cache: "no-store" });
    if (!answer.ok) return; // the old chart says of what time it is
    const html = await answer.text();
    if ($("chart")?.dataset.src === src && html.includes("data-chart=")) put("chart", html);
  } catch { /* the banner tells when the service is away */ }
}

// ---- running ----------------------------------------------------------------------------

// A list that was searched, ordered or paged has another event stream.
function follow() {
  const main = $("main");
  if (!main?.dataset.live) return;
  const list = document.querySelector("[data-live-as]");
  const want = list ? list.dataset.liveAs + location.search : main.dataset.live;
  if (want !== url) {
    url = want;
    connect();
  }
}

setInterval(() => {
  tickAges();
  show();
  if (source && !lostAt && !final && Date.now() - heard > missedBeats * beatMs + 500) {
    source.close(); // silent: the connection may be dead without anybody having said so
    lose();
    retry();
  }
  refreshChart();
}, 1000);

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => {
      hiddenTimer = -1;
      source?.close();
      source = null;
    }, hiddenAfter);
  } else if (hiddenTimer === -1) {
    hiddenTimer = 0;
    connect();
  }
});
addEventListener("online", () => { if (lostAt) connect(); });
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (e) => { if (e.persisted) connect(); });
document.addEventListener("htmx:afterSettle", (e) => {
  localTimes(e.detail?.elt?.parentNode ?? document);
  tickAges();
  follow();
});
// A part that cannot be loaded says so in its place; htmx alone would say nothing.
document.addEventListener("htmx:beforeSwap", (e) => {
  const { xhr, target } = e.detail;
  if (xhr.status < 400) return;
  if (xhr.status === 401) { final = "out"; show(); return; }
  const text = xhr.responseText;
  if (text.startsWith("<div class=\"problem\"") && target) {
    target.querySelector(":scope > .problem")?.remove();
    target.insertAdjacentHTML("afterbegin", text);
  }
});
document.addEventListener("htmx:sendError", (e) => {
  const target = e.detail?.target;
  if (!target) return;
  target.querySelector(":scope > .problem")?.remove();
  const note = document.createElement("div");
  note.className = "problem";
  note.setAttribute("role", "alert");
  note.textContent = "The service did not answer. What you see has not changed; try again.";
  target.prepend(note);
});

doc.classList.add("js");
localTimes(document);
tickAges();
follow();
