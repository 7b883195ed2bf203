/* The pictures of a report: their numbers are in the element #data, as JSON. Without this script the
   page has the same numbers as tables. */
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
root.classList.add("scripted");
const colour = name => getComputedStyle(root).getPropertyValue("--" + name).trim();
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});
const plots = [];

/* Times: the zone's offset from UTC at each moment is in the data. */
function offset(second) {
  let found = 0;
  for (const [from, value] of data.offsets) {
    if (from > second && found !== 0) break;
    if (from <= second || found === 0) found = value;
  }
  return found;
}
const local = second => new Date((second + offset(second)) * 1000);
const zoned = second => uPlot.tzDate(local(second), "Etc/UTC");
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = number => String(number).padStart(2, "0");
function when(second, width) {
  const time = local(second);
  const day = `${DAYS[time.getUTCDay()]} ${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]}`;
  if (width >= 86400) return `${day} ${time.getUTCFullYear()}`;
  const clock = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
  return `${day} ${clock}` + (width < 60 ? `:${two(time.getUTCSeconds())}` : "");
}
function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) { number /= 1000; unit += 1; }
  return (unit && number < 100 ? number.toFixed(1) : Math.round(number)) + " " + units[unit];
}

/* What every picture has: spans without records, and changes of the rules. */
function hatch(context, left, right, top, height, stroke, step) {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, height);
  context.clip();
  context.strokeStyle = stroke;
  context.lineWidth = devicePixelRatio;
  context.beginPath();
  for (let x = left - height; x < right; x += step * devicePixelRatio) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.restore();
}
function marks(plot) {
  const {left, top, width, height} = plot.bbox;
  const context = plot.ctx;
  const place = second => plot.valToPos(second, "x", true);
  for (const span of data.spans) {
    const from = Math.max(left, place(span.start)), to = Math.min(left + width, place(span.end));
    if (to <= left || from >= left + width) continue;
    const end = Math.max(to, from + 3 * devicePixelRatio);
    context.fillStyle = colour(span.kind === "loss" ? "loss-fill" : "silent-fill");
    context.fillRect(from, top, end - from, height);
    hatch(context, from, end, top, height, colour(span.kind === "loss" ? "loss" : "silent"),
          span.kind === "loss" ? 5 : 8);
  }
  for (const change of data.changes) {
    const x = Math.round(place(change.second));
    if (x < left || x > left + width) continue;
    const size = 5 * devicePixelRatio;
    context.strokeStyle = context.fillStyle = colour("change");
    context.lineWidth = devicePixelRatio;
    context.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, top + height);
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.moveTo(x - size, top);
    context.lineTo(x + size, top);
    context.lineTo(x, top + 1.6 * size);
    context.fill();
  }
}
function notes(second, width) {
  const words = [];
  for (const span of data.spans)
    if (span.start < second + width && span.end > second) words.push(span.text);
  for (const change of data.changes)
    if (change.second >= second && change.second < second + width) words.push(change.text);
  return words.slice(0, 4);
}

/* One chart: an element with a canvas, buttons, and a line that says what is at the cursor. */
function chart(id, axis, height, options, read) {
  const figure = document.getElementById(id);
  const place = figure.querySelector(".plot");
  const readout = figure.querySelector("output");
  const hint = readout.textContent;
  const end = axis.start + axis.width * axis.count;
  const line = stroke => ({stroke: () => colour("line"), width: 1, ...stroke});
  const axes = {
    stroke: () => colour("muted"), font: "12px system-ui, sans-serif",
    grid: line({}), ticks: line({size: 4}),
  };
  const show = plot => {
    const second = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null;
    const index = second === null ? -1 : Math.floor((second - axis.start) / axis.width);
    if (index < 0 || index >= axis.count) { readout.textContent = hint; return; }
    const from = axis.start + index * axis.width;
    const words = [when(from, axis.width), read(plot, index), ...notes(from, axis.width)];
    readout.textContent = words.filter(Boolean).join(" · ");
  };
  const plot = new uPlot({
    width: Math.max(280, place.clientWidth), height, tzDate: zoned,
    legend: {show: false}, padding: [8, 28, 0, 0],
    scales: {x: {time: true, range: (u, low, high) =>
                 [Math.max(low ?? axis.start, axis.start), Math.min(high ?? end, end)]}, ...options.scales},
    axes: [{...axes, size: 46, values: timeLabels}, {...axes, size: 56, ...options.axis}],
    series: options.series, bands: options.bands,
    cursor: {drag: {x: true, y: false, setScale: true}, y: !!options.crosshair,
             points: {show: false}},
    hooks: {draw: [...(options.draw || []), marks], setCursor: [show],
            setScale: [(u, key) => { if (key === "x") follow(u); }]},
  }, options.data, place);
  plot.screenHeight = height;
  plot.axis = axis;
  plot.limits = [axis.start, end];
  figure.plot = place.plot = plot;
  plots.push(plot);
  place.addEventListener("keydown", event => keyed(event, plot));
  for (const button of figure.querySelectorAll("button[data-move]"))
    button.addEventListener("click", () => move(plot, button.dataset.move));
  new ResizeObserver(() => {
    if (!root.classList.contains("printing") && place.clientWidth)
      plot.setSize({width: place.clientWidth, height});
  }).observe(place);
  return plot;
}
function timeLabels(plot, values) {
  const [low, high] = [plot.scales.x.min, plot.scales.x.max];
  const days = (high - low) / 86400;
  let before = "";
  return values.map(second => {
    const time = local(second);
    const day = `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]}`;
    if (days > 700) return `${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()}`;
    const clock = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`
      + (days < 0.02 ? `:${two(time.getUTCSeconds())}` : "");
    const midnight = clock === "00:00" || days > 12;
    const text = midnight ? day : day === before ? clock : `${clock}\n${day}`;
    before = day;
    return text;
  });
}
let following = false;
function follow(plot) { // all pictures have the same axis of time
  if (following) return;
  following = true;
  const {min, max} = plot.scales.x;
  for (const other of plots)
    if (other !== plot && min !== null) other.setScale("x", {min, max});
  following = false;
}
function zoomTo(plot, low, high) {
  const [first, last] = plot.limits;
  const span = Math.min(last - first, Math.max(plot.axis.width * 4, high - low));
  low = Math.max(first, Math.min(low, last - span));
  plot.setScale("x", {min: low, max: low + span});
}
function move(plot, how) {
  const {min, max} = plot.scales.x, span = max - min;
  const at = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : (min + max) / 2;
  if (how === "in") zoomTo(plot, at - (at - min) / 2, at + (max - at) / 2);
  if (how === "out") zoomTo(plot, at - (at - min) * 2, at + (max - at) * 2);
  if (how === "back") zoomTo(plot, min - span / 2, max - span / 2);
  if (how === "on") zoomTo(plot, min + span / 2, max + span / 2);
  if (how === "all") zoomTo(plot, ...plot.limits);
}
function keyed(event, plot) {
  const keys = {"+": "in", "=": "in", "-": "out", "0": "all", Escape: "all", PageUp: "back",
                PageDown: "on"};
  const steps = {ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9};
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (keys[event.key]) {
    move(plot, keys[event.key]);
  } else if (steps[event.key]) {
    const {min, max} = plot.scales.x;
    const first = Math.ceil((min - plot.axis.start) / plot.axis.width);
    const last = Math.ceil((max - plot.axis.start) / plot.axis.width) - 1;
    let index = plot.cursor.left >= 0
      ? Math.floor((plot.posToVal(plot.cursor.left, "x") - plot.axis.start) / plot.axis.width) : first - 1;
    index = Math.max(first, Math.min(last, index + steps[event.key] * (event.shiftKey ? 10 : 1)));
    const left = plot.valToPos(plot.axis.start + (index + 0.5) * plot.axis.width, "x");
    plot.setCursor({left, top: plot.cursor.top >= 0 ? plot.cursor.top : plot.bbox.height / devicePixelRatio / 2});
  } else return;
  event.preventDefault();
}

/* Lines that are stacked, each of which can be left out. */
function stacked(id, axis, labels, lines, height, format) {
  const figure = document.getElementById(id);
  const shown = labels.map(() => true);
  const xs = Array.from({length: axis.count + 1}, (_, i) => axis.start + i * axis.width);
  const heaps = () => { // the highest heap first, so that the lower ones are drawn over it
    const sum = new Float64Array(axis.count);
    const heaped = lines.map((line, i) => {
      if (shown[i]) line.forEach((value, at) => { sum[at] += value; });
      const values = Array.from(sum);
      values.push(values[values.length - 1]);
      return values;
    });
    return [xs, ...heaped.reverse()];
  };
  let cut = flattens();
  const high = most => { // of the picture: without its rarest peaks, if they are to be cut
    if (!cut) return most;
    const sums = plot.data[1].slice(0, -1).sort((a, b) => a - b);
    return Math.max(1, Math.min(most, 1.25 * sums[Math.floor(0.99 * (sums.length - 1))]));
  };
  const cutMarks = plot => {
    if (!cut) return;
    const {left, top} = plot.bbox, size = 4 * devicePixelRatio;
    plot.ctx.fillStyle = colour("ink");
    plot.data[1].forEach((value, i) => {
      const x = plot.valToPos(plot.data[0][i] + axis.width / 2, "x", true);
      if (value <= plot.scales.y.max || x < left || i >= axis.count) return;
      plot.ctx.beginPath();
      plot.ctx.moveTo(x - size, top + size);
      plot.ctx.lineTo(x + size, top + size);
      plot.ctx.lineTo(x, top - size / 2);
      plot.ctx.fill();
    });
  };
  function flattens() { // whether few peaks make all the rest a flat line
    const sums = lines[0].map((_, at) => lines.reduce((sum, line) => sum + line[at], 0)).sort((a, b) => a - b);
    const most = sums[sums.length - 1], common = sums[Math.floor(0.99 * (sums.length - 1))];
    return common > 0 && most > 8 * common;
  }
  const order = labels.map((_, i) => labels.length - 1 - i);
  const plot = chart(id, axis, height, {
    data: heaps(), draw: [cutMarks],
    scales: {y: {range: (u, low, most) => [0, most > 0 ? high(most) * 1.08 : 1]}},
    axis: {values: (u, values) => values.map(value => format.axis(value))},
    series: [{}, ...order.map(i => ({
      label: labels[i].text, show: true, width: 0, points: {show: false},
      fill: () => colour(labels[i].colour), paths: uPlot.paths.stepped({align: 1}),
    }))],
  }, (u, index) => labels.map((label, i) => shown[i]
      ? `${label.text} ${format.value(lines[i][index])}` : "").filter(Boolean).join(", "));
  plot.lines = lines;
  const peaks = figure.querySelector(".peaks");
  peaks.setAttribute("aria-pressed", String(cut));
  peaks.addEventListener("click", () => {
    cut = !cut;
    peaks.setAttribute("aria-pressed", String(cut));
    plot.setData(plot.data, false);
    plot.redraw(true, true);
  });
  for (const button of figure.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const i = Number(button.dataset.line);
      shown[i] = !shown[i];
      button.setAttribute("aria-pressed", String(shown[i]));
      plot.setData(heaps(), false);
      plot.redraw();
    });
  return plot;
}

/* Ports over time: a cell for each bucket and range of ports, the darker the more packets. */
function fireplot() {
  const fire = data.fireplot, edges = fire.edges, steps = 9;
  const figure = document.getElementById("fireplot");
  let what = "all", table, most;
  const counts = {all: cell => cell[2], blocked: cell => cell[3], passed: cell => cell[2] - cell[3]};
  const prepare = () => {
    table = new Map();
    most = 1;
    for (const cell of fire.cells) {
      const count = counts[what](cell);
      if (!count) continue;
      table.set(cell[0] * 1000 + cell[1], count);
      if (count > most) most = count;
    }
  };
  const shade = count => most > 1 ? Math.round(Math.log(count) / Math.log(most) * (steps - 1)) : steps - 1;
  const draw = plot => {
    const context = plot.ctx, {left, top, width, height} = plot.bbox;
    const colours = Array.from({length: steps}, (_, i) => colour("f" + i));
    const x = Array.from({length: fire.count + 1}, (_, i) =>
      Math.round(plot.valToPos(fire.start + i * fire.width, "x", true)));
    const y = edges.map(edge => Math.round(plot.valToPos(edge, "y", true)));
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    plot.drawn = 0;
    for (const [key, count] of table) {
      const i = Math.floor(key / 1000), j = key % 1000;
      context.fillStyle = colours[shade(count)];
      context.fillRect(x[i], y[j + 1], Math.max(2, x[i + 1] - x[i]), Math.max(2, y[j] - y[j + 1]));
      plot.drawn += count;
    }
    context.restore();
  };
  prepare();
  const xs = Array.from({length: fire.count + 1}, (_, i) => fire.start + i * fire.width);
  const ticks = [1, 10, 22, 53, 80, 123, 443, 1024, 3389, 8080, 65535];
  const plot = chart("fireplot", fire, 380, {
    data: [xs, xs.map(() => null)], crosshair: true, draw: [draw],
    scales: {y: {distr: 3, log: 10, range: () => [1, 65536]}},
    axis: {splits: () => ticks, filter: (u, values) => values, values: (u, values) => values.map(String)},
    series: [{}, {points: {show: false}}],
  }, (u, index) => {
    const port = u.posToVal(u.cursor.top, "y");
    let j = edges.findIndex(edge => edge > port) - 1;
    if (j < 0) j = edges.length - 2;
    const range = edges[j + 1] - edges[j] === 1 ? `port ${edges[j]}` : `ports ${edges[j]} to ${edges[j + 1] - 1}`;
    return `${range}: ${whole.format(table.get(index * 1000 + j) || 0)} packets`;
  });
  const keys = figure.querySelector(".plot");
  keys.addEventListener("keydown", event => { // up and down through the ranges of ports
    const step = {ArrowUp: 1, ArrowDown: -1}[event.key];
    if (!step || plot.cursor.left < 0) return;
    const port = plot.posToVal(plot.cursor.top, "y");
    let j = edges.findIndex(edge => edge > port) - 1 + step;
    j = Math.max(0, Math.min(edges.length - 2, j));
    plot.setCursor({left: plot.cursor.left, top: plot.valToPos(Math.sqrt(edges[j] * edges[j + 1]), "y")});
    event.preventDefault();
  });
  for (const input of figure.querySelectorAll("input[name=fire]"))
    input.addEventListener("change", () => { what = input.value; prepare(); plot.redraw(); });
  plot.table = () => table;
}

const counts = {axis: value => short.format(value), value: value => whole.format(value)};
if (data.timeline)
  stacked("traffic", data.timeline, data.timeline.labels, data.timeline.packets, 300, counts);
if (data.fireplot) fireplot();
if (data.flows) {
  stacked("flows-begun", data.flows, data.flows.begun.labels, data.flows.begun.lines, 200, counts);
  if (data.flows.octets)
    stacked("flows-bytes", data.flows, data.flows.octets.labels, data.flows.octets.lines, 200,
            {axis: bytes, value: bytes});
}

/* Colours follow the system; on paper they are those of the light form. */
const again = () => plots.forEach(plot => plot.redraw(false, true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
addEventListener("beforeprint", () => {
  root.classList.add("printing");
  for (const plot of plots) plot.setSize({width: 690, height: Math.round(plot.screenHeight * 0.75)});
  again();
});
addEventListener("afterprint", () => {
  root.classList.remove("printing");
  for (const plot of plots)
    plot.setSize({width: plot.root.parentNode.clientWidth, height: plot.screenHeight});
  again();
});
root.dataset.drawn = String(plots.length);
})();
