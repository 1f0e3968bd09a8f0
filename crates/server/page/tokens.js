// Tokens of an answer, each colored by its probability, with what else could have come.

import { bar, element } from "./elements.js";
import { percent, t } from "./texts.js";

/** From which probability on a token has which color; the first is for those below. */
const LEVELS = [0.02, 0.1, 0.3, 0.6];

function level(probability) {
  return LEVELS.filter((bound) => probability >= bound).length;
}

/** A token as people see it: white space has signs. */
export function shown(token) {
  return token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length)) || "∅";
}

function legend() {
  const entries = [...LEVELS].reverse().map((bound) => [level(bound), t("at_least", { percent: percent(bound) })]);
  entries.push([0, t("below", { percent: percent(LEVELS[0]) })]);
  return element("ul", { className: "legend", "aria-label": t("probability") },
    ...entries.map(([at, text]) => element("li", { className: `p${at}` }, text)));
}

/**
 * The view of an answer's tokens, each `{ token, token_id, logprob, top_logprobs }`. `choose(place, alternative)` is called when a
 * person takes an alternative at a place; without it the alternatives are only shown.
 */
export function tokenView(tokens, choose) {
  const panel = element("div", { className: "alternatives" }, t("alternatives_none"));
  const list = element("div", { className: "token-list", role: "toolbar", "aria-label": t("tokens_of_answer") });
  let pinned = -1;
  const buttons = tokens.map((token, place) => {
    const probability = Math.exp(token.logprob);
    const text = token.token.endsWith("\n") ? [shown(token.token), document.createElement("br")] : [token.token || "∅"];
    const button = element("button", {
      type: "button",
      className: `p${level(probability)}`,
      tabindex: place === 0 ? "0" : "-1",
      "aria-pressed": "false",
      "aria-label": t("token_label", { token: shown(token.token), percent: percent(probability) }),
    }, ...text);
    button.addEventListener("pointerenter", () => pinned < 0 && look(place));
    button.addEventListener("focus", () => look(place));
    button.addEventListener("click", () => pin(pinned === place ? -1 : place));
    list.append(button);
    return button;
  });

  function pin(place) {
    buttons[pinned]?.setAttribute("aria-pressed", "false");
    pinned = place;
    buttons[place]?.setAttribute("aria-pressed", "true");
    if (place >= 0) look(place);
  }

  function look(place) {
    const token = tokens[place];
    const known = new Set(token.top_logprobs.map((other) => other.token_id));
    const all = known.has(token.token_id) ? token.top_logprobs : [...token.top_logprobs, token];
    const rows = all.map((other) => {
      const probability = Math.exp(other.logprob);
      const isTaken = other.token_id === token.token_id;
      const take = element("button", { type: "button", "aria-label": t("take", { token: shown(other.token) }) }, shown(other.token));
      take.disabled = isTaken || !choose;
      take.addEventListener("click", () => choose(place, other));
      return element("li", isTaken ? { className: "is-taken" } : {}, take,
        element("span", { className: "percent" }, percent(probability)), element("span", {}, bar(probability)));
    });
    const title = element("p", {}, t("alternatives_of", { token: shown(token.token), percent: percent(Math.exp(token.logprob)) }));
    panel.replaceChildren(title, element("ol", {}, ...rows));
    for (const [at, button] of buttons.entries()) button.tabIndex = at === place ? 0 : -1;
  }

  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    pin(-1);
    buttons[Math.min(Math.max(to, 0), buttons.length - 1)].focus();
  });
  return element("div", { className: "tokens" }, element("p", { className: "quiet" }, t("tokens_hint")), legend(), list, panel);
}
