/** The form for a new key, and the dialog that shows the key: this once, after which it is nowhere on the page. */

import { address } from "../../api.js";
import { h, keyed, show } from "../../dom.js";
import { closed } from "../../notices.js";
import { copyTextButton } from "../../parts/copy_text.js";
import { field, tick } from "../../parts/fields.js";
import { problem } from "../../parts/problem.js";
import { KEY_VARIABLE, curl, shellQuoted } from "../../parts/snippets.js";

const SCOPES = {
  embed: "Turn texts into vectors.",
  caption: "Have pictures described.",
  crawl: "Have web pages read.",
  read: "See the models, the status and the metrics.",
  admin: "Change everything: models, keys, and what this page does.",
};

/** `{form, follow(stream)}`, where `follow` keeps its models up to date. `made()` is called after each key. */
export function newKeyForm(app, made) {
  const name = h("input", {
    name: "name",
    required: true,
    maxlength: "64",
    autocomplete: "off",
    placeholder: "photo-album",
  });
  const scopes = h(
    "fieldset",
    { class: "ticks down" },
    h("legend", {}, "What it may do"),
    Object.entries(SCOPES).map(([scope, meaning]) => tick(scope, { name: scope, checked: scope !== "admin" }, meaning)),
  );
  const limit = h("input", { name: "rate_limit", placeholder: "600/minute", autocomplete: "off" });
  const models = h("div", { class: "ticks" });
  const onlyThese = h("fieldset", {}, h("legend", {}, "Only these models (none ticked: all)"), models);
  const failure = h("div");
  const submit = h("button", { type: "submit", class: "primary" }, "Make the key");

  const chosen = (ticks) => [...ticks.querySelectorAll("input:checked")].map((box) => box.name);

  function take(all) {
    const ticked = (model) => ({ element: tick(model.id, { name: model.id }), update: () => {} });
    keyed(models, all, (model) => model.id, ticked);
    show(onlyThese, all.length > 0);
  }

  async function make() {
    failure.replaceChildren();
    const only = chosen(models);
    const wanted = {
      name: name.value.trim(),
      scopes: chosen(scopes),
      rate_limit: limit.value.trim() || null,
      models: only.length ? only : null,
    };
    try {
      const key = await app.api("POST", "api/keys", wanted);
      form.reset();
      made();
      await shown(key);
    } catch (error) {
      failure.replaceChildren(problem(error));
    }
  }

  const form = h(
    "form",
    {
      class: "card tool new-key",
      "aria-label": "New key",
      onsubmit: (event) => {
        event.preventDefault();
        app.attempt(submit, make);
      },
    },
    h("h2", {}, "New key"),
    h(
      "div",
      { class: "fields" },
      field("Name", name, "Who will use it."),
      field("Limit", limit, "Requests in a time, such as 600/minute. Empty: as for all."),
    ),
    scopes,
    onlyThese,
    failure,
    h("div", { class: "actions" }, submit),
  );
  take([]);
  return { form, follow: (stream) => stream.on("models", (news) => take(news.models)) };
}

/** Show the key until the dialog is closed. */
function shown({ name, key, scopes }) {
  const lines = firstLines(key, scopes);
  const dialog = h(
    "dialog",
    { class: "dialog wide", "aria-labelledby": "new-key" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "new-key", class: "breaks" }, `The key of ${name}`),
      h("p", {}, "It is shown this once. Copy it now to where it is used."),
      copied(key, "the key"),
      h("h3", {}, "To try it in a shell"),
      copied(lines, "the lines for a shell"),
      h("div", { class: "actions" }, h("button", { class: "primary" }, "I have it")),
    ),
  );
  return closed(dialog);
}

const copied = (text, what) =>
  h(
    "div",
    { class: "code" },
    h("pre", { tabindex: "0", role: "region", "aria-label": what }, text),
    copyTextButton(() => text, what),
  );

/** The key into the environment, from where every snippet of this page takes it, and a first request. */
function firstLines(key, scopes) {
  const url = address(scopes.includes("embed") ? "api/embed" : "api/whoami").href;
  const request = scopes.includes("embed")
    ? curl({ url, json: { texts: ["The cat sleeps"] } }, true)
    : `curl -sS ${shellQuoted(url)} \\\n  -H "Authorization: Bearer $${KEY_VARIABLE}"`;
  return `export ${KEY_VARIABLE}=${key}\n${request}`;
}
