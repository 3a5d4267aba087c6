// SPDX-License-Identifier: Apache-2.0
// The page of `hotbank simulate --html`: what the policy saved, when, and what it cost, from the document of --json.

import { count, counted, el, figure, lasting, size, table } from "./page.js";
import { sample } from "./palette.js";
import { bars, Plot } from "./plots.js";

const found = JSON.parse(document.getElementById("document").textContent);
const { manifest, baseline, policy, optimum, timeline } = found;
const percent = (share) => (share === null ? "nothing to save" : `${(share * 100).toFixed(1)} %`);
const joules = (bounds) => (bounds && bounds.high ? `${+bounds.typical.toPrecision(3)} J` : "not known");
const between = (bounds) =>
  bounds && bounds.high ? `${+bounds.low.toPrecision(3)} to ${+bounds.high.toPrecision(3)} J` : "";

function head() {
  return [
    el(
      "header",
      { class: "masthead" },
      el("span", { class: "mark" }, "hotbank simulate"),
      el("h1", {}, `${manifest.board}, ${manifest.load}`),
      el("span", { class: "soft push" }, length()),
    ),
    el("section", { class: "sheet" }, el("p", { class: "lead" }, lead()), el("dl", { class: "figures" }, figures())),
  ];
}

function length() {
  return found.partial ? `interrupted after ${lasting(found.seconds)} of ${lasting(found.asked)}` : lasting(found.seconds);
}

function lead() {
  const dark = policy.byte_seconds_off / found.seconds;
  return (
    `The policy ${policy.name} kept ${size(dark)} dark on average: ${percent(policy.share_of_optimum)} of what could ` +
    `have been saved by one who knows the future.`
  );
}

const figures = () => [
  figure("Saved", joules(policy.joules_saved), between(policy.joules_saved)),
  figure("The optimum", joules(optimum.joules_saved), between(optimum.joules_saved)),
  figure("Looks that found too little", policy.shortage_permille.toFixed(1), "of 1,000"),
  figure("Switched", policy.switches_per_hour.toFixed(1), "an hour"),
];

// A step lasts until the next: the last one until the end.
function stretched() {
  const last = timeline.at(-1);
  return last ? [...timeline, { ...last, t: found.seconds }] : [];
}

function course() {
  const rows = stretched();
  const plot = new Plot(
    "Memory",
    [
      ["in the kernel", "accent", { step: true, fill: true }],
      ["in use", "kernel", { step: true, dash: [5, 3] }],
    ],
    { height: 220, time: false, show: size },
  );
  plot.show([rows.map((row) => row.t), rows.map((row) => row.on), rows.map((row) => row.demand)]);
  const spans = policy.banks.map((bank) => ({
    name: bank.bank,
    spans: bank.dark.map(([from, to]) => [from, to, "dark"]),
  }));
  const words = policy.banks.map((bank) => `${bank.bank} dark for ${lasting(bank.seconds_off)}`).join(", ");
  return el(
    "section",
    { class: "sheet" },
    plot.root,
    el("figure", { class: "plot" }, el("h2", {}, "Banks"), bars(spans, 0, found.seconds, "free", words)),
    el("p", { class: "legend" }, sample("dark"), el("span", {}, "and in the kernel otherwise")),
  );
}

const refused = (codes) =>
  Object.entries(codes)
    .map(([code, times]) => `${code} ${times}`)
    .join(", ") || "none";

const banks = () =>
  el(
    "section",
    { class: "sheet" },
    el("h2", {}, "What was done"),
    table(
      [
        ["Bank", (bank) => bank.bank],
        ["Size", (bank) => size(bank.size), true],
        ["Tried", (bank) => count(bank.tried), true],
        ["Left", (bank) => count(bank.removed), true],
        ["Came back", (bank) => count(bank.added), true],
        ["Pages moved", (bank) => count(bank.pages), true],
        ["Dark", (bank) => percent(bank.share_off), true],
        ["Refused", (bank) => refused(bank.refused)],
        ["Last kept because", (bank) => bank.held],
      ],
      policy.banks,
    ),
  );

const HARM = [
  ["Requests refused", "refused_acts"],
  ["Processes killed for want of memory", "oom_kills"],
  ["Pages of cache without room", "squeezed"],
];

function harm() {
  const blame = policy.blame.map((one) =>
    el(
      "li",
      {},
      `${lasting(one.t)}: ${one.banks.join(", ")} out, ${counted(one.refused_acts, "request")} refused, ${one.oom_kills} killed that would not have been`,
    ),
  );
  return el(
    "section",
    { class: "sheet" },
    el("h2", {}, "What went wrong"),
    table(
      [
        ["", ([title]) => title],
        ["Without a policy", ([, key]) => count(baseline[key]), true],
        ["With it", ([, key]) => count(policy[key]), true],
      ],
      HARM,
    ),
    blame.length ? el("ul", { class: "note" }, blame) : "",
  );
}

function foot() {
  const settings = Object.entries(manifest.settings)
    .map(([key, value]) => `${key} = ${value}`)
    .join(", ");
  const hashes = Object.entries(manifest.hashes || {})
    .map(([key, value]) => `${key} sha256 ${value.slice(0, 12)}`)
    .join(", ");
  return el(
    "footer",
    {},
    `hotbank ${manifest.version}, kernel ${manifest.kernel}, seed ${manifest.seed}; ${policy.name}: ${settings}. ${hashes}`,
  );
}

document.querySelector("main").append(...head(), course(), banks(), harm(), foot());
