// Draw the graphs of the page with uPlot, the library behind Grafana's own graphs, and write all numbers in their units.
// page.py puts the data of each graph into an element of class "plot".

const SIZES = {
  s: [[31536000, " y"], [604800, " w"], [86400, " d"], [3600, " h"], [60, " min"], [1, " s"]],
  bytes: [[2 ** 40, " TiB"], [2 ** 30, " GiB"], [2 ** 20, " MiB"], [2 ** 10, " KiB"], [1, " B"]],
};
// The steps between the ticks of an axis. Other units use uPlot's decimal ones.
const STEPS = {
  s: [
    ...[-4, -3, -2, -1].flatMap((power) => [1, 2, 5].map((base) => base * 10 ** power)),
    ...[1, 60].flatMap((unit) => [1, 2, 5, 10, 15, 30].map((base) => base * unit)),
    ...[1, 2, 4, 6, 12, 24, 48, 120, 240].map((hours) => hours * 3600),
  ],
  bytes: Array.from({ length: 40 }, (_, power) => 2 ** power),
};

// Three significant digits, unless the panel sets the number of decimals.
function plain(value, decimals) {
  const size = Math.abs(value);
  return String(+value.toFixed(decimals ?? (size >= 100 ? 0 : size >= 10 ? 1 : 2)));
}

// Write a number in one of Grafana's units.
function written(value, unit, decimals) {
  if (!Number.isFinite(value)) return "-";
  if (unit === "percentunit") return plain(value * 100, decimals) + "%";
  if (unit.startsWith("suffix:")) return plain(value, decimals) + unit.slice("suffix:".length);
  if (unit === "s" && value && Math.abs(value) < 1) return plain(value * 1000, decimals) + " ms";
  const sizes = SIZES[unit] ?? (Math.abs(value) < 10000 ? [] : [[1000, " K"]]);
  const [size, name] = sizes.find(([size]) => Math.abs(value) >= size) ?? sizes.at(-1) ?? [1, ""];
  return plain(value / size, unit === "s" && size > 1 ? 1 : decimals) + name + (unit === "reqps" ? " req/s" : "");
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const faint = (name, percent) => `color-mix(in srgb, ${name} ${percent}%, transparent)`;

// Put each series on top of those before it. A bar that is missing has the height 0; an area has a gap.
function stacked([times, ...rows], bars) {
  const tops = times.map(() => 0);
  const top = (value, at) => (value == null && !bars ? null : (tops[at] += value ?? 0));
  return [times, ...rows.map((row) => row.map(top))];
}

function range(spec, low, high) {
  if (spec.rows) return [0, spec.rows];
  if (spec.bare) return [low - 0.1 * (high - low || 1), high + 0.1 * (high - low || 1)];
  if (spec.log) return [1, 2 * Math.max(high, 10)];
  low = Math.min(low ?? 0, 0);
  high = Math.max(high ?? 0, 0) || low + 1;
  if (spec.centered) [low, high] = [-Math.max(high, -low), Math.max(high, -low)];
  const pad = 0.06 * (high - low);
  return [low && low - pad, high + pad];
}

// An axis for values; `spec.ticks` names its places where uPlot is not to choose them.
function valueAxis(spec, look) {
  const named = spec.ticks && new Map(spec.ticks);
  const name = (at) => (named ? named.get(at) : at);
  return {
    ...look,
    values: (_, places) => places.map(name).map((one) => (typeof one === "string" ? one : written(one, spec.unit))),
    size: (u, names) => {
      u.ctx.font = look.font;
      return Math.ceil(Math.max(24, ...(names ?? []).map((one) => u.ctx.measureText(one).width))) + 14;
    },
    // uPlot would leave out some places of a logarithmic axis.
    filter: (_, places) => places,
    ...(named && { splits: (_, axis, low, high) => [...named.keys()].filter((at) => at >= low && at <= high) }),
    ...(STEPS[spec.unit] && { incrs: STEPS[spec.unit] }),
  };
}

// Fill the cells of a heatmap, or the states of a state timeline.
function drawCells(u, spec) {
  for (const [row, from, to, name, percent] of spec.cells ?? []) {
    const [left, right] = [from, to].map((at) => u.valToPos(Math.max(at, spec.start), "x", true));
    const [one, other] = [row + spec.gap, row + 1 - spec.gap].map((at) => u.valToPos(at, "y", true));
    u.ctx.fillStyle = faint(name, percent);
    u.ctx.fillRect(left, Math.min(one, other), right - left - spec.apart, Math.abs(one - other));
  }
}

// Draw the thresholds as lines, and a diamond for each exemplar.
function drawMarks(u, spec) {
  const { ctx, bbox } = u;
  for (const [value, stroke, dashed] of spec.limits ?? []) {
    const y = Math.round(u.valToPos(value, "y", true));
    if (y <= bbox.top || y >= bbox.top + bbox.height) continue;
    Object.assign(ctx, { strokeStyle: faint(stroke, 70), lineWidth: 1 });
    ctx.setLineDash(dashed ? [7, 6] : []);
    ctx.stroke(new Path2D(`M${bbox.left},${y + 0.5} h${bbox.width}`));
    ctx.setLineDash([]);
  }
  ctx.fillStyle = color("--link");
  for (const [at, value] of spec.exemplars ?? []) {
    const [x, y] = [u.valToPos(at, "x", true), u.valToPos(value, "y", true)];
    if (y >= bbox.top) ctx.fill(new Path2D(`M${x},${y - 4} l4,4 l-4,4 l-4,-4 z`));
  }
}

function draw(place, spec) {
  const series = spec.series.length ? spec.series : [{ times: [spec.start, spec.end], values: [null, null] }];
  const joined = uPlot.join(series.map((one) => [one.times, one.values]));
  const look = { stroke: color("--soft"), font: "11px DejaVu Sans, Noto Sans CJK SC", ticks: { show: false } };
  look.grid = { stroke: color("--grid"), width: 1, show: !spec.cells };
  const hours = (_, places) => places.map((at) => new Date(at * 1000).toISOString().slice(11, 16));
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    padding: spec.bare ? [0, 0, 0, 0] : [8, 12, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    scales: {
      x: { range: [spec.start, spec.end] },
      y: { range: (_, low, high) => range(spec, low, high), distr: spec.log ? 3 : 1, dir: spec.downwards ? -1 : 1 },
    },
    axes: spec.bare ? [{ show: false }, { show: false }] : [{ ...look, size: 26, space: 60, values: hours }, valueAxis(spec, look)],
    series: [{}, ...series.map((one) => ({
      stroke: one.color,
      width: one.width,
      dash: one.dash,
      fill: one.fill ? faint(one.color, one.fill) : undefined,
      points: { show: false },
      ...(spec.bars && { paths: uPlot.paths.bars({ size: [0.6] }) }),
    }))],
    bands: spec.stacked ? series.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : [],
    hooks: { draw: [(u) => drawCells(u, spec), (u) => drawMarks(u, spec)] },
  };
  new uPlot(options, spec.stacked ? stacked(joined, spec.bars) : joined, place);
}

for (const one of document.querySelectorAll("data"))
  one.textContent = written(parseFloat(one.value), one.dataset.unit, one.dataset.decimals && +one.dataset.decimals);
for (const place of document.querySelectorAll(".plot")) draw(place, JSON.parse(place.firstElementChild.textContent));
