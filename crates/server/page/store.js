// Conversations, kept in this browser and as JSON files.

const CONVERSATIONS = "taal.conversations";
const PREFERENCES = "taal.preferences";
const FORMAT = "taal-conversations-1";

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** The conversations, the newest first. */
export function load() {
  const found = read(CONVERSATIONS, []);
  return Array.isArray(found) ? found.map(checked).filter((one) => one !== null) : [];
}

/** Keeps the conversations; false where the browser has no room. */
export function keep(conversations) {
  try {
    localStorage.setItem(CONVERSATIONS, JSON.stringify(conversations.map(plain)));
    return true;
  } catch {
    return false;
  }
}

export function preferences() {
  const found = read(PREFERENCES, {});
  return found !== null && typeof found === "object" ? found : {};
}

export function prefer(changes) {
  try {
    localStorage.setItem(PREFERENCES, JSON.stringify({ ...preferences(), ...changes }));
  } catch {
    // Preferences are a convenience: without room they last until the page is closed.
  }
}

/** A random name. `crypto.randomUUID` exists on pages of this machine only. */
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fresh(kind) {
  const now = Date.now();
  return { id: newId(), kind, title: "", created: now, updated: now, messages: [], text: "" };
}

/** The content of a message: of an answer, that of the version that is shown. */
export function contentOf(message) {
  return message.role === "assistant" ? message.versions[message.at].content : message.content;
}

/** A conversation without what is only known while the page is open, such as tokens. */
function plain(one) {
  const message = (each) =>
    each.role === "assistant"
      ? { role: each.role, at: each.at, versions: each.versions.map(({ content }) => ({ content })) }
      : { role: each.role, content: each.content };
  const { id, kind, title, created, updated, text } = one;
  return { id, kind, title, created, updated, text, messages: one.messages.map(message) };
}

/** A conversation from outside, or null where it is none. */
function checked(value) {
  if (value === null || typeof value !== "object" || !["chat", "text"].includes(value.kind)) return null;
  if (!Array.isArray(value.messages)) return null;
  const messages = [];
  for (const message of value.messages) {
    if (message?.role === "user" && typeof message.content === "string") {
      messages.push({ role: "user", content: message.content });
    } else if (message?.role === "assistant" && Array.isArray(message.versions) && message.versions.length > 0) {
      const versions = message.versions.map((version) => ({ content: String(version?.content ?? "") }));
      const at = Number.isInteger(message.at) && message.at >= 0 && message.at < versions.length ? message.at : versions.length - 1;
      messages.push({ role: "assistant", versions, at });
    } else {
      return null;
    }
  }
  const text = typeof value.text === "string" ? value.text : "";
  const title = typeof value.title === "string" ? value.title : "";
  const time = (given) => (Number.isFinite(given) ? given : Date.now());
  const id = typeof value.id === "string" ? value.id : newId();
  return { id, kind: value.kind, title, created: time(value.created), updated: time(value.updated), messages, text };
}

export function toFile(conversations) {
  return JSON.stringify({ format: FORMAT, conversations: conversations.map(plain) }, null, 2);
}

/** The conversations of a file, each as a new one; an error says why there are none. */
export function fromFile(text) {
  const value = JSON.parse(text);
  if (value?.format !== FORMAT || !Array.isArray(value.conversations)) throw new Error(`format is not ${FORMAT}`);
  const found = value.conversations.map(checked);
  const wrong = found.indexOf(null);
  if (wrong >= 0) throw new Error(`conversations[${wrong}]`);
  return found.map((one) => ({ ...one, id: newId() }));
}
