// SPDX-License-Identifier: Apache-2.0
// Series over time by uPlot, in the page's own ink; and spans of time as bars.

import { colours, onColours, paint, sharp } from "./palette.js";
import { el, size } from "./page.js";

// A plot. Lines: [title, colour's name, {step, fill, dash}]. Options: height, show(value) for its axis, time: whether the
// axis below is a time of day or seconds, onMoment(x) for who clicks at one.
export class Plot {
  constructor(title, lines, options = {}) {
    this.lines = lines;
    this.options = { height: 130, time: true, show: String, ...options };
    this.values = lines.map(() => el("output", {}));
    this.place = el("div", {});
    const key = lines.map(([name, colour, { dash } = {}], at) =>
      el("span", {}, mark(colour, dash), name, this.values[at]),
    );
    this.root = el("figure", { class: "plot" }, el("h2", {}, title, el("span", { class: "key" }, key)), this.place);
    this.data = [[], ...lines.map(() => [])];
    onColours(() => this.draw());
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  // The data as uPlot has it: x, then one row for each line. told: the place in each row that its key tells, too.
  show(data, told = null) {
    this.data = data;
    const value = (row) => (told === null || row[told] === null ? "" : this.options.show(row[told]));
    this.values.forEach((place, at) => (place.textContent = value(data[at + 1])));
    if (this.plot) this.plot.setData(data);
    else this.draw();
  }

  fit() {
    const width = this.place.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.options.height });
    else if (!this.plot) this.draw();
  }

  draw() {
    if (this.plot) this.plot.destroy();
    this.plot = null;
    if (!this.place.clientWidth) return;
    this.plot = new window.uPlot(this.settings(), this.data, this.place);
  }

  settings() {
    const { height, time, show, onMoment, below: word = (t) => `${t} s` } = this.options;
    const hue = colours();
    const axis = { stroke: hue.soft, grid: { stroke: hue.line, width: 1 }, ticks: { show: false }, font: FONT };
    const below = time ? { values: "{HH}:{mm}:{ss}", space: 90 } : { values: (_, at) => at.map(word), space: 70 };
    return {
      width: this.place.clientWidth,
      height,
      padding: [10, MARGIN, 0, 0],
      legend: { show: false },
      cursor: {
        sync: onMoment ? { key: "time" } : undefined,
        y: false,
        points: { size: 6 },
        drag: { x: !onMoment, y: false },
      },
      scales: { x: { time }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, ...below, size: 26, grid: { show: false } },
        { ...axis, size: NAMES, values: (_, at) => at.map(show), ...(show === size ? { incrs: BINARY } : {}) },
      ],
      series: [{}, ...this.lines.map((line) => this.series(line, hue))],
      hooks: onMoment ? { ready: [(plot) => listen(plot, onMoment)], draw: [(plot) => this.mark(plot)] } : {},
    };
  }

  series([label, colour, { step = false, fill = false, dash = null } = {}], hue) {
    return {
      label,
      dash,
      stroke: hue[colour],
      width: 1.6,
      points: { show: false },
      fill: fill ? `${hue[colour]}2e` : undefined,
      paths: step ? window.uPlot.paths.stepped({ align: 1 }) : undefined,
    };
  }

  // A line across the plot at the moment that is looked at; null: none.
  at(x) {
    this.moment = x;
    if (this.plot) this.plot.redraw(false);
  }

  mark(plot) {
    if (this.moment === null || this.moment === undefined) return;
    const x = Math.round(plot.valToPos(this.moment, "x", true));
    plot.ctx.save();
    plot.ctx.strokeStyle = colours().ink;
    plot.ctx.lineWidth = devicePixelRatio;
    plot.ctx.setLineDash([]);
    plot.ctx.beginPath();
    plot.ctx.moveTo(x, plot.bbox.top);
    plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    plot.ctx.stroke();
    plot.ctx.restore();
  }
}

const NAMES = 64; // pixels left of what is drawn over time
const MARGIN = 26; // and right of it

// How a line looks, for its key.
function mark(colour, dash) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const redraw = () => {
    const brush = sharp(canvas, 18, 8);
    brush.strokeStyle = colours()[colour];
    brush.lineWidth = 2;
    brush.setLineDash(dash || []);
    brush.beginPath();
    brush.moveTo(0, 4);
    brush.lineTo(18, 4);
    brush.stroke();
  };
  redraw();
  onColours(redraw);
  return canvas;
}

const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power); // between ticks of sizes
const FONT = "11px system-ui, 'DejaVu Sans', sans-serif";

function listen(plot, onMoment) {
  const tell = (event) => {
    if (event.buttons & 1) onMoment(plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
  };
  plot.over.addEventListener("pointerdown", (event) => {
    plot.over.setPointerCapture(event.pointerId);
    tell(event);
  });
  plot.over.addEventListener("pointermove", tell);
}

// Rows of spans of time: [{name, spans: [[from, to, look]]}], each painted with its look on the ground of another.
export function bars(rows, from, to, ground, words) {
  const canvas = el("canvas", { role: "img", "aria-label": words });
  const place = el("div", { class: "bars" }, canvas);
  const redraw = () => drawBars(canvas, place.clientWidth, rows, from, to, ground);
  onColours(redraw);
  new ResizeObserver(redraw).observe(place);
  return place;
}

const ROW = 26;

function drawBars(canvas, width, rows, from, to, ground) {
  if (!width) return;
  const brush = sharp(canvas, width, rows.length * ROW);
  const x = (t) => NAMES + ((width - NAMES - MARGIN) * (t - from)) / (to - from);
  brush.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  brush.textBaseline = "middle";
  rows.forEach(({ name, spans }, row) => {
    const y = row * ROW + 4;
    brush.fillStyle = colours().ink;
    brush.fillText(name, 0, y + ROW / 2 - 4, NAMES - 8);
    paint(brush, ground, x(from), y, x(to) - x(from), ROW - 8);
    for (const [begin, end, look] of spans) paint(brush, look, x(begin), y, Math.max(1, x(end) - x(begin)), ROW - 8);
  });
}
