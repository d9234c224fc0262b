/** Everything about one model: why it failed, its download, what can be done with it, and what is known of it. */

import { h, keyed, set, show, text } from "../../dom.js";
import { bytes, counted, countdown, duration, number, span, words } from "../../format.js";
import { icon } from "../../icons.js";
import { copyButton } from "../../notices.js";
import { isUnderWay } from "../../states.js";

export function details(model, context) {
  const failure = failureNotice();
  const download = downloadProgress();
  const buttons = actionButtons(context, model.type);
  const facts = h("dl", { class: "facts model-facts" });
  return {
    element: h("div", {}, failure.element, download.element, buttons.element, facts),
    update(now) {
      failure.update(now);
      download.update(now);
      buttons.update(now);
      keyed(facts, factsOf(now), (fact) => fact.name, newFact);
    },
  };
}

function failureNotice() {
  const reason = h("p", { class: "breaks" });
  const again = h("p", { class: "quiet" });
  const element = h("div", { class: "notice bad" }, icon("alert"), h("div", { class: "notice-body" }, reason, again));
  return {
    element,
    update({ state, failure, retryAt }) {
      show(element, state === "failed");
      text(reason, failure);
      const seconds = retryAt ? (retryAt - Date.now()) / 1000 : 0;
      const when = seconds > 0 ? `A request has it tried again in ${countdown(seconds)}` : "The next request tries again";
      text(again, `${when}; “Load” does so at once.`);
    },
  };
}

function downloadProgress() {
  const bar = h("progress", { max: 1, "aria-label": "Download" });
  const line = h("p", { class: "fine breaks" });
  const element = h("div", { class: "download" }, bar, line);
  return {
    element,
    update({ download }) {
      show(element, download && download.state !== "done");
      if (!download || download.state === "done") return;
      const { bytes: here, total_bytes: total, seconds_left: left, failure } = download;
      show(bar, download.state === "running");
      set(bar, "value", total ? here / total : null);
      set(element, "class", download.state === "failed" ? "download notice bad" : "download");
      const rest = left === null ? "" : `, ${span(left)} left`;
      if (download.state === "failed") text(line, `The download failed: ${failure}`);
      else text(line, total ? `${bytes(here)} of ${bytes(total)}${rest}` : "Asking the hub…");
    },
  };
}

/** Where a model of that type can be tried, and the scope that it takes. */
const TRIED_BY = { text_embedding: "embed", image_caption: "caption" };

/** The buttons that this caller may press, each with when it is offered. */
function actionButtons({ app, actions, removed }, type) {
  let now;
  const trial = app.may(TRIED_BY[type]) && h("a", { class: "button", href: `#try/${TRIED_BY[type]}` }, "Try it");
  const all = [
    { word: "Download", act: actions.pull, when: ({ hf_model: name }) => name.includes("/") },
    { word: "Pin", hint: "Keep it loaded, once it is", act: actions.pin, when: ({ pinned }) => !pinned },
    { word: "Unpin", hint: "Unload it when it is idle", act: actions.unpin, when: ({ pinned }) => pinned },
    {
      word: "Make default",
      hint: "Have it answer requests that name no model",
      act: actions.makeDefault,
      when: ({ enabled, default: already }) => enabled && !already,
    },
    { word: "Enable", act: actions.enable, when: ({ enabled }) => !enabled },
    { word: "Disable", hint: "Refuse requests for it", act: actions.disable, when: ({ enabled }) => enabled },
    {
      word: "Remove",
      danger: true,
      act: async (model) => { if (await actions.remove(model)) removed(model.id); },
      when: () => true,
    },
  ];
  const offered = app.may("admin") ? all : [];
  for (const each of offered) {
    each.button = h(
      "button",
      {
        type: "button",
        class: each.danger ? "danger" : null,
        title: each.hint,
        onclick: () => app.attempt(each.button, () => each.act(now)),
      },
      each.word,
    );
  }
  const busy = (button) => button.getAttribute("aria-busy") === "true";
  const buttons = offered.map((each) => each.button);
  return {
    element: h("div", { class: "model-actions", role: "group", "aria-label": "Actions" }, trial, buttons),
    update(model) {
      now = model;
      // One that is at work stays until it is done: the focus is on it.
      for (const { button, when } of offered) show(button, when(model) || busy(button));
    },
  };
}

function factsOf(model) {
  const { download, keep_alive_seconds: stays, p95_seconds: p95 } = model;
  return [
    { name: "Does", says: model.type === "text_embedding" ? "turns text into vectors" : "describes images" },
    { name: "Model", says: model.hf_model, copied: true },
    { name: "Revision", says: model.revision, mono: true },
    { name: "Also called", says: model.aliases.join(", ") },
    { name: "Backend", says: model.backend, more: model.backend_reason },
    { name: "Device", says: model.device },
    { name: "Precision", says: model.precision },
    { name: "Fingerprint", says: model.fingerprint, mono: true, copied: true },
    { name: "Dimensions", says: model.dimensions && number(model.dimensions) },
    { name: "Window", says: model.max_length && counted(model.max_length, "token") },
    { name: "Follows prompts", says: model.promptable === null ? null : model.promptable ? "yes" : "no" },
    { name: "Footprint", says: footprint(model) },
    { name: "Stays loaded", says: model.pinned ? "always (pinned)" : `${span(stays)} without a request` },
    { name: "Requests", says: requests(model) },
    { name: "p95", says: p95 === null || p95 === undefined ? null : duration(p95) },
    { name: "Loaded", says: loads(model) },
    { name: "Download", says: download?.state === "done" ? `${bytes(download.bytes)}, complete` : null },
  ].filter((fact) => fact.says);
}

function footprint({ state, memory_bytes: memory, gpu_memory_bytes: gpu }) {
  if (!memory && !gpu) return isUnderWay(state) ? null : "nothing while it is not loaded";
  return gpu ? `${bytes(memory)}, and ${bytes(gpu)} of the GPU` : bytes(memory);
}

function requests({ requests: all, active_requests: active }) {
  return active ? `${number(all)} since the start, ${number(active)} at work` : `${number(all)} since the start`;
}

function loads({ loads: count, load_seconds: seconds }) {
  if (!count) return "not since the start";
  if (count === 1) return `once, in ${duration(seconds)}`;
  return `${number(count)} times, the last time in ${duration(seconds)}`;
}

function newFact({ name, mono, copied }) {
  const said = h("span", { class: mono ? "mono breaks" : "breaks" });
  const more = h("span", { class: "fine breaks" });
  const copy = copied && copyButton(() => said.textContent, `Copy: ${name}`);
  return {
    element: h("div", {}, h("dt", {}, words(name)), h("dd", {}, said, copy, more)),
    update(fact) {
      text(said, fact.says);
      text(more, fact.more ? `${fact.more}` : "");
      show(more, fact.more);
    },
  };
}
