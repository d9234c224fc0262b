/** A button with the word Copy, which itself tells whether it has: within a dialog, too, where a toast is not heard. */

import { h, text } from "../dom.js";
import { copy } from "../notices.js";

const TOLD_SECONDS = 3;

/** A button for what `textOf()` returns. `what` names that for those who do not see what it stands beside. */
export function copyTextButton(textOf, what) {
  const told = h("span", { role: "status", class: "offscreen" });
  const button = h("button", { type: "button", "aria-label": `Copy ${what}`, onclick: act }, "Copy");

  async function act() {
    const done = await copy(textOf());
    text(button, done ? "Copied" : "Not copied");
    text(
      told,
      done ? `Copied ${what}` : "The browser does not let this page copy: select the text and copy it yourself",
    );
    setTimeout(() => {
      text(button, "Copy");
      text(told, "");
    }, TOLD_SECONDS * 1000);
  }

  return h("span", { class: "copy-text" }, button, told);
}
