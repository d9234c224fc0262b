/**
 * The last ten minutes, step by step: as the stream tells them when it begins, and continued with every status. It is
 * kept for as long as the page is there, whichever view is shown.
 */

const SERIES = ["requests", "errors", "queue", "memory_bytes"];

export class History {
  /** Seconds of one step. */
  step = 5;
  /** When the last step began, in seconds since 1970. */
  end = 0;
  series = Object.fromEntries(SERIES.map((name) => [name, []]));
  #totals = null;
  #listeners = new Set();

  constructor(stream) {
    stream.on("history", (told) => this.#begin(told));
    stream.on("status", (status) => this.#continue(status));
  }

  /** Call the listener with every change, and now. Returns what ends that. */
  on(listener) {
    this.#listeners.add(listener);
    listener(this);
    return () => this.#listeners.delete(listener);
  }

  #begin(told) {
    this.step = told.step_seconds;
    this.end = this.#stepAt(Date.now() / 1000); // not `told.end`: the clocks of two machines differ
    for (const name of SERIES) this.series[name] = [...told[name]];
    this.#totals = null;
    this.#tell();
  }

  #continue({ requests, queue, memory }) {
    const totals = { requests: requests.total, errors: requests.failed };
    const before = this.#totals ?? totals;
    this.#totals = totals;
    const now = this.#stepAt(Date.now() / 1000);
    if (!this.end) this.end = now;
    for (; this.end < now; this.end += this.step) {
      for (const name of SERIES) {
        this.series[name].push(name === "memory_bytes" ? memory.used_bytes : 0);
        if (this.series[name].length > 600 / this.step) this.series[name].shift();
      }
    }
    this.#raise("requests", (known) => known + Math.max(0, totals.requests - before.requests));
    this.#raise("errors", (known) => known + Math.max(0, totals.errors - before.errors));
    this.#raise("queue", (known) => Math.max(known, queue.depth));
    this.#raise("memory_bytes", () => memory.used_bytes);
    this.#tell();
  }

  #raise(name, change) {
    const values = this.series[name];
    if (!values.length) values.push(0); // the service has only just started: its first step is not over yet
    values[values.length - 1] = change(values.at(-1));
  }

  #stepAt(seconds) {
    return Math.floor(seconds / this.step) * this.step;
  }

  #tell() {
    for (const listener of this.#listeners) listener(this);
  }
}
