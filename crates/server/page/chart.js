// Curves of runs in one picture, with a legend and the same figures as a table.

import { drawn, element, table } from "./elements.js";
import { count, t } from "./texts.js";

/** The picture in its own units, and the room around the curves. On a phone it is smaller, so that its letters are not. */
const SIZE = { height: 320, left: 56, right: 16, top: 12, bottom: 36 };
const WIDTHS = { wide: 640, narrow: 360 };
/** Curves that can be told apart. */
export const MAX_CURVES = 6;
/** Rows of the table. */
const ROWS = 12;

/** Round numbers between two ends, about so many. */
function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const all = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) all.push(Number(value.toPrecision(12)));
  return all;
}

function ends(values) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  return [low, high];
}

function decimals(value) {
  return value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 3 });
}

/**
 * A figure of curves, each `{ name, points: [{ step, loss }] }`. `label` says what they show.
 */
export function chart(label, curves) {
  const all = curves.flatMap((curve) => curve.points);
  if (all.length === 0) return element("p", { className: "quiet" }, t("no_points"));
  const [left, right] = ends(all.map((point) => point.step));
  const [low, high] = ends(all.map((point) => point.loss));
  const { height } = SIZE;
  const width = window.matchMedia("(max-width: 600px)").matches ? WIDTHS.narrow : WIDTHS.wide;
  const x = (step) => SIZE.left + ((step - left) / (right - left)) * (width - SIZE.left - SIZE.right);
  const y = (loss) => height - SIZE.bottom - ((loss - low) / (high - low)) * (height - SIZE.top - SIZE.bottom);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, className: "chart" });
  for (const step of ticks(left, right, width / 100)) {
    picture.append(drawn("text", { x: x(step), y: height - 14, "text-anchor": "middle" }, count(step)));
  }
  for (const loss of ticks(low, high, 5)) {
    picture.append(drawn("line", { x1: SIZE.left, x2: width - SIZE.right, y1: y(loss), y2: y(loss), className: "grid" }),
      drawn("text", { x: SIZE.left - 6, y: y(loss) + 4, "text-anchor": "end" }, decimals(loss)));
  }
  for (const [index, curve] of curves.entries()) {
    const line = curve.points.map((point) => `${x(point.step).toFixed(1)},${y(point.loss).toFixed(1)}`).join(" ");
    picture.append(drawn("polyline", { points: line, className: `curve run${index}` }));
    if (curve.points.length === 1) {
      const [only] = curve.points;
      picture.append(drawn("circle", { cx: x(only.step), cy: y(only.loss), r: 3, className: `dot run${index}` }));
    }
  }
  const legend = element("ul", { className: "legend" },
    ...curves.map((curve, index) => element("li", { className: `run${index}` }, curve.name)));
  const details = element("details", {}, element("summary", {}, t("as_table")), asTable(label, curves));
  return element("figure", {}, element("figcaption", {}, element("h3", {}, label), legend), picture, details);
}

/** Some steps of all curves. */
function asTable(label, curves) {
  const steps = [...new Set(curves.flatMap((curve) => curve.points.map((point) => point.step)))].sort((a, b) => a - b);
  const every = Math.max(1, Math.ceil(steps.length / ROWS));
  const chosen = steps.filter((_, index) => index % every === 0 || index === steps.length - 1);
  const rows = chosen.map((step) => [count(step), ...curves.map((curve) => {
    const found = curve.points.find((point) => point.step === step);
    return found ? decimals(found.loss) : "–";
  })]);
  return table(label, [t("step"), ...curves.map((curve) => curve.name)], rows);
}
