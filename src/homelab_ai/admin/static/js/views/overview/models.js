/** The models in short: what each is doing, how fast it answers, and when it goes. */

import { h, keyed, set, show, text } from "../../dom.js";
import { bytes, counted, countdown, duration } from "../../format.js";
import { kindIcon, stateBadge } from "../../states.js";

const MOST_SHOWN = 12;

export function modelsInShort(app) {
  let status = { models: [], models_loaded: 0 };
  let disabled = new Set(); // the status does not say so: that is no state of theirs
  const rows = h("tbody");
  const more = h("a", { class: "more", href: "#models" });
  const table = h(
    "table",
    { class: "models-in-short" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Model"),
        h("th", { scope: "col" }, "State"),
        h("th", { scope: "col", class: "figure" }, "Memory"),
        h("th", { scope: "col", class: "figure" }, "At work"),
        h("th", { scope: "col", class: "figure", title: "19 of 20 of its last requests took no longer" }, "p95"),
        h("th", { scope: "col", class: "figure" }, "Unloads in"),
      ),
    ),
    rows,
  );
  const none = h("p", { class: "nothing" }, "There is no model yet. ", h("a", { href: "#models" }, "Add one"), ".");
  const head = h("h2", {}, "Models");
  const loaded = h("span", { class: "quiet" });
  const element = h(
    "section",
    { class: "card" },
    h("div", { class: "card-head" }, head, loaded, h("a", { class: "end", href: "#models" }, "All models")),
    table,
    more,
    none,
  );
  const update = () => {
    const { models, models_loaded: count } = status;
    const shown = worthShowing(models).map((model) => ({ ...model, enabled: !disabled.has(model.id) }));
    keyed(rows, shown, (model) => model.id, newRow);
    text(loaded, models.length ? `${count} of ${models.length} loaded` : "");
    text(more, `${counted(models.length - shown.length, "more model")}, not loaded`);
    show(more, shown.length < models.length);
    show(table, models.length);
    show(none, !models.length);
  };
  const off = app.stream.on("models", ({ models }) => {
    disabled = new Set(models.filter((model) => !model.enabled).map((model) => model.id));
    update();
  });
  return {
    element,
    off,
    update(now) {
      status = now;
      update();
    },
  };
}

/** All of them if they are few; else those that do something, and as many of the others as there is room for. */
function worthShowing(models) {
  if (models.length <= MOST_SHOWN) return models;
  let room = MOST_SHOWN - models.filter((model) => model.state !== "available").length;
  return models.filter((model) => model.state !== "available" || room-- > 0);
}

function newRow(model) {
  const state = stateBadge();
  const cells = Object.fromEntries(
    Object.keys(FIGURES).map((name) => [name, h("td")]),
  );
  const place = `#models/${encodeURIComponent(model.id)}`;
  const element = h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("div", {}, kindIcon(model.type), h("a", { class: "breaks", href: place }, model.id)),
    ),
    h("td", { class: "state" }, state.element),
    Object.values(cells),
  );
  return {
    element,
    update(now) {
      state.update(now.state, now);
      for (const [name, say] of Object.entries(FIGURES)) {
        const said = say(now);
        text(cells[name], said ?? "–");
        set(cells[name], "class", `figure ${name} ${said ? "" : "none"}`);
      }
      set(element, "class", now.state === "available" ? "asleep" : null);
    },
  };
}

/** The column's class -> what it says; null for nothing. */
const FIGURES = {
  memory: (model) => (model.memory_bytes ? bytes(model.memory_bytes + model.gpu_memory_bytes) : null),
  "at-work": ({ active_requests: active, queued_requests: queued }) =>
    active ? `${active}${queued ? ` (${queued} waiting)` : ""}` : null,
  p95: ({ p95_seconds: seconds }) => (seconds === null || seconds === undefined ? null : duration(seconds)),
  unloads({ state, unloads_in_seconds: seconds, active_requests: active }) {
    if (state !== "ready" || active) return null;
    return seconds === null ? "stays" : countdown(seconds);
  },
};
