/**
 * The Markdown of a crawled page, shown. Whoever wrote that page is a stranger: each piece becomes an element made by
 * `h` or a text, never HTML; a link leads to the web or is no link; and no picture is loaded.
 *
 * The dialect is what the service writes: headings, paragraphs, lists, quotations, fenced code, pipe tables; and within
 * a line strong, emphasis, code, links, pictures. Anything else stays as it is written.
 */

import { h } from "../dom.js";

const MOST_LINES = 5000;
const MOST_DEPTH = 8;
const LONGEST_LINE = 20_000; // beyond which it is shown without its marks

// Each of them matches a line in one way only: with two, a stranger's line could keep the page busy for hours.
const FENCE = /^ *(`{3,})(?:\s*([^\s`]+))?\s*$/;
const HEADING = /^(#{1,6}) +(.*)$/;
const ITEM = /^( *)(-|\*|\d{1,9}[.)]) +(.*)$/;
const QUOTE = /^>+ ?/;
const RULE = /^ *(?:-{3,}|\*{3,}|_{3,}) *$/;
const UNDER_HEADER = /^\|(?: *:?-+:? *\|)+ *$/;

/** Elements that show this Markdown. */
export function rendered(markdown) {
  const lines = markdown.split("\n");
  const shown = blocks(lines.slice(0, MOST_LINES), 0);
  if (lines.length > MOST_LINES) {
    shown.push(h("p", { class: "fine" }, `Shown are the first ${MOST_LINES} of ${lines.length} lines.`));
  }
  return shown;
}

function blocks(lines, depth) {
  const made = [];
  let at = 0;
  const take = (belongs) => {
    const start = at;
    while (at < lines.length && belongs(lines[at], at - start)) at += 1;
    return lines.slice(start, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const [, fence, language] = FENCE.exec(line) ?? [];
    if (fence) {
      at += 1;
      const code = take((inner) => inner.trim() !== fence);
      at += 1;
      made.push(codeBlock(code, language));
    } else if (!line.trim()) {
      at += 1;
    } else if (HEADING.test(line)) {
      const [, marks, text] = HEADING.exec(line);
      // The page that shows it has headings of its own: those of the text begin below them.
      made.push(h(`h${Math.min(6, marks.length + 2)}`, {}, inline(text)));
      at += 1;
    } else if (RULE.test(line)) {
      made.push(h("hr"));
      at += 1;
    } else if (line.startsWith("|") && UNDER_HEADER.test(lines[at + 1] ?? "")) {
      made.push(table(take((inner) => inner.startsWith("|"))));
    } else if (QUOTE.test(line) && depth < MOST_DEPTH) {
      const quoted = take((inner) => QUOTE.test(inner)).map((inner) => inner.replace(/^> ?/, ""));
      made.push(h("blockquote", {}, blocks(quoted, depth + 1)));
    } else if (ITEM.test(line) && depth < MOST_DEPTH) {
      made.push(
        list(
          take((inner, count) => !count || ITEM.test(inner) || /^ {2}/.test(inner)),
          depth,
        ),
      );
    } else {
      made.push(paragraph(take((inner, count) => !count || (inner.trim() && !begins(inner)))));
    }
  }
  return made;
}

const begins = (line) =>
  [FENCE, HEADING, ITEM, QUOTE, RULE].some((pattern) => pattern.test(line)) || line.startsWith("|");

function paragraph(lines) {
  return h(
    "p",
    {},
    lines.flatMap((line, number) => (number ? [h("br"), ...inline(line.trim())] : inline(line.trim()))),
  );
}

function codeBlock(lines, language) {
  return h(
    "pre",
    { tabindex: "0", "aria-label": language ? `Code (${language})` : "Code" },
    h("code", {}, lines.join("\n")),
  );
}

/** A list, and the lists and paragraphs within its items, which are what stands further in. */
function list(lines, depth) {
  const [, indent, marker] = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const [, further, , text] = ITEM.exec(line) ?? [];
    if (text !== undefined && further.length <= indent.length) items.push([text]);
    else items.at(-1).push(line.slice(Math.min(indent.length + 2, line.search(/\S|$/))));
  }
  const tag = /\d/.test(marker) ? "ol" : "ul";
  return h(
    tag,
    {},
    items.map((item) => h("li", {}, inline(item[0]), item.length > 1 ? blocks(item.slice(1), depth + 1) : [])),
  );
}

function table([header, , ...rows]) {
  const cells = (tag, line, attributes) => splitRow(line).map((cell) => h(tag, attributes, inline(cell)));
  return h(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": "Table" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, cells("th", header, { scope: "col" }))),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells("td", row, {}))),
      ),
    ),
  );
}

const splitRow = (line) =>
  line
    .replace(/^\|/, "")
    .replace(/\| *$/, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

// What is opened and never closed is a text.
const PIECES = new RegExp(
  [
    "`([^`]+)`",
    String.raw`\*\*([^*]+(?:\*[^*]+)*)\*\*`,
    String.raw`\*([^*]+)\*`,
    String.raw`!\[([^\[\]]*)\]\(([^()\s]*)\)`,
    String.raw`\[((?:\[[^\[\]]*\]|[^\[\]])*)\]\(([^()\s]*)\)`, // with a picture or a [1] within
  ].join("|"),
  "g",
);

/** Texts and elements for one line. */
function inline(text, depth = 0) {
  if (depth > 3 || text.length > LONGEST_LINE) return [text];
  const made = [];
  let end = 0;
  for (const found of text.matchAll(PIECES)) {
    made.push(text.slice(end, found.index), piece(found, depth + 1));
    end = found.index + found[0].length;
  }
  return [...made, text.slice(end)].filter(Boolean);
}

function piece([whole, code, strong, emphasis, picture, , words, address], depth) {
  if (code !== undefined) return h("code", {}, code);
  if (strong !== undefined) return h("strong", {}, inline(strong, depth));
  if (emphasis !== undefined) return h("em", {}, inline(emphasis, depth));
  if (picture !== undefined) return h("span", { class: "picture" }, `[picture${picture && `: ${picture}`}]`);
  return safeLink(address, words ? inline(words, depth) : [address]) ?? whole;
}

/** A link that tells the other site nothing, or null for an address that is not one of the web. */
export function safeLink(address, content) {
  if (!/^https?:\/\//i.test(address)) return null;
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, content);
}
