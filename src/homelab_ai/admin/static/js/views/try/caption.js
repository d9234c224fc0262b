/** Try it: pictures are described. */

import { h, show } from "../../dom.js";
import { Exchange } from "../../parts/exchange.js";
import { field } from "../../parts/fields.js";
import { ModelChooser } from "../../parts/model_chooser.js";
import { Pictures } from "../../parts/pictures.js";
import { problem } from "../../parts/problem.js";

/** `{element, follow(stream)}`, where `follow` keeps its models up to date and returns what ends that. */
export function captionTool(app) {
  const pictures = new Pictures();
  const prompt = h("input", { name: "prompt", maxlength: "4000", placeholder: "What is on the table?" });
  const prompting = field(
    "Prompt",
    prompt,
    "For models that follow prompts. Whether this one does is known once it is loaded.",
  );
  const chooser = new ModelChooser("image_caption", app.whoami, (model) =>
    show(prompting, model && model.promptable !== false),
  );
  let sent = [];
  const exchange = new Exchange(app, "Describe", { show: (answer) => described(sent, answer) });

  function send(event) {
    event.preventDefault();
    sent = pictures.items;
    if (!sent.length)
      return exchange.refuse("Add a picture first: drop it, paste it, choose a file, or give its address.");
    const wishes = { model: chooser.value, prompt: (!prompting.hidden && prompt.value.trim()) || undefined };
    return exchange.send(
      "api/caption",
      body(
        sent.map((picture) => picture.value),
        wishes,
      ),
    );
  }

  const form = h(
    "form",
    { class: "card tool", onsubmit: send },
    pictures.element,
    field("Model", chooser.select),
    chooser.nothing,
    prompting,
    exchange.controls,
  );
  return {
    element: h("div", {}, form, exchange.outcome),
    follow(stream) {
      const ends = [chooser.follow(stream), pictures.listenForPaste()];
      return () => ends.forEach((end) => end());
    },
  };
}

/** JSON where there are addresses only, else a form. */
function body(values, wishes) {
  if (values.every((value) => typeof value === "string")) {
    return { json: { ...(values.length === 1 ? { image: values[0] } : { batch: values }), ...wishes } };
  }
  const fields = Object.entries(wishes).filter(([, value]) => value !== undefined);
  return { form: [...values.map((value) => ["image", value]), ...fields] };
}

function described(pictures, answer) {
  const captions = answer.captions ?? [{ caption: answer.caption }];
  return captions.map(({ caption, error }, number) =>
    h(
      "figure",
      { class: "card described" },
      pictures[number].preview(),
      h("figcaption", {}, error ? problem(error) : caption, h("span", { class: "name fine" }, pictures[number].name)),
    ),
  );
}
