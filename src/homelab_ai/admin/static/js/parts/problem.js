/** An error of the service, shown: its sentence, and what a program or a look into the log needs of it. */

import { h } from "../dom.js";

/** The element for an `ApiError`, or for whatever else was thrown. */
export function problem(error) {
  const details = Object.keys(error.details ?? {}).length ? JSON.stringify(error.details, null, 2) : null;
  const request = error.requestId && `request ${error.requestId}`;
  const facts = [error.status, error.code, request].filter(Boolean).join(" · ");
  return h(
    "div",
    { class: "failure", role: "alert" },
    h("p", { class: "breaks" }, error.message),
    facts && h("p", { class: "fine breaks" }, facts),
    details && h("details", {}, h("summary", {}, "Details"), h("pre", { tabindex: "0" }, details)),
  );
}
