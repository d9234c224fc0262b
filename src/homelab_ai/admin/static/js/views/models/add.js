/** The dialog that adds a model. It stays, with all that was typed, until the service has taken it. */

import { ApiError } from "../../api.js";
import { h, set, show, text } from "../../dom.js";
import { icon } from "../../icons.js";
import { closed } from "../../notices.js";

/** Models to begin with, small ones first. */
const SUGGESTIONS = {
  text_embedding: [
    { name: "sentence-transformers/all-MiniLM-L6-v2", good: "English, comes with the service" },
    { name: "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", good: "50 languages" },
    { name: "BAAI/bge-small-en-v1.5", good: "English, for search" },
  ],
  image_caption: [{ name: "Salesforce/blip-image-captioning-base", good: "short English captions" }],
};
const FOLDER = /^[/.~]/;

/** Ask for a model, and add it. `added(model)` is called with what the service answered. */
export function addModel({ api, attempt }, added) {
  const types = ["text_embedding", "image_caption"].map((type) =>
    h("input", { type: "radio", name: "type", value: type, checked: type === "text_embedding", onchange: suggest }),
  );
  const source = field("source", "Name on huggingface.co, or a folder of this machine", {
    placeholder: "organisation/model",
    maxlength: 500,
    required: true,
    oninput: sourceChanged,
  });
  const id = field("id", "Name for requests", {
    maxlength: 64,
    required: true,
    oninput: () => { isNamed = id.input.value !== ""; },
  });
  const revision = field("revision", "Revision to stay with", { placeholder: "a commit, tag or branch" });
  const pull = h("input", { type: "checkbox", checked: true });
  const pullWords = h("span", {}, "Download it now, rather than with the first request");
  const pullLine = h("label", { class: "check" }, pull, pullWords);
  const pin = h("input", { type: "checkbox" });
  const isDefault = h("input", { type: "checkbox" });
  const suggestions = h("ul", { class: "suggestions", "aria-label": "Suggestions" });
  const problem = h("p", { class: "problem breaks", role: "alert", hidden: true });
  const submit = h("button", { class: "primary" }, "Add");
  let isNamed = false; // by hand: it follows the source no longer

  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "add-title" },
    h(
      "form",
      { onsubmit, novalidate: true },
      h("h2", { id: "add-title" }, "Add a model"),
      h(
        "fieldset",
        { class: "choice" },
        h("legend", {}, "What is it to do?"),
        h("label", {}, types[0], icon("text"), h("span", {}, "Turn text into vectors")),
        h("label", {}, types[1], icon("image"), h("span", {}, "Describe images")),
      ),
      source.element,
      suggestions,
      id.element,
      pullLine,
      h(
        "details",
        {},
        h("summary", {}, "More"),
        h(
          "div",
          { class: "more-settings" },
          h("label", { class: "check" }, isDefault, h("span", {}, "Have it answer requests that name no model")),
          h("label", { class: "check" }, pin, h("span", {}, "Keep it loaded, once it is")),
          revision.element,
        ),
      ),
      problem,
      h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), submit),
    ),
  );

  const chosenType = () => types.find((each) => each.checked).value;

  function suggest() {
    const lines = SUGGESTIONS[chosenType()].map(({ name, good }) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "suggestion", onclick: () => take(name) },
          h("span", {}, name),
          h("span", { class: "fine" }, good),
        ),
      ),
    );
    suggestions.replaceChildren(...lines);
  }

  function take(name) {
    source.input.value = name;
    sourceChanged();
    id.input.focus();
    id.input.select();
  }

  function sourceChanged() {
    const name = source.input.value.trim();
    if (!isNamed) id.input.value = idFor(name);
    show(pullLine, !FOLDER.test(name));
  }

  function wanted() {
    const name = source.input.value.trim();
    return {
      type: chosenType(),
      id: id.input.value.trim(),
      hf_model: name,
      ...(revision.input.value.trim() && { revision: revision.input.value.trim() }),
      ...(isDefault.checked && { default: true }),
      ...(pin.checked && { keep_alive_minutes: -1 }),
      ...(pull.checked && !FOLDER.test(name) && { pull: true }),
    };
  }

  function onsubmit(event) {
    event.preventDefault();
    attempt(submit, add);
  }

  async function add() {
    tell(null);
    try {
      const model = await api("POST", "api/models", wanted());
      dialog.close();
      added(model);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      tell(error);
    }
  }

  /** Say what is wrong beside what it is about, where that is known. */
  function tell(error) {
    const fields = { hf_model: source, id, revision };
    const found = new Map((error?.details.errors ?? []).map((each) => [each.field, each.message]));
    for (const [name, each] of Object.entries(fields)) each.tell(found.get(name) ?? "");
    const isPlaced = found.size > 0 && [...found.keys()].every((name) => name in fields);
    const requestId = error?.requestId;
    text(problem, error && !isPlaced ? `${error.message}${requestId ? ` (request ${requestId})` : ""}` : "");
    show(problem, error && !isPlaced);
    dialog.querySelector("[aria-invalid='true']")?.focus();
  }

  suggest();
  closed(dialog);
  source.input.focus();
}

function field(name, label, attributes) {
  const problem = h("p", { id: `${name}-problem`, class: "problem breaks", role: "alert", hidden: true });
  const input = h("input", {
    id: name,
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-describedby": problem.id,
    ...attributes,
  });
  return {
    input,
    element: h("div", { class: "field" }, h("label", { for: name }, label), input, problem),
    tell(message) {
      text(problem, message);
      show(problem, message);
      set(input, "aria-invalid", message ? "true" : null);
    },
  };
}

/** `BAAI/bge-small-en-v1.5` -> `bge-small-en-v1.5`: what requests may call it. */
function idFor(source) {
  const last = source.replace(/\/+$/, "").split("/").at(-1);
  return last.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 64);
}
