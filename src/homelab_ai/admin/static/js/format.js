/** Figures and times as people read them: in the reader's own zone and way of writing numbers. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** A size, in units of 1024 as `resources.max_memory_gb` counts them. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, unit > 1 && value < 9.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** A number with that many digits after the point. */
export function number(value, digits = 0) {
  return value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** `1 model`, `2 models`. */
export function counted(count, noun) {
  return `${number(count)} ${count === 1 ? noun : `${noun}s`}`;
}

/** How long something took: `0.25 ms`, `3.4 ms`, `12 ms`, `3.4 s`, then as `span`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.000995) return `${number(seconds * 1000, 2)} ms`;
  if (seconds < 0.00995) return `${number(seconds * 1000, 1)} ms`;
  if (seconds < 0.9995) return `${number(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${number(seconds, 1)} s`;
  return span(seconds);
}

/** A stretch of time in its two largest units: `45 s`, `5 min`, `2 h 10 min`, `3 d 4 h`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** What is left, to the second: `29:05`, `1:02:09`. */
export function countdown(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}

/** The time of day of an ISO time, and the date before it unless it is today. */
export function moment(iso) {
  if (!iso) return "–";
  const time = new Date(iso);
  const clock = time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  if (time.toDateString() === new Date().toDateString()) return clock;
  return `${time.toLocaleDateString(undefined, { day: "numeric", month: "short" })}, ${clock}`;
}

/** An ISO time in full, for a tooltip. */
export function fullMoment(iso) {
  return iso ? new Date(iso).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" }) : "";
}

/** A name of the API in words: `text_embedding` -> `text embedding`. */
export function words(name) {
  return name.replaceAll("_", " ");
}
