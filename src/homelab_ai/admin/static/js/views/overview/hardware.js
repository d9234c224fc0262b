/** What runs the models, and the service itself. */

import { h, keyed, text } from "../../dom.js";
import { bytes, counted, fullMoment, moment, span } from "../../format.js";

export function hardware() {
  const list = h("dl", { class: "facts" });
  const head = h("div", { class: "card-head" }, h("h2", {}, "Hardware and service"));
  return {
    element: h("section", { class: "card" }, head, list),
    update: (status) => keyed(list, facts(status), (fact) => fact.name, newFact),
  };
}

function facts({ device, browser, version, uptime_seconds: uptime, configuration }) {
  const all = [
    { name: "Processor", says: device.cpu },
    { name: "Cores", says: `${counted(device.cpu_cores, "core")} for models` },
    { name: "Made fast by", tags: device.cpu_features },
    { name: "GPU", says: gpu(device) },
    { name: "Models run on", says: device.models_on.join(", ") || "nothing is loaded" },
    { name: "Browser", says: browserState(browser) },
    { name: "Version", says: `${version}, up for ${span(uptime)}` },
    { name: "Settings read", says: moment(configuration.loaded_at), title: fullMoment(configuration.loaded_at) },
  ];
  return all.filter((fact) => !fact.tags || fact.tags.length);
}

function gpu({ gpu: name, gpus, gpu_memory_bytes: memory, gpu_memory_used_bytes: used }) {
  if (!name) return "none found";
  return `${name}${gpus > 1 ? ` and ${gpus - 1} more` : ""}, ${bytes(used)} of ${bytes(memory)} taken`;
}

function browserState({ running, pages, sandboxed }) {
  const doing = running ? (pages ? `showing ${counted(pages, "page")}` : "running, idle") : "asleep";
  return sandboxed === null ? doing : `${doing}, ${sandboxed ? "in its sandbox" : "without its sandbox"}`;
}

function newFact(fact) {
  const said = h("dd", { class: "breaks" });
  const element = h("div", {}, h("dt", {}, fact.name), said);
  const shown = fact.tags ? h("ul", { class: "tags" }) : null;
  if (shown) said.append(shown);
  return {
    element,
    update(now) {
      if (shown) keyed(shown, now.tags, (tag) => tag, newTag);
      else text(said, now.says);
      if (now.title) said.title = now.title;
    },
  };
}

function newTag(tag) {
  return { element: h("li", { class: "badge" }, tag), update() {} };
}
