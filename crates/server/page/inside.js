// A text through the model: which tokens each token attends to, and what the model would predict after each layer.

import { bar, element, stepper, table } from "./elements.js";
import { count, percent, t } from "./texts.js";
import { shown } from "./tokens.js";

/** Weights below this are not listed. */
const LISTED = 0.005;
/** The width of the grid, in pixels. */
const GRID = 360;

let views = 0;

/** Reads a trace's weights: bytes of 255ths; of a causal model only those of earlier tokens, row after row. */
function weightsOf(trace) {
  const packed = Uint8Array.from(atob(trace.attention), (character) => character.charCodeAt(0));
  const n = trace.tokens.length;
  const { n_heads: heads, is_causal: isCausal } = trace.model;
  const perHead = isCausal ? (n * (n + 1)) / 2 : n * n;
  const ofHead = (layer, head, query, key) => {
    if (isCausal && key > query) return 0;
    const inside = isCausal ? (query * (query + 1)) / 2 + key : query * n + key;
    return packed[(layer * heads + head) * perHead + inside] / 255;
  };
  const mean = (layer, query, key) => {
    let sum = 0;
    for (let head = 0; head < heads; head += 1) sum += ofHead(layer, head, query, key);
    return sum / heads;
  };
  return {
    exist: packed.length > 0,
    of: (layer, head, query, key) => (head < 0 ? mean(layer, query, key) : ofHead(layer, head, query, key)),
  };
}

/** The view of an answer of /trace. */
export function insideView({ trace, left_out: leftOut }) {
  views += 1;
  const id = (name) => `inside-${views}-${name}`;
  const weights = weightsOf(trace);
  const now = { place: trace.focus[0] ?? trace.tokens.length - 1, layer: trace.model.n_layers - 1, head: -1 };
  const view = element("div", { className: "inside" });
  if (leftOut > 0) view.append(element("p", { className: "notice" }, t("inside_left_out", { count: count(leftOut) })));

  const label = element("p", { id: id("follow"), className: "quiet" }, t("follow"));
  const list = element("div", { className: "token-list", role: "radiogroup", "aria-labelledby": id("follow") });
  const buttons = trace.tokens.map((token, place) => {
    const button = element("button", { type: "button", role: "radio", "aria-label": `${place + 1}: ${shown(token.text)}` }, /[\n\t]/.test(token.text) ? shown(token.text) : token.text || "∅");
    button.addEventListener("click", () => choose(place));
    return button;
  });
  list.append(...buttons);
  stepper(list, buttons, (place) => choose(place));
  view.append(label, list);

  const attention = element("div");
  const lens = element("div");
  view.append(...(weights.exist ? [controls(), attention] : [element("p", {}, t("no_attention"))]), element("h3", {}, t("lens")),
    element("p", { className: "quiet" }, t("lens_hint")), lens);

  function controls() {
    const layer = element("input", { type: "range", id: id("layer"), min: "1", max: String(trace.model.n_layers), value: String(now.layer + 1) });
    const said = element("output", { for: id("layer") });
    const head = element("select", { id: id("head") }, new Option(t("all_heads"), "-1"));
    for (let index = 0; index < trace.model.n_heads; index += 1) head.append(new Option(t("one_head", { head: index + 1 }), String(index)));
    const say = () => (said.textContent = t("layer_of", { layer: now.layer + 1, layers: trace.model.n_layers }));
    layer.addEventListener("input", () => {
      now.layer = Number(layer.value) - 1;
      say();
      showAttention();
    });
    head.addEventListener("change", () => {
      now.head = Number(head.value);
      showAttention();
    });
    say();
    return element("div", {}, element("h3", {}, t("inside_attention")), element("p", { className: "quiet" }, t("inside_attention_hint")),
      element("div", { className: "controls" },
        element("label", { className: "field" }, element("span", {}, t("layer"), " ", said), layer),
        element("label", { className: "field" }, element("span", {}, t("head")), head)));
  }

  function choose(place) {
    now.place = place;
    show();
  }

  function show() {
    for (const [place, button] of buttons.entries()) {
      button.setAttribute("aria-checked", String(place === now.place));
      button.tabIndex = place === now.place ? 0 : -1;
    }
    if (weights.exist) showAttention();
    showLens();
  }

  function showAttention() {
    const share = (key) => weights.of(now.layer, now.head, now.place, key);
    const keys = trace.tokens.map((_, key) => key).filter((key) => share(key) >= LISTED);
    const rows = keys.map((key) => element("li", key === now.place ? { className: "is-taken" } : {},
      element("code", {}, shown(trace.tokens[key].text)), element("span", { className: "percent" }, percent(share(key))),
      element("span", {}, bar(share(key)))));
    const title = element("p", {}, t("attends_to", { token: shown(trace.tokens[now.place].text) }));
    attention.replaceChildren(element("div", { className: "pair" },
      element("div", { className: "alternatives" }, title, element("ol", {}, ...rows)), grid()));
  }

  /** All weights of the layer and head: a row per token, a column per token that it attends to. */
  function grid() {
    const n = trace.tokens.length;
    const canvas = element("canvas", { role: "img", "aria-label": t("grid_label", { layer: now.layer + 1 }) });
    const cell = Math.max(2, Math.floor(GRID / n));
    canvas.width = cell * n;
    canvas.height = cell * n;
    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
    const context = canvas.getContext("2d");
    context.fillStyle = color("--accent");
    for (let query = 0; query < n; query += 1) {
      for (let key = 0; key < n; key += 1) {
        context.globalAlpha = Math.sqrt(weights.of(now.layer, now.head, query, key));
        context.fillRect(key * cell, query * cell, cell, cell);
      }
    }
    context.globalAlpha = 1;
    context.strokeStyle = color("--warm");
    context.lineWidth = 2;
    context.strokeRect(1, now.place * cell + 1, cell * n - 2, Math.max(2, cell - 2));
    canvas.addEventListener("click", (event) => choose(Math.min(n - 1, Math.floor((event.offsetY / canvas.clientHeight) * n))));
    return element("figure", {}, canvas, element("figcaption", { className: "quiet" }, t("grid_hint")));
  }

  function showLens() {
    const rows = trace.lens.map((row, state) => {
      const [flat, rank] = row[now.place];
      const guesses = [];
      for (let index = 0; index < flat.length; index += 2) guesses.push(`${shown(trace.words[flat[index]])} ${percent(flat[index + 1])}`);
      return [state === 0 ? t("embedding") : t("layer_n", { layer: state }), count(rank), guesses.join(" · ")];
    });
    lens.replaceChildren(table(t("lens"), [t("layer"), t("rank"), t("guesses")], rows));
  }

  show();
  return view;
}
