// The page: conversations with a model, texts that it continues, and translations.

import { ServerError, ask, onKeyNeeded, setKey, stream } from "./api.js";
import { beginEncoder } from "./encoder.js";
import { insideView } from "./inside.js";
import { beginRuns, showRuns } from "./runs.js";
import * as settings from "./settings.js";
import {
  areKept, contentOf, forget, fresh, fromFile, keep, load, onTrouble, prefer, preferences, toFile, whole,
} from "./store.js";
import { count, currentLanguage, setLanguage, t } from "./texts.js";
import { shown, tokenView } from "./tokens.js";
import * as translation from "./translation.js";
import { beginViews, nameFirst, offerViews, showView } from "./views.js";

/** Alternatives per token. */
const ALTERNATIVES = 5;
/** How near to its end the page follows an answer, in pixels. */
const NEAR = 150;
/** Tokens of a text that are followed through the model: the last ones. */
const FOLLOWED = 64;
/** The longest title, in characters. */
const TITLE = 40;

const $ = (id) => document.getElementById(id);
const conversations = [];
let current = null;
let models = [];
/** What stops the answer under way. */
let running = null;
/** Answers whose tokens are shown. */
const opened = new WeakSet();
let prompts = 0;

// ---- small things ----

function button(key, act, { className = "small", label = null, values = {} } = {}) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = t(key, values);
  if (label !== null) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function say(text) {
  $("live").textContent = text;
}

function complain(text) {
  $("alert").textContent = text;
  $("alert").hidden = text === "";
}

function titleOf(one) {
  return one.title || t(one.kind === "chat" ? "untitled_chat" : "untitled_text");
}

function model() {
  return models.find((one) => one.id === $("model").value) ?? null;
}

/** Whether the model continues texts. */
function writes() {
  return model() !== null && model().kind === "causal";
}

/** Keeps a conversation that has changed, and shows the list. */
function save(one = current) {
  const first = one.kind === "chat" ? one.messages[0]?.content : one.text;
  one.title = (first ?? "").trim().split("\n")[0].slice(0, TITLE);
  one.updated = Date.now();
  // One that was removed while its answer came stays removed.
  if (conversations.includes(one)) keep(one);
  showList();
}

/** Says what could not be kept, and where it is now. */
onTrouble((what) => {
  if (what instanceof Error) complain(t("not_kept", { reason: what.message }));
  else complain(t(what));
});

async function open(one) {
  stop();
  try {
    await whole(one);
  } catch (error) {
    return explain(error);
  }
  current = one;
  showAll();
}

function begin(kind) {
  current = fresh(kind);
  conversations.unshift(current);
  showAll();
  $("input").focus();
}

/** Whatever later messages there are stay in a conversation of their own before something earlier changes. */
function branch(place) {
  if (place >= current.messages.length - 1) return;
  const copy = { ...current, id: fresh("chat").id, messages: current.messages.map((message) => structuredClone(message)) };
  copy.revision = 0;
  conversations.splice(conversations.indexOf(current) + 1, 0, copy);
  keep(copy);
  current.messages.length = place + 1;
  say(t("branched"));
}

// ---- what is shown ----

function showList() {
  $("list").replaceChildren(...conversations.map((one) => {
    const item = document.createElement("li");
    const select = document.createElement("button");
    select.type = "button";
    select.className = "open";
    select.textContent = titleOf(one);
    if (one === current) select.setAttribute("aria-current", "true");
    select.addEventListener("click", () => open(one));
    const remove = button("remove", async () => {
      stop();
      conversations.splice(conversations.indexOf(one), 1);
      await forget(one).catch(explain);
      if (conversations.length === 0) return begin(one.kind);
      if (one === current) await open(conversations[0]);
      showList();
      say(t("removed", { title: titleOf(one) }));
      $("new-chat").focus();
    }, { label: t("remove_what", { title: titleOf(one) }) });
    remove.textContent = "✕";
    item.append(select, remove);
    return item;
  }));
}

function showAll() {
  complain("");
  showList();
  const isChat = current.kind === "chat";
  const canChat = model()?.has_chat_template !== false;
  const kind = model()?.kind;
  const [isEncoder, onlyTranslates] = [kind === "masked", kind === "translator"];
  document.body.classList.toggle("only-translates", onlyTranslates);
  $("skip").setAttribute("href", onlyTranslates ? "#translation-form" : isEncoder ? "#fill-form" : "#composer");
  translation.show(model());
  nameFirst(onlyTranslates);
  $("talk-view").hidden = isEncoder || onlyTranslates;
  $("encoder-view").hidden = !isEncoder;
  $("inside-details").hidden = onlyTranslates;
  $("columns").classList.toggle("encoder", isEncoder);
  $("kept").textContent = t(areKept() ? "kept_by_server" : "kept");
  $("notice").hidden = isEncoder || onlyTranslates || (writes() && (canChat || !isChat));
  $("notice").textContent = t(model() === null ? "no_models" : "no_chat");
  $("title").textContent = titleOf(current);
  $("new-chat").disabled = !canChat;
  $("system-field").hidden = !isChat;
  $("input-label").textContent = t(isChat ? "message" : "text");
  $("input-hint").textContent = t(isChat ? "message_hint" : "text_hint");
  $("input").rows = isChat ? 3 : 10;
  $("input").value = isChat ? "" : current.text;
  $("context").textContent = "";
  $("context-meter").hidden = true;
  showMessages();
  showTextTokens();
  $("inside-result").replaceChildren();
  showButtons();
  showPrompt();
}

// ---- inside the model ----

/** The text at hand through the model. */
async function lookInside() {
  const isChat = model()?.kind !== "masked" && current.kind === "chat" && current.messages.length > 0;
  const written = $(model()?.kind === "masked" ? "fill-text" : "input").value;
  const text = isChat ? { messages: messagesUpTo(current.messages.length - 1) } : { prompt: written };
  if (!isChat && written === "") return $("inside-result").replaceChildren(t("prompt_empty"));
  $("inside-look").disabled = true;
  try {
    $("inside-result").replaceChildren(insideView(await ask("/trace", { model: model().id, ...text, last: FOLLOWED })));
  } catch (error) {
    explain(error);
  }
  $("inside-look").disabled = false;
}

function showButtons() {
  const isChat = current.kind === "chat";
  const isPossible = writes() && (!isChat || model().has_chat_template !== false);
  $("send").textContent = t(isChat ? "send" : "go_on");
  $("send").disabled = running !== null || !isPossible;
  $("stop").hidden = running === null;
  $("again").hidden = !(current.continued && !isChat);
  $("again").disabled = running !== null;
}

function showMessages() {
  const isChat = current.kind === "chat";
  $("messages").replaceChildren(...(isChat ? current.messages.map(messageView) : []));
}

function messageView(message, place) {
  const isAnswer = message.role === "assistant";
  const article = document.createElement("article");
  article.className = message.role;
  const top = document.createElement("div");
  top.className = "top";
  const name = document.createElement("h3");
  name.textContent = t(message.role);
  const content = document.createElement("div");
  content.className = "content";
  content.textContent = contentOf(message);
  const tools = document.createElement("div");
  tools.className = "tools";
  if (isAnswer) {
    const version = message.versions[message.at];
    if (message.versions.length > 1) tools.append(...versionButtons(message));
    tools.append(button("regenerate", () => answerAgain(place)));
    tools.append(button("show_tokens", () => toggleTokens(version, place)));
    tools.lastChild.setAttribute("aria-expanded", String(opened.has(version)));
    if (version.receipt) tools.append(button("receipt", () => download("taal-receipt.json", JSON.stringify(version.receipt, null, 2))));
  } else {
    tools.append(button("edit", () => edit(article, message, place)));
  }
  if (navigator.clipboard) {
    tools.append(button("copy", async () => {
      await navigator.clipboard.writeText(contentOf(message));
      say(t("copied"));
    }));
  }
  top.append(name, tools);
  article.append(top, content);
  if (isAnswer && opened.has(message.versions[message.at])) {
    const version = message.versions[message.at];
    article.append(tokenView(version.tokens ?? [], (at, other) => forkAnswer(place, at, other)));
  }
  return article;
}

function versionButtons(message) {
  const turn = (by) => () => {
    message.at += by;
    save();
    showMessages();
    showPrompt();
  };
  const earlier = button("earlier", turn(-1), { label: t("earlier") });
  const later = button("later", turn(1), { label: t("later") });
  [earlier.textContent, later.textContent] = ["‹", "›"];
  earlier.disabled = message.at === 0;
  later.disabled = message.at === message.versions.length - 1;
  const where = document.createElement("span");
  where.className = "quiet";
  where.textContent = t("version", { at: message.at + 1, count: message.versions.length });
  return [earlier, where, later];
}

function edit(article, message, place) {
  const form = document.createElement("form");
  const area = document.createElement("textarea");
  area.value = message.content;
  area.rows = Math.min(12, message.content.split("\n").length + 1);
  area.setAttribute("aria-label", t("edit"));
  const ok = button("save", () => {}, { className: "main" });
  ok.type = "submit";
  const row = document.createElement("div");
  row.className = "buttons";
  row.append(ok, button("cancel", () => showMessages(), { className: "" }));
  form.append(area, row);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running !== null || area.value.trim() === "") return;
    branch(place);
    current.messages[place] = { role: "user", content: area.value };
    answer();
  });
  article.replaceChildren(form);
  area.focus();
}

function showTextTokens() {
  const continued = current.kind === "text" ? current.continued : null;
  if (!continued?.tokens?.length) return $("text-tokens").replaceChildren();
  $("text-tokens").replaceChildren(tokenView(continued.tokens, (at, other) => {
    const kept = [...continued.tokens.slice(0, at), { ...other, top_logprobs: continued.tokens[at].top_logprobs }];
    continueText(continued.before, kept);
  }));
}

// ---- the exact prompt ----

async function showPrompt() {
  if (!$("prompt-details").open || model() === null) return;
  const asked = ++prompts;
  let found = null;
  try {
    if (current.kind === "chat" && current.messages.length > 0 && model().has_chat_template !== false) {
      found = await ask("/v1/chat/render", { model: model().id, messages: messagesUpTo(lastQuestion()) });
    } else if (current.kind === "text" && $("input").value !== "") {
      const { tokens, token_strs: texts } = await ask("/v1/tokenize", { model: model().id, prompt: $("input").value });
      found = { prompt: texts.join(""), tokens: tokens.map((id, at) => ({ id, text: texts[at] })) };
    }
  } catch (error) {
    explain(error);
  }
  if (asked !== prompts) return;
  $("prompt-text").textContent = found?.prompt ?? "";
  $("prompt-count").textContent = found === null ? t("prompt_empty") : t("prompt_count", { count: count(found.tokens.length) });
  $("prompt-tokens").replaceChildren(...(found?.tokens ?? []).map(({ id, text }) => {
    const item = document.createElement("li");
    const number = document.createElement("small");
    number.textContent = ` ${id}`;
    item.append(shown(text), number);
    return item;
  }));
}

function lastQuestion() {
  return current.messages.findLastIndex((message) => message.role === "user");
}

/** The messages of a request, up to a place. */
function messagesUpTo(place) {
  const system = settings.system();
  const before = system === "" ? [] : [{ role: "system", content: system }];
  return [...before, ...current.messages.slice(0, place + 1).map((message) => ({ role: message.role, content: contentOf(message) }))];
}

// ---- answers ----

function stop() {
  running?.abort();
}

function explain(error) {
  if (error.name === "AbortError") return;
  complain(error instanceof ServerError ? error.message : t("offline", { reason: error.message }));
}

/** Runs an answer; `read` gets what stops it. The settings must be valid. */
async function run(read) {
  if (running !== null || !settings.areValid()) return;
  complain("");
  running = new AbortController();
  const [ofThis, of] = [running, current];
  showButtons();
  say(t("writing"));
  const result = { count: 0, reason: null };
  try {
    await read(running.signal, result);
    const ended = result.reason === "length" ? "done_length" : "done";
    say(t(ended, { count: count(result.count) }));
  } catch (error) {
    explain(error);
    say(error.name === "AbortError" ? t("stopped", { count: count(result.count) }) : "");
  }
  if (running === ofThis) running = null;
  save(of);
  showButtons();
}

/** Takes the tokens, the end and the figures from the objects of a stream. */
function taker(result, onToken, onText, onReceipt = () => {}) {
  return (object) => {
    for (const choice of object.choices ?? []) {
      for (const token of choice.logprobs?.content ?? []) {
        result.count += 1;
        onToken({ ...token, top_logprobs: token.top_logprobs ?? [] });
      }
      const text = choice.delta?.content ?? choice.text ?? "";
      if (text !== "") onText(text);
      result.reason = choice.finish_reason ?? result.reason;
      if (choice.receipt) onReceipt(choice.receipt);
    }
    if (object.usage) showContext(object.usage);
  };
}

function showContext(usage) {
  const used = usage.prompt_tokens + (usage.completion_tokens ?? 0);
  const limit = model()?.max_model_len;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const words = limit ? t("context", { used: count(used), limit: count(limit) }) : t("context_open", { used: count(used) });
  $("context").textContent = cached > 0 ? `${words}, ${t("cached", { count: count(cached) })}` : words;
  $("context-meter").hidden = !limit;
  $("context-meter").value = limit ? Math.min(1, used / limit) : 0;
}

/** The last answer's place on the page, to write into while it comes. */
function lastContent() {
  const content = $("messages").lastElementChild.querySelector(".content");
  content.classList.add("running");
  return content;
}

/** Answers the last message of the conversation, as a new version where there is an answer already. */
function answer(old = null) {
  const of = current;
  const version = { content: "", tokens: [] };
  const message = old ?? { role: "assistant", versions: [], at: 0 };
  message.versions.push(version);
  message.at = message.versions.length - 1;
  const messages = messagesUpTo(current.messages.length - 1 - (old === null ? 0 : 1));
  if (old === null) current.messages.push(message);
  showMessages();
  return run(async (signal, result) => {
    const body = { model: model().id, messages, ...settings.sampling(), logprobs: true, top_logprobs: ALTERNATIVES, receipt: true };
    await write(of, version, (take) => stream("/v1/chat/completions", body, signal, take), result);
  }).then(() => afterAnswer(of, message, version));
}

/** Writes a stream into a version of an answer. */
async function write(of, version, start, result) {
  const content = lastContent();
  await start(taker(result, (token) => version.tokens.push(token), (text) => {
    version.content += text;
    if (current !== of) return;
    const isAtEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - NEAR;
    content.textContent = version.content;
    if (isAtEnd) window.scrollTo(0, document.documentElement.scrollHeight);
  }, (receipt) => (version.receipt = receipt)));
}

/** An answer of which nothing came leaves no trace. */
function afterAnswer(of, message, version) {
  if (version.content === "" && version.tokens.length === 0) {
    message.versions.splice(message.versions.indexOf(version), 1);
    message.at = message.versions.length - 1;
    if (message.versions.length === 0) of.messages.splice(of.messages.indexOf(message), 1);
    save(of);
  }
  if (current !== of) return;
  $("title").textContent = titleOf(current);
  showMessages();
  showPrompt();
}

function answerAgain(place) {
  if (running !== null) return;
  branch(place);
  answer(current.messages[place]);
}

/** Keeps an answer's tokens before a place, takes another one there, and goes on. */
async function forkAnswer(place, at, other) {
  if (running !== null) return;
  const of = current;
  branch(place);
  const message = current.messages[place];
  const old = message.versions[message.at];
  const kept = [...old.tokens.slice(0, at), { ...other, top_logprobs: old.tokens[at].top_logprobs }];
  const messages = messagesUpTo(place - 1);
  const version = { content: "", tokens: kept };
  message.versions.push(version);
  message.at = message.versions.length - 1;
  opened.add(version);
  showMessages();
  await run(async (signal, result) => {
    const rendered = await ask("/v1/chat/render", { model: model().id, messages }, signal);
    const before = rendered.tokens.map((token) => token.id);
    version.content = await textOf(kept, signal);
    lastContent().textContent = version.content;
    const body = withStop({ prompt: [...before, ...kept.map((token) => token.token_id)] }, rendered.end_of_turn);
    await write(of, version, (take) => stream("/v1/completions", body, signal, take), result);
  });
  afterAnswer(of, message, version);
}

/** The request of a continuation. */
function withStop(body, endOfTurn = null) {
  const sampling = settings.sampling();
  const stops = [...(sampling.stop ?? []), ...(endOfTurn ? [endOfTurn] : [])];
  const stopping = stops.length > 0 ? { stop: stops } : {};
  return { model: model().id, ...sampling, ...stopping, ...body, logprobs: ALTERNATIVES };
}

async function textOf(tokens, signal) {
  const body = { model: model().id, tokens: tokens.map((token) => token.token_id) };
  return (await ask("/v1/detokenize", body, signal)).prompt;
}

/** Shows the tokens of an answer; those of an earlier visit are computed again. */
async function toggleTokens(version, place) {
  if (opened.delete(version)) return showMessages();
  if (!version.tokens) {
    try {
      version.tokens = await tokensOf(version.content, place);
    } catch (error) {
      return explain(error);
    }
  }
  opened.add(version);
  showMessages();
}

async function tokensOf(content, place) {
  const rendered = await ask("/v1/chat/render", { model: model().id, messages: messagesUpTo(place - 1) });
  const { tokens } = await ask("/v1/tokenize", { model: model().id, prompt: content, add_special_tokens: false });
  const before = rendered.tokens.map((token) => token.id);
  const body = { model: model().id, prompt: [...before, ...tokens], echo: true, max_tokens: 0, logprobs: ALTERNATIVES };
  const { choices } = await ask("/v1/completions", body);
  const all = choices[0].logprobs.content.slice(before.length);
  return all.map((token) => ({ ...token, top_logprobs: token.top_logprobs ?? [] }));
}

/** Continues the text, or a text with tokens after it. */
function continueText(before, kept = []) {
  const of = current;
  const input = $("input");
  return run(async (signal, result) => {
    of.continued = { before, tokens: [...kept] };
    let prompt = before;
    if (kept.length > 0) {
      const { tokens } = await ask("/v1/tokenize", { model: model().id, prompt: before }, signal);
      prompt = [...tokens, ...kept.map((token) => token.token_id)];
      of.text = before + (await textOf(kept, signal));
    } else {
      of.text = before;
    }
    if (current === of) input.value = of.text;
    const take = taker(result, (token) => of.continued.tokens.push(token), (text) => {
      of.text += text;
      if (current !== of) return;
      input.value = of.text;
      input.scrollTop = input.scrollHeight;
    });
    await stream("/v1/completions", withStop({ prompt }), signal, take);
  }).then(() => {
    if (current !== of) return;
    $("title").textContent = titleOf(of);
    showTextTokens();
    showPrompt();
  });
}

function submit() {
  if (running !== null || $("send").disabled) return;
  const text = $("input").value;
  if (current.kind === "text") return continueText(text);
  if (text.trim() === "" || !settings.areValid()) return;
  const of = current;
  of.messages.push({ role: "user", content: text });
  $("input").value = "";
  return answer().then(() => {
    // What the server refused is not said; it stays in the input.
    if (of.messages.at(-1)?.role !== "user") return;
    of.messages.pop();
    save(of);
    if (current !== of) return;
    $("title").textContent = titleOf(of);
    showMessages();
    showPrompt();
    if ($("input").value === "") $("input").value = text;
  });
}

// ---- beginnings ----

async function start() {
  const prefers = preferences();
  settings.begin(() => showPrompt());
  translation.begin((error) => (error === null ? complain("") : explain(error)));
  $("language").value = prefers.language ?? (navigator.language.startsWith("nl") ? "nl" : "en");
  translate();
  if (window.matchMedia("(max-width: 1000px)").matches) {
    $("list-details").open = false;
    $("settings-details").open = false;
  }
  try {
    models = (await ask("/v1/models")).data;
    await offerViews(models);
    conversations.push(...(await load()));
    if (conversations.length > 0) current = await whole(conversations[0]);
  } catch (error) {
    explain(error);
  }
  const said = $("alert").textContent;
  $("model").replaceChildren(...models.map((one) => new Option(one.id, one.id)));
  if (models.some((one) => one.id === prefers.model)) $("model").value = prefers.model;
  if (current === null) {
    current = fresh(model()?.has_chat_template === false ? "text" : "chat");
    conversations.unshift(current);
  }
  showAll();
  showView();
  complain(said);
}

function translate() {
  setLanguage($("language").value);
  settings.translate();
}

$("language").addEventListener("change", () => {
  translate();
  prefer({ language: currentLanguage() });
  showAll();
  if (!$("runs-view").hidden) showRuns();
});
$("model").addEventListener("change", () => {
  prefer({ model: $("model").value });
  showAll();
});
$("new-chat").addEventListener("click", () => begin("chat"));
$("new-text").addEventListener("click", () => begin("text"));
$("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
$("again").addEventListener("click", () => continueText(current.continued.before));
$("prompt-details").addEventListener("toggle", showPrompt);
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  const sends = current.kind === "chat" ? !event.shiftKey : event.ctrlKey || event.metaKey;
  if (!sends) return;
  event.preventDefault();
  submit();
});
$("input").addEventListener("change", () => {
  if (current.kind !== "text" || running !== null) return;
  current.text = $("input").value;
  save();
  showPrompt();
});
beginViews(() => complain(""));
$("inside-look").addEventListener("click", lookInside);
beginEncoder(() => model().id, explain);
beginRuns(explain);
$("export").addEventListener("click", async () => {
  try {
    download("taal-conversations.json", await toFile(conversations));
  } catch (error) {
    explain(error);
  }
});
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", async () => {
  const [file] = $("import-file").files;
  $("import-file").value = "";
  if (!file) return;
  try {
    const found = fromFile(await file.text());
    conversations.unshift(...found);
    current = found[0] ?? current;
    found.forEach(keep);
    showAll();
    say(t("imported", { count: found.length }));
  } catch (error) {
    complain(t("bad_import", { reason: error.message }));
  }
});
onKeyNeeded(() => new Promise((resolve) => {
  const dialog = $("key-dialog");
  $("key").value = "";
  dialog.onclose = () => {
    const key = $("key").value.trim();
    if (dialog.returnValue === "given" && key !== "") setKey(key);
    resolve(dialog.returnValue === "given" && key !== "");
  };
  dialog.returnValue = "";
  dialog.showModal();
}));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("key-dialog").close("given");
});
start();
