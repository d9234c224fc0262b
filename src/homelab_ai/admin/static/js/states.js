/** What models do, in words and colours that are the same on every view. */

import { h, set, text } from "./dom.js";
import { words } from "./format.js";
import { icon } from "./icons.js";

/** State of the API -> its word, and the class of its colour. */
const STATES = {
  available: ["Not loaded", ""],
  downloading: ["Downloading", "busy"],
  loading: ["Loading", "busy"],
  ready: ["Ready", "good"],
  draining: ["Unloading", "busy"],
  failed: ["Failed", "bad"],
};

/** The states in which a model has a process that answers. */
export const LOADED = new Set(["ready", "draining"]);

/** Whether that state is one that a model is in by itself, for a while. */
export function isUnderWay(state) {
  return STATES[state]?.[1] === "busy";
}

/** A badge that tells the state of a model, or that requests may not use it. */
export function stateBadge() {
  const word = h("span");
  const dot = h("span", { class: "dot" });
  const element = h("span", { class: "badge" }, dot, word);
  return {
    element,
    update(state, { enabled = true } = {}) {
      const [said, colour] = enabled || state !== "available" ? (STATES[state] ?? [state, ""]) : ["Disabled", ""];
      text(word, said);
      set(element, "class", `badge ${colour}`);
      set(dot, "class", `dot ${colour} ${colour === "busy" ? "pulsing" : ""}`);
    },
  };
}

/** What stands for a type of models. */
export function kindIcon(type) {
  return h("span", { class: "kind", title: words(type) }, icon(type === "text_embedding" ? "text" : "image"));
}
