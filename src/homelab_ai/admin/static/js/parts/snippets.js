/**
 * A request as a person would send it from elsewhere: a curl line for a shell, and Python without anything installed.
 *
 * A request is a POST of {url, json} or {url, form: [[name, value], ...]}, where a value is a text or a File.
 * The key is never part of the text: both take it from the environment, under one name.
 */

export const KEY_VARIABLE = "HOMELAB_AI_API_KEY";

/** The word as a POSIX shell reads it, whatever it holds: within single quotes nothing has a meaning. */
export function shellQuoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The value in one line of JSON, with spaces to be read; or of Python, which has other words for three constants. */
export function literal(value, constants = { null: "null", true: "true", false: "false" }) {
  if (Array.isArray(value)) return `[${value.map((item) => literal(item, constants)).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const items = Object.entries(value).filter(([, item]) => item !== undefined);
    return `{${items.map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, constants)}`).join(", ")}}`;
  }
  return typeof value === "boolean" || value === null ? constants[value] : JSON.stringify(value);
}

const PYTHONS = { null: "None", true: "True", false: "False" };

/** The request as a command of a shell. `withKey`: whether it shows the key of the environment. */
export function curl(request, withKey) {
  const words = [`curl -sS ${shellQuoted(request.url)}`];
  if (withKey) words.push(`-H "Authorization: Bearer $${KEY_VARIABLE}"`); // double quotes: the shell puts it in
  if (request.form) {
    for (const [name, value] of request.form) words.push(formWord(name, value));
  } else {
    words.push("-H 'Content-Type: application/json'", `-d ${shellQuoted(literal(request.json))}`);
  }
  return words.join(" \\\n  ");
}

// A text that begins with @ or < would be read from a file by -F; and a file's name ends at ; or , unless it is quoted.
function formWord(name, value) {
  if (typeof value === "string") return `--form-string ${shellQuoted(`${name}=${value}`)}`;
  const file = value.name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return `-F ${shellQuoted(`${name}=@"${file}"`)}`;
}

/** The request as a program of Python's standard library. Files go in base64, which needs no form. */
export function python(request, withKey) {
  const files = (request.form ?? []).some(([, value]) => typeof value !== "string");
  const modules = [files && "base64", "json", withKey && "os", files && "pathlib", "urllib.request"].filter(Boolean);
  const headers = ['        "Content-Type": "application/json",'];
  if (withKey) headers.unshift(`        "Authorization": "Bearer " + os.environ[${JSON.stringify(KEY_VARIABLE)}],`);
  return [
    ...modules.map((module) => `import ${module}`),
    "",
    ...(files ? READING_A_FILE : []),
    `body = ${request.form ? formAsJson(request.form) : literal(request.json, PYTHONS)}`,
    "request = urllib.request.Request(",
    `    ${JSON.stringify(request.url)},`,
    "    data=json.dumps(body).encode(),",
    "    headers={",
    ...headers,
    "    },",
    ")",
    "with urllib.request.urlopen(request) as answer:",
    "    print(json.load(answer))",
  ].join("\n");
}

const READING_A_FILE = [
  "",
  "def in_base64(name):",
  "    return base64.b64encode(pathlib.Path(name).read_bytes()).decode()",
  "",
  "",
];

/** The form's pictures as `image` or `batch`, and its other fields, as the route takes them in JSON. */
function formAsJson(form) {
  const written = (value) =>
    typeof value === "string" ? JSON.stringify(value) : `in_base64(${JSON.stringify(value.name)})`;
  const images = form.filter(([name]) => name === "image").map(([, value]) => written(value));
  const others = form
    .filter(([name]) => name !== "image")
    .map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  const pictures = images.length === 1 ? `"image": ${images[0]}` : `"batch": [${images.join(", ")}]`;
  return `{${[pictures, ...others].join(", ")}}`;
}
