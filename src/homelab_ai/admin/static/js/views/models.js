/** The models: add, download, load, unload, pin, set default, remove; and everything that is known of each. */

import { h, keyed, set, show, text } from "../dom.js";
import { bytes } from "../format.js";
import { icon } from "../icons.js";
import { LOADED } from "../states.js";
import { actionsOf } from "./models/actions.js";
import { addModel } from "./models/add.js";
import { KnownModels } from "./models/known.js";
import { modelRow } from "./models/row.js";

const KINDS = [
  { word: "All", has: () => true },
  { word: "Loaded", has: ({ state }) => LOADED.has(state) },
  { word: "Failed", has: ({ state, download }) => state === "failed" || download?.state === "failed" },
];

/** `argument`: the id of the model that is to be open. */
function mount(root, app, argument) {
  const mayChange = app.may("admin");
  const summary = h("span", { class: "quiet" });
  const filter = h("input", {
    type: "search",
    "aria-label": "Filter models",
    placeholder: "Filter by name",
    autocomplete: "off",
    spellcheck: "false",
    oninput: render,
  });
  let kind = KINDS[0];
  const kinds = KINDS.map((each) => {
    const button = h("button", { type: "button", onclick: () => { kind = each; render(); } }, each.word);
    return { ...each, button, of: each };
  });
  const list = h("ul", { class: "card models" });
  const none = h("p", { class: "empty" });
  const askFor = () => addModel(app, added);
  const add = h("button", { type: "button", class: "primary", onclick: askFor }, icon("add"), "Add a model");

  root.append(
    h("div", { class: "view-head" }, h("h1", {}, "Models"), summary, mayChange && h("div", { class: "end" }, add)),
    mayChange ? "" : lookOnly(app),
    h(
      "div",
      { class: "toolbar" },
      h("div", { class: "filter" }, icon("search"), filter),
      h("div", { class: "segments", role: "group", "aria-label": "Which models" }, kinds.map((each) => each.button)),
    ),
    list,
    none,
  );

  let toOpen = argument;
  const known = new KnownModels(render);
  const context = {
    app,
    actions: actionsOf(app, known),
    toggled: (id, open) => history.replaceState(null, "", `#models${open ? `/${encodeURIComponent(id)}` : ""}`),
    removed: () => filter.focus(), // what had the focus is gone
  };

  function added(model) {
    filter.value = "";
    kind = KINDS[0];
    known.take(model);
    reveal(model.id);
  }

  function reveal(id) {
    const row = list.rowsByKey?.get(id);
    if (!row) return;
    row.open(true);
    row.focus();
    row.element.scrollIntoView({ block: "nearest" });
  }

  function render() {
    const models = known.all;
    const wanted = filter.value.trim().toLowerCase();
    keyed(list, models, (model) => model.id, (model) => modelRow(model, context));
    let shown = 0;
    for (const model of models) {
      const fits = kind.has(model) && matches(model, wanted);
      show(list.rowsByKey.get(model.id).element, fits);
      shown += fits;
    }
    for (const each of kinds) {
      text(each.button, `${each.word} ${models.filter(each.has).length}`);
      set(each.button, "aria-pressed", String(each.of === kind));
    }
    show(list, shown);
    show(none, !shown && app.stream.last("models"));
    text(none, models.length ? "No model fits that filter." : "There is no model yet.");
    const memory = app.stream.last("status")?.memory;
    text(summary, memory ? `${bytes(memory.used_bytes)} of ${bytes(memory.budget_bytes)} in use` : "");
    if (toOpen && list.rowsByKey.has(toOpen)) {
      const id = toOpen;
      toOpen = null;
      reveal(id);
    }
  }

  const offs = [
    app.stream.on("models", ({ models }) => known.takeDetails(models)),
    app.stream.on("status", ({ models }) => known.takeStatus(models)),
  ];
  return () => offs.forEach((off) => off());
}

function matches({ id, hf_model: name, aliases, type, state }, wanted) {
  return !wanted || [id, name, ...aliases, type, state].some((each) => each.toLowerCase().includes(wanted));
}

function lookOnly({ whoami: { name } }) {
  const why = `Models can be looked at, but not changed: that needs the scope admin, which ${name} does not have.`;
  return h("p", { class: "notice" }, icon("info"), h("span", { class: "breaks" }, why));
}

export default { name: "models", title: "Models", scope: "read", mount };
