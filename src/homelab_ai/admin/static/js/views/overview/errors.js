/** The last errors, each with the id by which the log has the rest. */

import { h, keyed, show, text } from "../../dom.js";
import { fullMoment, moment } from "../../format.js";
import { copyButton } from "../../notices.js";

export function recentErrors() {
  const list = h("ol", { class: "errors" });
  const none = h("p", { class: "nothing" }, "None since the service started.");
  const head = h("div", { class: "card-head" }, h("h2", {}, "Recent errors"));
  return {
    element: h("section", { class: "card" }, head, list, none),
    update({ errors }) {
      keyed(list, errors, (error) => `${error.request_id} ${error.time}`, newEntry);
      show(list, errors.length);
      show(none, !errors.length);
    },
  };
}

function newEntry(error) {
  const time = h("time", { datetime: error.time, title: fullMoment(error.time) });
  return {
    element: h(
      "li",
      {},
      h("span", { class: `badge ${error.status >= 500 ? "bad" : "busy"}` }, String(error.status)),
      h("span", { class: "error-code breaks" }, error.code),
      time,
      h(
        "span",
        { class: "error-more" },
        h("span", { class: "breaks" }, error.endpoint.replaceAll(":path}", "}")),
        h(
          "span",
          { class: "error-id" },
          h("code", { title: "Request id" }, error.request_id),
          copyButton(() => error.request_id, `Copy the request id ${error.request_id}`),
        ),
      ),
    ),
    update: () => text(time, moment(error.time)), // which names the day from tomorrow on
  };
}
