/** All that is known of each model: details as they change, and every second what it does. The newest word counts. */

export class KnownModels {
  #models = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  get all() {
    return [...this.#models.values()];
  }

  /** The list of `api/models`, which is the one that says which models there are. */
  takeDetails(models) {
    this.#models = new Map(models.map((model) => [model.id, { ...this.#models.get(model.id), ...dated(model) }]));
    this.#changed();
  }

  /** The short list of `api/status`. */
  takeStatus(models) {
    for (const model of models) {
      if (this.#models.has(model.id)) Object.assign(this.#models.get(model.id), model);
    }
    this.#changed();
  }

  /** What an action answered, which the stream will say as well, a moment later. */
  take(model) {
    this.#models.set(model.id, { ...this.#models.get(model.id), ...dated(model) });
    this.#changed();
  }

  /** That it was removed. */
  drop(id) {
    this.#models.delete(id);
    this.#changed();
  }
}

/** With the time of the next try by this browser's clock, for nobody says again how long it is until then. */
function dated(model) {
  const seconds = model.retry_in_seconds;
  return { ...model, retryAt: seconds === null ? null : Date.now() + seconds * 1000 };
}
