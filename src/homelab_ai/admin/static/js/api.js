/**
 * Calls the service. Addresses are relative to the page, so that it works under any sub-path. A call that needs a key,
 * or another one, waits until it has been typed in and is made again: what was typed elsewhere on the page is not lost.
 */

const ROOT = new URL("../", document.baseURI);
const STORED = "homelab-ai.key";

let key = sessionStorage.getItem(STORED);
let askForKey = null;

/** What the service answered instead of what was asked for; `status` 0 where it did not answer at all. */
export class ApiError extends Error {
  constructor(status, { code, message, request_id: requestId = null, details = {} }) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.details = details;
  }
}

/** The full address of a path of the service, such as `api/models`. */
export function address(path) {
  return new URL(path, ROOT);
}

/** The key in use, for the curl lines that a view shows; null where none is needed. */
export function currentKey() {
  return key;
}

/** Use that key from now on, for this tab; null for none. */
export function useKey(chosen) {
  key = chosen;
  if (chosen === null) sessionStorage.removeItem(STORED);
  else sessionStorage.setItem(STORED, chosen);
}

/** Say who asks for a key when one is needed: `ask(error)` resolves to whether there is another one now. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Make a request and return the `Response`, for those who need more than its JSON. Throws `ApiError`. */
export async function request(method, path, options = {}) {
  for (;;) {
    const used = key;
    try {
      return await requestWith(used, method, path, options);
    } catch (error) {
      const another = key !== used; // typed in while this one was on its way
      if (error.status !== 401 || !(another || (askForKey && (await askForKey(error))))) throw error;
    }
  }
}

/** The same with a key of its own, and without asking for another. */
export async function requestWith(usedKey, method, path, { body, headers = {}, signal } = {}) {
  const sent = new Headers(headers);
  if (usedKey !== null) sent.set("Authorization", `Bearer ${usedKey}`);
  const isJson = body !== undefined && !(body instanceof FormData) && !(body instanceof Blob);
  if (isJson) sent.set("Content-Type", "application/json");
  let answer;
  try {
    answer = await fetch(address(path), {
      method,
      headers: sent,
      body: isJson ? JSON.stringify(body) : body,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "UNREACHABLE", message: "The service does not answer. Is it running?" });
  }
  if (!answer.ok) throw await errorOf(answer);
  return answer;
}

/** Make a request and return the JSON of its answer, or null where it has none. Throws `ApiError`. */
export async function api(method, path, body, options = {}) {
  const answer = await request(method, path, { ...options, body });
  return answer.status === 204 ? null : answer.json();
}

async function errorOf(answer) {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, error);
  } catch {
    // A proxy in front of the service answers in a way of its own.
    const message = `The answer was ${answer.status} ${answer.statusText}`.trim();
    return new ApiError(answer.status, {
      code: `HTTP_${answer.status}`,
      message,
      request_id: answer.headers.get("X-Request-ID"),
    });
  }
}
