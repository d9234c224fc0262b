/** Try it: what the service does, in the browser, and each request as it would be sent from elsewhere. */

import { h } from "../dom.js";
import { tabbed } from "../parts/tabs.js";
import { captionTool } from "./try/caption.js";
import { crawlTool } from "./try/crawl.js";
import { embedTool } from "./try/embed.js";

const TOOLS = [
  { name: "embed", title: "Embed", about: "Turns texts into vectors, and shows how alike they are.", make: embedTool },
  { name: "caption", title: "Caption", about: "Says what there is to see on pictures.", make: captionTool },
  {
    name: "crawl",
    title: "Crawl",
    about: "Reads a web page: its main content, without what stands around it.",
    make: crawlTool,
  },
];

/** What was made for whom. It outlives a look at another view: nothing that was typed or answered is lost. */
let kept = null;

function make(app) {
  const tools = TOOLS.filter(({ name }) => app.may(name)).map((tool) => ({ ...tool, ...tool.make(app) }));
  const tabs = TOOLS.map(({ name, title, about }) => {
    const content = tools.find((tool) => tool.name === name)?.element ?? closed(app, name);
    return { name, title, content: [h("p", { class: "about" }, about), content] };
  });
  const { element, choose } = tabbed("What to try", tabs);
  return { element, choose, tools, whoami: app.whoami };
}

function closed({ whoami }, scope) {
  return h(
    "p",
    { class: "empty" },
    `This needs the scope ${scope}. ${whoami.name} has ${whoami.scopes.join(", ") || "none"}.`,
  );
}

export default {
  name: "try",
  title: "Try it",
  scope: null,

  mount(root, app, argument) {
    if (kept?.whoami !== app.whoami) kept = make(app);
    if (TOOLS.some(({ name }) => name === argument)) kept.choose(argument);
    root.append(h("div", { class: "view-head" }, h("h1", {}, "Try it")), kept.element);
    const ends = kept.tools.map((tool) => tool.follow(app.stream));
    return () => ends.forEach((end) => end());
  },
};
