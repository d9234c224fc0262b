/** Logs: what the service logs, as it does. */

import { h, show, text } from "../dom.js";
import { number } from "../format.js";
import { field } from "../parts/fields.js";
import { lineOf } from "./logs/line.js";
import { LEVELS, LogTail, matcher } from "./logs/tail.js";

const NEAR_THE_END_PIXELS = 24;

class Logs {
  #lines = h("ol", { class: "log", tabindex: "0", "aria-label": "Log, the newest line last" });
  #count = h("p", { class: "fine" });
  #nothing = h("p", { class: "quiet log-empty" });
  #toEnd = h(
    "button",
    { type: "button", class: "to-end", hidden: true, onclick: () => this.#stick() },
    "To the newest",
  );
  #tail = new LogTail();
  #waiting = [];
  #paused = false;
  #sticks = true;
  #frame = null;

  constructor(root) {
    this.filter = h("input", {
      type: "search",
      name: "filter",
      placeholder: "embed -status",
      oninput: () => this.#refilter(),
    });
    this.level = h(
      "select",
      { name: "level", onchange: () => this.#refilter() },
      Object.entries(LEVELS).map(([value, { words }]) => h("option", { value }, words)),
    );
    this.pauseButton = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.#pause() }, "Pause");
    this.#lines.addEventListener("scroll", () => this.#scrolled());
    root.append(
      h("div", { class: "view-head" }, h("h1", {}, "Logs"), this.#count),
      h(
        "div",
        { class: "filters" },
        field("Words of the line; without those after a -", this.filter),
        field("Show", this.level),
        this.pauseButton,
        h("button", { type: "button", onclick: () => this.#clear() }, "Clear"),
      ),
      h("div", { class: "card log-card" }, this.#nothing, this.#lines, this.#toEnd),
    );
    this.#draw();
  }

  /** Take a line in; it is shown with the next picture that the browser draws, or after the pause. */
  add(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > this.#tail.most) this.#waiting.shift();
    if (this.#paused) this.#tell();
    else this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  /** Draw no more. */
  end() {
    cancelAnimationFrame(this.#frame);
  }

  #draw() {
    this.#frame = null;
    const fits = this.#matcher();
    const { added, dropped } = this.#tail.take(this.#waiting.splice(0));
    for (const entry of dropped) entry.element.remove();
    for (const entry of added) {
      entry.element = lineOf(entry, (requestId) => this.#only(requestId));
      show(entry.element, fits(entry));
    }
    this.#lines.append(...added.map((entry) => entry.element));
    this.#tell();
    if (this.#sticks) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #refilter() {
    const fits = this.#matcher();
    for (const entry of this.#tail.entries) show(entry.element, fits(entry));
    this.#tell();
    if (this.#sticks) this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  #matcher() {
    return matcher(this.filter.value, this.level.value);
  }

  /** Show the lines of one request; a second click on its id shows all again. */
  #only(requestId) {
    this.filter.value = this.filter.value === requestId ? "" : requestId;
    this.#refilter();
  }

  #pause() {
    this.#paused = !this.#paused;
    this.pauseButton.setAttribute("aria-pressed", String(this.#paused));
    if (!this.#paused) this.#draw();
  }

  #clear() {
    this.#waiting = [];
    this.#tail.clear();
    this.#lines.replaceChildren();
    this.#tell();
  }

  #tell() {
    const { entries } = this.#tail;
    const shown = entries.filter((entry) => !entry.element.hidden).length;
    const waiting =
      this.#paused && this.#waiting.length ? `, ${number(this.#waiting.length)} more since the pause` : "";
    text(this.#count, `${number(shown)} of ${number(entries.length)} lines${waiting}`);
    text(
      this.#nothing,
      entries.length ? "No line has these words." : "Nothing has been logged yet. Each request is a line here.",
    );
    show(this.#nothing, !shown);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#lines;
    this.#sticks = scrollHeight - scrollTop - clientHeight < NEAR_THE_END_PIXELS;
    show(this.#toEnd, !this.#sticks);
  }

  #stick() {
    this.#lines.scrollTop = this.#lines.scrollHeight;
    this.#lines.focus();
  }
}

export default {
  name: "logs",
  title: "Logs",
  scope: "admin",

  mount(root, app) {
    const logs = new Logs(root);
    const off = app.stream.on("log", (entry) => logs.add(entry));
    return () => {
      off();
      logs.end();
    };
  },
};
