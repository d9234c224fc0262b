/**
 * The live stream that feeds the page: server-sent events, read by `fetch` because only that can send a key. It
 * connects anew by itself, and whoever subscribes later is given what came before.
 */

import { request } from "./api.js";

/** How many of each event are kept for later subscribers. */
const KEPT = { state: 1, status: 1, models: 1, history: 1, log: 500 };
const SILENCE_SECONDS = 15; // a status comes every second: by then the connection is dead
const LONGEST_PAUSE_SECONDS = 8;

export class Stream {
  #listeners = new Map();
  #kept = new Map();
  #connection = null;
  #endPause = () => {};

  /**
   * Call the listener with the data of each such event, and with those that are kept at once. Returns what ends that.
   * Besides the events of the service there is `state`: `{name: "connecting" | "live" | "lost" | "refused", error,
   * retryAt}`. With each new connection the log begins anew: `live` says so before its first line.
   */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    for (const data of this.#kept.get(event) ?? []) listener(data);
    return () => this.#listeners.get(event).delete(listener);
  }

  /** The newest such event, or null. */
  last(event) {
    return this.#kept.get(event)?.at(-1) ?? null;
  }

  /** Follow the stream for as long as the page is there. Call it again to connect anew, with another key say. */
  start() {
    this.#connection?.abort();
    this.#endPause();
    const connection = new AbortController();
    this.#connection = connection;
    this.#follow(connection);
  }

  /** Do not wait any longer for the next try, nor for another key. */
  retryNow() {
    if (this.last("state")?.name === "refused") this.start();
    else this.#endPause();
  }

  async #follow(connection) {
    let failures = 0;
    while (connection === this.#connection) {
      let reason = null;
      try {
        if (this.last("state")?.name !== "lost") this.#emit("state", { name: "connecting" });
        await this.#read(connection, () => { failures = 0; });
      } catch (error) {
        reason = error;
      }
      if (connection !== this.#connection) return;
      if (reason?.status === 401 || reason?.status === 403) {
        this.#emit("state", { name: "refused", error: reason });
        return;
      }
      const seconds = Math.min(2 ** failures, LONGEST_PAUSE_SECONDS);
      failures += 1;
      this.#emit("state", { name: "lost", error: reason, retryAt: Date.now() + seconds * 1000 });
      await this.#pause(seconds);
    }
  }

  async #read(connection, connected) {
    const attempt = new AbortController();
    const giveUp = () => attempt.abort();
    connection.signal.addEventListener("abort", giveUp);
    let watchdog = setTimeout(giveUp, SILENCE_SECONDS * 1000);
    try {
      const answer = await request("GET", "api/stream", {
        headers: { Accept: "text/event-stream" },
        signal: attempt.signal,
      });
      connected();
      this.#kept.delete("log");
      this.#emit("state", { name: "live" });
      for await (const [event, data] of eventsOf(answer.body)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(giveUp, SILENCE_SECONDS * 1000);
        this.#emit(event, data);
      }
    } finally {
      clearTimeout(watchdog);
      connection.signal.removeEventListener("abort", giveUp);
    }
  }

  #emit(event, data) {
    const kept = this.#kept.get(event) ?? [];
    kept.push(data);
    kept.splice(0, kept.length - (KEPT[event] ?? 0));
    this.#kept.set(event, kept);
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(data);
      } catch (error) {
        reportError(error); // one broken view must not keep the others from their data
      }
    }
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** The events of a body, each as its name and its data. See https://html.spec.whatwg.org/#parsing-an-event-stream. */
async function* eventsOf(body) {
  let rest = "";
  let name = "message";
  let data = [];
  const reader = body.pipeThrough(new TextDecoderStream()).getReader(); // not every browser iterates over streams
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
      if (line === "") {
        if (data.length) yield [name, JSON.parse(data.join("\n"))];
        name = "message";
        data = [];
      } else {
        const [field, content] = line.split(/:(.*)/s, 2);
        if (field === "event") name = content.trim();
        if (field === "data") data.push(content.replace(/^ /, ""));
      }
    }
  }
}
