/**
 * One tool's talk with the service: a request is sent, and shown are that it is on its way, its answer or its error,
 * how long it took, and the very same request as curl and as Python.
 */

import { address, request } from "../api.js";
import { h, set, show, text } from "../dom.js";
import { duration } from "../format.js";
import { problem } from "./problem.js";
import { snippetBox } from "./snippet_box.js";
import { timingWords } from "./timing.js";

export class Exchange {
  #app;
  #show;
  #running = null;

  /** `label` stands on the button that sends; `show(answer)` returns the elements for an answer. */
  constructor(app, label, { show }) {
    this.#app = app;
    this.#show = show;
    this.button = h("button", { type: "submit", class: "primary" }, label);
    this.stopButton = h("button", { type: "button", hidden: true, onclick: () => this.#running?.abort() }, "Stop");
    this.status = h("p", { role: "status", class: "quiet" });
    this.result = h("div", { class: "result" });
    this.code = h("div");
  }

  /** The buttons, and beside them what is going on. */
  get controls() {
    return h("div", { class: "actions" }, this.button, this.stopButton, this.status);
  }

  /** Where answers appear. */
  get outcome() {
    return h("div", { class: "outcome" }, this.result, this.code);
  }

  /** Send `{json}` or `{form}`, as `snippets.js` describes them, to that path; not while the last one is on its way. */
  async send(path, body) {
    if (this.#running) return;
    this.#running = new AbortController();
    this.#busy(true, "Working… A model that is not loaded is loaded first.");
    this.result.replaceChildren();
    this.code.replaceChildren(snippetBox({ url: address(path).href, ...body }, this.#app.whoami));
    let told = "";
    try {
      const started = performance.now();
      const sent = body.form ? formData(body.form) : body.json;
      const answer = await request("POST", path, { body: sent, signal: this.#running.signal });
      const json = await answer.json();
      const took = `Answered in ${duration((performance.now() - started) / 1000)}`;
      const parts = timingWords(answer.headers.get("Server-Timing"));
      told = [took, ...parts, json.model_used && `by ${json.model_used}`].filter(Boolean).join(" · ");
      this.result.replaceChildren(...this.#show(json));
    } catch (error) {
      if (error.name === "AbortError") told = "Stopped.";
      else this.result.replaceChildren(problem(error));
    } finally {
      this.#running = null;
      this.#busy(false, told);
    }
  }

  /** Say what is wrong with what was given, before anything is sent. */
  refuse(message) {
    this.result.replaceChildren(problem({ message }));
  }

  #busy(busy, words) {
    set(this.button, "aria-busy", busy && "true"); // not `disabled`, which would take the focus away
    show(this.stopButton, busy);
    text(this.status, words);
  }
}

function formData(form) {
  const data = new FormData();
  for (const [name, value] of form) data.append(name, value);
  return data;
}
