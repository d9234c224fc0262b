/** The page's icons: strokes on a grid of 24, in the colour of the text around them. */

import { svg } from "./dom.js";

const STROKES = {
  add: "M12 5v14M5 12h14",
  alert: "M12 8v5M12 16.5v.2M10.3 4 2.6 17.5A2 2 0 0 0 4.3 20.5h15.4a2 2 0 0 0 1.7-3L13.7 4a2 2 0 0 0-3.4 0z",
  chevron: "m9 6 6 6-6 6",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  eject: "M6 15l6-8 6 8zM6 19h12",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5v.1",
  info: "M12 11v6M12 7.5v.2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  keys: "M14.5 9.5a4.5 4.5 0 1 1-1.4-3.2A4.5 4.5 0 0 1 14.5 9.5zM13.5 12.5 20 19M17 16l2.2-2.2",
  logs: "M5 6h14M5 10.5h14M5 15h9M5 19.5h6",
  models: "M12 3 3.5 7.5 12 12l8.5-4.5zM3.5 12 12 16.5l8.5-4.5M3.5 16.5 12 21l8.5-4.5",
  overview: "M4 4h7v9H4zM13.5 4H20v5h-6.5zM13.5 11.5H20V20h-6.5zM4 15.5h7V20H4z",
  play: "M8 5l11 7-11 7z",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  text: "M5 6h14M12 6v13M9 19h6",
  try: "M13 3 5 14h6l-1 7 8-11h-6z",
};

/** The icon of that name. It says nothing by itself: what it stands for stands beside it, or in an `aria-label`. */
export function icon(name) {
  const attributes = { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" };
  return svg("svg", attributes, svg("path", { d: STROKES[name] }));
}
