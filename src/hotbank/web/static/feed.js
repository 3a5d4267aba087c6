// SPDX-License-Identifier: Apache-2.0
// The live feed: frames as they come, and what has been recorded of them.

const KEPT = 3600; // rows
const AGAIN = 3000; // milliseconds until a server that closed the stream is asked again

// The frame that one becomes by changes: the law of watch/frame.py.
export function merged(before, changes) {
  const cells = { ...before.cells, ...changes.cells };
  for (const [block, cell] of Object.entries(cells)) if (cell === null) delete cells[block];
  return { ...before, ...changes, cells };
}

export class Feed {
  // base: the address of the page. onFrame(), onState(word, known): how the line stands.
  constructor(base, { onFrame, onState }) {
    this.base = base;
    this.onFrame = onFrame;
    this.onState = onState;
    this.frame = null;
    this.rows = [];
    this.open();
  }

  open() {
    this.source = new EventSource(new URL("events", this.base));
    this.source.onmessage = (event) => this.take(JSON.parse(event.data));
    this.source.onerror = () => this.lost();
  }

  take({ whole, frame, rows }) {
    this.frame = whole ? frame : merged(this.frame, frame);
    this.rows = (whole ? rows : [...this.rows, ...rows]).slice(-KEPT);
    this.onState("live", true);
    this.onFrame();
  }

  // The browser itself asks again after a line that broke; not after an answer that refused.
  async lost() {
    this.onState("lost", true);
    if (this.source.readyState !== EventSource.CLOSED) return;
    const known = await fetch(new URL("known", this.base)).then(
      (answer) => answer.status !== 403,
      () => true,
    );
    this.onState("lost", known);
    if (known) setTimeout(() => this.open(), AGAIN);
  }

  // What was recorded at a moment, in seconds since 1970; null where nothing was.
  async at(seconds) {
    const answer = await fetch(new URL(`moment?at=${seconds}`, this.base));
    return answer.ok ? answer.json() : null;
  }

  // Ask for something: what came of it. Throws an Error with the refusal.
  async ask(what, asked = {}) {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(new URL(what, this.base), { method: "POST", headers, body: JSON.stringify(asked) });
    const told = await answer.json().catch(() => ({ error: { code: answer.status, message: answer.statusText } }));
    if (told.error)
      throw new Error(`${told.error.code}: ${told.error.message}${told.error.remedy ? `; ${told.error.remedy}` : ""}`);
    return told.done;
  }
}
