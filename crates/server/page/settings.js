// The settings of an answer: instructions, sampling, stop texts.

import { prefer, preferences } from "./store.js";
import { t } from "./texts.js";

/** Key, smallest, largest, step, value at the start, and the text that says what an empty field means. */
const NUMBERS = [
  ["temperature", 0, 5, 0.1, "0.8", null],
  ["max_tokens", 1, 1000000, 1, "512", "no_limit"],
  ["top_k", 1, 1000000, 1, "", "off"],
  ["top_p", 0.01, 1, 0.01, "", "off"],
  ["min_p", 0, 1, 0.01, "", "off"],
  ["typical_p", 0.01, 1, 0.01, "", "off"],
  ["repetition_penalty", 0.01, 100, 0.05, "", "off"],
  ["frequency_penalty", -2, 2, 0.1, "", "off"],
  ["presence_penalty", -2, 2, 0.1, "", "off"],
  ["seed", 0, 9007199254740991, 1, "", "random"],
];

const $ = (id) => document.getElementById(id);
const field = (key) => $(`set-${key}`);

/** Makes the fields, with the values of the last visit. */
export function begin(changed) {
  const kept = preferences().settings ?? {};
  for (const [key, min, max, step, value] of NUMBERS) {
    const label = document.createElement("label");
    label.className = "field";
    const name = document.createElement("span");
    name.dataset.text = key;
    const input = document.createElement("input");
    Object.assign(input, { type: "number", id: `set-${key}`, min, max, step: "any", value: kept[key] ?? value });
    label.append(name, " ", input);
    $("numbers").append(label);
  }
  $("system").value = kept.system ?? "";
  $("stops").value = kept.stops ?? "";
  $("settings").addEventListener("input", () => {
    keep();
    changed();
  });
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  $("defaults").addEventListener("click", () => {
    for (const [key, , , , value] of NUMBERS) field(key).value = value;
    $("stops").value = "";
    keep();
    changed();
  });
}

/** Says in the page's language what an empty field means. */
export function translate() {
  for (const [key, , , , , empty] of NUMBERS) field(key).placeholder = empty === null ? "" : t(empty);
}

function keep() {
  const values = Object.fromEntries(NUMBERS.map(([key]) => [key, field(key).value]));
  prefer({ settings: { ...values, system: $("system").value, stops: $("stops").value } });
}

export function system() {
  return $("system").value.trim();
}

/** Whether all numbers are in their ranges; the browser points at the first that is not. */
export function areValid() {
  return $("settings").reportValidity();
}

/** The fields of a request. */
export function sampling() {
  const body = {};
  for (const [key] of NUMBERS) {
    if (field(key).value !== "") body[key] = Number(field(key).value);
  }
  if (body.seed === undefined) body.seed = crypto.getRandomValues(new Uint32Array(1))[0];
  const stops = $("stops").value.split("\n").filter((line) => line !== "");
  if (stops.length > 0) body.stop = stops;
  return body;
}
