// Uses Taal's pages in a browser like a reader: with pointer and keyboard, in light and dark mode, on a desktop and on
// a phone. A trace is also stepped through token by token, and the page of a run in progress reloads itself; other
// pages (a report, a map) have no script. `node check.mjs SCREENSHOTS PAGE...`; CHROMIUM names the browser (default:
// chromium). Exits with 1 if something is wrong.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [screenshots, ...pages] = process.argv.slice(2);
const problems = [];
let checks = 0;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
for (const file of pages) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 375, 360]) {
      await look(file, colorScheme, width);
    }
  }
}
await browser.close();
for (const problem of problems) console.error(problem);
console.log(`${checks} checks, ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);

async function look(file, colorScheme, width) {
  const title = `${path.basename(file, ".html")} ${colorScheme} ${width}`;
  const expect = (isRight, what) => {
    checks += 1;
    if (!isRight) problems.push(`${title}: ${what}`);
  };
  const page = await browser.newPage({ colorScheme, viewport: { width, height: width > 600 ? 900 : 740 } });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`${title}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${title}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) problems.push(`${title}: asks for ${request.url()}`);
  });
  await page.goto(pathToFileURL(path.resolve(file)).href);

  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  const accessible = async (when) => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    const said = violations.map((one) => `${one.id} (${one.nodes.length}: ${one.nodes[0].target} ${one.nodes[0].failureSummary})`);
    expect(violations.length === 0, `${when}: ${said.join("; ")}`);
  };
  const open = async () => {
    for (const summary of await page.locator("summary").all()) if (await summary.isVisible()) await summary.click();
  };
  const shoot = (end) =>
    page.screenshot({ path: path.join(screenshots, `${title.replaceAll(" ", "-")}${end}.png`), fullPage: true });
  // Pages whose file ends in -nl are Dutch.
  const language = path.basename(file, ".html").endsWith("-nl") ? "nl" : "en";
  expect(await page.locator("html").getAttribute("lang") === language, `not in the language ${language}`);
  if (await page.locator("#reload").count() > 0) await reloads(page, expect);
  if (await page.locator("#tokens").count() === 0) {
    await open();
    expect(await fits(), "wider than the window");
    expect(await page.locator("svg:visible").count() > 0, "no picture");
    await accessible("with everything open");
    await shoot("");
    await page.close();
    return;
  }

  const { say } = await page.evaluate(() => JSON.parse(document.getElementById("data").textContent));
  // A text of the page with values in place of its {names}, up to the first name without a value.
  const said = (text, values) => text.split(/[{}]/).reduce(([words, isOver], part, index) => {
    if (isOver || (index % 2 === 1 && !(part in values))) return [words, true];
    return [words + (index % 2 === 1 ? values[part] : part), false];
  }, ["", false])[0];
  const token = (place) => said(say.live, { place });
  const live = page.locator("#live");
  const tokens = page.getByRole("radio");
  const count = await tokens.count();
  expect(count > 1, "no tokens");
  const settled = async () => {
    await page.waitForTimeout(200);
    return live.textContent();
  };
  const followed = async () => tokens.evaluateAll((all) => all.findIndex((one) => one.getAttribute("aria-checked") === "true"));

  const chooseLayers = async () => {
    const arcs = page.locator("#arcs svg");
    const layer = page.getByRole("slider", { name: say.layer });
    await layer.focus();
    await page.keyboard.press("Home");
    expect((await page.locator("#layer-value").textContent()).startsWith(said(say.layer_of, { layer: 1 })), "the slider does not choose the first layer");
    const mean = await arcs.innerHTML();
    await page.getByRole("combobox", { name: say.head }).selectOption("0");
    const head = said(say.one_head, { head: 1 });
    expect((await page.locator("#arcs-title").textContent()).includes(head), "the title does not name the head");
    expect(await arcs.innerHTML() !== mean, "another head gives the same picture");
    await layer.focus();
    await page.keyboard.press("ArrowRight");
    expect((await settled()).includes(said(say.layer_n, { layer: 2 })), "the next layer is not told");
  };
  expect(await fits(), "wider than the window");
  await accessible("as it opens");
  await shoot("");

  await tokens.first().hover();
  expect((await settled()).startsWith(token(0)), "pointing at a token does not follow it");
  const other = Math.min(3, count - 1);
  await tokens.nth(other).hover();
  expect((await settled()).startsWith(token(other)), "pointing at another token does not follow it");
  expect(await page.locator("#text mark").count() <= 1, "more than one token is marked in the text");

  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("Tab");
  expect(await page.locator(".skip").evaluate((link) => link === document.activeElement), "the first tab stop is not the way to the stages");
  await page.keyboard.press("Tab");
  expect(await followed() === other, "the second tab stop is not the token that is followed");
  await page.keyboard.press("Home");
  expect(await followed() === 0, "Home");
  await page.keyboard.press("ArrowRight");
  expect(await followed() === 1, "ArrowRight");
  await page.keyboard.press("End");
  expect(await followed() === count - 1, "End");
  await page.keyboard.press("ArrowLeft");
  expect(await followed() === count - 2 && (await settled()).startsWith(token(count - 2)), "ArrowLeft");

  const hasAttention = await page.locator("#attention").isVisible();
  expect(hasAttention !== await page.locator("#no-attention").isVisible(), "attention and its absence");
  if (hasAttention) await chooseLayers();

  await open();
  if (hasAttention) {
    const rows = await page.locator("#attention-table tbody tr").evaluateAll((all) =>
      all.map((row) => [...row.querySelectorAll("td")].reduce((sum, cell) => sum + (parseFloat(cell.textContent.replace(",", ".")) || 0), 0)));
    expect(rows.length === count, "the table of attention lacks rows");
    // Each weight is rounded to a multiple of 1/255, and then to two decimals.
    expect(rows.every((sum) => Math.abs(sum - 100) < 0.2 * count + 1), `rows of attention that do not add up: ${rows}`);
  }
  expect(await page.locator("#lens .row").count() === await page.locator("#residual-table thead th").count() - 1, "not one guess per layer");
  expect(await page.locator("#lens .row.is-output").count() === 1, "no output among the guesses");
  expect(await fits(), "wider than the window with all tables open");
  await accessible("with all tables open");
  await shoot("-open");
  await page.close();
}

// The page of a run in progress: a reload keeps the scroll position and what is open, the switch stops reloading, and a
// page that is no longer rewritten says so.
async function reloads(page, expect) {
  const written = await page.evaluate(() => Date.parse(JSON.parse(document.getElementById("data").textContent).written));
  await page.clock.install({ time: written + 1000 });
  await page.reload();
  const state = page.locator("#state");
  expect(!(await state.textContent()).includes("--resume"), "a fresh page claims to be stale");
  await page.locator("summary").first().click();
  await page.evaluate(() => { scrollTo(0, 400); globalThis.isBefore = true; });
  const loaded = page.waitForEvent("load");
  await page.clock.runFor(6000);
  await loaded;
  expect(await page.evaluate(() => globalThis.isBefore === undefined), "the page does not reload itself");
  expect(await page.evaluate(() => Math.abs(scrollY - 400) < 2), "a reload loses the place on the page");
  expect(await page.locator("details").first().evaluate((details) => details.open), "a reload closes what was open");

  await page.locator("#reload").uncheck();
  await page.evaluate(() => { globalThis.isBefore = true; });
  await page.clock.runFor(60000);
  expect(await page.evaluate(() => globalThis.isBefore === true), "the switch does not stop the reloads");
  await page.reload();
  expect(!(await page.locator("#reload").isChecked()), "a reload loses the switch");
  await page.clock.setSystemTime(written + 3600000);
  await page.reload();
  expect((await state.textContent()).includes("taal train --resume"), "an old page does not say that it is not rewritten");
  await page.locator("summary").first().click();
}
