// Draw the panels of the page: graphs with uPlot, the library behind Grafana's own graphs, the others as HTML.
// page.py puts the data of each panel into its element of class "body": Grafana's options, and the fields.

const COLORS = {
  green: "#73BF69", yellow: "#FADE2A", orange: "#FF9830", red: "#F2495C", blue: "#5794F2", gray: "#8E8E8E",
};
const CALCULATIONS = {
  sum: ["Total", (values) => values.reduce((sum, value) => sum + value, 0)],
  max: ["Max", (values) => Math.max(...values)],
  lastNotNull: ["Last *", (values) => values.at(-1)],
};
// The sizes of a unit. A value is written in the first one that it reaches, or else in the last one.
const UNITS = {
  s: [[604800, " w"], [86400, " d"], [3600, " h"], [60, " min"], [1, " s"], [1e-3, " ms"], [1e-6, " µs"], [1, " s"]],
  bytes: [[2 ** 40, " TiB"], [2 ** 30, " GiB"], [2 ** 20, " MiB"], [2 ** 10, " KiB"], [1, " B"]],
  percentunit: [[0.01, "%"]], reqps: [[1, " req/s"]], short: [[1, ""]],
};

// Write a number in Grafana's unit: with three significant digits, unless the panel sets the number of decimals.
function written(value, { unit = "short", decimals }) {
  if (!Number.isFinite(value)) return "-";
  if (unit === "locale") return value.toLocaleString("en", { maximumFractionDigits: decimals });
  const sizes = UNITS[unit] ?? [[1, unit.replace("suffix:", "")]];
  const [size, name] = sizes.find(([size]) => Math.abs(value) >= size) ?? sizes.at(-1);
  const number = value / size, digits = Math.abs(number) >= 100 ? 0 : Math.abs(number) >= 10 ? 1 : 2;
  return +number.toFixed(size > 1 ? 1 : decimals ?? digits) + name;
}

const text = (value) => new Option(value).innerHTML;
const faint = (color, percent) => `color-mix(in srgb, ${color} ${percent}%, transparent)`;
const known = (field) => field.values.filter((value) => value != null);
const last = (field) => known(field).at(-1);

// The colour of a value: that of the highest threshold it reaches, unless its field has a colour.
function shade(value, { config, color }) {
  if (color && config.color?.mode !== "thresholds") return color;
  return COLORS[config.thresholds.steps.findLast((step) => step.value == null || value >= step.value).color];
}

// A cell is HTML, with <b> around a number.
function table(kind, lines) {
  const row = (cells) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  return `<table class=${kind}>${lines.map(row).join("")}</table>`;
}

// A list under the graph, or a table beside it: page.css shows both from the same table.
function legend({ calcs, displayMode, sortBy }, fields) {
  const columns = calcs.map((name) => CALCULATIONS[name]);
  const [, key] = columns.find(([name]) => name === sortBy) ?? ["", () => 0];
  const sorted = fields.toSorted((one, other) => key(known(other)) - key(known(one)));
  const lines = sorted.map((field) => [
    `<i style="background:${field.color}"></i>${text(field.name)}`,
    ...columns.map(([name, calculate]) => `<b><small>${name}:</small> ${written(calculate(known(field)), field.config)}</b>`),
  ]);
  return table(`legend-${displayMode}`, [["", ...columns.map(([name]) => `<b>${name}</b>`)], ...lines]);
}

function draw(place, { window }, series, { axis, scale, ...options }) {
  const look = { stroke: COLORS.gray, font: "11px DejaVu Sans, Noto Sans CJK SC", ticks: { show: false } };
  look.grid = { stroke: faint(COLORS.gray, 20), width: 1 };
  const size = (_, names) => 20 + 6.6 * Math.max(3, ...(names ?? []).map((name) => name?.length ?? 0));
  new uPlot({
    width: place.clientWidth, height: place.clientHeight,
    legend: { show: false }, cursor: { show: false },
    axes: [{ ...look, size: 26, values: "{HH}:{mm}" }, { ...look, size, ...axis }],
    scales: { x: { range: window }, y: scale },
    series: [{}, ...series.map((one) => ({ points: { show: false }, ...one }))],
    ...options,
  }, uPlot.join(series.map((one) => one.data)), place);
}

// Put each field on top of those before it. A bar that is missing has the height 0; an area has a gap.
function stacked(fields) {
  const tops = {};
  return fields.map((field) => {
    const isGap = (value) => value == null && field.config.drawStyle !== "bars";
    const top = (value, at) => (isGap(value) ? null : (tops[at] = (tops[at] ?? 0) + value));
    return { ...field, values: field.values.map((value, at) => top(value, field.times[at])) };
  });
}

const line = ({ times, values, color, config }) => ({
  data: [times, values],
  stroke: color, width: config.lineWidth, dash: config.lineStyle?.dash,
  fill: faint(color, config.fillOpacity), paths: config.drawStyle === "bars" ? uPlot.paths.bars() : null,
});

// The thresholds are lines over the series, and the exemplars are points. Neither changes the scale.
function marks({ config, exemplars, window }) {
  const dash = { line: [], dashed: [7, 6] }[config.thresholdsStyle?.mode];
  const lines = (dash ? config.thresholds.steps.slice(1) : []).map(({ value, color }) => (
    { data: [window, [value, value]], stroke: faint(COLORS[color], 70), dash }));
  const points = { show: true, size: 6, fill: COLORS.blue };
  return [...lines, { data: exemplars, paths: () => null, points }].map((mark) => ({ ...mark, auto: false }));
}

// The scale of a graph: from 0, or with 0 in its middle. uPlot divides a scale of times into minutes and hours.
function scale({ unit, axisCenteredZero, scaleDistribution }) {
  if (scaleDistribution?.type === "log") return { distr: 3 };
  const range = (_, low, high) => {
    const most = Math.max(high, axisCenteredZero ? -low : 0);
    return uPlot.rangeNum(axisCenteredZero ? -most : Math.min(low, 0), most || 1, 0.06, true);
  };
  return { time: unit === "s", range };
}

// Draw rows of cells, each from one step to the next. A row is the colours of its cells; `low` is its lower edge.
function drawCells(body, panel, rows, names, low) {
  const { times } = panel.fields[0];
  const series = rows.map((colors, row) => {
    const edge = (at) => ({ values: () => colors.map(() => row + low + at) });
    const disp = { y0: edge(0.05), y1: edge(0.95), fill: { values: () => colors } };
    return { data: [times, times], width: 0, paths: uPlot.paths.bars({ size: [1], align: -1, disp }) };
  });
  const axis = { space: 12, grid: { show: false }, values: (_, places) => places.map((at) => names[at]) };
  draw(body, panel, series, { axis, scale: { range: [low, rows.length + low] } });
}

const PANELS = {
  stat(body, panel) {
    const [field] = panel.fields, color = shade(last(field), field);
    body.innerHTML = `<div class="plot"></div><b class="stat" style="color:${color}">${written(last(field), field.config)}</b>`;
    const area = line({ ...field, color, config: { lineWidth: 1, fillOpacity: 15 } });
    if (panel.options.graphMode !== "none") draw(body.firstChild, panel, [area], { axes: [{ show: false }, { show: false }] });
  },

  bargauge(body, { fields }) {
    const most = Math.max(...fields.map(last)) || 1;
    const lines = fields.toSorted((one, other) => last(other) - last(one)).map((field) => {
      const value = last(field), color = shade(value, field);
      const bar = `<s><u style="width:${(100 * value) / most}%;background:${color}"></u></s>`;
      return [text(field.name), bar, `<b style="color:${color}">${written(value, field.config)}</b>`];
    });
    body.innerHTML = table("bars", lines);
  },

  table(body, { fields }) {
    const cell = (value, config) => {
      if (typeof value === "string") return config.links ? `<a>${text(value)}</a>` : text(value);
      return `<b style="color:${config.cellOptions ? shade(value, { config }) : ""}">${written(value, config)}</b>`;
    };
    const heads = fields.map(({ name, values }) => (typeof values[0] === "string" ? name : `<b>${name}</b>`));
    const lines = fields[0].values.map((_, row) => fields.map((field) => cell(field.values[row], field.config)));
    body.innerHTML = table("rows", [heads, ...lines]);
  },

  timeseries(body, panel) {
    const { config, fields, options } = panel, isStacked = config.stacking?.mode === "normal";
    body.innerHTML = `<div class="${options.legend.displayMode}"><div class="plot"></div>${legend(options.legend, fields)}</div>`;
    const lines = (isStacked ? stacked(fields) : fields).map(line);
    const values = (_, places) => places.map((at) => (at == null ? "" : written(at, { unit: config.unit })));
    const incrs = config.unit === "bytes" ? Array.from({ length: 50 }, (_, power) => 2 ** power) : null;
    draw(body.querySelector(".plot"), panel, [...lines, ...marks(panel)], {
      axis: { values, incrs },
      scale: scale(config),
      bands: isStacked ? lines.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : [],
    });
  },

  // The observations of each bucket alone at each step, the brighter the more.
  heatmap(body, panel) {
    const bound = (field) => parseFloat(field.name.replace("Inf", "Infinity"));
    const fields = panel.fields.toSorted((one, other) => bound(one) - bound(other));
    // Buckets are cumulative: what a bucket has alone is its difference to the one below it.
    const gains = fields.map(({ values }, row) => values.map((value, at) => value - (fields[row - 1]?.values[at] ?? 0)));
    const most = Math.max(...gains.flat());
    const rows = gains.map((row) => row.map((gain) => faint(COLORS.orange, gain > 1e-6 ? 15 + 85 * Math.sqrt(gain / most) : 0)));
    drawCells(body, panel, rows, fields.map((field) => written(bound(field), panel.config)), -1);
  },

  // One line of states for each series.
  "state-timeline"(body, panel) {
    const fields = panel.fields.toSorted((one, other) => (one.name < other.name ? 1 : -1));
    const rows = fields.map((field) => field.values.map((value) => (
      value == null ? null : faint(shade(value, field), panel.config.fillOpacity))));
    drawCells(body, panel, rows, fields.map((field) => field.name), -0.5);
  },
};

for (const body of document.querySelectorAll(".body")) {
  const panel = JSON.parse(body.textContent);
  body.innerHTML = panel.fields.length ? "" : `<div class="nothing ${panel.type}">${panel.config.noValue ?? ""}</div>`;
  if (panel.fields.length) PANELS[panel.type](body, panel);
}
