/** Who is calling: the key, asked for once and kept for the tab, and what it may do. */

import { api, currentKey, onKeyNeeded, requestWith, useKey } from "./api.js";
import { h, show, text } from "./dom.js";
import { attempt, closed } from "./notices.js";

const AUTHENTICATED_BY = {
  key: "by its key",
  network: "by the network",
  localhost: "as this machine",
  nobody: "no keys in use",
};

export class Session {
  /** The answer of `api/whoami`; null before there is one. */
  whoami = null;
  #changed;
  #asking = null;

  /** `changed()` is called when somebody else is calling, or the same may do other things. */
  constructor(changed) {
    this.#changed = changed;
    onKeyNeeded((error) => this.ask(error));
  }

  /** Find out who is calling, and ask for a key where one is needed. Resolves to whether that is known now. */
  async start() {
    try {
      this.#take(await api("GET", "api/whoami"));
    } catch (error) {
      if (error.status === 401) return false; // the question was closed
      throw error;
    }
    return true;
  }

  may(scope) {
    return scope === null || Boolean(this.whoami?.scopes.includes(scope));
  }

  get description() {
    return this.whoami ? `${this.whoami.name}, ${AUTHENTICATED_BY[this.whoami.authenticated_by] ?? ""}` : "";
  }

  /** Whether there is a key that can be forgotten. */
  get hasKey() {
    return currentKey() !== null;
  }

  /** Forget the key, and all that the page has shown. */
  leave() {
    useKey(null);
    location.reload();
  }

  /** Ask for a key, once, however many calls wait for one. Resolves to whether there is another now. */
  ask(error = null) {
    this.#asking ??= this.#question(error).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  #take(whoami) {
    const before = JSON.stringify(this.whoami);
    this.whoami = whoami;
    if (JSON.stringify(whoami) !== before) this.#changed();
  }

  async #question(error) {
    const field = h("input", {
      id: "key",
      type: "password",
      autocomplete: "current-password",
      autocapitalize: "off",
      spellcheck: "false",
      required: true,
      "aria-describedby": "key-problem",
    });
    const problem = h("p", { id: "key-problem", class: "problem breaks", role: "alert", hidden: true });
    const visible = h("input", {
      type: "checkbox",
      onchange: () => { field.type = visible.checked ? "text" : "password"; },
    });
    const submit = h("button", { class: "primary" }, "Open");
    const tell = (message) => {
      text(problem, message);
      show(problem, message);
      field.setAttribute("aria-invalid", String(Boolean(message)));
    };
    const tryKey = async () => {
      const key = field.value.trim();
      if (!key) return;
      try {
        if (/[^\x21-\x7e]/.test(key)) throw new Error("A key holds no spaces and no letters with accents.");
        const answer = await requestWith(key, "GET", "api/whoami");
        useKey(key);
        this.#take(await answer.json());
        dialog.close("yes");
      } catch (failure) {
        tell(failure.status === 401 ? "That key is not valid. Is all of it there?" : failure.message);
        field.select();
      }
    };
    const onsubmit = (event) => {
      event.preventDefault();
      attempt(submit, tryKey);
    };
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "key-title" },
      h(
        "form",
        { onsubmit, novalidate: true },
        h("h2", { id: "key-title" }, this.whoami ? "Use another key" : "An API key is needed"),
        h(
          "p",
          { class: "quiet" },
          "The very first start of the service printed one; ",
          h("code", {}, "homelab-ai key add NAME"),
          " makes others. It is kept for this tab only.",
        ),
        h("label", { for: "key" }, "API key"),
        field,
        problem,
        h("label", { class: "check" }, visible, h("span", {}, "Show it")),
        h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
          submit,
        ),
      ),
    );
    if (currentKey() !== null && error) tell("The key that this tab had is not valid any more.");
    return (await closed(dialog)) === "yes";
  }
}
