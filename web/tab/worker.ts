/** The worker of the tab: it loads Python, and answers the requests of the page with the engine in tab_engine. */

import { type Manifest, type Numbers, pack, unpack } from "./files";
import type { Progress, Request, Response as Answer } from "./protocol";

/** The parts of Pyodide that the worker uses. */
interface Pyodide {
  unpackArchive(buffer: ArrayBuffer, format: string, options?: { extractDir: string }): void;
  runPython(code: string): PyProxy;
  toPy(value: unknown): PyProxy;
}
interface PyProxy {
  (...args: unknown[]): PyProxy;
  get(index: number): PyProxy & string;
  length: number;
  getBuffer(): { data: Numbers; release(): void };
  destroy(): void;
}

/** The interface of a worker, which the library of types for pages lacks. */
declare const self: {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<Request>) => void) | null;
};

const SHARE = { python: 0.35, numpy: 0.2, rcnn: 0.15, start: 0.3 }; // of the time, for the fraction of the progress
const FOLDER = "/engine"; // of tab_engine, in Python's file system
const START = `
import os
import sys
os.environ["RCNN_REQUIRE_EXT"] = "1"  # a missing kernel is an error, because the page would be too slow without it
sys.path.insert(0, "${FOLDER}")
from tqdm import tqdm
from tab_engine import Engine
tqdm.monitor_interval = 0  # its monitor is a thread, which a browser does not start
engine = Engine()
engine.call
`;

const waiting: Request[] = [];
let isBusy = false;
let call: PyProxy | null = null;
let toPy: Pyodide["toPy"] = () => {
  throw new Error("the engine is not loaded");
};

self.onmessage = (event) => {
  waiting.push(event.data);
  if (!isBusy) void answerAll();
};

/** Answer the waiting requests. Training gives way to everything else, and only the newest detection is computed. */
async function answerAll(): Promise<void> {
  isBusy = true;
  for (;;) {
    await nextTask(); // newer requests arrive first
    const urgent = waiting.findIndex((one) => one.command !== "trainSteps");
    const [request] = waiting.splice(Math.max(urgent, 0), 1);
    if (request === undefined) break;
    if (request.command === "detect" && waiting.some((one) => one.command === "detect")) {
      send({ id: request.id, kind: "superseded" });
      continue;
    }
    try {
      const [result, transfer] = request.command === "load" ? [await load(request), []] : ask(request);
      send({ id: request.id, kind: "result", result }, transfer);
    } catch (error) {
      send({ id: request.id, kind: "error", message: messageOf(error) });
    }
  }
  isBusy = false;
}

const channel = new MessageChannel();

/** Wait until the messages that have arrived are in `waiting`. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}

function send(answer: Answer, transfer: Transferable[] = []): void {
  self.postMessage(answer, transfer);
}

/** Ask the engine, and return its answer and the buffers of its arrays. */
function ask(request: Pick<Request, "command" | "args"> | { command: "ready"; args: [] }): [unknown, Transferable[]] {
  if (call === null) throw new Error("the engine is not loaded; call load first");
  const given: Numbers[] = [];
  const text = JSON.stringify(pack(request.args, given));
  const buffers = toPy(given);
  const answer = call(request.command, text, buffers);
  const [packed, proxies] = [answer.get(0) as string, answer.get(1) as PyProxy];
  const arrays: Numbers[] = [];
  for (let index = 0; index < proxies.length; index++) {
    const proxy = proxies.get(index) as PyProxy;
    const view = proxy.getBuffer();
    arrays.push(view.data.slice());
    view.release();
    proxy.destroy();
  }
  for (const proxy of [proxies, answer, buffers]) proxy.destroy();
  return [unpack(JSON.parse(packed), arrays), arrays.map((array) => array.buffer as ArrayBuffer)];
}

/** Load Pyodide, NumPy, rcnn and the engine from the folder of the request, and return the facts about the engine. */
async function load(request: Request): Promise<unknown> {
  const [start, base] = [performance.now(), request.args[0] as string];
  const manifest = (await (await found(fetch(new URL("manifest.json", base)), "manifest.json")).json()) as Manifest;
  const { numpy, packages } = manifest;
  const sizes = { python: manifest.pyodide.size, numpy: numpy.size, rcnn: sum(packages.map((one) => one.size)), start: 0 };
  const arrived = { python: 0, numpy: 0, rcnn: 0, start: 0 };
  const report = (stage: Progress["stage"], bytes: number) => {
    arrived[stage] += bytes;
    const shares = (Object.keys(sizes) as Progress["stage"][]).map((key) =>
      sizes[key] === 0 ? 0 : SHARE[key] * Math.min(arrived[key] / sizes[key], 1),
    );
    const progress = { stage, bytes: sum(Object.values(arrived)), total: sum(Object.values(sizes)), fraction: sum(shares) };
    send({ id: request.id, kind: "progress", progress });
  };

  const original = globalThis.fetch;
  globalThis.fetch = async (...args) => counted(await original(...args), (bytes) => report("python", bytes));
  const folder = new URL(manifest.pyodide.folder, base).href;
  const archives = packages.map((one) => bytesOf(original, new URL(one.url, base).href, one.sha256, (n) => report("rcnn", n)));
  const wheel = bytesOf(original, new URL(numpy.url, base).href, numpy.sha256, (n) => report("numpy", n));
  for (const download of [wheel, ...archives]) download.catch(() => {}); // the error is reported below
  const { loadPyodide } = (await import(`${folder}pyodide.mjs`)) as {
    loadPyodide(options: { indexURL: string }): Promise<Pyodide>;
  };
  const pyodide = await loadPyodide({ indexURL: folder });
  globalThis.fetch = original;
  pyodide.unpackArchive(await wheel, "wheel");
  for (const [index, archive] of archives.entries()) {
    const isWheel = packages[index]?.url.endsWith(".whl");
    pyodide.unpackArchive(await archive, isWheel ? "wheel" : "zip", isWheel ? undefined : { extractDir: FOLDER });
  }
  report("start", 0);
  toPy = (value) => pyodide.toPy(value);
  call = pyodide.runPython(START);
  const [facts] = ask({ command: "ready", args: [] });
  const more = { recorded: false, recordedSettings: null, recordedPages: null };
  return { ...(facts as object), ...more, milliseconds: performance.now() - start };
}

/** Return the bytes of a file, after its hash was checked. */
async function bytesOf(
  get: typeof fetch,
  url: string,
  sha256: string | null,
  arrived: (bytes: number) => void,
): Promise<ArrayBuffer> {
  const bytes = await counted(await found(get(url), url), arrived).arrayBuffer();
  if (sha256 !== null) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const digits = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (digits !== sha256) throw new Error(`${url}: the file is damaged (its SHA-256 is ${digits})`);
  }
  return bytes;
}

/** Return a response, or throw an error that names the file. */
async function found(response: Promise<Response>, name: string): Promise<Response> {
  const answer = await response.catch((error: Error) => {
    throw new Error(`${name}: cannot be loaded (${error.message})`);
  });
  if (!answer.ok) throw new Error(`${name}: cannot be loaded (status ${answer.status})`);
  return answer;
}

/** Return the response, whose reader calls `arrived` with the number of bytes that have arrived. */
function counted(response: Response, arrived: (bytes: number) => void): Response {
  if (response.body === null) return response;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      arrived(chunk.byteLength);
      controller.enqueue(chunk);
    },
  });
  const { status, statusText, headers } = response;
  return new Response(response.body.pipeThrough(counter), { status, statusText, headers });
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * Return one line that says what is wrong. Of an error of Python, it is the line that names the exception: the traceback
 * stands before it, and hints with links may stand behind it. The engine raises ValueError, whose name says nothing more.
 */
function messageOf(error: unknown): string {
  const lines = (error instanceof Error ? error.message : String(error)).trim().split("\n");
  if (!lines[0].startsWith("Traceback")) return lines[0];
  const named = lines.filter((line) => /^[\w.]*(Error|Exception|Interrupt)(: |$)/.test(line));
  return (named[named.length - 1] ?? lines[lines.length - 1]).replace(/^ValueError: /, "");
}
