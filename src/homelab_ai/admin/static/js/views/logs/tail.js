/** The last lines of the log, each once, and which of them are wanted. */

/** What the choice of the view offers. `fits(entry)`: a request has a status, another line a level. */
export const LEVELS = {
  all: { words: "everything", fits: () => true },
  requests: { words: "requests", fits: (entry) => Boolean(entry.access) },
  failed: { words: "requests that failed (4xx, 5xx)", fits: (entry) => entry.access && entry.status >= 400 },
  broken: { words: "requests that broke (5xx)", fits: (entry) => entry.access && entry.status >= 500 },
  messages: { words: "messages", fits: (entry) => !entry.access },
  warnings: { words: "warnings and errors", fits: (entry) => !entry.access && severity(entry) !== "info" },
  errors: { words: "errors", fits: (entry) => !entry.access && severity(entry) === "error" },
};

/** "info", "warning" or "error": for a request by its status, for another line by its level. */
export function severity(entry) {
  if (entry.access) return entry.status >= 500 ? "error" : entry.status >= 400 ? "warning" : "info";
  const level = entry.level.toLowerCase();
  if (level === "error" || level === "critical") return "error";
  return level === "warning" ? "warning" : "info";
}

/** All that can be searched of a line. */
const searchable = (entry) =>
  Object.values(entry)
    .filter((value) => typeof value !== "boolean")
    .join(" ")
    .toLowerCase();

/** What tells whether a line is of that kind and has all of the words, and none of those with a minus before them. */
export function matcher(words, level) {
  const all = words.toLowerCase().split(/\s+/).filter(Boolean);
  const unwanted = all.filter((word) => /^-./.test(word)).map((word) => word.slice(1));
  const wanted = all.filter((word) => !word.startsWith("-"));
  return (entry) =>
    LEVELS[level].fits(entry) &&
    wanted.every((word) => entry.words.includes(word)) &&
    !unwanted.some((word) => entry.words.includes(word));
}

export class LogTail {
  entries = [];
  #known = new Set();

  constructor(most = 2000) {
    this.most = most;
  }

  /** Take lines in. Returns those that are new, and those that had to go for them. */
  take(given) {
    const added = [];
    for (const entry of given) {
      const identity = JSON.stringify(entry);
      if (this.#known.has(identity)) continue; // a new connection begins with lines that came by the last one
      this.#known.add(identity);
      added.push({ ...entry, words: searchable(entry) });
    }
    const all = [...this.entries, ...added];
    this.entries = all.slice(-this.most);
    const old = new Set(all.slice(0, -this.most));
    for (const oldest of this.#known) {
      if (this.#known.size <= 2 * this.most) break;
      this.#known.delete(oldest);
    }
    return { added: added.filter((entry) => !old.has(entry)), dropped: [...old].filter((entry) => entry.element) };
  }

  /** Forget what is shown; not that it was, or a new connection would bring it back. */
  clear() {
    this.entries = [];
  }
}
