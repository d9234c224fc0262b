/** Ready or not, and why; and what else somebody ought to know. */

import { h, keyed, set, text } from "../../dom.js";
import { moment, span } from "../../format.js";
import { icon } from "../../icons.js";

export function standing({ api }) {
  const word = h("span");
  const dot = h("span", { class: "dot" });
  const badge = h("span", { class: "badge" }, dot, word);
  const uptime = h("span", { class: "quiet" });
  const notices = h("div", { class: "notices", role: "status" });
  let reason = null; // why it is not ready, once that is known
  let status = null;

  const show = () => {
    const colour = status.ready ? "good" : "bad";
    text(word, status.ready ? "Ready" : "Not ready");
    set(dot, "class", `dot ${colour}`);
    set(badge, "class", `badge ${colour}`);
    text(uptime, `up for ${span(status.uptime_seconds)}`);
    keyed(notices, noticesOf(status, reason), (notice) => notice.text, newNotice);
  };
  return {
    badge: h("span", { class: "standing" }, badge, uptime),
    notices,
    update(now) {
      const asked = !now.ready && status?.ready !== false;
      status = now;
      if (now.ready) reason = null;
      if (asked) {
        api("GET", "ready").catch((error) => {
          reason = error.message;
          show();
        });
      }
      show();
    },
  };
}

function noticesOf({ ready, configuration }, reason) {
  const { current, loaded_at: loadedAt, needing_restart: waiting } = configuration;
  return [
    !ready && { kind: "bad", text: reason ?? "The service cannot take work." },
    !current && {
      kind: "busy",
      text:
        "The configuration file cannot be used as it is now, and the log says why. " +
        `The settings of ${moment(loadedAt)} are still in force.`,
    },
    waiting.length > 0 && { kind: "info", text: `Changed, and in force with the next start: ${waiting.join(", ")}.` },
  ].filter(Boolean);
}

function newNotice(notice) {
  const element = h(
    "p",
    { class: `notice ${notice.kind}` },
    icon(notice.kind === "info" ? "info" : "alert"),
    h("span", { class: "breaks" }, notice.text),
  );
  return { element, update() {} };
}
