"""What runs in a page: nothing that its own scripts can reach, or have changed before.

They are written for a world of their own, where even so a page's elements can stand in the place of what `document` has
by itself (`<img name=title>`): so it is asked for by its prototype. Only `MUTE` is for the page's own world.
"""

QUIET_MS = 150
"""Without a change of the page or a request, after which it is taken to be ready."""

MUTE = """
window.alert = window.print = () => undefined;
window.confirm = () => false;
window.prompt = window.open = () => null;
for (const say of ["assert", "debug", "dir", "dirxml", "error", "info", "log", "table", "trace", "warn"])
  console[say] = () => undefined;
"""
"""The driver dismisses dialogs too, but a loop of them could be ended only by ending the page; and it is told of each
line in the console, of which a flood keeps it from all else."""

STATE = """
new Promise(done => {
  const state = () => Object.getOwnPropertyDescriptor(Document.prototype, "readyState").get.call(document);
  const look = () => { if (STATES.includes(state())) done(true); };
  EventTarget.prototype.addEventListener.call(document, "readystatechange", look);
  look();
})
"""
PARSED = STATE.replace("STATES", '["interactive", "complete"]')
LOADED = STATE.replace("STATES", '["complete"]')

QUIET = """
new Promise(done => {
  const scripts = Document.prototype.getElementsByTagName.call(document, "script").length;
  const frames = Document.prototype.getElementsByTagName.call(document, "iframe").length;
  if (!scripts && !frames) { done(true); return; }
  let timer;
  const observer = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(ready, QUIET_MS); });
  const ready = () => { observer.disconnect(); done(true); };
  observer.observe(document, {subtree: true, childList: true, characterData: true});
  timer = setTimeout(ready, QUIET_MS);
})
""".replace("QUIET_MS", str(QUIET_MS))

READ = """
(() => {
  const of = name => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const root = of("documentElement");
  const html = root ? root.outerHTML : "";
  return {html: html.slice(0, MAX), cut: html.length > MAX, title: String(of("title")).slice(0, 2000),
          url: location.href, html5: of("compatMode") === "CSS1Compat"};
})()
"""

SIZE = """
(() => {
  const root = Object.getOwnPropertyDescriptor(Document.prototype, "documentElement").get.call(document);
  return root ? Math.max(root.scrollHeight, root.clientHeight) : 0;
})()
"""
