/**
 * Tabs as the ARIA Authoring Practices describe them: one of them is in the order of Tab, arrows go to the others.
 */

import { h } from "../dom.js";

let made = 0;

/** `{element, choose(name)}` for tabs: [{name, title, content}, ...]. The first is chosen, until another is. */
export function tabbed(label, tabs) {
  made += 1;
  const idOf = (kind, name) => `${kind}-${made}-${name}`;
  const buttons = tabs.map(({ name, title }) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        class: "tab",
        id: idOf("tab", name),
        "aria-controls": idOf("panel", name),
        onclick: () => choose(name),
        onkeydown: (event) => step(event, name),
      },
      title,
    ),
  );
  const panels = tabs.map(({ name, content }) =>
    h("div", { role: "tabpanel", id: idOf("panel", name), "aria-labelledby": idOf("tab", name) }, content),
  );

  function choose(name) {
    tabs.forEach((tab, number) => {
      const isChosen = tab.name === name;
      buttons[number].setAttribute("aria-selected", String(isChosen));
      buttons[number].tabIndex = isChosen ? 0 : -1;
      panels[number].hidden = !isChosen;
    });
  }

  function step(event, name) {
    const at = tabs.findIndex((tab) => tab.name === name);
    const places = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    const next = (places[event.key] + tabs.length) % tabs.length;
    choose(tabs[next].name);
    buttons[next].focus();
  }

  choose(tabs[0].name);
  const bar = h("div", { role: "tablist", class: "tabs", "aria-label": label }, buttons);
  return { element: h("div", {}, bar, panels), choose };
}
