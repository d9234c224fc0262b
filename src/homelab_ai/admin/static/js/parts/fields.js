/** Fields of forms, each with a label and, where that says too little, a hint that belongs to it. */

import { h } from "../dom.js";

let made = 0;

/** A control with its label above it. */
export function field(label, control, hint = null) {
  made += 1;
  control.id ||= `field-${made}`;
  if (hint) control.setAttribute("aria-describedby", `hint-${made}`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    control,
    hint && h("p", { class: "fine", id: `hint-${made}` }, hint),
  );
}

/** A box to tick, with its words and what they mean behind it. */
export function tick(label, attributes = {}, hint = null) {
  made += 1;
  const box = h("input", { type: "checkbox", id: `field-${made}`, ...attributes });
  if (hint) box.setAttribute("aria-describedby", `hint-${made}`);
  return h(
    "div",
    { class: "tick" },
    box,
    h("label", { for: box.id }, label),
    hint && h("span", { class: "fine", id: `hint-${made}` }, hint),
  );
}

/** A choice of one: `options` is [[value, words], ...]. */
export function choice(name, options) {
  return h("select", { name }, ...options.map(([value, words]) => h("option", { value }, words)));
}
