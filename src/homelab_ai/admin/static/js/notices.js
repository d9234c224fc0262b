/** What the page tells its user, and asks: toasts, questions, and the state of a button whose action is under way. */

import { ApiError } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_SECONDS = { good: 5, info: 6, bad: 20 };
const MOST_TOASTS = 4;

/** Tell something in passing: a text, or an error with the id by which the log has the rest. */
export function toast(what, kind = what instanceof Error ? "bad" : "info") {
  const region = document.getElementById("toasts");
  const isError = what instanceof Error;
  const dismiss = () => box.remove();
  const box = h(
    "div",
    { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status" },
    h(
      "div",
      { class: "toast-body" },
      h("p", { class: "breaks" }, isError ? what.message : what),
      isError && what.requestId && h(
        "p",
        { class: "fine" },
        `${what.code} · request `,
        h("code", {}, what.requestId),
        copyButton(() => what.requestId, "Copy the request id"),
      ),
    ),
    h("button", { type: "button", class: "plain", "aria-label": "Dismiss", onclick: dismiss }, icon("close")),
  );
  region.append(box);
  region.hidePopover();
  region.showPopover(); // anew, or a dialog that was opened since would cover it
  while (region.children.length > MOST_TOASTS) region.firstElementChild.remove();
  dismissWhenRead(box, SHOWN_SECONDS[kind]);
}

/** Take it away after a while in which it was neither pointed at nor focused. */
function dismissWhenRead(box, seconds) {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => box.remove(), seconds * 1000);
  };
  for (const event of ["pointerenter", "focusin"]) box.addEventListener(event, () => clearTimeout(timer));
  for (const event of ["pointerleave", "focusout"]) box.addEventListener(event, wait);
  wait();
}

/**
 * Ask before something that cannot be undone: a text, or `{title, text, action, option}` with the words on the button
 * and those of a checkbox. Resolves to false, or to `{checked}`, the state of that checkbox.
 */
export async function confirm(question) {
  const { title = "Are you sure?", text, action = "Go on", option = null } =
    typeof question === "string" ? { text: question } : question;
  const box = option && h("input", { type: "checkbox" });
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "question" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "question" }, title),
      h("p", { class: "breaks" }, text),
      option && h("label", { class: "check" }, box, h("span", {}, option)),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, action),
      ),
    ),
  );
  return (await closed(dialog)) === "yes" && { checked: Boolean(box?.checked) };
}

/** Show the dialog, and take it away when it is closed. Resolves, then, to what it was closed with. */
export function closed(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Run the action of that button, once at a time: a second click on it does nothing. Its failure becomes a toast.
 * Resolves to what the action returned, or to undefined where it failed.
 */
export async function attempt(button, action) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true"); // not `disabled`, which would take the focus away
  try {
    return await action();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (!(error instanceof ApiError)) throw error;
    toast(error);
    return undefined;
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** A button that copies what the function returns. */
export function copyButton(textOf, label) {
  const button = h(
    "button",
    {
      type: "button",
      class: "plain copy",
      "aria-label": label,
      title: label,
      onclick: async () => {
        if (await copy(textOf())) toast("Copied", "good");
        else toast("The browser does not let this page copy", "bad");
      },
    },
    icon("copy"),
  );
  return button;
}

/** Put it on the clipboard, on plain HTTP too, where there is no `navigator.clipboard`. Resolves to whether it is. */
export async function copy(content) {
  try {
    await navigator.clipboard.writeText(content);
    return true;
  } catch {
    return copyBySelection(content);
  }
}

function copyBySelection(content) {
  const field = h("textarea", { class: "offscreen", readonly: true }, content);
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(field); // outside a modal nothing can be selected
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return done;
}
