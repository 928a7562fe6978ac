// Use the course in a browser, as a learner does: node tests/lite.mjs FOLDER STEPS.json [PICTURES]
//
// FOLDER is written by `rcnn course export FOLDER --lite`. The script serves it, opens it in Chromium, follows a link
// of the index to a notebook, and runs cells there. STEPS.json contains the name of the notebook, and for each step the
// id of a cell and, if the learner changes it, its new code:
//
//     {"notebook": "01_boxes_and_iou", "steps": [{"cell": "iou-yours", "code": "def iou ..."}, {"cell": "iou-check"}]}
//
// The script prints one JSON object: the outputs of each step and their text in the page, the requests to other servers,
// and the errors of the page. With PICTURES, it also writes a screenshot of each step to this folder.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const MINUTE = 60_000;

const [folder, steps, pictures] = process.argv.slice(2);
const { notebook, steps: planned } = JSON.parse(await readFile(steps, "utf8"));

const { home, close } = await serve(folder);

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
const elsewhere = new Set(), errors = [], results = [];
context.on("request", (request) => {
  const url = request.url();
  if (!url.startsWith(home) && !/^(data|blob):/.test(url)) elsewhere.add(url);
});
const tab = await context.newPage();
tab.on("pageerror", (error) => errors.push(error.message));
let failure = null;
try {
  await tab.goto(home);
  await tab.waitForURL(/\/lab\/index\.html\?path=index\.md/, { timeout: MINUTE });
  if (pictures) {
    await tab.locator(".jp-RenderedMarkdown h1").waitFor({ timeout: MINUTE });
    await tab.screenshot({ path: join(pictures, "index.png") });
  }
  await tab.locator(`.jp-RenderedMarkdown a[href*="${notebook}"]`).first().click({ timeout: MINUTE });
  await tab.waitForFunction(
    (name) => window.jupyterapp.shell.currentWidget?.context?.path === name, `${notebook}.ipynb`, { timeout: MINUTE },
  );
  await tab.evaluate(() => window.jupyterapp.shell.currentWidget.revealed);
  for (const [number, { cell, code }] of planned.entries()) {
    const start = Date.now();
    const { outputs, shown } = await tab.evaluate(run, { cell, code, limit: 3 * MINUTE });
    results.push({ cell, seconds: (Date.now() - start) / 1000, outputs, shown });
    if (pictures) await tab.screenshot({ path: join(pictures, `${number}-${cell}.png`) });
  }
} catch (error) {
  failure = error.message;
  if (pictures) await tab.screenshot({ path: join(pictures, "failure.png") });
}
await browser.close();
close();
console.log(JSON.stringify({ results, elsewhere: [...elsewhere], errors, failure }));

/** Run one cell of the open notebook in the page, and return its outputs and their text. */
async function run({ cell, code, limit }) {
  const { commands, shell } = window.jupyterapp;
  const panel = shell.currentWidget;
  await panel.sessionContext.ready;
  const index = panel.content.widgets.findIndex((widget) => widget.model.id === cell);
  if (index < 0) throw new Error(`no cell ${cell}`);
  const { model } = panel.content.widgets[index];
  if (code !== undefined) model.sharedModel.setSource(code);
  panel.content.activeCellIndex = index;
  const ended = await Promise.race([
    commands.execute("notebook:run-cell").then(() => true),
    new Promise((resolve) => setTimeout(() => resolve(false), limit)),
  ]);
  if (!ended) throw new Error(`cell ${cell} did not end in ${limit / 1000} s`);
  const { node, outputArea } = panel.content.widgets[index];
  node.scrollIntoView({ block: "end" });
  const pause = () => new Promise((resolve) => setTimeout(resolve, 500)); // for the outputs to be drawn
  await pause();
  for (let i = 0; i < 60 && outputArea.node.textContent.includes("Loading widget"); i++) await pause();
  return { outputs: model.outputs.toJSON(), shown: outputArea.node.textContent };
}
