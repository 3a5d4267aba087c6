// SPDX-License-Identifier: Apache-2.0
// The live page: frames from the feed to the map, the plots and the panels; a moment of the record in their place while
// somebody looks back.

import { Feed } from "./feed.js";
import { isDark, MemoryMap, words } from "./map.js";
import { el, figure, fill, moment, size } from "./page.js";
import * as panels from "./panels.js";
import { Plot } from "./plots.js";

const SETTLED = 250; // milliseconds that a selection lasts before its pages are looked at
const $ = (id) => document.getElementById(id);
const base = new URL("../", import.meta.url);

document.head.append(el("link", { rel: "icon", type: "image/svg+xml", href: new URL("static/icon.svg", base) }));

// The token goes from the address bar; a reload finds it here.
sessionStorage.setItem("hotbank", base.pathname);
history.replaceState(null, "", "/");

const known = await (await fetch(new URL("known", base))).json();
const columns = Object.fromEntries(known.columns.map((name, at) => [name, at]));
const map = new MemoryMap($("map"), $("legend"), select);
const percent = (value) => `${value} %`;
const watts = (value) => `${+value.toPrecision(3)} W`;
const plots = {
  memory: new Plot(
    "Over time",
    [
      ["in the kernel", "accent", { step: true, fill: true }],
      ["in use", "kernel"],
      ["dark", "soft", { step: true, dash: [4, 3] }],
    ],
    { height: 150, show: size, onMoment: lookAt },
  ),
  pressure: new Plot("Waiting for memory", [["some, 10 s", "kernel", { fill: true }]], {
    height: 90,
    show: percent,
    onMoment: lookAt,
  }),
  watts: new Plot("Power", [["watts", "accent", { fill: true }]], { height: 90, show: watts, onMoment: lookAt }),
};
const SERIES = { memory: ["on", "demand", "dark"], pressure: ["pressure"], watts: ["watts"] };
$("plots").append(...Object.values(plots).map((plot) => plot.root));

let past = null; // the moment that is looked at, in seconds since 1970; null: now
let frame = null; // what is shown
let asked = 0;
let timer = null;

const feed = new Feed(base, {
  onFrame: () => {
    drawPlots();
    if (past === null) show(feed.frame);
  },
  onState: (word, fits) => {
    $("state").className = word;
    const alive = !feed.frame || feed.frame.alive;
    $("state").textContent =
      word === "live" ? (alive ? "live" : "the machine does not answer") : "the server does not answer";
    if (word === "live" && !alive) $("state").className = "lost";
    $("trouble").hidden = (fits && alive) || past !== null;
    $("trouble").textContent = fits
      ? feed.frame?.trouble || ""
      : "The server that is there now does not know this page: open the address that it printed.";
  },
});

function show(next) {
  frame = next;
  document.title = `${frame.machine} · hotbank`;
  fill($("machine"), frame.machine);
  fill($("figures"), figures());
  map.show(frame);
  if (map.selected === null) map.select(firstOfInterest(), false);
  showSelected();
  fill($("running"), panels.running(frame.running, frame.at));
  fill($("governor"), panels.governor(frame.governor));
  fill($("journal"), panels.journal(frame.journal));
  if ($("words").open) writeWords();
  showButtons();
}

function figures() {
  const dark = frame.strips.filter((strip) => isDark(strip.power)).reduce((sum, strip) => sum + strip.size, 0);
  const saved = frame.saved_j ? figure("Saved", `${+frame.saved_j.typical.toPrecision(3)} J`.replace("-", "−")) : null;
  return [
    figure("In the kernel", size(frame.managed)),
    figure("Free", size(frame.free)),
    figure("Dark", size(dark)),
    saved,
  ];
}

const firstOfInterest = () => (frame.strips.find((strip) => strip.movable) || frame.strips[0])?.blocks[0];

const stripOf = (block) => frame.strips.find((strip) => strip.blocks.includes(block));

function select(block) {
  showSelected();
  $("spoken").textContent = words(frame.cells[block], stripOf(block), block, map.pages);
  clearTimeout(timer);
  const look = () => feed.ask("look", { name: `memory${block}` }).catch(() => {});
  if (past === null && frame.cells[block].state !== null) timer = setTimeout(look, SETTLED);
}

function showSelected() {
  const block = map.selected;
  if (block === null || !frame.cells[block]) return;
  const place = $("selected");
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  fill(place, panels.selected(frame, stripOf(block), block, buttons));
  if (focused) place.querySelector(`[data-key="${focused}"]`)?.focus();
}

function buttons(strip, cell, block) {
  if (past !== null) return [];
  const button = (verb, name) =>
    el(
      "button",
      { type: "button", "data-key": `${verb} ${name}`, "data-verb": verb, "data-name": name },
      `Plan: ${verb} ${name}`,
    );
  const found = [];
  if (strip.bank && strip.movable) found.push(button(strip.kernel === "absent" ? "add" : "remove", strip.bank));
  if (cell.state === "online" && !(strip.bank && strip.movable && strip.blocks.length === 1))
    found.push(button("remove", `memory${block}`));
  if (cell.state === "offline") found.push(button("add", `memory${block}`));
  return found;
}

$("selected").addEventListener("click", (event) => {
  const { verb, name } = event.target.dataset;
  if (verb) propose(verb, name);
});

// Show the plan; where changes are allowed, offer to carry it out.
async function propose(verb, name) {
  const confirm = $("confirm");
  confirm.hidden = true;
  $("dialog-title").textContent = `${verb} ${name}`;
  fill($("dialog-body"), el("p", { class: "soft" }, "looking at its pages"));
  $("dialog").showModal();
  try {
    const plan = await feed.ask("plan", { verb, name });
    const note = known.change
      ? ""
      : el("p", { class: "soft" }, "For reading only: hotbank web --allow-changes lets the page do it.");
    fill($("dialog-body"), panels.plan(plan), note);
    confirm.hidden = !known.change || !plan.steps.length;
    confirm.textContent = `${verb} ${name}`;
    confirm.onclick = () => order(plan);
  } catch (error) {
    fill($("dialog-body"), el("p", { class: "bad" }, error.message));
  }
}

async function order(plan) {
  $("confirm").hidden = true;
  try {
    await feed.ask("order", plan);
    $("dialog").close();
  } catch (error) {
    fill($("dialog-body"), el("p", { class: "bad" }, error.message));
  }
}

$("cancel").addEventListener("click", () => $("dialog").close());
for (const act of ["interrupt", "pause", "resume"]) $(act).addEventListener("click", () => feed.ask(act).catch(tell));

function tell(error) {
  $("dialog-title").textContent = "Refused";
  fill($("dialog-body"), el("p", { class: "bad" }, error.message));
  $("confirm").hidden = true;
  $("dialog").showModal();
}

function showButtons() {
  const may = known.change && past === null;
  const { running, governor } = frame;
  $("interrupt").hidden = !(may && running && running.ended === null);
  $("pause").hidden = !(may && governor && governor.governed && !governor.paused);
  $("resume").hidden = !(may && governor && governor.paused);
}

const writeWords = () => {
  $("words").querySelector(".words")?.remove();
  $("words").append(map.table());
};
$("words").addEventListener("toggle", () => frame && $("words").open && writeWords());

// Time.

const column = (name) => feed.rows.map((row) => row[columns[name]]);

function drawPlots() {
  const at = column("at");
  const told = past === null ? at.length - 1 : at.findLastIndex((seconds) => seconds <= past);
  for (const [name, plot] of Object.entries(plots)) {
    const data = SERIES[name].map(column);
    plot.root.hidden = data.every((values) => values.every((value) => value === null));
    if (!plot.root.hidden) plot.show([at, ...data], Math.max(0, told));
  }
  const brush = $("brush");
  [brush.min, brush.max] = [at[0], at.at(-1)];
  brush.value = past ?? at.at(-1);
}

// Look at a moment; the newest is now.
async function lookAt(seconds) {
  const last = feed.rows.at(-1)?.[columns.at];
  if (last === undefined) return;
  const number = ++asked;
  past = seconds >= last ? null : seconds;
  Object.values(plots).forEach((plot) => plot.at(past));
  $("brush").value = past ?? last;
  $("moment").textContent = past === null ? "now" : moment(past);
  $("past").hidden = past === null;
  $("past").firstElementChild.textContent = past === null ? "" : `What was recorded at ${moment(past)}`;
  document.body.classList.toggle("back", past !== null);
  const then = past === null ? feed.frame : await feed.at(past);
  if (!then || number !== asked) return;
  show(then);
  drawPlots();
}

$("brush").addEventListener("input", () => lookAt(Number($("brush").value)));
$("live").addEventListener("click", () => lookAt(Infinity));
