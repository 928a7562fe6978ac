/** An engine that plays recorded answers, in the same protocol; record.py describes its file. */

import { type Numbers, unpack } from "./files";
import type { Bytes, Cell, Engine, Floats, Overview, Page, Path, Preview, Ready, Settings, TrainingStart } from "./protocol";

/** The text of the file. */
interface Text {
  questions: Record<string, number>;
  answers: unknown[];
  arrays: Entry[];
}
interface Entry {
  kind: "u1" | "i2" | "i4" | "f4" | "q2";
  float?: boolean;
  low?: number;
  step?: number;
  offset: number;
  length: number;
}
/** The recorded training. */
interface History {
  losses: Floats;
  learningRates: Floats;
  scores: { step: number; ap50: number }[];
  previews: number;
}

const STEP = 8; // milliseconds that a recorded training step takes

/** Return an engine that plays recording.bin of the folder with the address `base`. */
export function play(base: string): Engine {
  return new Player(base);
}

/** Return whether two settings are the same, whatever the order of their names. */
export function sameSettings(a: Settings, b: Settings): boolean {
  const names = Object.keys(b) as (keyof Settings)[];
  return names.every((name) => JSON.stringify(a[name]) === JSON.stringify(b[name]));
}

class Player implements Engine {
  private text: Text | null = null;
  private body = new Uint8Array();
  private ready: Ready | null = null;
  private pages: { index: number; page: Page }[] = [];
  private last: string | null = null; // the page and the settings of the last detection
  private step: number | null = null; // of the training

  constructor(private readonly base: string) {}

  load: Engine["load"] = async (onProgress) => {
    const response = await fetch(new URL("recording.bin", new URL(this.base, document.baseURI)));
    if (!response.ok || response.body === null) throw new Error(`recording.bin: cannot be loaded (status ${response.status})`);
    const unzipped = response.body.pipeThrough(new DecompressionStream("gzip") as ReadableWritablePair<Uint8Array, Uint8Array>);
    const content = new Uint8Array(await new Response(unzipped).arrayBuffer());
    const length = new DataView(content.buffer).getUint32(0, true);
    this.text = JSON.parse(new TextDecoder().decode(content.subarray(4, 4 + length))) as Text;
    this.body = content.subarray(4 + length);
    this.ready = this.answer<Ready>("load");
    for (const index of this.ready.recordedPages ?? []) {
      this.pages.push({ index, page: this.answer<Page>(`page [${index}]`) });
    }
    onProgress({ stage: "start", bytes: content.length, total: content.length, fraction: 1 });
    return this.ready;
  };

  page: Engine["page"] = async (index) => this.answer(`page [${index}]`);

  detect: Engine["detect"] = async (image, settings, detector = "digits") => {
    const page = this.pages.find((one) => sameBytes(one.page.image, image));
    const variant = (this.ready?.recordedSettings ?? []).findIndex((one) => sameSettings(settings, one));
    if (detector !== "digits" || page === undefined || variant < 0) {
      throw new Error("the recording has no answer for this image with these settings");
    }
    const last = `${page.index},${variant}`;
    const overview = this.answer<Overview>(`detect [${last}]`);
    this.last = last;
    return overview;
  };

  cell: Engine["cell"] = async (...args) => this.about<Cell>("cell", args);
  anchor: Engine["anchor"] = async (index) => this.about("anchor", [index]);
  roi: Engine["roi"] = async (index) => this.about("roi", [index]);
  bin: Engine["bin"] = async (...args) => this.about("bin", args);
  score: Engine["score"] = async (...args) => this.about("score", args);
  path: Engine["path"] = async (detection) => {
    const path = this.about<Path>("path", [detection]);
    const page = this.pages.find((one) => this.last?.startsWith(`${one.index},`));
    return page === undefined ? path : { ...path, pixels: cut(page.page.image, path.cell.rpnReceptiveField) };
  };

  startTraining: Engine["startTraining"] = async () => {
    this.step = 0;
    const [start, history] = [this.answer<TrainingStart>("startTraining"), this.answer<History>("training")];
    return { ...start, steps: history.losses.shape[0] ?? 0 };
  };

  trainSteps: Engine["trainSteps"] = async (count) => {
    if (this.step === null) throw new Error("there is no training yet; call startTraining first");
    const start = performance.now();
    const { losses, learningRates, scores, previews } = this.answer<History>("training");
    const [steps, columns] = losses.shape as [number, number];
    const [from, to] = [this.step, Math.min(this.step + count, steps)];
    await new Promise((resolve) => setTimeout(resolve, STEP * (to - from)));
    let preview: Preview | null = null;
    for (let index = 0; index < previews; index++) {
      const one = this.answer<Preview>(`preview ${index}`);
      if (from < one.step && one.step <= to) preview = one;
    }
    this.step = to;
    return {
      step: to,
      done: to === steps,
      losses: { shape: [to - from, columns], data: losses.data.slice(from * columns, to * columns) },
      learningRates: { shape: [to - from], data: learningRates.data.slice(from, to) },
      ap: scores.filter((one) => from < one.step && one.step <= to).pop() ?? null,
      preview,
      milliseconds: performance.now() - start,
    };
  };

  breakIt: Engine["breakIt"] = async (fault) => this.answer(`breakIt ${JSON.stringify([fault])}`);

  close(): void {
    this.text = null;
  }

  private about<Answer>(command: string, args: number[]): Answer {
    if (this.last === null) throw new Error("there is no detection yet; call detect first");
    return this.answer(`${command} [${[this.last, ...args].join(",")}]`);
  }

  /** Return a recorded answer. Its arrays are new, so the page may keep and change them. */
  private answer<Answer>(question: string): Answer {
    if (this.text === null) throw new Error("the engine is not loaded; call load first");
    const index = this.text.questions[question];
    if (index === undefined) throw new Error("the recording has no answer to this question");
    const { arrays } = this.text;
    const decoded: Numbers[] = new Proxy([], { get: (_, place) => this.decode(arrays[Number(place)] as Entry) });
    return unpack(this.text.answers[index], decoded) as Answer;
  }

  private decode({ kind, float, low = 0, step = 1, offset, length }: Entry): Numbers {
    const width = Number(kind[1]);
    const stored = this.body.subarray(offset, offset + width * length);
    const bytes = new Uint8Array(width * length); // element by element, instead of byte by byte
    for (let byte = 0; byte < width; byte++) {
      for (let k = 0; k < length; k++) bytes[k * width + byte] = stored[byte * length + k] as number;
    }
    if (kind === "u1") return bytes;
    if (kind === "i4") return new Int32Array(bytes.buffer);
    if (kind === "f4") return new Float32Array(bytes.buffer);
    if (kind === "i2") return (float ? Float32Array : Int32Array).from(new Int16Array(bytes.buffer));
    return Float32Array.from(new Uint16Array(bytes.buffer), (k) => low + step * k);
  }
}

function sameBytes(a: Bytes, b: Bytes): boolean {
  return a.data.length === b.data.length && a.data.every((value, index) => value === b.data[index]);
}

/** Return the part (h, w, 3) of an image inside a box of whole pixels. */
function cut(image: Bytes, [x1, y1, x2, y2]: [number, number, number, number]): Bytes {
  const width = image.shape[1] as number;
  const data = new Uint8Array((y2 - y1) * (x2 - x1) * 3);
  for (let y = y1; y < y2; y++) {
    const row = image.data.subarray((y * width + x1) * 3, (y * width + x2) * 3);
    data.set(row, (y - y1) * (x2 - x1) * 3);
  }
  return { shape: [y2 - y1, x2 - x1, 3], data };
}
