// SPDX-License-Identifier: Apache-2.0
// What stands beside the map: the selected block, what runs, what the governor wishes, what was done. Each is made from a
// frame alone.

import { count, counted, el, hex, lasting, moment, size, table } from "./page.js";
import { LOOKS, sample } from "./palette.js";

const facts = (rows) =>
  el(
    "dl",
    { class: "facts" },
    rows.filter(([, value]) => value).map(([word, value]) => [el("dt", {}, word), el("dd", {}, value)]),
  );

const good = (code) => (code === "OK" ? "good" : "bad");

// The block that was selected. buttons(verb, name): what can be planned.
export function selected(frame, strip, block, buttons) {
  const cell = frame.cells[block];
  const pages = frame.block_size / frame.page_size;
  const last = cell.start + frame.block_size - 1;
  return [
    el("h3", {}, `memory${block}`, strip.bank ? el("span", { class: "soft" }, ` in ${strip.bank}`) : ""),
    facts([
      ["Addresses", el("code", {}, `${hex(cell.start)}–${hex(last)}`)],
      ["State", cell.state === null ? "out of the kernel" : cell.state],
      ["Zone", cell.zone],
      ["Power", cell.power],
      ["Domain", strip.domain],
      ["Route", strip.route],
      ["In use", cell.used === null || cell.state === null ? "" : `${count(cell.used)} of ${counted(pages, "page")}`],
    ]),
    held(cell, pages),
    cell.state === null ? "" : verdict(frame.looks[`memory${block}`]),
    el("div", { class: "buttons" }, buttons(strip, cell, block)),
  ];
}

function held(cell, pages) {
  const groups = Object.entries(cell.groups);
  if (!groups.length) return "";
  return el(
    "table",
    { class: "held" },
    el(
      "tbody",
      {},
      groups.map(([name, n]) =>
        el(
          "tr",
          {},
          el("td", {}, sample(name)),
          el("td", { class: "number" }, count(n)),
          el("td", { class: "number soft" }, `${((n / pages) * 100).toFixed(1)} %`),
        ),
      ),
    ),
  );
}

function verdict(look) {
  if (!look) return "";
  if (look.error) return el("p", { class: "verdict bad" }, look.error);
  const found = look.verdict;
  if (!found)
    return el(
      "p",
      { class: "verdict soft" },
      look.blocks ? `looking: ${look.seen} of ${counted(look.blocks, "block")}` : "looking",
    );
  return el(
    "div",
    { class: "verdict" },
    el("p", {}, el("strong", { class: good(found.code) }, found.code), ` ${found.fact}`),
    found.remedy ? el("p", { class: "soft" }, found.remedy) : "",
    found.evidence.length
      ? el(
          "ul",
          { class: "soft" },
          found.evidence.slice(0, 4).map((page) => el("li", {}, evidence(page))),
        )
      : "",
  );
}

function evidence({ pfn, kind, owner }) {
  const whose =
    owner && (owner.comm || owner.pid) ? `, of ${owner.comm || ""} ${owner.pid ? `(${owner.pid})` : ""}` : "";
  return [el("code", {}, `pfn ${hex(pfn)}`), ` ${kind}${whose}`];
}

const SIGNS = { doing: "…", done: "✓", failed: "✗", restored: "↺" };

// The transaction that runs, or the last one.
export function running(run, now) {
  if (!run) return el("p", { class: "soft" }, "Nothing has been ordered since this page was opened.");
  const over = run.ended !== null;
  const took = lasting(Math.max(0, (over ? run.ended : now) - run.began));
  return [
    el(
      "p",
      {},
      el("strong", {}, run.order),
      el("span", { class: "soft" }, over ? `  ${moment(run.ended)}, ${took}` : `  for ${took}`),
    ),
    run.total
      ? el(
          "p",
          {},
          el("progress", {
            max: run.total,
            value: over && !run.exit ? run.total : Math.min(run.moved || 0, run.total),
            "aria-label": "pages moved",
          }),
          el(
            "span",
            { class: "soft" },
            ` ${run.moved === null ? "?" : count(run.moved)} of ${counted(run.total, "page")}`,
          ),
        )
      : "",
    el(
      "ol",
      { class: "steps" },
      run.steps.map((step) =>
        el(
          "li",
          { class: step.state },
          el("span", { "aria-hidden": "true" }, SIGNS[step.state]),
          ` ${step.step} ${step.target}`,
          el("span", { class: "soft" }, ` ${step.state}${step.code ? `, ${step.code}` : ""}`),
        ),
      ),
    ),
    over
      ? el(
          "p",
          {},
          el("strong", { class: run.exit ? "bad" : "good" }, run.code || "done"),
          ` ${run.fact}`,
          run.remedy ? el("span", { class: "soft" }, `; ${run.remedy}`) : "",
        )
      : "",
  ];
}

// What the governor wishes, and why.
export function governor(known) {
  const told = known && known.status;
  if (!known || !told)
    return el(
      "p",
      { class: "soft" },
      known && known.paused ? `Nobody governs this machine. Paused: ${known.paused}` : "Nobody governs this machine.",
    );
  const wish = told.blind
    ? el("p", { class: "bad" }, `It sees nothing: ${told.blind}`)
    : el("p", {}, `Keep ${size(told.keep)} of ${size(told.supply)}: ${told.wish}`);
  const where = (group) => (group.dark ? (group.ours ? "out" : "out, by another hand") : "in");
  return [
    el(
      "p",
      {},
      el("strong", {}, told.policy),
      el(
        "span",
        { class: "soft" },
        `  ${known.governed ? `looked ${moment(told.at)}` : "gone"}${told.dry ? ", dry run" : ""}`,
      ),
    ),
    known.paused ? el("p", { class: "note" }, `Paused: ${known.paused}`) : "",
    wish,
    table(
      [
        ["Domain", (group) => group.group],
        ["", where],
        ["Why it stays in", (group) => group.why || "–"],
      ],
      told.groups,
    ),
  ];
}

// The last transactions, the newest first.
export function journal(entries) {
  if (!entries.length) return el("p", { class: "soft" }, "No transaction yet.");
  const seconds = (entry) => (entry.ended === null ? "" : lasting(entry.ended - entry.began));
  return table(
    [
      ["When", (entry) => moment(entry.began)],
      ["What", (entry) => `${entry.verb} ${entry.targets.join(", ")}`],
      ["Came to", (entry) => (entry.code === null ? "open" : el("span", { class: good(entry.code) }, entry.code))],
      ["Pages", (entry) => (entry.moved === null ? "" : count(entry.moved)), true],
      ["Took", seconds, true],
    ],
    [...entries].reverse().slice(0, 8),
  );
}

// What would be done, to be confirmed.
export function plan(made) {
  const least = made.steps.length
    ? `${counted(made.pages, "page")} to move, about ${lasting(made.seconds)}`
    : "nothing to do";
  return [
    el("p", {}, el("strong", { class: good(made.code) }, made.code), ` ${made.fact || least}`),
    made.fact && made.steps.length ? el("p", { class: "soft" }, least) : "",
    el(
      "ol",
      { class: "steps numbered" },
      made.steps.map((step) => el("li", {}, `${step.step} ${step.target}`)),
    ),
  ];
}
