/**
 * Where the time of a request went, as the header Server-Timing says (https://www.w3.org/TR/server-timing/).
 */

import { duration } from "../format.js";

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

/** "waited for its turn 0.10 ms", for each part of the header; nothing where there is none. */
export function timingWords(header) {
  return (header ?? "")
    .split(",")
    .map((part) => /^\s*([\w-]+)\s*;\s*dur=([0-9.]+)/.exec(part))
    .filter(Boolean)
    .map(([, name, milliseconds]) => `${PARTS[name] ?? name} ${duration(milliseconds / 1000)}`);
}
