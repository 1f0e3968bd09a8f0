// Conversations, kept by the server, otherwise in this browser, and as JSON files.

import { ServerError, ask, remove } from "./api.js";

const CONVERSATIONS = "taal.conversations";
const PREFERENCES = "taal.preferences";
const FORMAT = "taal-conversations-1";
/** The longest title that the server keeps, in characters. */
const LONGEST_TITLE = 100;

/** Whether the server keeps conversations. */
let isKept = false;
/** Those that wait to be kept, and what keeps them. */
const waiting = new Set();
let working = null;
let trouble = () => {};

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** What is in the browser: everything where the server keeps nothing, otherwise what it does not have yet. */
function local() {
  const found = read(CONVERSATIONS, []);
  return Array.isArray(found) ? found.map(checked).filter((one) => one !== null) : [];
}

/** Puts a conversation into the browser's storage; false where that has no room. */
function putLocal(one) {
  return writeLocal([one, ...local().filter((other) => other.id !== one.id)]);
}

function dropLocal(id) {
  const others = local().filter((other) => other.id !== id);
  if (others.length > 0) return writeLocal(others);
  localStorage.removeItem(CONVERSATIONS);
  return true;
}

function writeLocal(all) {
  try {
    localStorage.setItem(CONVERSATIONS, JSON.stringify(all.map(plain)));
    return true;
  } catch {
    return false;
  }
}

/** Sets what is told where something is not kept: `full`, `kept_apart`, or an error. */
export function onTrouble(tell) {
  trouble = tell;
}

/** Whether the server keeps conversations. */
export function areKept() {
  return isKept;
}

/** The conversations, the newest first. Those of the server have their messages once they are opened, see `whole`. */
export async function load() {
  const list = await ask("/conversations");
  isKept = list.is_kept;
  if (!isKept) return local();
  const known = list.data.map((one) => ({ ...one, messages: [], text: "", isWhole: false }));
  for (const one of local()) await merge(one, known);
  return known.sort((one, other) => other.updated - one.updated);
}

/** Gives the server what only the browser has, and adds it to the list. */
async function merge(one, known) {
  const old = one.id;
  const kept = known.find((other) => other.id === old);
  if (kept) {
    await whole(kept);
    const same = (a) => JSON.stringify({ ...plain(a), updated: 0, revision: 0 });
    if (same(kept) === same(one)) {
      dropLocal(old);
      return;
    }
    // The one of the browser is newer, or both have changed: then it stays next to the other.
    if (kept.revision === one.revision) known.splice(known.indexOf(kept), 1);
    else one.id = newId();
  }
  known.push({ ...one, isWhole: true });
  await keep(known.at(-1));
  if (one.id !== old) dropLocal(old);
}

/** Reads the messages of a conversation that the server has. */
export async function whole(one) {
  if (one.isWhole === false) Object.assign(one, checked(await ask(`/conversations/${one.id}`)), { isWhole: true });
  return one;
}

/** Keeps a conversation; one without content is not worth it. The browser has it until the server does. */
export function keep(one) {
  const isEmpty = one.messages.length === 0 && one.text === "";
  if (one.isWhole === false || (isEmpty && !one.revision)) return Promise.resolve();
  const hasRoom = putLocal(one);
  if (!isKept) {
    if (!hasRoom) trouble("full");
    return Promise.resolve();
  }
  waiting.add(one);
  document.documentElement.dataset.keeping = "true";
  working ??= work();
  return working;
}

async function work() {
  while (waiting.size > 0) {
    const [one] = waiting;
    waiting.delete(one);
    const id = one.id;
    try {
      await put(one);
      if (!waiting.has(one)) dropLocal(id);
    } catch (error) {
      trouble(error);
    }
  }
  working = null;
  delete document.documentElement.dataset.keeping;
}

async function put(one) {
  try {
    one.revision = (await ask("/conversations", plain(one))).revision;
  } catch (error) {
    if (!(error instanceof ServerError) || error.code !== "changed_elsewhere") throw error;
    // Another page has changed it: both stay.
    one.id = newId();
    one.revision = 0;
    one.revision = (await ask("/conversations", plain(one))).revision;
    trouble("kept_apart");
  }
}

/** Removes a conversation. */
export async function forget(one) {
  waiting.delete(one);
  dropLocal(one.id);
  await working;
  if (isKept && one.revision) await remove(`/conversations/${one.id}`);
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
  return { id: newId(), kind, title: "", created: now, updated: now, messages: [], text: "", revision: 0 };
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
  const { id, kind, title, created, updated, text, revision = 0 } = one;
  return { id, kind, title, created, updated, text, messages: one.messages.map(message), revision };
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
  const title = typeof value.title === "string" ? value.title.slice(0, LONGEST_TITLE) : "";
  const time = (given) => (Number.isFinite(given) && given >= 0 ? Math.round(given) : Date.now());
  const id = typeof value.id === "string" ? value.id : newId();
  const revision = Number.isInteger(value.revision) && value.revision >= 0 ? value.revision : 0;
  return { id, kind: value.kind, title, created: time(value.created), updated: time(value.updated), messages, text, revision };
}

/** The conversations as a file; each is read whole first. */
export async function toFile(conversations) {
  for (const one of conversations) await whole(one);
  return JSON.stringify({ format: FORMAT, conversations: conversations.map(plain) }, null, 2);
}

/** The conversations of a file, each as a new one; an error says why there are none. */
export function fromFile(text) {
  const value = JSON.parse(text);
  if (value?.format !== FORMAT || !Array.isArray(value.conversations)) throw new Error(`format is not ${FORMAT}`);
  const found = value.conversations.map(checked);
  const wrong = found.indexOf(null);
  if (wrong >= 0) throw new Error(`conversations[${wrong}]`);
  return found.map((one) => ({ ...one, id: newId(), revision: 0 }));
}
