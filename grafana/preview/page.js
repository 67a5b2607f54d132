// Draw the panels of the page: graphs with uPlot, the library behind Grafana's own graphs, all others as HTML.
// page.py puts the data of each panel into the element of class "body": Grafana's options, and the fields.

const COLORS = {
  green: "#73BF69", yellow: "#FADE2A", orange: "#FF9830", red: "#F2495C", blue: "#5794F2", transparent: "transparent",
};
const CALCULATIONS = {
  sum: ["Total", (values) => values.reduce((sum, value) => sum + value, 0)],
  max: ["Max", (values) => Math.max(...values)],
  lastNotNull: ["Last *", (values) => values.at(-1)],
};

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

const text = (value) => new Option(value).innerHTML;
const number = (value, { unit = "short", decimals }) => written(value, unit, decimals);
const known = (field) => field.values.filter((value) => value != null);
const last = (field) => known(field).at(-1);

// The colour of a value: that of the highest threshold it reaches, unless its field has a colour.
function shade(value, { config, color }) {
  if (color && config.color?.mode !== "thresholds") return color;
  return COLORS[config.thresholds.steps.findLast((step) => step.value == null || value >= step.value).color];
}

// A column is [heading, alignment]; a cell is HTML.
function table(kind, columns, rows) {
  const head = columns.map(([name, align]) => `<th align=${align}>${text(name)}</th>`).join("");
  const row = (cells) => cells.map((cell, at) => `<td align=${columns[at][1]} title="${columns[at][0]}">${cell}</td>`).join("");
  return `<table class=${kind}><tr>${head}</tr>${rows.map((cells) => `<tr>${row(cells)}</tr>`).join("")}</table>`;
}

// A list under the graph, or a table beside it: page.css shows both from the same table.
function legend({ options, fields }) {
  const { calcs, displayMode, sortBy } = options.legend;
  const columns = calcs.map((name) => CALCULATIONS[name]);
  const sort = columns.find(([name]) => name === sortBy);
  const order = (one, other) => (sort ? sort[1](known(other)) - sort[1](known(one)) : 0);
  const rows = fields.toSorted(order).map((field) => [
    `<i style="background:${field.color}"></i>${text(field.name)}`,
    ...columns.map(([, calculate]) => number(calculate(known(field)), field.config)),
  ]);
  return table(`legend-${displayMode}`, [["", "left"], ...columns.map(([name]) => [name, "right"])], rows);
}

const PANELS = {
  stat(body, panel) {
    const [field] = panel.fields;
    field.color = shade(last(field), field);
    body.innerHTML = `<div class="plot"></div><div class="stat" style="color:${field.color}">${number(last(field), field.config)}</div>`;
    Object.assign(field.config, { lineWidth: 1, fillOpacity: 15 });
    if (panel.options.graphMode !== "none") draw(body.firstChild, { ...panel, bare: true });
  },

  bargauge(body, panel) {
    const sorted = panel.fields.toSorted((one, other) => last(other) - last(one));
    const bars = sorted.map((field) => {
      const value = last(field), tint = shade(value, field), width = (100 * value) / (last(sorted[0]) || 1);
      return `<span>${text(field.name)}</span><s><u style="width:${width}%;background:${tint}"></u></s>
        <b style="color:${tint}">${number(value, field.config)}</b>`;
    });
    body.innerHTML = `<div class="bars">${bars.map((bar) => `<div>${bar}</div>`).join("")}</div>`;
  },

  table(body, { fields }) {
    const cells = fields.map(({ values, config }) => values.map((value) => {
      if (typeof value === "string") return `<span class="${config.links ? "link" : ""}">${text(value)}</span>`;
      const tint = config.cellOptions && value != null ? shade(value, { config }) : "inherit";
      return `<span style="color:${tint}">${number(value, config)}</span>`;
    }));
    const columns = fields.map(({ name, values }) => [name, typeof values[0] === "string" ? "left" : "right"]);
    body.innerHTML = table("rows", columns, fields[0].values.map((_, row) => cells.map((column) => column[row])));
  },

  timeseries(body, panel) {
    body.innerHTML = `<div class="${panel.options.legend.displayMode}"><div class="plot"></div>${legend(panel)}</div>`;
    draw(body.querySelector(".plot"), panel);
  },

  // The observations of each bucket alone at each step, the brighter the more.
  heatmap(body, panel) {
    const bound = (field) => parseFloat(field.name.replace("Inf", "Infinity"));
    const fields = panel.fields.toSorted((one, other) => bound(one) - bound(other));
    // Buckets are cumulative: what a bucket has alone is its difference to the one below it.
    const gains = fields.map(({ values }, row) => values.map((value, at) => value - (fields[row - 1]?.values[at] ?? 0)));
    const most = Math.max(...gains.flat());
    const cells = gains.flatMap((row, at) => row.map((gain, step) => (
      [at, fields[at].times[step], COLORS.orange, gain > 1e-6 ? 15 + 85 * Math.sqrt(gain / most) : 0])));
    const every = Math.max(1, Math.round(fields.length / 8));
    const ticks = fields.map((field, at) => [at + 1, number(bound(field), panel.config)]).filter((_, at) => at % every === 0);
    draw(body, { ...panel, fields: [], cells, rows: fields.length, ticks, gap: 0.02, apart: 1 });
  },

  // One line of states for each series.
  "state-timeline"(body, panel) {
    const fields = panel.fields.toSorted((one, other) => (one.name < other.name ? -1 : 1));
    const cells = fields.flatMap((field, row) => field.values.map((value, at) => (
      [row, field.times[at], shade(value, field), value == null ? 0 : panel.config.fillOpacity])));
    const ticks = fields.map((field, row) => [row + 0.5, field.name]);
    draw(body, { ...panel, fields: [], cells, rows: fields.length, ticks, gap: 0.08, apart: 0, downwards: true });
  },
};

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
  if (spec.config.scaleDistribution?.type === "log") return [1, 2 * Math.max(high, 10)];
  low = Math.min(low ?? 0, 0);
  high = Math.max(high ?? 0, 0) || low + 1;
  if (spec.config.axisCenteredZero) [low, high] = [-Math.max(high, -low), Math.max(high, -low)];
  const pad = 0.06 * (high - low);
  return [low && low - pad, high + pad];
}

// An axis for values; `spec.ticks` names its places where uPlot is not to choose them.
function valueAxis(spec, look) {
  const named = spec.ticks && new Map(spec.ticks);
  const log = spec.config.scaleDistribution?.type === "log";
  return {
    ...look,
    values: (_, places) => places.map((at) => (named ? named.get(at) : at == null ? "" : number(at, { unit: spec.config.unit }))),
    size: (u, names) => {
      u.ctx.font = look.font;
      return Math.ceil(Math.max(24, ...(names ?? []).map((one) => u.ctx.measureText(one).width))) + 14;
    },
    ...(named && { splits: (_, axis, low, high) => [...named.keys()].filter((at) => at >= low && at <= high) }),
    // On a logarithmic axis only the powers of ten: uPlot would draw all nine lines between them.
    ...(log && { grid: { ...look.grid, filter: (_, places) => places.map((at) => (Math.log10(at) % 1 ? null : at)) } }),
    ...(STEPS[spec.config.unit] && { incrs: STEPS[spec.config.unit] }),
  };
}

// Fill the cells of a heatmap, or the states of a state timeline.
function drawCells(u, spec) {
  for (const [row, to, name, percent] of spec.cells ?? []) {
    const [left, right] = [to - spec.step, to].map((at) => Math.round(u.valToPos(Math.max(at, spec.start), "x", true)));
    const [one, other] = [row + spec.gap, row + 1 - spec.gap].map((at) => u.valToPos(at, "y", true));
    u.ctx.fillStyle = faint(name, percent);
    u.ctx.fillRect(left, Math.min(one, other), right - left - spec.apart, Math.abs(one - other));
  }
}

// Draw the thresholds as lines, and a diamond for each exemplar.
function drawMarks(u, spec) {
  const { ctx, bbox } = u;
  const { thresholds, thresholdsStyle: { mode = "off" } = {} } = spec.config;
  for (const { value, color: stroke } of mode === "off" ? [] : thresholds.steps.slice(1)) {
    const y = Math.round(u.valToPos(value, "y", true));
    if (y <= bbox.top || y >= bbox.top + bbox.height) continue;
    Object.assign(ctx, { strokeStyle: faint(COLORS[stroke], 70), lineWidth: 1 });
    ctx.setLineDash(mode === "dashed" ? [7, 6] : []);
    ctx.stroke(new Path2D(`M${bbox.left},${y + 0.5} h${bbox.width}`));
    ctx.setLineDash([]);
  }
  ctx.fillStyle = color("--link");
  // As many as can be told apart.
  const every = Math.max(1, Math.floor(spec.exemplars.length / 60));
  for (const [at, value] of spec.exemplars.filter((_, number) => number % every === 0)) {
    const [x, y] = [u.valToPos(at, "x", true), u.valToPos(value, "y", true)];
    if (y >= bbox.top) ctx.fill(new Path2D(`M${x},${y - 4} l4,4 l-4,4 l-4,-4 z`));
  }
}

function draw(place, spec) {
  const { drawStyle, stacking, scaleDistribution } = spec.config;
  const bars = drawStyle === "bars", isStacked = stacking?.mode === "normal";
  const series = spec.fields.length ? spec.fields : [{ times: [spec.start, spec.end], values: [null, null], config: {} }];
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
      y: { range: (_, low, high) => range(spec, low, high), distr: scaleDistribution?.type === "log" ? 3 : 1, dir: spec.downwards ? -1 : 1 },
    },
    axes: spec.bare ? [{ show: false }, { show: false }] : [{ ...look, size: 26, space: 60, values: hours }, valueAxis(spec, look)],
    series: [{}, ...series.map((one) => ({
      stroke: one.color,
      width: one.config.lineWidth,
      dash: one.config.lineStyle?.dash,
      fill: one.config.fillOpacity && faint(one.color, one.config.fillOpacity),
      points: { show: false },
      ...(bars && { paths: uPlot.paths.bars({ size: [0.6] }) }),
    }))],
    bands: isStacked ? series.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : [],
    hooks: { draw: [(u) => drawCells(u, spec), (u) => drawMarks(u, spec)] },
  };
  new uPlot(options, isStacked ? stacked(joined, bars) : joined, place);
}

for (const body of document.querySelectorAll(".body")) {
  const panel = JSON.parse(body.textContent);
  body.innerHTML = panel.fields.length ? "" : `<div class="nothing ${panel.type}">${panel.config.noValue ?? ""}</div>`;
  if (panel.fields.length) PANELS[panel.type](body, panel);
}
