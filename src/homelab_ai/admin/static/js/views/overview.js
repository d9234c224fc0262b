/** What the service is doing, at a glance. */

import { h, text } from "../dom.js";
import { span } from "../format.js";

function mount(root, { stream }) {
  const standing = h("p", { class: "quiet" });
  root.append(h("div", { class: "view-head" }, h("h1", {}, "Overview"), standing));
  return stream.on("status", (status) => {
    text(standing, `${status.ready ? "Ready" : "Not ready"}, up for ${span(status.uptime_seconds)}`);
  });
}

export default { name: "overview", title: "Overview", scope: "read", mount };
