// Record the tab as an animation: node web/record.mjs FOLDER [OUT]
//
// FOLDER is the folder of the tab, or the address of the tab on a server. The default of OUT is docs/tab.webp. The
// detector must run in the tab, so the folder must contain NumPy: build it with `web/tab/build.py --numpy WHEEL`. The
// script draws digits, follows one of them through the stages and turns a knob. The browser encodes the frames, of which
// only the changed part is stored.

import { writeFile } from "node:fs/promises";
import { chromium } from "playwright-core";
import { serve } from "./tests/serve.mjs";

const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const VIEWPORT = { width: 1200, height: 850 };
const SCALE = 0.8; // of the recording
const SIZE = { width: VIEWPORT.width * SCALE, height: VIEWPORT.height * SCALE };
const QUALITIES = [0.7, 0.6, 0.5, 0.4, 0.3]; // the first that keeps the file small enough
const MOST_BYTES = 1_000_000;

// Strokes on the page of 128 x 128 pixels, as corners.
const STROKES = [
  [[14, 16], [32, 15], [30, 24], [24, 36], [21, 48]],
  [[56, 22], [62, 15], [70, 18], [71, 26], [64, 34], [56, 43], [56, 46], [74, 46]],
  [[106, 14], [99, 20], [97, 34], [101, 44], [109, 44], [112, 36], [106, 31], [98, 35]],
  [[24, 76], [34, 80], [36, 94], [30, 108], [19, 110], [13, 100], [14, 84], [24, 76]],
  [[88, 76], [101, 74], [103, 84], [93, 90], [104, 95], [102, 108], [87, 110]],
];

const [folder, out = new URL("../docs/tab.webp", import.meta.url).pathname] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node web/record.mjs FOLDER [OUT]");
  process.exit(2);
}
const server = /^https?:/.test(folder) ? { home: folder, close() {} } : await serve(folder);
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
const page = await (await browser.newContext({ viewport: VIEWPORT, deviceScaleFactor: SCALE, colorScheme: "light" })).newPage();
await page.goto(server.home);
await page.waitForSelector("rcnn-tab[data-ready=live]", { timeout: 120_000 });
await page.addStyleTag({ content: "main > h1, main > .intro { display: none } body { padding: 14px 18px !important }" });
await page.evaluate(() => {
  const hand = document.createElement("div"); // a screenshot does not show the mouse
  hand.style.cssText =
    "position:fixed;z-index:9;width:18px;height:18px;margin:-9px;border-radius:50%;background:rgb(213 94 0 / .55);" +
    "border:2px solid #fff;box-shadow:0 0 3px rgb(0 0 0 / .6);pointer-events:none;left:-30px;top:-30px";
  document.body.append(hand);
  const follow = ({ clientX, clientY }) => Object.assign(hand.style, { left: `${clientX}px`, top: `${clientY}px` });
  document.addEventListener("pointermove", follow, true);
});

const frames = []; // { png, milliseconds }
async function shoot(milliseconds) {
  frames.push({ png: (await page.screenshot()).toString("base64"), milliseconds });
}
async function settle(milliseconds) {
  await page.waitForTimeout(milliseconds);
  await page.waitForSelector("rcnn-tab:not([aria-busy])");
  await page.waitForTimeout(100);
}
async function center(selector) {
  const { x, y, width, height } = await page.locator(selector).first().boundingBox();
  return [x + width / 2, y + height / 2];
}
async function press(selector, milliseconds = 900) {
  const [x, y] = await center(selector);
  await page.mouse.click(x, y);
  await settle(600);
  await shoot(milliseconds);
}

await press("text=Clear", 700);
const pad = await page.locator(".pad canvas").first().boundingBox();
const at = ([x, y]) => [pad.x + (x / 128) * pad.width, pad.y + (y / 128) * pad.height];
for (const stroke of STROKES) {
  await page.mouse.move(...at(stroke[0]));
  await page.mouse.down();
  for (let i = 1; i < stroke.length; i++) {
    await page.mouse.move(...at(stroke[i]), { steps: 6 });
    await settle(120);
    if (i % 2 === 0) await shoot(240);
  }
  await page.mouse.up();
  await settle(300);
  await shoot(500);
}
const show = (selector, block) =>
  page.evaluate(
    ([name, place]) => document.querySelector("rcnn-tab").shadowRoot.querySelector(name).scrollIntoView({ block: place }),
    [selector, block],
  );
await page.locator("[data-stage=features] .title").click();
await show(".detail", "start");
await settle(600);
await shoot(1500);
for (let i = 0; i < 6; i++) await press("text=next stage", i === 0 || i === 5 ? 800 : 1300);
await press("text=next stage", 1000);
await show(".tracing", "start");
await settle(600);
await shoot(2600);
await page.evaluate(() => window.scrollTo(0, 0));
await page.locator(".knob input").nth(3).focus();
for (let i = 0; i < 4; i++) {
  await page.keyboard.press("ArrowLeft");
  await settle(300);
  await shoot(450);
}
await shoot(1800);

await page.goto("about:blank");
let file = null;
for (const quality of QUALITIES) {
  const parts = [];
  for (let i = 0; i < frames.length; i++) {
    const before = i ? frames[i - 1].png : null;
    const part = await page.evaluate(encode, { png: frames[i].png, before, quality });
    if (part) parts.push({ ...part, milliseconds: frames[i].milliseconds });
    else parts[parts.length - 1].milliseconds += frames[i].milliseconds;
  }
  file = animation(parts, SIZE);
  if (file.length <= MOST_BYTES) break;
}
await browser.close();
server.close();
if (file.length > MOST_BYTES) {
  console.error(`the animation has ${file.length} bytes, more than ${MOST_BYTES}; record fewer frames`);
  process.exit(1);
}
await writeFile(out, file);
console.log(`${out}: ${frames.length} frames, ${file.length} bytes`);

/** Return the part of a picture that differs from the one before, as WebP, or null. This function runs in the browser. */
async function encode({ png, before, quality }) {
  const load = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return createImageBitmap(new Blob([bytes], { type: "image/png" }));
  };
  const bitmap = await load(png);
  const { width, height } = bitmap;
  const pixels = (image) => {
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(image, 0, 0);
    return new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  };
  let [left, top, right, bottom] = [0, 0, width, height];
  if (before) {
    const [now, old] = [pixels(bitmap), pixels(await load(before))];
    [left, top, right, bottom] = [width, height, 0, 0];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (now[y * width + x] === old[y * width + x]) continue;
        [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
      }
    }
    if (right <= left) return null;
    [left, top] = [left - (left % 2), top - (top % 2)]; // the format stores half the offsets
  }
  const canvas = new OffscreenCanvas(right - left, bottom - top);
  canvas.getContext("2d").drawImage(bitmap, -left, -top);
  const blob = await canvas.convertToBlob({ type: "image/webp", quality });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { left, top, width: right - left, height: bottom - top, data: btoa(text) };
}

/** Return an animated WebP file (RIFF with the chunks VP8X, ANIM and ANMF). */
function animation(parts, { width, height }) {
  const chunk = (name, content) => {
    const head = Buffer.alloc(8);
    head.write(name, 0, "latin1");
    head.writeUInt32LE(content.length, 4);
    return Buffer.concat([head, content, Buffer.alloc(content.length % 2)]);
  };
  const extended = Buffer.alloc(10);
  extended[0] = 2; // animation
  extended.writeUIntLE(width - 1, 4, 3);
  extended.writeUIntLE(height - 1, 7, 3);
  const frames = parts.map((part) => {
    const head = Buffer.alloc(16);
    head.writeUIntLE(part.left / 2, 0, 3);
    head.writeUIntLE(part.top / 2, 3, 3);
    head.writeUIntLE(part.width - 1, 6, 3);
    head.writeUIntLE(part.height - 1, 9, 3);
    head.writeUIntLE(part.milliseconds, 12, 3);
    head[15] = 2; // do not blend with the frame before
    return chunk("ANMF", Buffer.concat([head, imageChunks(Buffer.from(part.data, "base64"))]));
  });
  const content = Buffer.concat([Buffer.from("WEBP"), chunk("VP8X", extended), chunk("ANIM", Buffer.alloc(6)), ...frames]);
  return chunk("RIFF", content);
}

/** Return the chunks of a still WebP file that contain the image. */
function imageChunks(file) {
  const kept = [];
  for (let at = 12; at < file.length; ) {
    const length = file.readUInt32LE(at + 4);
    const end = at + 8 + length + (length % 2);
    if (["VP8 ", "VP8L", "ALPH"].includes(file.toString("latin1", at, at + 4))) kept.push(file.subarray(at, end));
    at = end;
  }
  return Buffer.concat(kept);
}
