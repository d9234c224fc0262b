/**
 * Where the time of a request went, as the header Server-Timing says (https://www.w3.org/TR/server-timing/).
 */

const PARTS = {
  load: "waited for the model",
  queue: "waited for its turn",
  fetch: "fetched",
  decode: "decoded",
  tokenize: "tokenized",
  inference: "calculated",
  vision: "of which looked",
  generation: "of which wrote",
};

/** [[name, milliseconds], ...] of the header; empty where it says nothing. */
export function parseServerTiming(header) {
  return (header ?? "")
    .split(",")
    .map((part) => /^\s*([\w-]+)\s*;\s*dur=([0-9.]+)/.exec(part))
    .filter(Boolean)
    .map(([, name, milliseconds]) => [name, Number(milliseconds)]);
}

/** "0.20 ms", "12 ms", "1.4 s": as many figures as can be told apart. */
export function inMilliseconds(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(milliseconds >= 10_000 ? 0 : 1)} s`;
  return `${milliseconds >= 10 ? milliseconds.toFixed(0) : milliseconds.toFixed(2)} ms`;
}

/** "waited for its turn 0.10 ms", for each part of the header. */
export function timingWords(header) {
  return parseServerTiming(header).map(
    ([name, milliseconds]) => `${PARTS[name] ?? name} ${inMilliseconds(milliseconds)}`,
  );
}
