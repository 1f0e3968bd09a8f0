// The runs of a folder: a list, their curves next to each other and while they train, and the answers of their checkpoints.

import { ask } from "./api.js";
import { MAX_CURVES, chart } from "./chart.js";
import { element, table } from "./elements.js";
import { count, currentLanguage, t } from "./texts.js";

/** Time between two looks at runs that train, in milliseconds. */
const BETWEEN = 2000;

const $ = (id) => document.getElementById(id);
/** The runs of the list, and those whose curves are shown, by name. */
let runs = [];
const chosen = new Map();
let timer = null;
let explain = () => {};
/** What stops the questions to checkpoints. */
let asking = null;

/** Connects the view; `explainError` shows an error. */
export function beginRuns(explainError) {
  explain = explainError;
  $("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    askAll();
  });
  $("ask-stop").addEventListener("click", () => asking?.abort());
  document.addEventListener("visibilitychange", () => !document.hidden && isShown() && look());
}

function isShown() {
  return !$("runs-view").hidden;
}

/** Shows the runs, and keeps looking while one of them trains. */
export async function showRuns() {
  clearTimeout(timer);
  try {
    const list = await ask("/runs");
    runs = list.data;
    $("runs-none").hidden = runs.length > 0;
    $("runs-none").textContent = t(list.is_shown ? "runs_empty" : "runs_off");
    if (chosen.size === 0 && runs.length > 0) chosen.set(runs[0].name, null);
    for (const name of chosen.keys()) if (!runs.some((run) => run.name === name)) chosen.delete(name);
    showList();
    await look();
  } catch (error) {
    explain(error);
  }
}

/** Reads the curves of the chosen runs, and again later where one of them trains. */
async function look() {
  clearTimeout(timer);
  try {
    for (const name of [...chosen.keys()]) {
      const found = await ask(`/runs/${encodeURIComponent(name)}`);
      if (chosen.has(name)) chosen.set(name, found);
      const at = runs.findIndex((run) => run.name === name);
      if (at >= 0) runs[at] = found.run;
    }
  } catch (error) {
    explain(error);
    return;
  }
  showFigures();
  showCurves();
  showAsk();
  const isLive = [...chosen.values()].some((found) => found?.run.state === "in_use");
  if (isLive && isShown() && !document.hidden) timer = setTimeout(look, BETWEEN);
}

function showList() {
  $("runs-list").replaceChildren(...runs.map((run) => {
    const box = element("input", { type: "checkbox" });
    box.checked = chosen.has(run.name);
    box.disabled = !box.checked && chosen.size >= MAX_CURVES;
    box.addEventListener("change", () => {
      if (box.checked) chosen.set(run.name, null);
      else chosen.delete(run.name);
      for (const other of $("runs-list").querySelectorAll("input")) other.disabled = !other.checked && chosen.size >= MAX_CURVES;
      look();
    });
    return element("li", {}, element("label", {}, box, " ", run.name));
  }));
}

const number = (value, digits) =>
  value === null || value === undefined ? "–" : value.toLocaleString(currentLanguage(), { maximumFractionDigits: digits });

function showFigures() {
  const rows = runs.filter((run) => chosen.has(run.name)).map((run) => [run.name, run.recipe, t(`state_${run.state}`),
    run.planned_steps ? `${count(run.steps)} / ${count(run.planned_steps)}` : count(run.steps), number(run.train_loss, 3),
    number(run.best_val_loss, 3), number(run.best_val_bits_per_byte, 3), number(run.tokens_per_s, 0)]);
  const headings = ["run", "recipe", "state", "steps", "training_loss", "validation_loss", "bits_per_byte", "speed"];
  const broken = runs.filter((run) => chosen.has(run.name) && run.why).map((run) => element("p", { className: "notice" }, `${run.name}: ${run.why}`));
  $("runs-figures").replaceChildren(...(rows.length > 0 ? [table(t("runs"), headings.map((key) => t(key)), rows)] : []), ...broken);
}

function showCurves() {
  const all = [...chosen].filter(([, found]) => found !== null);
  const curves = (key) => all.map(([name, found]) => ({ name, points: found[key] }));
  // What a reader has opened stays open.
  const open = [...$("runs-curves").querySelectorAll("details")].map((details) => details.open);
  $("runs-curves").replaceChildren(...(all.length === 0 ? [] : [
    chart(t("validation_loss"), curves("validation").filter((curve) => curve.points.length > 0)),
    chart(t("training_loss"), curves("training")),
  ]));
  for (const [index, details] of [...$("runs-curves").querySelectorAll("details")].entries()) details.open = open[index] ?? false;
}

/** The runs that can be asked. */
function showAsk() {
  const old = $("ask-run").value;
  const names = [...chosen].filter(([, found]) => found?.checkpoints.length > 0).map(([name]) => name);
  $("ask-form").hidden = names.length === 0;
  $("ask-run").replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(old)) $("ask-run").value = old;
}

/** Asks each checkpoint of a run for the same text, the oldest first. */
async function askAll() {
  if (asking !== null) return;
  const run = $("ask-run").value;
  const steps = chosen.get(run)?.checkpoints ?? [];
  asking = new AbortController();
  $("ask-send").disabled = true;
  $("ask-stop").hidden = false;
  const list = element("dl", { className: "answers" });
  $("ask-result").replaceChildren(list);
  try {
    for (const step of steps) {
      const body = { run, step, prompt: $("ask-text").value, max_tokens: Number($("ask-tokens").value) || undefined };
      const { text } = await ask("/runs/answer", body, asking.signal);
      list.append(element("div", {}, element("dt", {}, t("step_n", { step: count(step) })), element("dd", { className: "content" }, text)));
    }
  } catch (error) {
    explain(error);
  }
  asking = null;
  $("ask-send").disabled = false;
  $("ask-stop").hidden = true;
}
