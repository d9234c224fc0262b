/** The request that was just sent, to be copied: as curl, and as Python. */

import { h } from "../dom.js";
import { copyTextButton } from "./copy_text.js";
import { tick } from "./fields.js";
import { KEY_VARIABLE, curl, python } from "./snippets.js";
import { tabbed } from "./tabs.js";

const FILES = "The files are looked for in the folder where you run it.";

/** The box for a request. It shows the key, from the environment, where the page itself needs one. */
export function snippetBox(request, whoami) {
  const written = { curl: h("code"), python: h("code") };
  const withKey = whoami.authenticated_by === "key";
  const hint = h("p", { class: "fine" });
  const box = tick("with an API key", { checked: withKey, onchange: (event) => write(event.target.checked) });

  function write(shown) {
    written.curl.textContent = curl(request, shown);
    written.python.textContent = python(request, shown);
    const files = (request.form ?? []).some(([, value]) => typeof value !== "string");
    hint.textContent = [
      shown && `The key is taken from the environment: export ${KEY_VARIABLE}=hlab_...`,
      files && FILES,
    ]
      .filter(Boolean)
      .join(" ");
  }

  const panel = (name, what) =>
    h(
      "div",
      { class: "code" },
      h("pre", { tabindex: "0", role: "region", "aria-label": `The request ${what}` }, written[name]),
      copyTextButton(() => written[name].textContent, `the request ${what}`),
    );
  write(withKey);
  return h(
    "section",
    { class: "snippets", "aria-label": "The same request from elsewhere" },
    h("h2", {}, "The same request from elsewhere"),
    tabbed("Language", [
      { name: "curl", title: "curl", content: panel("curl", "as curl") },
      { name: "python", title: "Python", content: panel("python", "in Python") },
    ]).element,
    box,
    hint,
  );
}
