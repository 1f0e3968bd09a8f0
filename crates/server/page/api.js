// Requests to the server: the key, errors in its words, and streams of events.

const KEY = "taal.key";
let askForKey = async () => false;

/** Sets what asks the person for a key; it returns whether there is a new one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** An error with the server's own sentence. */
export class ServerError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    super(typeof error.message === "string" ? error.message : `HTTP ${status}`);
    this.status = status;
    this.code = error.code ?? null;
  }
}

async function request(path, body, signal, method = body === undefined ? "GET" : "POST") {
  for (;;) {
    const headers = {};
    const key = sessionStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
    if (response.ok) return response;
    const said = await response.json().catch(() => null);
    if (response.status === 401 && (await askForKey())) continue;
    throw new ServerError(response.status, said);
  }
}

export async function ask(path, body, signal) {
  return (await request(path, body, signal)).json();
}

export async function remove(path) {
  return (await request(path, undefined, undefined, "DELETE")).json();
}

/** Sends a request with `stream: true` and hands each object of the answer to `take`. */
export async function stream(path, body, signal, take) {
  const response = await request(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "" || data === "[DONE]") continue;
      const object = JSON.parse(data);
      if (object.error) throw new ServerError(200, object);
      take(object);
    }
  }
}
