/** The page's frame: which view is shown, who is calling, and whether the service is there. */

import { address, api } from "./api.js";
import { h, keyed, set, show, text } from "./dom.js";
import { History } from "./history.js";
import { icon } from "./icons.js";
import { attempt, confirm, toast } from "./notices.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import keys from "./views/keys.js";
import logs from "./views/logs.js";
import models from "./views/models.js";
import overview from "./views/overview.js";
import tryIt from "./views/try.js";

/** In the order of the navigation. Each: `{name, title, scope, mount(root, app, argument) -> unmount}`. */
const VIEWS = [overview, models, tryIt, keys, logs];

const main = document.getElementById("main");
const navigation = document.getElementById("navigation");
const standing = document.getElementById("standing");
const banner = document.getElementById("banner");

const stream = new Stream();
const session = new Session(() => {
  stream.start();
  app.whoami = session.whoami;
  showNavigation();
  showView();
});

/** What views may use. `may(scope)` says whether the caller has that scope; `whoami` who that is. */
const app = {
  api,
  stream,
  history: new History(stream),
  toast,
  confirm,
  attempt,
  whoami: null,
  may: (scope) => session.may(scope),
};

let unmount = () => {};

/** `#models/minilm` -> the view of models, and `minilm`. */
function route() {
  const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { view: VIEWS.find((view) => view.name === name) ?? VIEWS[0], argument: rest.join("/") };
}

function showNavigation() {
  const current = route().view;
  keyed(navigation, VIEWS, (view) => view.name, (view) => {
    const link = h("a", { href: `#${view.name}` }, icon(view.name), h("span", {}, view.title));
    return {
      element: link,
      update: () => {
        set(link, "aria-current", route().view === view && "page");
      },
    };
  });
  document.title = `${current.title} · homelab-ai`;
}

function showView({ focus = false } = {}) {
  unmount();
  unmount = () => {};
  main.replaceChildren();
  if (focus) main.focus({ preventScroll: true }); // before the view, which may know better
  const { view, argument } = route();
  if (!session.whoami) main.append(closedNotice("Nothing can be shown without a key", "Enter a key"));
  else if (!session.may(view.scope)) main.append(closedNotice(lacking(view), "Use another key"));
  else unmount = view.mount(main, app, argument);
}

function lacking(view) {
  const { name, scopes } = session.whoami;
  return `“${view.title}” needs the scope ${view.scope}. ${name} has ${scopes.join(", ") || "none"}.`;
}

function closedNotice(reason, action) {
  return h(
    "section",
    { class: "empty" },
    icon("keys"),
    h("h1", {}, reason),
    h("button", { type: "button", class: "primary", onclick: enter }, action),
  );
}

/** Ask for a key, or another one; it may be one of the same name, with which nothing changes but that it is let in. */
async function enter() {
  if (await session.ask()) stream.retryNow();
}

function showStanding(state) {
  const live = state?.name === "live";
  const dot = h("span", { class: `dot ${live ? "good" : "off"}` });
  standing.replaceChildren(
    h("span", { class: "connection" }, dot, live ? "Live" : "Not connected"),
    session.whoami && h("span", { class: "who", title: session.description }, session.whoami.name),
    h(
      "span",
      { class: "bar-links" },
      h("a", { href: address("docs").href }, "API"),
      h("button", { type: "button", class: "link", onclick: enter }, session.hasKey ? "Change key" : "Use a key"),
      session.hasKey && h("button", { type: "button", class: "link", onclick: () => session.leave() }, "Forget key"),
    ),
  );
}

/** Say so while the service is not there, and count down to the next try. */
function watchConnection() {
  const message = h("span", { class: "breaks" });
  const wait = h("span", { class: "nowrap", "aria-hidden": "true" }); // not read out every second
  const again = h("button", { type: "button", onclick: () => stream.retryNow() }, "Try now");
  banner.append(icon("alert"), message, wait, again);
  let ticking;
  stream.on("state", (state) => {
    showStanding(state);
    clearInterval(ticking);
    if (state.name === "connecting") return; // the banner, if there is one, stays until it is known how that ended
    show(banner, state.name === "lost" || (state.name === "refused" && session.whoami && session.may("read")));
    text(message, state.error?.status ? state.error.message : "The service does not answer.");
    text(wait, "");
    if (state.name !== "lost") return;
    const tick = () => {
      const seconds = Math.ceil((state.retryAt - Date.now()) / 1000);
      text(wait, seconds > 0 ? `Trying again in ${seconds} s` : "Trying again…");
    };
    tick();
    ticking = setInterval(tick, 250);
  });
}

async function start() {
  watchConnection();
  addEventListener("online", () => stream.retryNow());
  addEventListener("hashchange", () => {
    showNavigation();
    showView({ focus: true });
  });
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the fragment names the view
    main.focus();
  });
  showNavigation();
  for (;;) {
    try {
      if (!(await session.start())) showView();
      break;
    } catch (error) {
      const reason = h("h1", { class: "breaks" }, error.message);
      main.replaceChildren(h("section", { class: "empty" }, icon("alert"), reason));
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  showStanding(stream.last("state"));
}

start();
