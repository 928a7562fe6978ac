// Test the built book in Chromium: node tests/site.mjs FOLDER [PAGE ...]
//
// Each page is opened in light and dark, wide and narrow. A problem is an error in the console, a request to another
// server, content wider than the window, or anything that axe-core finds. The search and the switch between light and
// dark are used once, and each explorer with the keyboard, a finger and the mouse. The script prints the problems, and
// ends with 1 if there are any.

import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const PAGES = [
  "index", "course", "course/01_boxes_and_iou", "course/08_proposals_and_nms", "guides", "your_own_images", "speed",
  "reference/index", "reference/rcnn.nms", "reference/rcnn.plot", "plots/index", "plots/01_boxes", "glossary", "history",
];
const EXPLORERS = [
  ["course/01_boxes_and_iou", "rcnn-box-iou"], ["course/04_anchors", "rcnn-anchor-painter"],
  ["course/08_proposals_and_nms", "rcnn-nms-stepper"], ["course/09_roipool_and_roialign", "rcnn-pool-compare"],
  ["course/12_post_processing_and_ap", "rcnn-score-threshold"],
];
const WIDE = { width: 1100, height: 900 };
const NARROW = { width: 360, height: 740 };

const [folder, ...chosen] = process.argv.slice(2);
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const problems = [];

const { home, close } = await serve(folder);

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });

async function open(page, options) {
  const context = await browser.newContext(options);
  const tab = await context.newPage();
  const report = (text) => problems.push(`${page} (${options.colorScheme}, ${options.viewport.width} px): ${text}`);
  tab.on("console", (message) => message.type() === "error" && report(`console: ${message.text()}`));
  tab.on("pageerror", (error) => report(`error: ${error.message}`));
  tab.on("request", (request) => {
    if (!request.url().startsWith(home) && !request.url().startsWith("data:")) report(`request to ${request.url()}`);
  });
  await tab.goto(`${home}${page}.html`, { waitUntil: "load" });
  return { tab, report, close: () => context.close() };
}

async function inspect(page, options) {
  const { tab, report, close } = await open(page, options);
  const wider = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wider > 1) report(`${wider} px wider than the window`);
  await tab.addScriptTag({ path: axe });
  const { violations } = await tab.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    report(`${id}: ${help}; ${nodes.length} times, first ${nodes[0].html.slice(0, 120)}`);
  }
  await close();
}

async function use() {
  const options = { colorScheme: "light", viewport: WIDE };
  const search = await open("search", options);
  await search.tab.goto(`${home}search.html?q=suppression`);
  await search.tab.waitForSelector("#search-results li", { timeout: 20_000 }).catch(() => search.report("no results"));
  await search.close();

  const theme = await open("index", options);
  const scheme = () => theme.tab.evaluate(() => document.documentElement.dataset.theme);
  const before = await scheme();
  await theme.tab.locator(".theme-switch-button:visible").first().click();
  const dark = theme.tab.locator("button[data-mode='dark'], .theme-switch-dropdown button:has-text('Dark')").first();
  if (await dark.isVisible().catch(() => false)) await dark.click();
  else for (let i = 0; i < 3 && (await scheme()) === before; i++) await theme.tab.locator(".theme-switch-button:visible").first().click();
  if ((await scheme()) === before) theme.report("the switch does not change the colours");
  await theme.close();

  for (const [page, tag] of EXPLORERS) {
    await useKeyboard(page, tag);
    await useTouch(page, tag);
  }
  await useMouse();
}

/** Move every slider of an explorer with the keyboard: each key must change what the explorer shows. */
async function useKeyboard(page, tag) {
  const { tab, report, close } = await open(page, { colorScheme: "light", viewport: WIDE });
  const shown = () => tab.locator(tag).evaluate((element) => element.textContent + element.querySelector(".drawing").innerHTML);
  if (!(await tab.locator(`${tag} [role=status]`).textContent().catch(() => ""))) report(`${tag} shows nothing`);
  if (await tab.locator(`${tag} img`).count()) report(`${tag} still shows the image for pages without scripts`);
  const sliders = tab.locator(`${tag} input`);
  await sliders.first().focus();
  for (let i = 0; i < (await sliders.count()); i++) {
    const name = await sliders.nth(i).evaluate((slider) => slider.parentElement.querySelector("span").textContent);
    if (!(await sliders.nth(i).evaluate((slider) => slider === document.activeElement))) {
      report(`${tag}: the Tab key does not reach ${name}`);
    }
    const [before, value] = [await shown(), await sliders.nth(i).inputValue()];
    const atEnd = value === (await sliders.nth(i).getAttribute("max"));
    await tab.keyboard.press(atEnd ? "ArrowLeft" : "ArrowRight");
    if ((await sliders.nth(i).inputValue()) === value) report(`${tag}: ${name} ignores the arrow keys`);
    if ((await shown()) === before) report(`${tag}: ${name} changes nothing`);
    const text = await sliders.nth(i).getAttribute("aria-valuetext");
    if (!text || text !== (await tab.locator(`${tag} output`).nth(i).textContent())) report(`${tag}: ${name} has no text`);
    await tab.keyboard.press("Tab");
  }
  await close();
}

/** Move the first slider of an explorer with a finger, on a narrow screen that has no mouse. */
async function useTouch(page, tag) {
  const { tab, report, close } = await open(page, { colorScheme: "light", viewport: NARROW, hasTouch: true, isMobile: true });
  const slider = tab.locator(`${tag} input`).first();
  await slider.scrollIntoViewIfNeeded();
  const [box, before] = [await slider.boundingBox(), await slider.inputValue()];
  if (box.height < 24) report(`${tag}: the slider is only ${box.height} px high`);
  await tab.touchscreen.tap(box.x + 0.8 * box.width, box.y + box.height / 2);
  const tapped = await slider.inputValue();
  if (tapped === before) report(`${tag} ignores a tap on the slider`);
  const y = box.y + box.height / 2;
  await swipe(tab, [box.x + 0.8 * box.width, y], [box.x + 0.3 * box.width, y]);
  if (Number(await slider.inputValue()) >= Number(tapped)) report(`${tag}: a finger does not move the slider`);
  if (tag === "rcnn-box-iou") await dragWithFinger(tab, report, tag);
  await close();
}

/** Drag box B with a finger; a finger elsewhere must scroll the page. */
async function dragWithFinger(tab, report, tag) {
  const values = () => tab.locator(`${tag} input`).evaluateAll((sliders) => sliders.map(({ value }) => Number(value)));
  const handle = tab.locator(`${tag} .handle`);
  await handle.scrollIntoViewIfNeeded();
  await tab.evaluate(() => window.scrollBy(0, 200));
  const [{ x, y, width, height }, before, top] = [await handle.boundingBox(), await values(), await scrolled(tab)];
  await swipe(tab, [x + width / 2, y + height / 2], [x + width / 2 + 30, y + height / 2 - 40]);
  const after = await values();
  if (after[0] <= before[0] || after[1] >= before[1]) report(`${tag}: a finger moves B from ${before} to ${after}`);
  if ((await scrolled(tab)) !== top) report(`${tag}: the page scrolls while a finger moves B`);
  const field = await tab.locator(`${tag} .field`).boundingBox();
  await swipe(tab, [field.x + 10, field.y + field.height - 10], [field.x + 10, field.y + field.height - 160]);
  if (String(await values()) !== String(after)) report(`${tag}: a finger next to B moves B`);
  if ((await scrolled(tab)) === top) report(`${tag}: a finger next to B does not scroll the page`);
}

async function scrolled(tab) {
  await tab.waitForTimeout(300); // scrolling goes on for a moment
  return tab.evaluate(() => window.scrollY);
}

/** Move a finger from one point to another. */
async function swipe(tab, [x1, y1], [x2, y2], steps = 8) {
  const session = await tab.context().newCDPSession(tab);
  const send = (type, touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
  await send("touchStart", [{ x: x1, y: y1 }]);
  for (let i = 1; i <= steps; i++) {
    await send("touchMove", [{ x: x1 + ((x2 - x1) * i) / steps, y: y1 + ((y2 - y1) * i) / steps }]);
  }
  await send("touchEnd", []);
}

async function useMouse() {
  const [page, tag] = EXPLORERS[0];
  const { tab, report, close } = await open(page, { colorScheme: "light", viewport: WIDE });
  const slider = tab.locator(`${tag} input`).first();
  const field = tab.locator(`${tag} .field`);
  await field.scrollIntoViewIfNeeded();
  const [box, before] = [await field.boundingBox(), Number(await slider.inputValue())];
  await tab.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await tab.mouse.down();
  await tab.mouse.move(box.x + box.width / 2 - 60, box.y + box.height / 2, { steps: 4 });
  await tab.mouse.up();
  const moved = Number(await slider.inputValue());
  if (moved >= before) report(`${tag} ignores the mouse`);
  await tab.mouse.move(box.x + box.width / 2 + 60, box.y + box.height / 2);
  if (Number(await slider.inputValue()) !== moved) report(`${tag} moves after the button is released`);
  await close();
}

for (const page of chosen.length ? chosen : PAGES) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [WIDE, NARROW]) await inspect(page, { colorScheme, viewport });
  }
}
await use();
await browser.close();
close();
for (const problem of problems) console.log(problem);
console.log(`${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
