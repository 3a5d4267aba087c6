// SPDX-License-Identifier: Apache-2.0
// The page of `hotbank compare --html`: a real kernel and its model side by side, from the document of --json.

import { count, counted, el, figure, lasting, table } from "./page.js";
import { Plot } from "./plots.js";

const found = JSON.parse(document.getElementById("document").textContent);
const total = (key) => found.migrated.reduce((sum, one) => sum + (one[key] || 0), 0);
const apart = Math.max(0, ...found.migrated.map((one) => Math.abs((one.kernel || 0) - (one.model || 0))));

function head() {
  const differing = found.differences.length;
  const verdict = differing ? `They differ in ${counted(differing, "operation")}.` : "They agree in every one.";
  return [
    el(
      "header",
      { class: "masthead" },
      el("span", { class: "mark" }, "hotbank compare"),
      el("h1", {}, found.machine),
      el("span", { class: "soft push" }, `seed ${found.seed}, ${lasting(found.seconds)}`),
    ),
    el(
      "section",
      { class: "sheet" },
      el(
        "p",
        { class: "lead" },
        `${counted(found.operations, "operation")} on a real kernel and on the model. `,
        el("strong", { class: differing ? "bad" : "good" }, verdict),
      ),
      el(
        "dl",
        { class: "figures" },
        figure("Refused by the kernel", count(found.refused)),
        figure("Raced", count(found.raced)),
        figure("Pages damaged", count(found.damaged)),
        figure("Boots", count(found.boots)),
        figure(
          "Pages moved",
          count(total("kernel")),
          `the model ${count(total("model"))}, at most ${count(apart)} apart`,
        ),
      ),
    ),
  ];
}

function moved() {
  if (!found.migrated.length) return "";
  const plot = new Plot(
    "Pages moved, by operation",
    [
      ["kernel", "accent", { fill: true, step: true }],
      ["model", "kernel", { dash: [5, 3], step: true }],
    ],
    { height: 200, time: false, show: count, below: (step) => `${step}` },
  );
  plot.show([
    found.migrated.map((one) => one.step),
    found.migrated.map((one) => one.kernel),
    found.migrated.map((one) => one.model),
  ]);
  return el("section", { class: "sheet" }, plot.root);
}

const differences = () =>
  found.differences.length === 0
    ? ""
    : el(
        "section",
        { class: "sheet" },
        el("h2", {}, "Where they differ: the kernel, not the model"),
        table(
          [
            ["Step", (one) => count(one.step)],
            ["Operation", (one) => el("code", {}, one.operation)],
            ["Difference", (one) => one.differences.map((line) => el("div", {}, line))],
          ],
          found.differences,
        ),
      );

const rules = () =>
  el(
    "section",
    { class: "sheet" },
    el("h2", {}, "Rules of the kernel that were met"),
    table(
      [
        ["Rule", ([rule]) => rule],
        ["Times", ([, times]) => count(times), true],
      ],
      Object.entries(found.rows).sort(),
    ),
  );

document.querySelector("main").append(...head(), moved(), differences(), rules());
