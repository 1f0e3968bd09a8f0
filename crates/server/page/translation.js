// Translations: the best one of each line, other ones, and what each word attends to.

import { ask } from "./api.js";
import { element } from "./elements.js";
import { count, currentLanguage, percent, t } from "./texts.js";

/** From which share of the attention on a word of the source has which color. */
const LEVELS = [0.05, 0.15, 0.3, 0.6];
/** Words of the source that are named for a word of the translation. */
const NAMED = 3;

const $ = (id) => document.getElementById(id);
let model = null;
let running = null;
/** The server's answer that is shown. */
let found = null;
let report = () => {};

function languageName(code) {
  try {
    return new Intl.DisplayNames([currentLanguage()], { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** Connects the form; `explain` shows an error, or none for `null`. */
export function begin(explain) {
  report = explain;
  $("translation-form").addEventListener("submit", (event) => {
    event.preventDefault();
    translate();
  });
  $("source").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    translate();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
}

/** Shows the view where the model translates, in the page's language. */
export function show(of) {
  if (of?.id !== model?.id) {
    running?.abort();
    found = null;
    $("translation-status").textContent = "";
  }
  model = of;
  $("translation").hidden = !model?.translates;
  if (!model?.translates) return;
  const { from, to } = model.translates;
  const names = { from: languageName(from), to: languageName(to) };
  $("translation-title").textContent = from && to ? t("from_to", names) : t("translation");
  $("source-label").textContent = from ? t("source_in", { language: names.from }) : t("source");
  if (from) $("source").lang = from;
  else $("source").removeAttribute("lang");
  showFound();
}

async function translate() {
  const text = $("source").value;
  if (running !== null || text.trim() === "" || !$("translation-form").reportValidity()) return;
  report(null);
  running = new AbortController();
  $("translate").disabled = true;
  $("translation-status").textContent = t("translating");
  try {
    const alternatives = Number($("alternatives").value);
    const body = { model: model.id, input: text.split(/\r?\n/), alternatives, attention: true };
    found = await ask("/v1/translate", body, running.signal);
    showFound();
    const done = t("translated", { count: count(found.usage.completion_tokens) });
    $("translation-status").textContent = found.warning === null ? done : `${done}. ${t("doubt", { reason: found.warning })}`;
  } catch (error) {
    $("translation-status").textContent = "";
    report(error);
  } finally {
    running = null;
    $("translate").disabled = false;
  }
}

function showFound() {
  const lines = (found?.data ?? []).filter((line) => line.source.trim() !== "");
  $("translations").replaceChildren(...lines.map((line, at) => lineView(line, at, lines.length)));
}

function lineView(line, at, total) {
  const lang = model.translates.to;
  const title = total === 1 ? t("translation") : t("translation_of", { at: count(at + 1), count: count(total) });
  const article = element("article", {}, element("h3", {}, title),
    element("p", { className: "content", lang }, line.translation));
  if (!line.is_complete) article.append(element("p", { className: "quiet" }, t(line.cut_by === "context" ? "cut_context" : "cut_tokens")));
  if (line.alternatives?.length) {
    const score = (value) => value.toLocaleString(currentLanguage(), { maximumFractionDigits: 3, minimumFractionDigits: 3 });
    const items = line.alternatives.map((other) => element("li", {}, element("span", { lang }, other.translation),
      element("span", { className: "quiet" }, ` ${t("score", { score: score(other.score) })}`)));
    article.append(element("h4", {}, t("other_translations")), element("ol", {}, ...items));
  }
  if (line.attention?.translation.length) article.append(attentionView(line.attention, lang));
  else if (line.parts > 1) article.append(element("p", { className: "quiet" }, t("in_parts", { count: count(line.parts) })));
  return article;
}

/** The words of the source that a word of the translation attends to most. */
function mostOf(attention, place) {
  const weights = attention.weights[place].map((weight, at) => ({ weight, word: attention.source[at] }));
  const most = weights.sort((a, b) => b.weight - a.weight).slice(0, NAMED).filter(({ weight }) => weight >= 0.01);
  return most.map(({ word, weight }) => `${word} ${percent(weight)}`).join(", ");
}

/** Both texts: a word of the translation that is pointed at colors the words of the source that it attends to. */
function attentionView(attention, lang) {
  const source = attention.source.map((word) => element("span", {}, word));
  const panel = element("p", { className: "attends" }, t("attention_none"));
  const list = element("div", { className: "token-list", role: "toolbar", "aria-label": t("attention"), lang });
  const buttons = attention.translation.map((word, place) => {
    const label = t("attends", { word, words: mostOf(attention, place) });
    const button = element("button", { type: "button", tabindex: place === 0 ? "0" : "-1", "aria-label": label }, word);
    const look = () => {
      for (const [at, span] of source.entries()) {
        span.className = `a${LEVELS.filter((bound) => attention.weights[place][at] >= bound).length}`;
      }
      panel.textContent = label;
      for (const [at, other] of buttons.entries()) {
        other.tabIndex = at === place ? 0 : -1;
        other.classList.toggle("is-looked-at", at === place);
      }
    };
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, look);
    list.append(button, " ");
    return button;
  });
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    buttons[Math.min(Math.max(to, 0), buttons.length - 1)].focus();
  });
  const spaced = source.flatMap((span) => [span, " "]);
  return element("div", { className: "tokens" }, element("h4", {}, t("attention")),
    element("p", { className: "quiet" }, t("attention_hint")),
    element("p", { className: "source-words", lang: model.translates.from }, ...spaced), list, panel, tableView(attention));
}

function tableView(attention) {
  const head = element("tr", {}, element("td", {}), ...attention.source.map((word) => element("th", { scope: "col" }, word)));
  const rows = attention.translation.map((word, place) => element("tr", {}, element("th", { scope: "row" }, word),
    ...attention.weights[place].map((weight) => element("td", {}, percent(weight)))));
  const table = element("table", {}, element("caption", { className: "quiet" }, t("attention_rows")),
    element("thead", {}, head), element("tbody", {}, ...rows));
  const scroller = element("div", { className: "scroller", tabindex: "0", role: "region", "aria-label": t("attention_table") }, table);
  return element("details", {}, element("summary", {}, t("attention_table")), scroller);
}
