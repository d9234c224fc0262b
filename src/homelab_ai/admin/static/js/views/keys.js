/** Keys: which there are, what each opens, and how one is made and revoked. */

import { h, set, show } from "../dom.js";
import { fullMoment, moment } from "../format.js";
import { problem } from "../parts/problem.js";
import { newKeyForm } from "./keys/new_key.js";

/** Revoking the last key with the scope admin is refused, unless it is forced. */
const REVOKE_ALL_THE_SAME = { title: "The last admin key", action: "Revoke all the same" };

class Keys {
  /** Call it when the view is left. */
  end;
  #app;
  #form;
  #rows = h("tbody");
  #failure = h("div");
  #openButton = h(
    "button",
    { type: "button", class: "primary", onclick: () => this.#open(this.#form.hidden) },
    "New key",
  );

  constructor(root, app) {
    this.#app = app;
    const { form, follow } = newKeyForm(app, () => {
      this.#open(false);
      this.refresh();
    });
    this.#form = form;
    this.end = follow(app.stream);
    this.#open(false);
    root.append(
      h("div", { class: "view-head" }, h("h1", {}, "Keys"), h("div", { class: "end" }, this.#openButton)),
      this.#form,
      this.#failure,
      h(
        "div",
        { class: "card scrolls", tabindex: "0", role: "region", "aria-label": "The keys" },
        h(
          "table",
          { class: "keys" },
          h("caption", { class: "offscreen" }, "API keys, without the keys themselves"),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              HEADINGS.map((heading) => h("th", { scope: "col" }, heading)),
            ),
          ),
          this.#rows,
        ),
      ),
      h(
        "p",
        { class: "fine foot" },
        "A key itself is shown once, when it is made; what the service keeps is its hash. Keys of the configuration ",
        "are made and removed in config.yaml, under ",
        h("code", {}, "security.api_keys"),
        ", and take effect within two seconds.",
      ),
    );
  }

  #open(open) {
    show(this.#form, open);
    set(this.#openButton, "aria-expanded", String(open));
    if (open) this.#form.querySelector("input").focus();
  }

  async refresh() {
    try {
      const { keys } = await this.#app.api("GET", "api/keys");
      this.#rows.replaceChildren(...keys.map((key) => this.#row(key)));
      this.#failure.replaceChildren();
    } catch (error) {
      this.#failure.replaceChildren(problem(error));
    }
  }

  #row(key) {
    const own = this.#isOwn(key);
    return h(
      "tr",
      {},
      h("th", { scope: "row", class: "breaks" }, key.name, own && h("span", { class: "badge accent" }, "this page")),
      cell(
        "Scopes",
        h(
          "span",
          { class: "badges" },
          key.scopes.map((scope) => h("span", { class: `badge ${scope === "admin" ? "busy" : ""}` }, scope)),
        ),
      ),
      cell("Limit", h("span", { class: "nowrap" }, key.rate_limit ?? "as all")),
      cell("Models", key.models?.join(", ") ?? "all"),
      cell("Networks", key.crawl_allow_networks.join(", ") || "as all"),
      cell("Made", key.source === "config" ? "in config.yaml" : ["at run time, ", time(key.created_at)]),
      cell("Last used", key.last_used_at ? time(key.last_used_at) : "not since the start"),
      h(
        "td",
        { class: "act" },
        key.source === "config" ? h("span", { class: "fine nowrap" }, "remove it there") : this.#revokeButton(key, own),
      ),
    );
  }

  #revokeButton(key, own) {
    const button = h(
      "button",
      {
        type: "button",
        class: "danger",
        "aria-label": `Revoke ${key.name}`,
        onclick: () => this.#app.attempt(button, () => this.#revoke(key, own)),
      },
      "Revoke",
    );
    return button;
  }

  async #revoke(key, own) {
    const warning = own
      ? "This page itself uses that key: it will be locked out, and ask for another one."
      : "Whoever uses it is refused from then on. This cannot be undone.";
    const question = { title: `Revoke ${key.name}?`, text: warning, action: "Revoke" };
    if (!(await this.#app.confirm(question))) return;
    const path = `api/keys/${encodeURIComponent(key.name)}`;
    try {
      await this.#app.api("DELETE", path);
    } catch (error) {
      if (error.status !== 409) throw error;
      if (!(await this.#app.confirm({ ...REVOKE_ALL_THE_SAME, text: error.message }))) return;
      await this.#app.api("DELETE", `${path}?force=true`);
    }
    this.#app.toast(`${key.name} is revoked`, "good");
    await this.refresh();
    this.#openButton.focus(); // the button that had the focus is gone
  }

  #isOwn(key) {
    return this.#app.whoami.authenticated_by === "key" && this.#app.whoami.name === key.name;
  }
}

const HEADINGS = ["Name", "Scopes", "Limit", "Models", "Networks", "Made", "Last used", "Revoke"];

/** On a phone, where a row is a card, the heading stands beside it. */
const cell = (label, content) => h("td", { "data-label": label, class: "breaks" }, h("span", {}, content));

const time = (iso) => h("time", { datetime: iso, title: fullMoment(iso) }, moment(iso));

export default {
  name: "keys",
  title: "Keys",
  scope: "admin",

  mount(root, app) {
    const keys = new Keys(root, app);
    keys.refresh();
    return keys.end;
  },
};
