/** A choice among the models of one type that the caller may use: the default first, which a request need not name. */

import { h } from "../dom.js";

/** What each type is called where there is none of it. */
const KINDS = { text_embedding: "embeds text", image_caption: "describes images" };

export class ModelChooser {
  #kind;
  #whoami;
  #models = null;
  #shown = "";
  #onchange;

  /** `onchange(model)` is told the model that is chosen, as GET /api/models describes it; null where none is known. */
  constructor(kind, whoami, onchange = () => {}) {
    this.#kind = kind;
    this.#whoami = whoami;
    this.#onchange = onchange;
    this.select = h(
      "select",
      { name: "model", onchange: () => onchange(this.model) },
      h("option", { value: "" }, "the default model"),
    );
    this.nothing = h(
      "p",
      { class: "fine", hidden: true },
      `There is no model that ${KINDS[kind]}: `,
      h("a", { href: "#models" }, "add one under Models"),
      ".",
    );
  }

  /** Keep up with the models that there are. Returns what ends that. */
  follow(stream) {
    return stream.on("models", ({ models }) => this.#take(models));
  }

  /** The id to be named in a request; undefined for the default. */
  get value() {
    return this.select.value || undefined;
  }

  /** The model that is chosen, or null. */
  get model() {
    return this.#models?.find((model) => (this.value ? model.id === this.value : model.default)) ?? null;
  }

  #take(models) {
    this.#models = models
      .filter(({ type, enabled, id }) => type === this.#kind && enabled && (this.#whoami.models?.includes(id) ?? true))
      .sort((one, other) => Number(other.default) - Number(one.default));
    const options = this.#models.map((model) => [model.default ? "" : model.id, describe(model)]);
    const wanted = JSON.stringify(options);
    if (wanted !== this.#shown) {
      const chosen = this.select.value;
      this.select.replaceChildren(...options.map(([value, words]) => h("option", { value }, words)));
      if (options.some(([value]) => value === chosen)) this.select.value = chosen;
      this.#shown = wanted;
    }
    this.nothing.hidden = options.length > 0;
    this.#onchange(this.model);
  }
}

function describe(model) {
  const remarks = [
    model.default && "default",
    model.state === "ready" ? "loaded" : model.state === "available" ? null : model.state,
  ];
  const words = remarks.filter(Boolean).join(", ");
  return words ? `${model.id} (${words})` : model.id;
}
