// Uses the page of a running `taal serve` as people do: types, streams, stops, edits, forks, reloads; by pointer and by keyboard, in
// light and dark, on a desk and on a phone, in English and Dutch.
// `node check.mjs SCREENSHOTS ADDRESS [MOST]`: at most so many of the four arrangements of color, width and language (two have every one
// of these); the server's first model has a chat template, another is masked, it keeps conversations, and one of its runs is under way.
// CHROMIUM names the browser (default: chromium), KEY the server's key. Ends with 1 where something is wrong.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [screenshots, address, most = "4"] = process.argv.slice(2);
const problems = [];
let checks = 0;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const arrangements = [["light", 1280, "en"], ["dark", 375, "nl"], ["dark", 1280, "nl"], ["light", 375, "en"]];
for (const [colorScheme, width, language] of arrangements.slice(0, Number(most))) {
  await use(colorScheme, width, language).catch((error) => problems.push(`${colorScheme} ${width} ${language}: ${error.message}`));
}
await browser.close();
for (const problem of problems) console.error(problem);
console.log(`${checks} checks, ${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);

async function use(colorScheme, width, language) {
  const title = `page ${language} ${colorScheme} ${width}`;
  const expect = (isRight, what) => {
    checks += 1;
    if (!isRight) problems.push(`${title}: ${what}`);
  };
  const context = await browser.newContext({ colorScheme, viewport: { width, height: width > 600 ? 900 : 740 }, locale: language });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  // A refusal of the server is an answer that the page shows; the browser writes it to its console too.
  const isRefusal = (text) => text.includes("the server responded with a status of 4");
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !isRefusal(message.text())) problems.push(`${title}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`${title}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith("blob:")) problems.push(`${title}: asks for ${request.url()}`);
  });
  const shoot = (name) => page.screenshot({ path: path.join(screenshots, `${title.replaceAll(" ", "-")}-${name}.png`), fullPage: true });
  const look = async (when) => {
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${when}: wider than the window`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    const said = violations.map((one) => `${one.id} (${one.nodes.length}: ${one.nodes[0].target} ${one.nodes[0].failureSummary})`);
    expect(violations.length === 0, `${when}: ${said.join("; ")}`);
    await shoot(when.replaceAll(" ", "-"));
  };
  const texts = () => page.evaluate(async () => {
    const { t } = await import("/page/texts.js");
    const keys = ["edit", "save", "show_tokens", "regenerate", "earlier", "prompt_tokens", "receipt"];
    return Object.fromEntries(keys.map((key) => [key, t(key)]));
  });
  const done = () => page.waitForFunction(() => document.getElementById("stop").hidden && !document.documentElement.dataset.keeping);
  const send = async (text) => {
    await page.locator("#input").fill(text);
    await page.locator("#input").press("Enter");
  };
  const answers = page.locator("article.assistant .content");

  // What an earlier reader has left on the server.
  const headers = process.env.KEY ? { Authorization: `Bearer ${process.env.KEY}` } : {};
  const kept = await (await context.request.get(`${address}/conversations`, { headers })).json();
  expect(kept.is_kept, "the server keeps no conversations");
  for (const { id } of kept.data) await context.request.delete(`${address}/conversations/${id}`, { headers });
  await page.goto(address);
  if (process.env.KEY) {
    await page.locator("#key").fill(process.env.KEY);
    await page.locator("#key").press("Enter");
  }
  await page.waitForFunction(() => document.getElementById("model").options.length > 0);
  const say = await texts();
  const named = (name) => page.getByRole("button", { name, exact: true });
  expect(await page.locator("html").getAttribute("lang") === language, `not in the language ${language}`);
  await look("as it opens");
  await page.keyboard.press("Tab");
  expect(await page.locator(".skip").evaluate((link) => link === document.activeElement), "the first tab stop is not the way to the input");

  // A short answer, with the same tokens every time.
  if (width <= 1000) await page.locator("#settings-details > summary").click();
  await page.locator("#set-max_tokens").fill("12");
  await page.locator("#set-seed").fill("7");
  await send("Dag kat");
  await done();
  const first = await answers.last().textContent();
  expect(first.length > 0, "no answer");
  expect((await page.locator("#live").textContent()).length > 0, "the end of an answer is not told");
  expect((await page.locator("#context").textContent()).length > 0, "the context is not told");

  await named(say.show_tokens).click();
  const tokens = page.locator(".token-list button");
  const count = await tokens.count();
  expect(count > 1, "no tokens");
  await tokens.nth(1).hover();
  expect(await page.locator(".alternatives li").count() > 1, "pointing at a token shows no alternatives");
  await tokens.first().focus();
  await page.keyboard.press("ArrowRight");
  expect(await tokens.nth(1).evaluate((one) => one === document.activeElement), "ArrowRight");
  await page.keyboard.press("End");
  expect(await tokens.nth(count - 1).evaluate((one) => one === document.activeElement), "End");
  await tokens.nth(1).click();
  await look("with tokens");

  const before = await tokens.first().textContent();
  await page.locator(".alternatives li:not(.is-taken) button").first().click();
  await done();
  expect(await page.locator("article.assistant").count() === 1, "a fork makes another message");
  const forked = await answers.last().textContent();
  expect(forked !== first && forked.startsWith(before.trimStart() === "" ? "" : before), `a fork does not begin as the answer did: ${forked}`);
  await named(say.earlier).click();
  expect(await answers.last().textContent() === first, "the earlier answer is gone");
  await done();
  const [receipt] = await Promise.all([page.waitForEvent("download"), named(say.receipt).click()]);
  const { token_ids: ids } = JSON.parse(readFileSync(await receipt.path(), "utf8"));
  expect(ids.length === count, "the receipt has other tokens than the answer");

  await page.reload();
  await page.waitForFunction(() => document.getElementById("model").options.length > 0);
  expect(await answers.last().textContent() === first, "a reload loses the conversation");
  // Another browser has it too: it is the server that keeps it.
  const other = await (await browser.newContext({ locale: language })).newPage();
  await other.goto(address);
  await other.locator("article.assistant .content").last().waitFor();
  expect(await other.locator("article.assistant .content").last().textContent() === first, "another browser does not have the conversation");
  await other.context().close();
  await named(say.show_tokens).click();
  await tokens.first().waitFor();
  expect((await tokens.allTextContents()).join("").trim() !== "", "no tokens after a reload");

  await page.locator("#prompt-details > summary").click();
  await page.waitForFunction(() => document.getElementById("prompt-text").textContent.includes("Dag kat"));
  await page.getByText(say.prompt_tokens, { exact: true }).click();
  expect(await page.locator("#prompt-tokens li").count() > 1, "the prompt has no tokens");
  await look("with the prompt");

  await page.locator("#inside-details > summary").click();
  await page.locator("#inside-look").click();
  await page.locator(".inside table").first().waitFor();
  const radios = page.locator(".inside [role=radio]");
  const followed = () => page.locator(".inside [aria-checked=true]").textContent();
  await radios.first().click();
  const weights = await page.locator(".inside .alternatives li").count();
  expect(weights === 1, `the first token attends to ${weights} tokens`);
  await radios.first().focus();
  await page.keyboard.press("End");
  expect(await followed() === await radios.last().textContent(), "End does not follow the last token");
  expect(await page.locator(".inside .alternatives li").count() > 1, "the last token attends to itself only");
  await page.locator(".inside input[type=range]").fill("1");
  await page.locator(".inside select").selectOption("0");
  expect(await page.locator(".inside tbody tr").count() > 2, "no prediction after each layer");
  await look("inside the model");
  await page.locator("#inside-details > summary").click();

  if (width <= 1000) await page.locator("#settings-details > summary").click();
  await page.locator("#set-max_tokens").fill("2000");
  // The model draws the end of a text too, so an answer may end before it is stopped; then another one is asked for.
  let asked = 0;
  let isStopped = false;
  while (!isStopped && asked < 5) {
    asked += 1;
    await send("Vertel een lang verhaal");
    await page.waitForFunction(() => document.getElementById("stop").hidden
      || [...document.querySelectorAll("article.assistant .content")].at(-1).textContent.length > 5);
    isStopped = await page.locator("#stop").isVisible();
    if (width > 600) await page.keyboard.press("Escape");
    else await page.locator("#stop").click({ timeout: 2000 }).catch(() => { isStopped = false; });
    await done();
  }
  expect(isStopped, "five answers ended before they were stopped");
  expect((await page.locator("#live").textContent()).match(/\d+/)?.[0] !== "2000", "an answer is not stopped");
  expect(await page.locator("article").count() === 2 + 2 * asked, "a stopped answer is not kept");
  await page.locator("#set-max_tokens").fill("5");

  await named(say.edit).first().click();
  await page.getByRole("textbox", { name: say.edit }).fill("Dag hond");
  await named(say.save).click();
  await done();
  expect(await page.locator("article").count() === 2, "an edited message keeps later ones");
  expect(await page.locator("article.user .content").first().textContent() === "Dag hond", "the edit is lost");
  if (width <= 1000) await page.locator("#list-details > summary").click();
  expect(await page.locator("#list li").count() === 2, "the conversation before the edit is not kept");
  await named(say.regenerate).last().click();
  await done();
  expect(await page.locator("article").count() === 2, "an answer again is not a version");

  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#export").click()]);
  await page.locator("#import-file").setInputFiles(await download.path());
  await page.waitForFunction(() => document.querySelectorAll("#list li").length === 4);
  await page.locator("#import-file").setInputFiles({ name: "no.json", mimeType: "application/json", buffer: Buffer.from("{}") });
  await page.locator("#alert:visible").waitFor();

  await page.locator("#new-text").click();
  await page.locator("#input").fill("De kat");
  await page.locator("#send").click();
  await done();
  expect((await page.locator("#input").inputValue()).startsWith("De kat"), "a text does not go on from what was typed");
  await page.locator("#text-tokens .token-list button").nth(1).click();
  await look("text");
  await page.locator(".alternatives li:not(.is-taken) button").first().click();
  await done();
  expect((await page.locator("#input").inputValue()).startsWith("De kat"), "a fork of a text does not begin as the text did");

  await page.locator("#new-chat").click();
  await send("LANG ".repeat(3000));
  await page.locator("#alert:visible").waitFor();
  expect(/\d+.*\d+/.test(await page.locator("#alert").textContent()), "a prompt that is too long is not refused with both counts");
  await look("refused");

  await page.locator("#model").selectOption("masked");
  await page.locator("#fill-text").fill("De kat zat op de ");
  await page.locator("#fill-mask").click();
  await page.locator("#fill-form button[type=submit]").click();
  await page.locator("#fill-result .alternatives li").first().waitFor();
  expect(!(await page.locator("#fill-result .content").textContent()).includes("[MASK]"), "a gap is not filled");
  await page.locator("#vectors-text").fill("De kat slaapt.\nDe hond slaapt.\nHet regent.");
  await page.locator("#vectors-form button[type=submit]").click();
  await page.locator("#vectors-result table").waitFor();
  expect(await page.locator("#vectors-result tbody tr").first().locator("td").first().textContent() === "1.00", "a text is not like itself");
  await look("masked model");

  await page.locator("#go-runs").click();
  await page.locator("#runs-list li").first().waitFor();
  for (const name of ["causal", "under-way"]) await page.locator("#runs-list label", { hasText: name }).first().locator("input").check();
  await page.locator("#runs-curves svg").first().waitFor();
  const curve = () => page.locator("#runs-curves figure").last().locator("polyline").evaluateAll((all) => all.map((one) => one.getAttribute("points")).join());
  const points = await curve();
  await page.waitForFunction((old) => [...document.querySelectorAll("#runs-curves figure:last-of-type polyline")]
    .map((one) => one.getAttribute("points")).join() !== old, points);
  await page.locator("#ask-run").selectOption("causal");
  await page.locator("#ask-text").fill("De kat");
  await page.locator("#ask-tokens").fill("5");
  await page.locator("#ask-send").click();
  await page.waitForFunction(() => document.getElementById("ask-stop").hidden);
  expect(await page.locator("#ask-result dd").count() > 1, "not every checkpoint answers");
  await look("runs");
  await page.reload();
  await page.locator("#runs-list li").first().waitFor();
  expect(await page.locator("#runs-view").isVisible(), "a reload leaves the runs");

  // A server that only translates and has no runs: one view, and nothing to talk with.
  const translator = { id: "translator", kind: "translator", translates: { from: "en", to: "nl" }, has_chat_template: false };
  await page.route("**/v1/models", (route) => route.fulfill({ json: { object: "list", data: [translator] } }));
  await page.route("**/runs", (route) => route.fulfill({ json: { object: "list", is_shown: true, data: [] } }));
  await page.reload();
  await page.locator("#translation").waitFor();
  for (const id of ["views", "runs-view", "talk-view", "composer", "new-chat", "settings", "inside-details", "notice"]) {
    expect(!(await page.locator(`#${id}`).isVisible()), `a server that only translates shows #${id}`);
  }
  await look("only translates");
  // With runs it has two, and the first one is not called after talking.
  await page.unroute("**/runs");
  await page.goto(address);
  await page.reload();
  await page.locator("#translation").waitFor();
  expect(await page.locator("#go-runs").isVisible(), "a translator hides the runs");
  const called = await page.locator("#go-talk").textContent();
  expect(called === { en: "Translation", nl: "Vertaling" }[language], `the first view of a translator is called ${called}`);
  await context.close();
}
