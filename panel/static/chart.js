// Draws the charts of a box. Numbers come in the data-chart attribute as parallel
// lists; null is a time that nothing covers, and is drawn as a hatched band, never as
// a line. Before anybody watched there is nothing to miss: that time stays blank and
// says so. The table in the same box has the same numbers for who cannot see this.

import uPlot from "./vendor/uPlot.esm.js";

const height = () => (innerWidth < 640 ? 168 : 208);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function scaled(v, unit) {
  if (v == null) return "–";
  const prefix = ["", "k", "M", "G", "T", "P"];
  let i = 0;
  while (Math.abs(v) >= 999.5 && i < prefix.length - 1) { v /= 1000; i++; }
  const digits = i === 0 ? 0 : Math.abs(v) < 9.995 ? 2 : Math.abs(v) < 99.95 ? 1 : 0;
  return `${v.toFixed(digits)} ${prefix[i]}${unit}`.trim();
}
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const viewersText = (v) => (v == null ? "–" : whole.format(v < 100 ? v : Math.round(v)));
const bpsText = (v) => scaled(v, "bit/s");

const short = (v, unit) => {
  if (v === 0) return "0";
  const s = scaled(v, unit);
  return s.replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\.(?= |$)/, "");
};

const two = (n) => String(n).padStart(2, "0");
function axisTimes(u, splits, _axis, _space, incr) {
  return splits.map((s) => {
    const d = new Date(s * 1000);
    if (incr >= 86400 || (d.getHours() === 0 && d.getMinutes() === 0 && u.scales.x.max - u.scales.x.min > 172800)) {
      return d.toLocaleDateString(undefined, { month: "short", day: "numeric" });
    }
    return `${two(d.getHours())}:${two(d.getMinutes())}`;
  });
}
const cursorTime = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// runs lists the stretches [first, last] of buckets for which test holds.
function runs(n, test) {
  const out = [];
  for (let i = 0; i < n; i++) {
    if (!test(i)) continue;
    const first = i;
    while (i + 1 < n && test(i + 1)) i++;
    out.push([first, i]);
  }
  return out;
}

function hatch(ctx, line, ratio) {
  const tile = document.createElement("canvas");
  const size = Math.round(7 * ratio);
  tile.width = tile.height = size;
  const c = tile.getContext("2d");
  c.strokeStyle = line;
  c.lineWidth = ratio;
  c.beginPath();
  for (const at of [-size, 0, size]) {
    c.moveTo(at, size);
    c.lineTo(at + size, 0);
  }
  c.stroke();
  return ctx.createPattern(tile, "repeat");
}

// What is not there: buckets without a number, buckets in which nobody was expected to
// report, and buckets that a part of the servers or of the time is missing from.
const watched = (data, i) => data.complete[i] != null;
const gapsOf = (data, known) => runs(data.t.length, (i) => known[i] == null && watched(data, i) && !data.off?.includes(i));
const unwatchedOf = (data, known) => runs(data.t.length, (i) => known[i] == null && !watched(data, i) && !data.off?.includes(i));
const offOf = (data) => runs(data.t.length, (i) => data.off?.includes(i));
const partsOf = (data, known) => runs(data.t.length, (i) => known[i] != null && data.complete[i] != null && data.complete[i] < 99);

// paintMissing paints what is missing before the lines are drawn.
function paintMissing(u, data, known) {
  const { ctx } = u;
  const half = data.step_s / 2;
  const ratio = devicePixelRatio || 1;
  const { left, top, width, height } = u.bbox;
  const edge = (t) => Math.min(left + width, Math.max(left, u.valToPos(t, "x", true)));
  ctx.save();
  for (const [a, b] of gapsOf(data, known)) {
    const x0 = edge(data.t[a] - half);
    const x1 = edge(data.t[b] + half);
    ctx.fillStyle = color("--gap");
    ctx.fillRect(x0, top, x1 - x0, height);
    ctx.fillStyle = hatch(ctx, color("--gap-line"), ratio);
    ctx.fillRect(x0, top, x1 - x0, height);
    if (x1 - x0 > 64 * ratio) {
      ctx.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textAlign = "center";
      const w = ctx.measureText("no data").width + 12 * ratio;
      ctx.fillStyle = color("--surface");
      ctx.fillRect((x0 + x1) / 2 - w / 2, top + height / 2 - 9 * ratio, w, 18 * ratio);
      ctx.fillStyle = color("--muted");
      ctx.fillText("no data", (x0 + x1) / 2, top + height / 2 + 4 * ratio);
    }
  }
  const quiet = (stretches, label, fill) => {
    for (const [a, b] of stretches) {
      const x0 = edge(data.t[a] - half);
      const w = edge(data.t[b] + half) - x0;
      ctx.fillStyle = fill;
      ctx.fillRect(x0, top, w, height);
      ctx.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
      if (w < ctx.measureText(label).width + 12 * ratio) continue;
      ctx.textAlign = "center";
      ctx.fillStyle = color("--muted");
      ctx.fillText(label, x0 + w / 2, top + height / 2 + 4 * ratio);
    }
  };
  quiet(offOf(data), "off air", color("--gap"));
  quiet(unwatchedOf(data, known), "not watched yet", color("--surface"));
  ctx.fillStyle = color("--part");
  for (const [a, b] of partsOf(data, known)) {
    const x0 = edge(data.t[a] - half);
    ctx.fillRect(x0, top + height + ratio, edge(data.t[b] + half) - x0, 4 * ratio);
  }
  ctx.restore();
}

// A value between two gaps has no line; it gets a point.
function lonely(u, si) {
  const d = u.data[si];
  const out = [];
  for (let i = 0; i < d.length; i++) if (d[i] != null && d[i - 1] == null && d[i + 1] == null) out.push(i);
  return out;
}

function legendOf(figure, lines) {
  const holder = figure.querySelector(".legend");
  holder.replaceChildren();
  const values = lines.map((line) => {
    const item = document.createElement("span");
    item.className = "key";
    const swatch = document.createElement("i");
    swatch.style.background = line.stroke;
    const name = document.createElement("span");
    name.textContent = line.label;
    const value = document.createElement("b");
    value.className = "num";
    item.append(swatch, name, value);
    holder.append(item);
    return value;
  });
  const at = document.createElement("span");
  at.className = "key-time num";
  holder.append(at);
  return { values, at };
}

// keysOf explains, once for all charts of a box, how what is missing is drawn.
function keysOf(box, data) {
  box.querySelector(".keys")?.remove();
  const any = (of) => [data.viewers, data.out, data.in].some((known) => of(data, known).length > 0);
  const keys = [
    [any(gapsOf), "gap", "no data: nothing covers this time"],
    [offOf(data).length > 0, "off", "off air"],
    [any(partsOf), "part", "incomplete: a part is missing from the numbers"],
  ].filter(([has]) => has);
  if (!keys.length) return;
  const row = document.createElement("p");
  row.className = "keys";
  for (const [, cls, label] of keys) {
    const item = document.createElement("span");
    item.className = `key ${cls}`;
    item.append(document.createElement("i"), label);
    row.append(item);
  }
  box.append(row);
}

// makePlot draws one chart of what now() returns, which changes when new numbers come.
function makePlot(figure, now, lines, text, unit) {
  const canvas = figure.querySelector(".canvas");
  const data = now();
  const known = () => lines[0].of(now());
  const legend = legendOf(figure, lines);
  const say = (idx) => {
    lines.forEach((l, i) => {
      const values = l.of(now());
      const at = idx ?? values.findLastIndex((v) => v != null);
      legend.values[i].textContent = at >= 0 ? text(values[at]) : "–";
    });
    legend.at.textContent = idx == null ? "" : cursorTime.format(now().t[idx] * 1000);
  };
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const grid = { stroke: color("--grid"), width: 1 };
  const plot = new uPlot({
    width: Math.max(200, canvas.clientWidth), height: height(),
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "vigil" }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: true, range: () => [now().from_s, now().to_s] },
      y: { range: (_u, _min, max) => [0, Math.max(max * 1.12, unit ? 1000 : 4)] },
    },
    axes: [
      { stroke: color("--muted"), font, grid: { show: false }, ticks: { stroke: color("--grid"), width: 1, size: 4 }, values: axisTimes, space: 64, size: 28, gap: 5 },
      { stroke: color("--muted"), font, grid, ticks: { show: false }, size: 46, gap: 6, space: 40, values: (_u, splits) => splits.map((v) => short(v, "")) },
    ],
    series: [{}, ...lines.map((l) => ({
      label: l.label, stroke: l.stroke, fill: l.fill, width: l.width ?? 1.6, dash: l.dash, spanGaps: false,
      points: { show: true, size: 4, fill: l.stroke, filter: lonely },
    }))],
    hooks: { drawClear: [(u) => paintMissing(u, now(), known())], setCursor: [(u) => say(u.cursor.idx)] },
  }, columns(data, lines), canvas);
  say(null);
  canvas.addEventListener("pointerleave", () => say(null));
  return { plot, lines, refresh: () => { plot.setData(columns(now(), lines)); say(plot.cursor.idx); } };
}

const columns = (data, lines) => [data.t, ...lines.map((l) => l.of(data))];

// fade makes a #rrggbb colour translucent; a canvas takes it everywhere so.
function fade(c, share) {
  const n = parseInt(c.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${share / 100})`;
}

const mounted = new Map(); // container: { charts, text, shape, data, dirty }

// shapeOf tells whether new numbers fit into the charts that are there.
function shapeOf(d) {
  return JSON.stringify([!!d.max, (d.tech ?? []).map((t) => t.name), gapsOf(d, d.viewers).length > 0, partsOf(d, d.viewers).length > 0,
    !!d.off, gapsOf(d, d.in).length > 0, gapsOf(d, d.out).length > 0]);
}

function draw(box) {
  const old = mounted.get(box);
  if (old?.text === box.dataset.chart && !old.dirty) return;
  let data;
  try { data = JSON.parse(box.dataset.chart); } catch { return; }
  if (!data.t?.length) return;
  const shape = shapeOf(data);
  if (old && !old.dirty && old.shape === shape) {
    Object.assign(old, { data, text: box.dataset.chart });
    old.charts.forEach((c) => c.refresh());
    return;
  }
  old?.charts.forEach((c) => c.plot.destroy());
  const mine = { data, shape, text: box.dataset.chart, charts: [] };
  const now = () => mine.data;
  const tones = [color("--series-3"), color("--series-4"), color("--series-5")];
  const viewers = [{ label: "average", of: (d) => d.viewers, stroke: color("--viewers"), fill: fade(color("--viewers"), 12) }];
  if (data.max) viewers.push({ label: "most", of: (d) => d.max, stroke: fade(color("--viewers"), 60), width: 1, dash: [3, 3] });
  // One technology alone is the average again.
  const techs = data.tech?.length > 1 ? data.tech : [];
  techs.slice(0, tones.length).forEach((t, i) => viewers.push({ label: t.name, of: (d) => d.tech[i].viewers, stroke: tones[i], width: 1.2 }));
  // Out is often a hundred times in: each has a scale of its own.
  const out = [{ label: "average", of: (d) => d.out, stroke: color("--out"), fill: fade(color("--out"), 12) }];
  const into = [{ label: "average", of: (d) => d.in, stroke: color("--in"), fill: fade(color("--in"), 12) }];
  mine.charts = [
    makePlot(box.querySelector("[data-plot=viewers]"), now, viewers, viewersText, ""),
    makePlot(box.querySelector("[data-plot=out]"), now, out, bpsText, "bit/s"),
    makePlot(box.querySelector("[data-plot=in]"), now, into, bpsText, "bit/s"),
  ];
  keysOf(box, data);
  mounted.set(box, mine);
  sizes.observe(box);
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    for (const { plot } of mounted.get(target)?.charts ?? []) {
      const width = plot.root.parentNode.clientWidth;
      if (width > 50 && (width !== plot.width || height() !== plot.height)) plot.setSize({ width, height: height() });
    }
  }
});

function scan() {
  for (const [box, { charts }] of mounted) {
    if (box.isConnected) continue;
    charts.forEach((c) => c.plot.destroy());
    sizes.unobserve(box);
    mounted.delete(box);
  }
  document.querySelectorAll("[data-chart]").forEach(draw);
}

new MutationObserver(scan).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-chart"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const m of mounted.values()) m.dirty = true;
  scan();
});
scan();
