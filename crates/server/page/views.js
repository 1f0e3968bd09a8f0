// The views of the page: the first one, to talk with a model or to translate, and the runs.

import { ask } from "./api.js";
import { showRuns } from "./runs.js";
import { t } from "./texts.js";

const $ = (id) => document.getElementById(id);
/** Whether the runs are a view to choose. */
let hasRuns = true;
let clear = () => {};

/** Connects the buttons; `clearError` takes away what an earlier view complained of. */
export function beginViews(clearError) {
  clear = clearError;
  for (const name of ["talk", "runs"]) {
    $(`go-${name}`).addEventListener("click", () => {
      location.hash = name === "runs" ? "runs" : "";
    });
  }
  window.addEventListener("hashchange", showView);
}

/** Leaves out the choice of views where the server only translates and has no runs to show. */
export async function offerViews(models) {
  const onlyTranslates = models.length > 0 && models.every(({ kind }) => kind === "translator");
  hasRuns = !onlyTranslates || (await ask("/runs")).data.length > 0;
  $("views").hidden = !hasRuns;
}

/** Calls the first view what a model is there for. */
export function nameFirst(onlyTranslates) {
  $("go-talk").dataset.text = onlyTranslates ? "translation" : "talk";
  $("go-talk").textContent = t($("go-talk").dataset.text);
}

/** Shows the view that the address names. */
export function showView() {
  const isRuns = hasRuns && location.hash === "#runs";
  $("columns").hidden = isRuns;
  $("runs-view").hidden = !isRuns;
  for (const [name, isShown] of [["talk", !isRuns], ["runs", isRuns]]) {
    if (isShown) $(`go-${name}`).setAttribute("aria-current", "page");
    else $(`go-${name}`).removeAttribute("aria-current");
  }
  clear();
  if (isRuns) showRuns();
}
