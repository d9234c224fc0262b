/** Try it: texts become vectors, and a table shows how alike they are. */

import { h } from "../../dom.js";
import { counted } from "../../format.js";
import { Exchange } from "../../parts/exchange.js";
import { field } from "../../parts/fields.js";
import { heatmap, legend, verdict } from "../../parts/heatmap.js";
import { ModelChooser } from "../../parts/model_chooser.js";
import { similarities } from "../../parts/similarity.js";

const EXAMPLES = [
  "The cat sleeps on the warm sofa",
  "A kitten is napping on the couch",
  "The boiler in the cellar needs a new valve",
];
const MOST_COMPARED = 30;

/** `{element, follow(stream)}`, where `follow` keeps its models up to date and returns what ends that. */
export function embedTool(app) {
  const chooser = new ModelChooser("text_embedding", app.whoami);
  const texts = h("textarea", { name: "texts", rows: "5", spellcheck: "false" }, EXAMPLES.join("\n"));
  let sent = [];
  const exchange = new Exchange(app, "Embed", { show: (answer) => compared(sent, answer) });

  function send(event) {
    event.preventDefault();
    sent = texts.value
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
    if (!sent.length) return exchange.refuse("Write at least one text: each line is one.");
    return exchange.send("api/embed", { json: { texts: sent, model: chooser.value } });
  }

  const form = h(
    "form",
    { class: "card tool", onsubmit: send },
    field("Texts, one in each line", texts),
    field("Model", chooser.select),
    chooser.nothing,
    exchange.controls,
  );
  return { element: h("div", {}, form, exchange.outcome), follow: (stream) => chooser.follow(stream) };
}

function compared(texts, answer) {
  const shown = texts.slice(0, MOST_COMPARED);
  const rows = similarities(answer.embeddings.slice(0, MOST_COMPARED));
  const cut = (answer.truncated ?? []).map((position) => position + 1);
  const notes = [
    texts.length > MOST_COMPARED && `The first ${MOST_COMPARED} of ${texts.length} texts are compared.`,
    cut.length && `Longer than the model reads, so that only their beginning counts: ${cut.join(", ")}.`,
  ].filter(Boolean);
  return [
    h(
      "p",
      { class: "verdict" },
      verdict(shown, rows) ?? "One text has nothing to be compared with: write a second line.",
    ),
    heatmap(shown, rows),
    legend(),
    ...notes.map((note) => h("p", { class: "fine" }, note)),
    h("p", { class: "fine" }, `${counted(answer.embeddings.length, "vector")} of ${answer.dimensions} numbers.`),
  ];
}
