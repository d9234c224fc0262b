/**
 * A table of how alike texts are: a figure in each cell, and a colour that says the same at a glance.
 *
 * The colour is one hue that changes in lightness only, so it can be told without seeing hues; app.css has its steps.
 */

import { h } from "../dom.js";
import { mostAlike } from "./similarity.js";

const STEPS = 10;

/** The step of the scale for a similarity: 0 for none (or less than none), 10 for equal. */
export const heatStep = (similarity) => Math.round(STEPS * Math.min(1, Math.max(0, similarity)));

/** The sentence that tells what the table shows; null where there are not two texts. */
export function verdict(texts, rows) {
  const best = mostAlike(rows);
  if (!best) return null;
  const { one, other, similarity } = best;
  const those = `${one + 1} “${shortened(texts[one])}” and ${other + 1} “${shortened(texts[other])}”`;
  return texts.length === 2
    ? `The similarity of the two is ${similarity.toFixed(2)}.`
    : `Most alike are ${those}, with a similarity of ${similarity.toFixed(2)}.`;
}

/** The table for these texts and the similarities of every two of them. */
export function heatmap(texts, rows) {
  const best = mostAlike(rows);
  const isBest = (one, other) => best && Math.min(one, other) === best.one && Math.max(one, other) === best.other;
  const cell = (one, other) => {
    const similarity = rows[one][other];
    const marks = [`heat-${heatStep(similarity)}`, one === other && "itself", isBest(one, other) && "best"];
    return h("td", { class: marks.filter(Boolean).join(" ") }, similarity.toFixed(2));
  };
  const column = (text, number) =>
    h("th", { scope: "col", title: text }, `${number + 1}`, h("span", { class: "offscreen" }, ` ${shortened(text)}`));
  const row = (text, one) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: text }, h("span", { class: "number" }, `${one + 1}`), " ", shortened(text)),
      texts.map((_, other) => cell(one, other)),
    );
  return h(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": "How alike the texts are" },
    h(
      "table",
      { class: "heatmap" },
      h(
        "caption",
        { class: "offscreen" },
        "Cosine similarity of every two texts: 1 is the same, 0 has nothing in common",
      ),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Text"), texts.map(column))),
      h("tbody", {}, texts.map(row)),
    ),
  );
}

/** What the colours mean, for the eye: the cells have figures. */
export function legend() {
  const steps = Array.from({ length: STEPS + 1 }, (_, step) => h("span", { class: `heat-${step}` }));
  return h("p", { class: "heat-legend", "aria-hidden": "true" }, "0", h("span", { class: "scale" }, steps), "1");
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 57).trimEnd()}…` : text);
