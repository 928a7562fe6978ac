// Test the built book in Chromium: node tests/site.mjs FOLDER [PAGE ...]
//
// Each page is opened in light and dark, wide and narrow. A problem is an error in the console, a request to another
// server, content wider than the window, or anything that axe-core finds. The search, the switch between light and
// dark, and the explorers are used once. The script prints the problems, and ends with 1 if there are any.

import { createServer } from "node:http";
import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".json": "application/json",
  ".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml", ".woff": "font/woff", ".woff2": "font/woff2",
};
const PAGES = [
  "index", "course", "course/01_boxes_and_iou", "course/08_proposals_and_nms", "guides", "your_own_images", "speed",
  "reference/index", "reference/rcnn.nms", "reference/rcnn.plot", "plots/index", "plots/01_boxes", "glossary", "history",
];
const WIDE = { width: 1100, height: 900 };
const NARROW = { width: 360, height: 740 };

const [folder, ...chosen] = process.argv.slice(2);
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const problems = [];

const server = createServer(async (request, response) => {
  let path = join(folder, normalize(decodeURIComponent(new URL(request.url, "http://here").pathname)));
  try {
    if ((await stat(path)).isDirectory()) path = join(path, "index.html");
    response.writeHead(200, { "Content-Type": TYPES[extname(path)] || "application/octet-stream" });
    response.end(await readFile(path));
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const home = `http://127.0.0.1:${server.address().port}/`;

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

  for (const [page, tag] of [
    ["course/01_boxes_and_iou", "rcnn-box-iou"], ["course/04_anchors", "rcnn-anchor-painter"],
    ["course/08_proposals_and_nms", "rcnn-nms-stepper"], ["course/09_roipool_and_roialign", "rcnn-pool-compare"],
    ["course/12_post_processing_and_ap", "rcnn-score-threshold"],
  ]) {
    const { tab, report, close } = await open(page, options);
    const status = tab.locator(`${tag} [role=status]`);
    const text = await status.textContent().catch(() => "");
    if (!text) report(`${tag} shows nothing`);
    const slider = tab.locator(`${tag} input`).first();
    await slider.focus();
    for (let i = 0; i < 6; i++) await tab.keyboard.press("ArrowRight");
    if ((await slider.inputValue()) === (await slider.getAttribute("value"))) report(`${tag} ignores the arrow keys`);
    if (tag === "rcnn-box-iou") {
      if ((await status.textContent()) === text) report(`${tag} does not change its text`);
      const box = await tab.locator(`${tag} svg`).boundingBox();
      const moved = await slider.inputValue();
      await tab.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await tab.mouse.down();
      await tab.mouse.move(box.x + box.width / 2 - 60, box.y + box.height / 2);
      await tab.mouse.up();
      if ((await slider.inputValue()) === moved) report(`${tag} ignores the mouse`);
    }
    await close();
  }
}

for (const page of chosen.length ? chosen : PAGES) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [WIDE, NARROW]) await inspect(page, { colorScheme, viewport });
  }
}
await use();
await browser.close();
server.close();
for (const problem of problems) console.log(problem);
console.log(`${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
