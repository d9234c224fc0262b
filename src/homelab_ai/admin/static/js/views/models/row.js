/** One model in the list: what it is and does, what is most likely wanted of it, and below that the rest. */

import { h, set, show, text } from "../../dom.js";
import { bytes, countdown } from "../../format.js";
import { icon } from "../../icons.js";
import { LOADED, kindIcon, stateBadge } from "../../states.js";
import { details } from "./details.js";

/** `context` holds `app`, `actions` and `toggled(id, open)`. */
export function modelRow(model, context) {
  let now = model;
  let panel = null; // made when it is first opened

  const name = h("span", { class: "model-name breaks" }, model.id);
  const source = h("span", { class: "model-source breaks" });
  const marks = h("span", { class: "marks" });
  const marked = Object.fromEntries(
    ["default", "pinned"].map((mark) => [mark, h("span", { class: "badge accent", hidden: true }, mark)]),
  );
  marks.append(...Object.values(marked));
  const state = stateBadge();
  const takes = h("span", { class: "model-takes" });
  const goes = h("span", { class: "model-goes quiet" });
  const panelId = `model-${model.id}`;
  const toggle = h(
    "button",
    {
      type: "button",
      class: "model-toggle",
      "aria-expanded": "false",
      "aria-controls": panelId,
      onclick: () => open(!isOpen()),
    },
    icon("chevron"),
    kindIcon(model.type),
    h("span", { class: "model-title" }, name, source),
  );
  const action = h("button", {
    type: "button",
    class: "model-action",
    onclick: () => context.app.attempt(action, () => mainAction(now).run(context.actions, now)),
  });
  const place = h("div", { id: panelId, class: "model-panel", hidden: true });
  const element = h(
    "li",
    { class: "model" },
    h(
      "div",
      { class: "model-row" },
      toggle,
      marks,
      h("span", { class: "model-figures" }, takes, goes),
      h("span", { class: "model-state" }, state.element),
      context.app.may("admin") && action,
    ),
    place,
  );

  const isOpen = () => !place.hidden;
  function open(wanted) {
    if (wanted && !panel) {
      panel = details(now, context);
      place.append(panel.element);
    }
    show(place, wanted);
    set(toggle, "aria-expanded", String(wanted));
    set(element, "class", wanted ? "model open" : "model");
    if (wanted) panel.update(now);
    context.toggled(model.id, wanted);
  }

  return {
    element,
    open,
    focus: () => toggle.focus(),
    update(changed) {
      now = changed;
      text(source, now.hf_model);
      show(source, now.hf_model !== now.id);
      show(marked.default, now.default);
      show(marked.pinned, now.pinned);
      state.update(now.state, now);
      text(takes, now.memory_bytes ? bytes(now.memory_bytes + now.gpu_memory_bytes) : "");
      text(goes, going(now));
      const { word } = mainAction(now);
      text(action, word);
      set(action, "aria-label", `${word} ${now.id}`);
      if (isOpen()) panel.update(now);
    },
  };
}

function mainAction({ state, enabled }) {
  if (!enabled) return { word: "Enable", run: (actions, model) => actions.enable(model) };
  if (LOADED.has(state)) return { word: "Unload", run: (actions, model) => actions.unload(model) };
  return { word: "Load", run: (actions, model) => actions.load(model) };
}

function going({ state, download, active_requests: active, unloads_in_seconds: seconds }) {
  if (download?.state === "running" && download.total_bytes) {
    return `${Math.floor((100 * download.bytes) / download.total_bytes)}%`;
  }
  if (state !== "ready") return "";
  if (active) return `${active} at work`;
  return seconds === null ? "" : `unloads in ${countdown(seconds)}`;
}
