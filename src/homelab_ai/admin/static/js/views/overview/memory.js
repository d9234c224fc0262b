/** Memory against its budget, as a picture: each model a block as wide as what it takes, the browser too. */

import { h, keyed, set, show, text } from "../../dom.js";
import { bytes } from "../../format.js";
import { isUnderWay } from "../../states.js";

const TONES = 8;

/** The picture of main memory, or, with `gpu`, of the GPU's. */
export function memoryPicture({ gpu = false } = {}) {
  const used = h("strong");
  const rest = h("span", { class: "quiet" });
  const bar = h("div", { class: "memory-bar", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  const nothing = h("p", { class: "fine" }, "Nothing is loaded. A model is, when it is first asked for.");
  const element = h(
    "section",
    { class: "card memory" },
    h("div", { class: "card-head" }, h("h2", {}, gpu ? "GPU memory" : "Memory"), h("p", { class: "end" }, used, rest)),
    bar,
    legend,
    nothing,
  );
  return {
    element,
    update(status) {
      const taken = gpu ? status.memory.gpu_used_bytes : status.memory.used_bytes;
      const budget = gpu ? status.memory.gpu_budget_bytes : status.memory.budget_bytes;
      show(element, !gpu || (status.device.gpus > 0 && budget > 0));
      text(used, bytes(taken));
      text(rest, ` of ${bytes(budget)}${taken <= budget ? `, ${bytes(budget - taken)} free` : ""}`);
      const blocks = gpu ? gpuBlocks(status) : mainBlocks(status);
      const whole = Math.max(budget, taken, 1);
      keyed(bar, blocks, (block) => block.key, () => newBlock());
      for (const block of blocks) bar.rowsByKey.get(block.key).size(block.bytes / whole);
      keyed(legend, blocks, (block) => block.key, newEntry);
      show(legend, blocks.length);
      show(nothing, !blocks.length);
    },
  };
}

function mainBlocks(status) {
  const blocks = modelBlocks(status.models, "memory_bytes");
  const browser = status.browser.memory_bytes;
  const others = status.memory.used_bytes - browser - blocks.reduce((sum, block) => sum + block.bytes, 0);
  if (browser > 0) blocks.push({ key: "/browser", name: "Browser", bytes: browser, tone: "browser" });
  // What reads pages, and what a load has been promised but does not take yet.
  if (others > 2 ** 20) blocks.push({ key: "/others", name: "Page readers and others", bytes: others, tone: "others" });
  return blocks;
}

function gpuBlocks(status) {
  return modelBlocks(status.models, "gpu_memory_bytes");
}

function modelBlocks(models, field) {
  return models
    .map((model, n) => ({
      key: `model/${model.id}`,
      id: model.id,
      name: model.id,
      bytes: model[field],
      tone: n % TONES,
      moving: isUnderWay(model.state),
    }))
    .filter((block) => block.bytes > 0);
}

function newBlock() {
  const name = h("span", { class: "block-name" });
  const size = h("span", { class: "block-size" });
  const element = h("div", { class: "block" }, h("div", { class: "block-label" }, name, size));
  return {
    element,
    size: (part) => element.style.setProperty("width", `${(part * 100).toFixed(3)}%`),
    update(block) {
      text(name, block.name);
      text(size, bytes(block.bytes));
      set(element, "class", `block tone-${block.tone} ${block.moving ? "moving" : ""}`);
      set(element, "title", `${block.name}: ${bytes(block.bytes)}`);
    },
  };
}

function newEntry(block) {
  const swatch = h("span", { class: `swatch tone-${block.tone}` });
  const place = block.id && `#models/${encodeURIComponent(block.id)}`;
  const name = place ? h("a", { href: place }, block.name) : h("span", {}, block.name);
  const size = h("span", { class: "quiet nowrap" });
  return {
    element: h("li", {}, swatch, name, size),
    update: (now) => text(size, bytes(now.bytes)),
  };
}
