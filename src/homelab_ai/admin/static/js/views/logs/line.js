/** One line of the log: a request, or a message of the service. */

import { h } from "../../dom.js";
import { duration, fullMoment } from "../../format.js";
import { severity } from "./tail.js";

/** Its element. `onrequest(id)` is called when the id of a request is clicked. */
export function lineOf(entry, onrequest) {
  return h(
    "li",
    { class: severity(entry) },
    h("time", { datetime: entry.time, title: fullMoment(entry.time) }, clock(entry.time)),
    ...(entry.access ? request(entry) : message(entry)),
    entry.request_id &&
      entry.request_id !== "-" &&
      h(
        "button",
        {
          type: "button",
          class: "link mono",
          title: `Only the lines of ${entry.request_id}`,
          onclick: () => onrequest(entry.request_id),
        },
        entry.request_id.slice(0, 8),
      ),
  );
}

function request({ status, endpoint, duration_ms: milliseconds, model, client }) {
  return [
    h("span", { class: "log-kind" }, String(status)),
    h(
      "span",
      { class: "what" },
      endpoint,
      " ",
      h(
        "span",
        { class: "log-more" },
        [duration(milliseconds / 1000), model !== "-" && model, client].filter(Boolean).join(" · "),
      ),
    ),
  ];
}

function message({ level, logger, message: words }) {
  return [
    h("span", { class: "log-kind" }, level.toLowerCase()),
    h("span", { class: "what" }, words, " ", h("span", { class: "log-more" }, logger)),
  ];
}

/** The time of day to the millisecond, by which lines are told apart. */
function clock(iso) {
  const time = new Date(iso);
  const padded = (value, digits = 2) => String(value).padStart(digits, "0");
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => padded(part));
  return `${parts.join(":")}.${padded(time.getMilliseconds(), 3)}`;
}
