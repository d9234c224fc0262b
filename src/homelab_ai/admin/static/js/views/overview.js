/** What the service is doing, at a glance. */

import { h } from "../dom.js";
import { activity } from "./overview/activity.js";
import { recentErrors } from "./overview/errors.js";
import { hardware } from "./overview/hardware.js";
import { memoryPicture } from "./overview/memory.js";
import { modelsInShort } from "./overview/models.js";
import { standing } from "./overview/standing.js";

function mount(root, app) {
  const state = standing(app);
  const lately = activity(app);
  const memory = memoryPicture();
  const gpuMemory = memoryPicture({ gpu: true });
  const models = modelsInShort(app);
  const errors = recentErrors();
  const machine = hardware();
  const waiting = h("p", { class: "empty" }, "Waiting for the first figures…");
  const parts = [state, memory, gpuMemory, models, errors, machine];

  root.append(h("div", { class: "view-head" }, h("h1", {}, "Overview"), state.badge), waiting);
  const content = h(
    "div",
    { class: "overview" },
    state.notices,
    memory.element,
    gpuMemory.element,
    lately.element,
    models.element,
    h("div", { class: "halves" }, errors.element, machine.element),
  );
  const off = app.stream.on("status", (status) => {
    for (const part of parts) part.update(status);
    if (waiting.isConnected) waiting.replaceWith(content);
  });
  return () => {
    off();
    models.off();
    lately.off();
  };
}

export default { name: "overview", title: "Overview", scope: "read", mount };
