// SPDX-License-Identifier: Apache-2.0
// The map of report/cells.py on a canvas: strips of blocks by address, each filled from below with what it holds.

import { count, counted, el, size } from "./page.js";
import { colours, flag, LOOKS, onColours, paint, sample, sampleFlag, sharp } from "./palette.js";

const KEEPS = new Set(["kernel", "pinned", "poisoned"]);

// Half to even, as Python rounds.
function rounded(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

// Groups of pages as parts of so many in all: [[name, part]]. The rule of Cell.parts in report/cells.py.
export function parts(groups, whole) {
  const entries = Object.keys(LOOKS)
    .filter((name) => groups[name])
    .map((name) => [name, groups[name]]);
  const total = entries.reduce((sum, [, pages]) => sum + pages, 0);
  const sizes = new Map(entries.map(([name, pages]) => [name, Math.max(1, rounded((pages * whole) / total))]));
  for (;;) {
    const over = [...sizes.values()].reduce((sum, part) => sum + part, 0) - whole;
    if (!sizes.size || !over) break;
    const name = widest(sizes, groups);
    sizes.set(name, sizes.get(name) - (over > 0 ? 1 : over));
  }
  return [...sizes].filter(([, part]) => part);
}

function widest(sizes, groups) {
  const rank = (name) => [sizes.get(name), KEEPS.has(name) ? 0 : 1, -groups[name]];
  const above = (one, other) => {
    const at = one.findIndex((value, place) => value !== other[place]);
    return at >= 0 && one[at] > other[at];
  };
  return [...sizes.keys()].reduce((best, name) => (above(rank(name), rank(best)) ? name : best));
}

const DARK = new Set(["off", "self-refresh"]);

// Whether memory can't be read or written with that power.
export const isDark = (power) => DARK.has(power);

// What a block shows: the look of the whole, or pages by group.
export function shown(cell, pages) {
  if (isDark(cell.power)) return { look: "dark" };
  if (cell.state === null) return { look: "out" };
  if (cell.state === "offline") return { look: "offline" };
  if (Object.keys(cell.groups).length) return { groups: cell.groups };
  if (cell.used === null || cell.used === undefined) return { look: "unknown" };
  const used = Math.min(cell.used, pages);
  return { groups: { ...(used ? { used } : {}), ...(used < pages ? { free: pages - used } : {}) } };
}

// A block in words, for who does not see the canvas.
export function words(cell, strip, block, pages) {
  const where = strip.bank ? `memory${block} in ${strip.bank}` : `memory${block}`;
  if (cell.state === null) return `${where}: out of the kernel, power ${cell.power}`;
  const held = parts(cell.groups, pages)
    .map(([name, n]) => `${LOOKS[name][0]} ${count(n)}`)
    .join(", ");
  const used = cell.used === null ? "use unknown" : `${count(cell.used)} of ${counted(pages, "page")} in use`;
  return `${where}: ${cell.state}, ${cell.zone || "no zone"}, ${used}${held ? `; ${held}` : ""}`;
}

const FORMS = [
  { most: 64, height: 64, gap: 6, label: 12 },
  { most: 512, width: 24, height: 24, gap: 4, label: 0 },
  { most: 4096, width: 13, height: 13, gap: 2, label: 0 },
  { most: Infinity, width: 7, height: 7, gap: 1, label: 0 },
];
const HEAD = 24;
const BETWEEN = 12;
const EDGE = 3; // for the ring around a selected block

// Where everything is: heads of strips, and a place for each block.
function layout(frame, width) {
  const total = frame.strips.reduce((sum, strip) => sum + strip.blocks.length, 0);
  const longest = Math.max(1, ...frame.strips.map((strip) => strip.blocks.length));
  const form = { ...FORMS.find(({ most }) => total <= most) };
  form.width =
    form.width || Math.max(44, Math.min(240, Math.floor((width - EDGE * 2) / Math.min(longest, 16)) - form.gap));
  const perRow = Math.max(1, Math.floor((width - EDGE * 2 + form.gap) / (form.width + form.gap)));
  const heads = [];
  const places = new Map();
  const rows = [];
  let y = 0;
  for (const strip of frame.strips) {
    heads.push({ strip, y });
    y += HEAD;
    strip.blocks.forEach((block, at) => {
      const column = at % perRow;
      if (column === 0) rows.push([]);
      const top = y + Math.floor(at / perRow) * (form.height + form.label + form.gap);
      rows.at(-1).push(block);
      places.set(block, {
        x: EDGE + column * (form.width + form.gap),
        y: top,
        width: form.width,
        height: form.height,
        row: rows.length - 1,
        strip,
      });
    });
    y += Math.ceil(strip.blocks.length / perRow) * (form.height + form.label + form.gap) + BETWEEN;
  }
  return { form, heads, places, rows, width, height: Math.max(1, y - BETWEEN) };
}

export class MemoryMap {
  // onSelect(block): somebody has chosen one.
  constructor(canvas, legend, onSelect) {
    this.canvas = canvas;
    this.legend = legend;
    this.onSelect = onSelect;
    this.selected = null;
    canvas.map = this;
    canvas.addEventListener("pointerdown", (event) => this.point(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    onColours(() => {
      this.explained = null;
      this.redraw();
      if (this.frame) this.explainLooks();
    });
    new ResizeObserver(() => this.frame && this.redraw()).observe(canvas.parentElement);
  }

  get pages() {
    return this.frame.block_size / this.frame.page_size;
  }

  show(frame) {
    this.frame = frame;
    const heads = JSON.stringify([frame.strips, frame.strips.map((strip) => this.zones(strip))]);
    const same = this.laid && this.heads === heads;
    this.heads = heads;
    if (!same) this.redraw();
    else for (const block of this.laid.places.keys()) this.draw(block);
    this.explainLooks();
  }

  // Of a bank, or of blocks that belong to none.
  zones(strip) {
    return (
      strip.zone || [...new Set(strip.blocks.map((block) => this.frame.cells[block].zone).filter(Boolean))].join("/")
    );
  }

  redraw() {
    const width = this.canvas.parentElement.clientWidth;
    if (!this.frame || !width) return;
    this.laid = layout(this.frame, width);
    this.brush = sharp(this.canvas, width, this.laid.height);
    this.drawn = new Map();
    this.laid.heads.forEach((head) => this.drawHead(head));
    for (const block of this.laid.places.keys()) this.draw(block);
  }

  drawHead({ strip, y }) {
    const { ink, soft } = colours();
    const name =
      strip.bank ||
      (strip.blocks.length > 1 ? `memory${strip.blocks[0]}–${strip.blocks.at(-1)}` : `memory${strip.blocks[0]}`);
    const facts = [
      size(strip.size),
      this.zones(strip),
      strip.kernel,
      strip.bank && `power ${strip.power}`,
      strip.domain,
      strip.interleaved && "interleaved",
    ];
    this.brush.textBaseline = "alphabetic";
    this.brush.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
    this.brush.fillStyle = ink;
    this.brush.fillText(name, EDGE, y + 15);
    const after = EDGE + this.brush.measureText(name).width + 12;
    this.brush.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    this.brush.fillStyle = soft;
    this.brush.fillText(facts.filter(Boolean).join("   "), after, y + 15);
  }

  // A block, unless it looks as it does already.
  draw(block) {
    const cell = this.frame.cells[block];
    const look = shown(cell, this.pages);
    const leaving = cell.state === "going-offline";
    const kept = cell.why.length > 0 && cell.state === "online";
    const sign = JSON.stringify([look, leaving, kept, block === this.selected]);
    if (this.drawn.get(block) === sign) return;
    this.drawn.set(block, sign);
    const { x, y, width, height } = this.laid.places.get(block);
    const edge = this.laid.form.gap >> 1; // what is its own of the gap: room for a ring
    this.brush.clearRect(x - edge, y - edge, width + 2 * edge, height + 2 * edge);
    if (look.look) paint(this.brush, look.look, x, y, width, height);
    else this.fillUp(look.groups, x, y, width, height);
    if (kept) flag(this.brush, x, y, width, Math.min(11, height / 2));
    if (this.laid.form.label) this.label(block, leaving);
    if (leaving) this.ring(block, "ink", -1, [5, 3]);
    if (block === this.selected) this.ring(block, "ink", Math.max(edge - 1, edge ? 0.5 : -0.5), []);
  }

  fillUp(groups, x, y, width, height) {
    let floor = y + height;
    for (const [name, part] of parts(groups, height)) {
      floor -= part;
      paint(this.brush, name, x, floor, width, part);
    }
  }

  label(block, leaving) {
    const { x, y, width, height } = this.laid.places.get(block);
    this.brush.clearRect(x, y + height + EDGE, width, this.laid.form.label);
    this.brush.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    this.brush.textBaseline = "alphabetic";
    this.brush.fillStyle = leaving ? colours().kernel : colours().soft;
    this.brush.fillText(leaving && width > 80 ? `${block} leaving` : `${block}`, x, y + height + 13, width);
  }

  // out: pixels from the block's rim to the middle of the line.
  ring(block, hue, out, dash) {
    const { x, y, width, height } = this.laid.places.get(block);
    this.brush.save();
    this.brush.strokeStyle = colours()[hue];
    this.brush.lineWidth = Math.abs(out) < 1 ? 1 : 2;
    this.brush.setLineDash(dash);
    this.brush.strokeRect(x - out, y - out, width + 2 * out, height + 2 * out);
    this.brush.restore();
  }

  explainLooks() {
    const present = new Set();
    for (const cell of Object.values(this.frame.cells)) {
      const look = shown(cell, this.pages);
      (look.look ? [look.look] : Object.keys(look.groups)).forEach((name) => present.add(name));
    }
    const known = Object.keys(LOOKS).filter((name) => present.has(name));
    const kept = Object.values(this.frame.cells).some((cell) => cell.why.length);
    const sign = String([...known, kept]);
    if (this.explained !== sign) this.legend.replaceChildren(...known.map(sample), ...(kept ? [sampleFlag()] : []));
    this.explained = sign;
  }

  select(block, told = true) {
    if (!this.laid || !this.laid.places.has(block)) return;
    const before = this.selected;
    this.selected = block;
    if (before === block) return;
    [before, block].forEach((each) => this.laid.places.has(each) && this.draw(each));
    const { strip } = this.laid.places.get(block);
    this.canvas.setAttribute(
      "aria-label",
      `Map of memory. ${words(this.frame.cells[block], strip, block, this.pages)}`,
    );
    if (told) this.onSelect(block);
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const inside = (place) => x >= place.x && x < place.x + place.width && y >= place.y && y < place.y + place.height;
    const found = [...this.laid.places].find(([, place]) => inside(place));
    if (found) this.select(found[0]);
  }

  key(event) {
    const next = this.neighbour(event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.select(next);
  }

  neighbour(key) {
    const all = [...this.laid.places.keys()];
    const at = all.indexOf(this.selected);
    if (key === "Home" || (at < 0 && key.startsWith("Arrow"))) return all[0];
    if (key === "End") return all.at(-1);
    if (key === "ArrowLeft") return all[Math.max(0, at - 1)];
    if (key === "ArrowRight") return all[Math.min(all.length - 1, at + 1)];
    if (key === "ArrowUp") return this.beside(-1);
    if (key === "ArrowDown") return this.beside(1);
    return undefined;
  }

  // The block above or below the selected one.
  beside(step) {
    const { x, row } = this.laid.places.get(this.selected);
    const there = this.laid.rows[row + step] || [];
    const distance = (block) => Math.abs(this.laid.places.get(block).x - x);
    return there.reduce((best, block) => (distance(block) < distance(best) ? block : best), there[0]) ?? this.selected;
  }

  // The map as a table.
  table() {
    const row = (strip) =>
      strip.blocks.map((block) => el("li", {}, words(this.frame.cells[block], strip, block, this.pages)));
    return el("ul", { class: "words" }, this.frame.strips.map(row));
  }
}
