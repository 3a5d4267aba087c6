// SPDX-License-Identifier: Apache-2.0
// The look of each kind of memory: a hue of the page's style, and a pattern that tells it without the hue.

// Name, what a legend calls it, and its pattern; from the bottom of a block to its top.
export const LOOKS = {
  kernel: ["kernel", "rising"],
  pinned: ["pinned", "dots"],
  anon: ["anonymous", "plain"],
  file: ["file", "lines"],
  used: ["in use, not looked into", "plain"],
  unknown: ["not seen", "falling"],
  poisoned: ["poisoned", "cross"],
  hole: ["hole", "plain"],
  free: ["free", "plain"],
  offline: ["offline", "slash"],
  out: ["out of the kernel", "dashed"],
  dark: ["dark", "stars"],
};

// The corner of a block that something in it keeps from leaving.
export function flag(brush, x, y, width, side) {
  const hue = colours();
  brush.save();
  brush.fillStyle = hue.ink;
  brush.strokeStyle = hue.sheet;
  brush.beginPath();
  brush.moveTo(x + width - side, y);
  brush.lineTo(x + width, y);
  brush.lineTo(x + width, y + side);
  brush.closePath();
  brush.fill();
  brush.stroke();
  brush.restore();
}

let hues = null;

// The colours as the page's style has them now.
export function colours() {
  if (hues === null) {
    const style = getComputedStyle(document.documentElement);
    const names = [
      "ground",
      "sheet",
      "ink",
      "soft",
      "line",
      "accent",
      "rim",
      "star",
      "good",
      "bad",
      ...Object.keys(LOOKS),
    ];
    hues = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    hues.offline = hues.out = hues.sheet;
  }
  return hues;
}

// Call again whenever the colours change: the reader's system turns dark, or light.
export function onColours(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    hues = null;
    redraw();
  });
}

function segments(brush, lines) {
  brush.beginPath();
  for (const [x, y, toX, toY] of lines) {
    brush.moveTo(x, y);
    brush.lineTo(toX, toY);
  }
  brush.stroke();
}

function diagonals(x, y, width, height, step, sign) {
  const found = [];
  for (let at = -height; at < width; at += step) {
    found.push(sign > 0 ? [x + at, y + height, x + at + height, y] : [x + at, y, x + at + height, y + height]);
  }
  return found;
}

const PATTERNS = {
  plain: () => {},
  rising: (brush, x, y, w, h) => segments(brush, diagonals(x, y, w, h, 7, 1)),
  falling: (brush, x, y, w, h) => segments(brush, diagonals(x, y, w, h, 7, -1)),
  cross: (brush, x, y, w, h) => segments(brush, [...diagonals(x, y, w, h, 7, 1), ...diagonals(x, y, w, h, 7, -1)]),
  lines: (brush, x, y, w, h) => {
    const found = [];
    for (let at = y + h - 3.5; at > y + 1; at -= 6) found.push([x, at, x + w, at]);
    segments(brush, found);
  },
  dots: (brush, x, y, w, h) => {
    for (let down = y + 2; down < y + h; down += 5) {
      for (let right = x + 2; right < x + w; right += 5) brush.fillRect(right, down, 1.5, 1.5);
    }
  },
  stars: (brush, x, y, w, h) => {
    for (let down = y + 6, row = 0; down < y + h - 2; down += 9, row += 1) {
      for (let right = x + 6 + (row % 2) * 6; right < x + w - 2; right += 12) brush.fillRect(right, down, 1, 1);
    }
  },
  slash: (brush, x, y, w, h) => segments(brush, [[x, y + h, x + w, y]]),
  dashed: () => {},
};

// Fill a rectangle with the look of that name.
export function paint(brush, look, x, y, width, height) {
  const hue = colours();
  brush.save();
  brush.beginPath();
  brush.rect(x, y, width, height);
  brush.clip();
  brush.fillStyle = hue[look];
  brush.fillRect(x, y, width, height);
  brush.globalAlpha = 0.55;
  brush.strokeStyle = brush.fillStyle = look === "dark" ? hue.star : look === "offline" ? hue.rim : hue.sheet;
  brush.lineWidth = 1;
  PATTERNS[LOOKS[look][1]](brush, x, y, width, height);
  brush.restore();
  if (look === "offline" || look === "out") outline(brush, look === "out", x, y, width, height);
}

function outline(brush, dashed, x, y, width, height) {
  brush.save();
  brush.strokeStyle = colours().rim;
  brush.lineWidth = 1;
  brush.setLineDash(dashed ? [3, 3] : []);
  brush.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  brush.restore();
}

// A canvas of so many pixels of the page, sharp on every screen: its brush.
export function sharp(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  return brush;
}

// One entry of a legend.
export const sample = (look) => entry(LOOKS[look][0], (brush) => paint(brush, look, 0, 0, 16, 12));

// That of the corner.
export const sampleFlag = () => entry("does not leave", (brush) => flag(brush, 0, 0, 14, 11));

function entry(words, draw) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  draw(sharp(canvas, 16, 12));
  const made = document.createElement("span");
  made.append(canvas, words);
  return made;
}
