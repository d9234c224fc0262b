/** Try it: a web page is read. Whatever comes from it is shown as text, or by the renderer that trusts nobody. */

import { h } from "../../dom.js";
import { counted, duration } from "../../format.js";
import { Exchange } from "../../parts/exchange.js";
import { choice, field, tick } from "../../parts/fields.js";
import { rendered, safeLink } from "../../parts/markdown.js";
import { sideBySide } from "../../parts/side_by_side.js";

const MOST_LINKS = 500;

/** `{element, follow(stream)}`, as the other tools have. */
export function crawlTool(app) {
  const url = h("input", { inputmode: "url", name: "url", required: true, placeholder: "https://example.com" });
  const browser = choice("wait_for_js", [
    ["auto", "where the page needs one"],
    ["true", "always"],
    ["false", "never: the fastest"],
  ]);
  const screenshot = choice("screenshot", [
    ["false", "none"],
    ["true", "of the window"],
    ["full_page", "of the whole page"],
  ]);
  const formats = Object.entries({ markdown: "Markdown", links: "Links", metadata: "Metadata", html: "HTML" }).map(
    ([name, title]) => tick(title, { name, checked: name === "markdown" }),
  );
  const exchange = new Exchange(app, "Read", { show: read });

  function send(event) {
    event.preventDefault();
    const chosen = formats
      .map((box) => box.querySelector("input"))
      .filter((box) => box.checked)
      .map((box) => box.name);
    url.value = withScheme(url.value.trim());
    const json = { url: url.value };
    if (chosen.length) json.formats = ["text", ...chosen];
    if (browser.value !== "auto") json.wait_for_js = JSON.parse(browser.value);
    if (screenshot.value !== "false") json.screenshot = screenshot.value === "true" || screenshot.value;
    return exchange.send("api/crawl", { json });
  }

  const form = h(
    "form",
    { class: "card tool", onsubmit: send },
    field("Address of the page", url),
    h("div", { class: "fields" }, field("A browser shows it", browser), field("Screenshot", screenshot)),
    h("fieldset", { class: "ticks" }, h("legend", {}, "Beside its text"), formats),
    exchange.controls,
  );
  return { element: h("div", {}, form, exchange.outcome), follow: () => () => {} };
}

/** What people type, as an address. */
const withScheme = (typed) => (/^[a-z][a-z0-9+.-]*:\/\//i.test(typed) ? typed : `https://${typed}`);

function read(page) {
  const parts = [
    { name: "text", title: "Text", content: plain(page.text || "There is no text on it.", "Text of the page") },
  ];
  if (page.markdown !== undefined) {
    parts.push({ name: "markdown", title: "Markdown", content: h("div", { class: "prose" }, rendered(page.markdown)) });
  }
  if (page.screenshot_base64) {
    const source = `data:image/png;base64,${page.screenshot_base64}`;
    parts.push({ name: "screenshot", title: "Screenshot", content: screenshot(source, page.title) });
  }
  return [
    h("h2", { class: "breaks" }, page.title || "A page without a title"),
    h("p", { class: "breaks" }, safeLink(page.url, page.url)),
    h("p", { class: "quiet" }, facts(page).join(" · ")),
    remarks(page),
    sideBySide("What there is of the page", parts),
    ...more(page),
  ].filter(Boolean);
}

function screenshot(source, title) {
  const frame = { class: "screenshot-frame", tabindex: "0", role: "region", "aria-label": "Screenshot of the page" };
  return h("div", frame, h("img", { src: source, alt: `How the page looks: ${title}` }));
}

function facts(page) {
  return [
    `status ${page.status}`,
    `fetched in ${duration(page.fetch_time_ms / 1000)}`,
    page.rendered ? "shown by a browser" : "over plain HTTP",
    `found by ${page.strategy}`,
    page.language && `language ${page.language}`,
    !page.complete && "not complete",
  ].filter(Boolean);
}

/** What else there is to know, and what of the page was refused. */
function remarks(page) {
  const blocked = page.blocked_requests;
  if (!page.notes.length && !blocked.length) return null;
  return h(
    "div",
    { class: "remarks" },
    page.notes.length > 0 &&
      h(
        "ul",
        {},
        page.notes.map((note) => h("li", { class: "breaks" }, `The page: ${note}`)),
      ),
    blocked.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `${counted(blocked.length, "request")} of the page refused`),
        h(
          "ul",
          {},
          blocked.map(({ url, reason }) => h("li", { class: "breaks" }, h("code", {}, url), ` ${reason}`)),
        ),
      ),
  );
}

/** What a person wants to see less often. */
function more(page) {
  const links = page.links?.slice(0, MOST_LINKS) ?? [];
  const rest = page.links?.length > links.length ? `, of which the first ${links.length}` : "";
  const folded = (title, content) => h("details", {}, h("summary", {}, title), content);
  return [
    page.links &&
      folded(
        `${counted(page.links.length, "link")}${rest}`,
        h(
          "ul",
          { class: "links" },
          links.map(({ url, text }) => h("li", { class: "breaks" }, safeLink(url, text || url) ?? url)),
        ),
      ),
    page.metadata && folded("Metadata", plain(JSON.stringify(page.metadata, null, 2), "Metadata of the page")),
    page.html !== undefined && folded("HTML", plain(page.html, "HTML of the page")),
  ];
}

const plain = (text, label) =>
  h("pre", { class: "plain-text", tabindex: "0", role: "region", "aria-label": label }, text);
