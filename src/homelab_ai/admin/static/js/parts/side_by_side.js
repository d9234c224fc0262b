/** Several views of one thing: beside each other where there is room, behind tabs on a phone. */

import { h } from "../dom.js";
import { tabbed } from "./tabs.js";

const WIDE = matchMedia("(min-width: 60rem)");

/** An element for the parts, [{name, title, content}, ...], that follows the width of the window while it is shown. */
export function sideBySide(label, parts) {
  const element = h("div");
  const arrange = () =>
    element.replaceChildren(WIDE.matches || parts.length === 1 ? columns(parts) : tabbed(label, parts).element);
  const follow = () => {
    if (element.isConnected) arrange();
    else WIDE.removeEventListener("change", follow);
  };
  WIDE.addEventListener("change", follow);
  arrange();
  return element;
}

function columns(parts) {
  return h(
    "div",
    { class: "columns" },
    parts.map(({ title, content }) => h("section", {}, h("h3", {}, title), content)),
  );
}
