// Use the engine of the tab in Chromium: node tests/engine.mjs FOLDER QUESTIONS ANSWERS [engine|recording]
//
// FOLDER is what tab/build.py has written. QUESTIONS is a file in JSON, a list of [command, argument, ...]. An argument
// {"page": index} is the image of a page. ANSWERS receives the list of answers; an answer is {"result"} or {"error"} with
// the milliseconds, and an array in it is {"shape", "data"}. Requests to other servers, and errors, end with status 1.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const [folder, questions, answers, kind = "engine"] = process.argv.slice(2);

const entry = `export { connect, canRun } from "./client"; export { play } from "./player";`;
const directory = join(import.meta.dirname, "../tab");
const bundle = await build({
  stdin: { contents: entry, resolveDir: directory, loader: "ts" },
  bundle: true, write: false, format: "iife", globalName: "tab", target: "es2022",
});

const { home, close } = await serve(folder);
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const page = await browser.newPage();
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
page.on("request", (request) => request.url().startsWith(home) || request.url().startsWith("data:") || problems.push(`request to ${request.url()}`));
const blank = "<!doctype html><link rel=icon href=data:,><title>engine</title>";
await page.route(`${home}blank`, (route) => route.fulfill({ contentType: "text/html", body: blank }));
await page.goto(`${home}blank`);
await page.addScriptTag({ content: bundle.outputFiles[0].text });

const results = await page.evaluate(
  async ([asked, kind]) => {
    const engine = kind === "engine" ? tab.connect("./") : tab.play("./");
    const progress = [];
    let ready;
    try {
      ready = await engine.load((one) => progress.push(one));
    } catch (error) {
      return [{ error: error.message }];
    }
    const plain = (value) => {
      if (ArrayBuffer.isView(value)) return Array.from(value);
      if (Array.isArray(value)) return value.map(plain);
      if (typeof value !== "object" || value === null) return value;
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
    };
    const results = [{ result: { ready, progress } }];
    for (const [command, ...given] of asked) {
      const args = [];
      for (const one of given) args.push(one?.page === undefined ? one : (await engine.page(one.page)).image);
      const start = performance.now();
      try {
        const result = await engine[command](...args);
        results.push({ milliseconds: performance.now() - start, result: plain(result) });
      } catch (error) {
        results.push({ milliseconds: performance.now() - start, error: error.message });
      }
    }
    if (kind === "engine") {
      // of three detections at once, only the last one is computed
      const { image } = await engine.page(0);
      const all = await Promise.allSettled([0, 1, 2].map(() => engine.detect(image, ready.defaults)));
      results.push({ result: all.map(({ status, reason }) => reason?.message ?? status) });
      // a detection does not wait until all training steps are done
      const order = [];
      const asked = [engine.trainSteps(1), engine.trainSteps(1), engine.detect(image, ready.defaults)];
      await Promise.allSettled(asked.map((one, index) => one.finally(() => order.push(index))));
      results.push({ result: order });
    }
    engine.close();
    return results;
  },
  [JSON.parse(await readFile(questions, "utf8")), kind],
);
await browser.close();
close();
await writeFile(answers, JSON.stringify(results));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
