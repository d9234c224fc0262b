/** Requests, errors, queue and memory over the last ten minutes. */

import { chart } from "../../chart.js";
import { h } from "../../dom.js";
import { bytes, counted, number } from "../../format.js";

const add = (one, other) => one + other;
const higher = (one, other) => Math.max(one, other);

export function activity({ stream, history }) {
  const requests = chart({ name: "Requests", tone: "requests", sum: add, least: 4, say: (n) => counted(n, "request") });
  const errors = chart({ name: "Errors (5xx)", tone: "errors", sum: add, least: 2, say: (n) => counted(n, "error") });
  const queue = chart({ name: "Queue", tone: "queue", sum: higher, least: 2, say: (n) => `${number(n)} waiting` });
  const memory = chart({ name: "Memory use", tone: "memory", sum: higher, least: 1, say: bytes });
  const charts = [requests, errors, queue, memory];

  const off = history.on(() => {
    const status = stream.last("status");
    if (!status) return;
    const { series } = history;
    const failed = series.errors.reduce(add, 0);
    requests.update(history, series.requests, {
      now: number(status.requests.last_minute),
      detail: `a minute${status.requests.active ? `, ${number(status.requests.active)} at work` : ""}`,
    });
    errors.update(history, series.errors, { now: number(failed), detail: "in ten minutes" });
    queue.update(history, series.queue, {
      now: number(status.queue.depth),
      detail: `waiting; room for ${number(status.queue.capacity)}`,
    });
    memory.update(history, series.memory_bytes, {
      now: bytes(status.memory.used_bytes),
      detail: `of ${bytes(status.memory.budget_bytes)}`,
    });
  });
  return { element: h("div", { class: "charts" }, charts.map((each) => each.element)), off };
}
