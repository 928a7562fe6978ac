// Test the page of the tab in Chromium, with recorded answers: node tests/tab.mjs FOLDER [PART ...]
//
// FOLDER is a folder that web/tab/build.py has written; it may lack Python. The recorded walk is used as it is. For what
// only a live detector can do, such as drawing, the page gets an engine that answers with the recording (tab-live.ts).
// The script prints the problems, and ends with 1 if there are any.

import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const WIDE = { width: 1200, height: 900 };
const NARROW = { width: 360, height: 740 };
const STAGES = ["features", "anchors", "objectness", "proposals", "samples", "pooled", "scores", "detections"];
const HERE = fileURLToPath(new URL(".", import.meta.url));

const [folder, ...chosen] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node tests/tab.mjs FOLDER [PART ...]");
  process.exit(2);
}
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const problems = [];
const { home, close } = await serve(folder);
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const live = await build({
  entryPoints: [join(HERE, "tab-live.ts")], bundle: true, write: false, format: "iife", target: "es2022", loader: { ".css": "text" },
});

/** Open the page. With `script`, it replaces the script of the page. */
async function open(name, options, { script, query = "" } = {}) {
  const context = await browser.newContext({ viewport: WIDE, colorScheme: "light", ...options });
  const tab = await context.newPage();
  const problem = (text) => problems.push(`${name}: ${text}`);
  const expect = (condition, text) => condition || problem(text);
  tab.setDefaultTimeout(20_000);
  tab.on("console", (message) => message.type() === "error" && problem(`console: ${message.text()}`));
  tab.on("pageerror", (error) => problem(`error: ${error.message}`));
  tab.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(home)) problem(`request to ${request.url()}`);
  });
  if (script) {
    await tab.route("**/tab.js", (route) => route.fulfill({ body: script, contentType: "text/javascript" }));
  }
  // As in a folder without Python: otherwise, the page asks the server of Pyodide for NumPy.
  await tab.route("**/manifest.json", (route) => route.fulfill({ status: 404 }));
  await tab.goto(home + query);
  await tab.waitForSelector(`rcnn-tab[data-ready=${script ? "live" : "recorded"}]`);
  await tab.waitForSelector(".tracing li");
  const text = (selector) => tab.locator(selector).first().innerText();
  const calls = (command) => tab.evaluate((wanted) => window.calls.filter((call) => call.command === wanted).length, command);
  return { tab, problem, expect, text, calls, close: () => context.close() };
}

/** Return whether a canvas has more than one colour. */
function isDrawn(tab, selector) {
  return tab.locator(selector).first().evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const values = new Uint32Array(data.buffer);
    return values.some((value) => value !== values[0]);
  });
}

/** Wait until a condition in the page holds. */
async function until(problem, condition, text) {
  for (let i = 0; i < 100; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  problem(text);
}

async function inspect({ tab, problem }, where) {
  const wider = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wider > 1) problem(`${where}: ${wider} px wider than the window`);
  await tab.addScriptTag({ path: axe });
  const { violations } = await tab.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    problem(`${where}: ${id}: ${help}; ${nodes.length} times, first ${nodes[0].html.slice(0, 140)}`);
  }
}

/** Go through all stages and views of the recorded walk. */
async function walk(name, options) {
  const page = await open(name, options, { query: "?recorded" });
  const { tab, problem, expect, text } = page;
  expect((await text(".state")).includes("Recorded walk"), "the page does not say that the walk is recorded");
  for (const stage of STAGES) {
    expect(await isDrawn(tab, `[data-stage=${stage}] canvas`), `stage ${stage} is not drawn in the overview`);
    await tab.locator(`[data-stage=${stage}] .title`).click();
    await until(problem, async () => (await tab.locator(".detail .sums").innerText()).length > 40, `stage ${stage} has no numbers`);
    await tab.waitForTimeout(100);
    expect(await isDrawn(tab, ".detail .picture canvas"), `stage ${stage} is not drawn in the detail`);
    expect((await tab.locator(".detail .notice").count()) === 0, `stage ${stage}: ${await tab.locator(".detail .sums").innerText()}`);
    expect((await tab.locator(`[data-stage=${stage}]`).getAttribute("aria-pressed")) === "true", `stage ${stage} is not pressed`);
    await inspect(page, `stage ${stage}`);
  }
  expect((await tab.locator(".path li").count()) === 7, "the path of a detection does not have seven steps");
  await tab.locator("#tab-break").click();
  await tab.locator(".fault").nth(1).click();
  await tab.waitForSelector(".verdict.trouble");
  expect(await isDrawn(tab, ".pair canvas"), "the page of the doctor is not drawn");
  await inspect(page, "break");
  await tab.locator("#tab-train").click();
  await tab.locator(".actions .primary").click();
  await tab.waitForSelector("path.loss");
  await tab.locator(".actions .primary").click();
  await inspect(page, "train");
  await page.close();
}

/** Check the numbers that the page computes itself, and what a click and a key choose. */
async function choose() {
  const page = await open("choose", {}, { query: "?recorded" });
  const { tab, expect, problem, text } = page;
  const count = Number((await text("[data-stage=detections] .count")).split(" ")[0]);
  expect((await tab.locator(".chip").count()) === count, "there is not one button for each detection");
  for (let i = 0; i < count; i++) {
    await tab.locator(".chip").nth(i).click();
    const label = (await tab.locator(".chip").nth(i).innerText()).split(" ")[0];
    await until(problem, async () => (await text(".tracing h3")).endsWith(`a ${label}?`), `detection ${i} is not traced back`);
  }
  await tab.locator(".chip").first().click();
  const heading = await text(".tracing h3");
  await tab.locator(".detail .picture [tabindex='0']").focus();
  await tab.keyboard.press("ArrowRight");
  await until(problem, async () => (await tab.locator(".chip").nth(1).getAttribute("aria-pressed")) === "true", "an arrow key does not choose the next detection");
  await until(problem, async () => (await text(".tracing h3")) !== heading, "the path does not follow the arrow key");

  await tab.locator("[data-stage=features] .title").click();
  await until(problem, async () => (await text(".detail .sums")).includes("batch norm"), "the feature has no batch norm");
  const cells = await tab.locator(".detail tbody td:last-child").allInnerTexts();
  const products = cells.map((value) => Number(value.replace("−", "-")));
  const total = products.pop();
  const sum = products.reduce((part, value) => part + value, 0);
  expect(Math.abs(sum - total) < 0.01, `the products have the sum ${sum}, the table says ${total}`);

  await tab.locator("[data-stage=anchors] .title").click();
  await until(problem, async () => (await text(".detail .sums")).includes("centre ="), "the anchor has no numbers");
  const formulas = await text(".detail .sums");
  const [, size, ratio] = /size ([\d.]+), ratio ([\d.]+)/.exec(formulas);
  const [, x1, y1, x2, y2] = /box = \((.+), (.+), (.+), (.+)\)/.exec(formulas.replace(/−/g, "-")).map(Number);
  expect(Math.abs(x2 - x1 - size / Math.sqrt(ratio)) <= 2, `the width of the anchor is ${x2 - x1}`);
  expect(Math.abs(y2 - y1 - size * Math.sqrt(ratio)) <= 2, `the height of the anchor is ${y2 - y1}`);
  await tab.locator(".detail .picture canvas").click(); // the centre, (64, 64), is cell (8, 8)
  await until(problem, async () => (await text(".detail .sums")).includes("(8 × 8, 8 × 8) = (64, 64)"), "a click does not choose the cell");

  await tab.locator("[data-stage=samples] .title").click();
  await until(problem, async () => (await text(".detail .sums")).includes("Bilinear"), "the bin has no numbers");
  const rows = await tab.locator(".detail .value").allInnerTexts();
  expect(rows.length === 4, `the bin has ${rows.length} samples`);
  const mean = rows.reduce((total, value) => total + Number(value), 0) / rows.length;
  const result = Number(/= ([\d.]+)$/.exec((await text(".detail .sums")).trim())[1]);
  expect(Math.abs(mean - result) < 0.002 * Math.max(1, mean), `the mean of the samples is ${mean}, the pooled feature ${result}`);

  await tab.locator("[data-stage=detections] canvas").click({ position: { x: 5, y: 5 } }); // no detection there
  await tab.locator("text=← previous stage").click();
  expect((await text(".detail h2")).includes("Class scores"), "the button does not open the previous stage");
  await page.close();
}

async function turn() {
  const page = await open("knobs", {}, { query: "?recorded" });
  const { tab, expect, problem, text } = page;
  const count = async (stage) => Number(/→ (\d+)|(\d+)/.exec(await text(`[data-stage=${stage}] .count`))[0].replace("→ ", ""));
  const before = await count("detections");
  const slider = tab.locator(".knob input").first();
  await slider.focus();
  for (let i = 0; i < 9; i++) await tab.keyboard.press("ArrowRight");
  await tab.waitForSelector(".before:not([hidden])");
  await until(problem, async () => /detections \d+ → \d+/.test(await text(".before")), "the comparison has no counts");
  const [, old, now] = /detections (\d+) → (\d+)/.exec(await text(".before")).map(Number);
  expect(old === before && now < old, `with a higher threshold, the detections go from ${old} to ${now}`);
  expect((await text(".before")).includes(`${old - now} gone`), "the comparison does not count what is gone");
  expect((await text("[data-stage=detections] .count")).includes(`${old} → ${now}`), "the overview does not show the change");
  await tab.locator("text=Reset").click();
  await until(problem, async () => (await text(".before")).includes(`${now} → ${old}`), "the reset has no comparison");
  await tab.locator(".knob select").selectOption("1");
  await until(problem, async () => (await text("[data-stage=samples] .count")).includes("whole cells"), "RoIPool has no cells");
  await page.close();
}

/** Use what only a live detector can do. */
async function draw(name, options, touch) {
  const page = await open(name, options, { script: live.outputFiles[0].text });
  const { tab, expect, problem, text, calls } = page;
  expect((await text(".state")).includes("Nothing leaves your computer"), "the page does not say that it is live");
  const pixels = () =>
    tab.locator(".pad canvas").first().evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, 128, 128);
      let dark = 0;
      for (let i = 0; i < data.length; i += 4) dark += data[i] < 90 ? 1 : 0;
      return dark;
    });
  const stroke = async () => {
    await tab.locator(".pad canvas").first().scrollIntoViewIfNeeded();
    const { x, y, width } = await tab.locator(".pad canvas").first().boundingBox();
    const points = [0.3, 0.4, 0.5, 0.6, 0.7].map((share) => [x + share * width, y + share * width]);
    if (touch) {
      const client = await tab.context().newCDPSession(tab);
      const send = (type, point) =>
        client.send("Input.dispatchTouchEvent", { type, touchPoints: point ? [{ x: point[0], y: point[1] }] : [] });
      await send("touchStart", points[0]);
      for (const point of points) await send("touchMove", point);
      await send("touchEnd");
    } else {
      await tab.mouse.move(...points[0]);
      await tab.mouse.down();
      for (const point of points) await tab.mouse.move(...point, { steps: 3 });
      await tab.mouse.up();
    }
  };
  await tab.locator("text=Clear").click();
  expect((await pixels()) === 0, "the cleared page is not blank");
  expect((await text(".hint")).includes("Draw digits"), "the blank page has no hint");
  const asked = await calls("detect");
  const scrolled = await tab.evaluate(() => window.scrollY);
  await stroke();
  expect((await tab.evaluate(() => window.scrollY)) === scrolled || !touch, "drawing with a finger scrolls the page");
  const drawn = await pixels();
  expect(drawn > 150, `a stroke has ${drawn} dark pixels`);
  await until(problem, async () => (await calls("detect")) > asked, "a stroke does not update the stages");
  const sent = await tab.evaluate(() => {
    const [{ data }] = window.calls.filter((call) => call.command === "detect").at(-1).args;
    return data.filter((value, i) => i % 3 === 0 && value < 90).length;
  });
  expect(sent === drawn, `the engine gets ${sent} of ${drawn} dark pixels`);
  await tab.locator("text=Undo").click();
  expect((await pixels()) === 0, "undo does not remove the stroke");
  await tab.locator(".pens select").selectOption("2");
  await stroke();
  expect((await pixels()) > drawn, "the bold pen is not wider");
  await tab.locator("text=Take a page").click();
  await until(problem, async () => (await pixels()) !== 0, "there is no page");

  await tab.locator("#tab-train").click();
  await tab.locator(".actions .primary").click();
  await until(problem, async () => (await calls("trainSteps")) > 3, "the training does not start");
  await tab.locator(".actions .primary").click();
  expect((await text(".actions .primary")) === "Resume", "the button does not offer to resume");
  await tab.waitForTimeout(400);
  const steps = await calls("trainSteps");
  await tab.waitForTimeout(400);
  expect((await calls("trainSteps")) === steps, "the training goes on while it is paused");
  await tab.locator(".actions .primary").click();
  await until(problem, async () => (await calls("trainSteps")) > steps + 3, "the training does not resume");
  await tab.locator(".actions .primary").evaluate((button) => [1, 2, 3, 4].forEach(() => button.click())); // faster than a step
  await until(problem, async () => /Step \d+ of \d+, AP50 0\.\d\d/.test(await text("[role=tabpanel]:not([hidden]) [role=status]")), "there is no AP");
  expect((await tab.evaluate(() => window.mostAtOnce)) === 1, "a resumed training asks for steps twice");
  expect(await isDrawn(tab, "[role=tabpanel]:not([hidden]) canvas"), "the page of the training is not drawn");
  await tab.locator("#tab-train").focus();
  await tab.keyboard.press("ArrowRight");
  expect((await tab.locator("#tab-break").getAttribute("aria-selected")) === "true", "an arrow key does not change the view");
  await page.close();
}

/** A browser without SIMD stays with the recorded walk, and says so. */
async function withoutSimd() {
  const script = `WebAssembly.validate = () => false;\n${await (await fetch(`${home}tab.js`)).text()}`;
  const context = await browser.newContext({ viewport: WIDE });
  const tab = await context.newPage();
  await tab.route("**/tab.js", (route) => route.fulfill({ body: script, contentType: "text/javascript" }));
  await tab.goto(home);
  await tab.waitForSelector("rcnn-tab[data-ready=recorded]");
  const text = await tab.locator(".state").innerText();
  if (!text.includes("no WebAssembly SIMD")) problems.push(`without SIMD: the page says ${text}`);
  if (await tab.locator("text=Clear").isVisible()) problems.push("without SIMD: the page offers to draw");
  await context.close();
}

const parts = [];
for (const colorScheme of ["light", "dark"]) {
  for (const viewport of [WIDE, NARROW]) {
    const name = `walk (${colorScheme}, ${viewport.width} px)`;
    parts.push([name, () => walk(name, { colorScheme, viewport })]);
  }
}
parts.push(
  ["choose", choose],
  ["knobs", turn],
  ["draw with a mouse", () => draw("draw with a mouse", {}, false)],
  ["draw with a finger", () => draw("draw with a finger", { viewport: NARROW, hasTouch: true }, true)],
  ["without SIMD", withoutSimd],
);
for (const [name, part] of parts) {
  if (chosen.length && !chosen.some((word) => name.includes(word))) continue;
  await part().catch((error) => problems.push(`${name}: ${error.message.split("\n").slice(0, 3).join(" ")}`));
}
await browser.close();
close();
for (const problem of problems) console.log(problem);
console.log(`${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
