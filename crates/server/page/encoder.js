// What a masked model can do: fill gaps, and turn texts into vectors that can be compared.

import { ask } from "./api.js";
import { bar, element, table } from "./elements.js";
import { percent, t } from "./texts.js";
import { shown } from "./tokens.js";

const MASK = "[MASK]";
/** Guesses per gap. */
const TOP = 5;
/** Texts that are compared. */
const MAX_TEXTS = 20;

const $ = (id) => document.getElementById(id);

/** Connects the forms; `model` gives the model's name, `explain` shows an error. */
export function beginEncoder(model, explain) {
  $("fill-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = $("fill-text").value;
    if (!text.includes(MASK)) return $("fill-result").replaceChildren(element("p", { className: "notice" }, t("fill_no_gap")));
    try {
      const { data } = await ask("/v1/fill-mask", { model: model(), input: text, top: TOP });
      $("fill-result").replaceChildren(filledView(data[0]));
    } catch (error) {
      explain(error);
    }
  });
  $("fill-mask").addEventListener("click", () => {
    const area = $("fill-text");
    area.setRangeText(MASK, area.selectionStart, area.selectionEnd, "end");
    area.focus();
  });
  $("vectors-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const texts = $("vectors-text").value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    if (texts.length < 2 || texts.length > MAX_TEXTS) {
      return $("vectors-result").replaceChildren(element("p", { className: "notice" }, t("vectors_count", { most: MAX_TEXTS })));
    }
    try {
      const { data } = await ask("/v1/embeddings", { model: model(), input: texts });
      $("vectors-result").replaceChildren(similarityView(texts, data.map((one) => one.embedding)));
    } catch (error) {
      explain(error);
    }
  });
}

function filledView({ filled, gaps }) {
  const gap = ({ guesses }, index) => {
    const rows = guesses.map((guess) => element("li", {}, element("code", {}, shown(guess.text)),
      element("span", { className: "percent" }, percent(guess.probability)), element("span", {}, bar(guess.probability))));
    return element("div", { className: "alternatives" }, element("p", {}, t("gap", { at: index + 1 })), element("ol", {}, ...rows));
  };
  return element("div", {}, element("p", { className: "content" }, filled), ...gaps.map(gap));
}

function cosine(one, other) {
  const product = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  const lengths = Math.sqrt(product(one, one) * product(other, other));
  return lengths > 0 ? product(one, other) / lengths : 0;
}

/** How near each text is to each other one: the cosine of their vectors. */
function similarityView(texts, vectors) {
  const rows = texts.map((text, row) => [text, ...vectors.map((vector) => cosine(vectors[row], vector).toFixed(2))]);
  const numbered = texts.map((_, index) => String(index + 1));
  const named = rows.map(([text, ...values], index) => [`${index + 1} ${text}`, ...values]);
  return element("div", {}, element("p", { className: "quiet" }, t("vectors_hint")),
    table(t("vectors"), [t("text"), ...numbered], named));
}
