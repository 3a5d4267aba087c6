// SPDX-License-Identifier: Apache-2.0
// Elements, sizes and times: what every page is written with.

// An element. Properties that are null are left out; children are elements or text, and null is none.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Replace what is in an element, unless it is the same already.
export function fill(place, ...children) {
  const fresh = el("div", {}, ...children);
  const known = place.cloneNode(true);
  if (known.innerHTML !== fresh.innerHTML) place.replaceChildren(...fresh.childNodes);
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

// Bytes for people: at most one digit behind the point.
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "unknown";
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${UNITS[power]}`;
}

export const count = (number) => number.toLocaleString("en");

export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export const hex = (address) => `0x${address.toString(16)}`;

// Seconds for people: 12 s, 3:05, 1:02:03.
export function lasting(seconds) {
  if (seconds < 60) return `${seconds < 10 ? +seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

// The time of day of seconds since 1970.
export const moment = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

// A figure: a word, a number and what it is of.
export const figure = (word, value, small = "") =>
  el("div", {}, el("dt", {}, word), el("dd", {}, value, small ? el("small", {}, ` ${small}`) : ""));

// A table. Columns: [title, of a row, is a number].
export function table(columns, rows, properties = {}) {
  const head = columns.map(([title, , number]) => el("th", { scope: "col", class: number ? "number" : null }, title));
  const line = (row) => columns.map(([, of, number]) => el("td", { class: number ? "number" : null }, of(row)));
  return el(
    "table",
    properties,
    el("thead", {}, el("tr", {}, head)),
    el(
      "tbody",
      {},
      rows.map((row) => el("tr", {}, line(row))),
    ),
  );
}
