/** The engine in a worker, as the page sees it. */

import { type Command, type Engine, type Progress, type Request, type Response, Superseded } from "./protocol";

/** A promise that waits for an answer of the worker. */
interface Waiting {
  resolve(value: never): void;
  reject(error: Error): void;
  onProgress?: (progress: Progress) => void;
}

/** A module that uses a SIMD instruction; a browser without them refuses it. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** Return whether this browser can run the engine: it has modules in workers, and WebAssembly with SIMD. */
export function canRun(): boolean {
  return typeof Worker === "function" && typeof WebAssembly === "object" && WebAssembly.validate(SIMD);
}

/**
 * Start the worker, and return its engine. `base` is the address of the folder that build.py writes, with a slash at its
 * end. Everything is loaded by `load`, whose promise is rejected if the browser cannot run the engine.
 */
export function connect(base: string): Engine {
  return new Client(base);
}

class Client implements Engine {
  private readonly waiting = new Map<number, Waiting>();
  private worker: Worker | null = null;
  private nextId = 0;

  constructor(private readonly base: string) {}

  load: Engine["load"] = (onProgress) => {
    if (!canRun()) return Promise.reject(new Error("this browser has no WebAssembly with SIMD"));
    const folder = new URL(this.base, document.baseURI);
    this.worker = new Worker(new URL("worker.js", folder), { type: "module" });
    this.worker.onmessage = (event: MessageEvent<Response>) => this.receive(event.data);
    this.worker.onerror = (event) => this.fail(new Error(event.message || "the worker cannot be started"));
    return this.ask("load", [folder.href], onProgress);
  };
  page: Engine["page"] = (index) => this.ask("page", [index]);
  detect: Engine["detect"] = (image, settings, detector = "digits") => this.ask("detect", [image, settings, detector]);
  cell: Engine["cell"] = (...args) => this.ask("cell", args);
  anchor: Engine["anchor"] = (...args) => this.ask("anchor", args);
  roi: Engine["roi"] = (...args) => this.ask("roi", args);
  bin: Engine["bin"] = (...args) => this.ask("bin", args);
  score: Engine["score"] = (...args) => this.ask("score", args);
  path: Engine["path"] = (...args) => this.ask("path", args);
  startTraining: Engine["startTraining"] = (...args) => this.ask("startTraining", args);
  trainSteps: Engine["trainSteps"] = (...args) => this.ask("trainSteps", args);
  breakIt: Engine["breakIt"] = (...args) => this.ask("breakIt", args);

  close(): void {
    this.worker?.terminate();
    this.worker = null;
    this.fail(new Error("the engine is closed"));
  }

  private ask<Result>(command: Command, args: unknown[], onProgress?: Waiting["onProgress"]): Promise<Result> {
    const request: Request = { id: this.nextId++, command, args };
    return new Promise<Result>((resolve, reject) => {
      if (this.worker === null) return reject(new Error("the engine is not loaded; call load first"));
      this.waiting.set(request.id, { resolve, reject, onProgress });
      this.worker.postMessage(request);
    });
  }

  private receive(answer: Response): void {
    const waiting = this.waiting.get(answer.id);
    if (waiting === undefined) return;
    if (answer.kind === "progress") return waiting.onProgress?.(answer.progress);
    this.waiting.delete(answer.id);
    if (answer.kind === "result") waiting.resolve(answer.result as never);
    else if (answer.kind === "superseded") waiting.reject(new Superseded("a newer detection was asked for"));
    else waiting.reject(new Error(answer.message));
  }

  private fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}
