/** A small chart of the last ten minutes: bars, with what they say in words for those who do not see them. */

import { h, set, svg, text } from "./dom.js";
import { moment } from "./format.js";

const HEIGHT = 40;
const BARS = 40;
const SPAN_SECONDS = 600;

/**
 * A card with a name, a figure and its chart. `sum` makes one bar of several steps, by adding them up or taking the
 * highest; `say` puts its height into words; `least` is the smallest height that fills the chart.
 */
export function chart({ name, tone, sum, say, least = 1 }) {
  const figure = h("strong", { class: "chart-figure" });
  const note = h("span", { class: "chart-note" });
  const shape = svg("path", { class: "chart-bars" });
  const ground = svg("path", { class: "chart-ground", d: `M0 ${HEIGHT - 0.5}H${BARS}` });
  const plot = svg(
    "svg",
    { viewBox: `0 0 ${BARS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": name },
    ground,
    shape,
  );
  const ends = ["10 min ago", "now"].map((end) => h("span", {}, end));
  const axis = h("div", { class: "chart-axis", "aria-hidden": "true" }, ends);
  const element = h(
    "section",
    { class: `card chart tone-${tone}` },
    h("h2", {}, name),
    h("p", { class: "chart-head" }, figure, note),
    plot,
    axis,
  );

  let bars = [];
  let pointedAt = null;
  let said = "";
  const tell = () => {
    const bar = bars[pointedAt];
    text(note, bar ? `${say(bar.value)} at ${moment(new Date(bar.start * 1000).toISOString())}` : said);
  };
  plot.addEventListener("pointermove", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    pointedAt = Math.min(BARS - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * BARS)));
    tell();
  });
  plot.addEventListener("pointerleave", () => {
    pointedAt = null;
    tell();
  });

  return {
    element,
    update(history, series, { now, detail }) {
      bars = barsOf(history, series, sum);
      const highest = Math.max(...bars.map((bar) => bar.value));
      const full = Math.max(highest, least);
      set(shape, "d", bars.map(({ value }, n) => barPath(n, (value / full) * (HEIGHT - 2))).join(""));
      text(figure, now);
      said = detail;
      tell();
      set(plot, "aria-label", `${name} of the last ten minutes: ${say(highest)} at most`);
    },
  };
}

/** One bar, with a little air on its sides. Whatever is not nothing can be seen. */
function barPath(n, height) {
  if (height <= 0) return "";
  const top = HEIGHT - Math.max(height, 1.5);
  return `M${n + 0.12} ${HEIGHT}V${top.toFixed(2)}h.76V${HEIGHT}z`;
}

/** Steps put together, by the clock, so that a bar does not change once its time is over. */
function barsOf({ end, step }, series, sum) {
  const width = SPAN_SECONDS / BARS;
  const last = Math.floor(end / width);
  const parts = Array.from({ length: BARS }, () => []);
  series.forEach((value, n) => {
    const bar = Math.floor((end - (series.length - 1 - n) * step) / width) - last + BARS - 1;
    parts[bar]?.push(value);
  });
  return parts.map((values, n) => ({
    start: (last - BARS + 1 + n) * width,
    value: values.length ? values.reduce(sum) : 0,
  }));
}
