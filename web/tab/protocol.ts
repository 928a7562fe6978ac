/**
 * The messages between the page of the tab and its engine.
 *
 * The page talks to an `Engine`. `connect` in client.ts returns one that asks a worker, in which Python runs; `play` in
 * player.ts returns one that answers from a file of recorded answers. Both give the same answers to the same questions.
 *
 * Conventions are those of rcnn. Boxes are x1, y1, x2, y2 in pixels of the image. Sizes are (height, width). Label 0 is
 * the background. Logits are raw outputs of the network, scores are probabilities in [0, 1]. Times are in milliseconds.
 * Every index starts at 0. All arrays are in row-major order: the last index of the shape varies fastest.
 */

// ---------------------------------------------------------------------- arrays

/** An array of numbers with its shape; the product of the shape is the length of the data. */
export interface NumericArray<Data> {
  /** The length of each axis, such as [64, 16, 16]. */
  shape: number[];
  /** The elements. The buffer is transferred, so nobody else holds it. */
  data: Data;
}
export type Floats = NumericArray<Float32Array>;
export type Ints = NumericArray<Int32Array>;
export type Bytes = NumericArray<Uint8Array>;

/** x1, y1, x2, y2 in pixels of the image. */
export type Box = [number, number, number, number];

// ---------------------------------------------------------------------- opening

/** What happens while the engine loads. */
export interface Progress {
  /** What is loaded: "python" (Pyodide), "numpy", "rcnn" (with its requirements), "start" (imports and warms up). */
  stage: "python" | "numpy" | "rcnn" | "start";
  /** Bytes of all files that have arrived so far. */
  bytes: number;
  /** Bytes of all files together; an estimate until the last file is found. */
  total: number;
  /** Fraction of the work that is done, in [0, 1]. It never falls. */
  fraction: number;
}

/** A planted fault. */
export interface Fault {
  /** The name that `breakIt` takes, such as "swapped axes". "sound" is the detector without a fault. */
  name: string;
  /** One sentence that says what is wrong. */
  description: string;
}

/** Facts about the engine, which do not change while it runs. */
export interface Ready {
  /** True if the answers come from a file: then the page can show only what was recorded, also of the training. */
  recorded: boolean;
  /** Version of rcnn, such as "0.1.0". */
  version: string;
  /** Milliseconds from `load` to this answer. */
  milliseconds: number;
  /** Class names of each detector, with the background at index 0. */
  classes: Record<Detector, string[]>;
  /** Number of pages that `page` can draw: its index is in 0 .. pages - 1. */
  pages: number;
  /** Size of every page, [height, width], in pixels. */
  pageSize: [number, number];
  /** The settings with which the digit detector was trained, the start of all knobs. */
  defaults: Settings;
  /** The faults that `breakIt` knows, "sound" first. */
  faults: Fault[];
  /** For an engine that plays a recording: the settings for which it has answers. Null: any settings. */
  recordedSettings: Settings[] | null;
  /** For an engine that plays a recording: the indices of the pages for which it has answers. Null: any index. */
  recordedPages: number[] | null;
}

/** Which detector looks at the image: the digit detector of rcnn, or the one that is being trained in the tab. */
export type Detector = "digits" | "trained";

// ---------------------------------------------------------------------- the knobs

/** The settings of a detection. */
export interface Settings {
  /** A detection must have a higher score than this, in [0, 1]. */
  scoreThreshold: number;
  /** NMS drops a detection if its IoU with a better one of its class is greater than this, in [0, 1]. */
  nmsThreshold: number;
  /** The same threshold for the proposals, in [0, 1]. */
  proposalNmsThreshold: number;
  /** The largest number of proposals, an integer in 1 .. 400. */
  proposals: number;
  /** How features are pooled from a RoI. The detector was trained with "align". */
  pooling: "align" | "pool";
  /** Anchor sizes (square roots of areas) in pixels, each in [4, 128]. Keep the number of sizes of `defaults`. */
  anchorSizes: number[];
  /** Anchor ratios, height / width, each in [0.1, 10]. Keep the number of ratios of `defaults`. */
  anchorRatios: number[];
}

// ---------------------------------------------------------------------- a page

/** A drawn page with its objects. */
export interface Page {
  /** (height, width, 3): RGB values in 0 .. 255. */
  image: Bytes;
  /** (G, 4): the boxes of the G objects, in pixels. */
  boxes: Floats;
  /** (G,): their labels. */
  labels: Ints;
}

// ---------------------------------------------------------------------- the overview

/** One level of the feature pyramid (the digit detector has one level). */
export interface Level {
  /** (C, rows, columns): the feature maps. All values are at least 0. */
  features: Floats;
  /** Pixels between neighbouring cells, [along y, along x]. */
  stride: [number, number];
  /** Number of anchors per cell. */
  anchorsPerCell: number;
  /**
   * Index of the first anchor of this level. The anchors of a level are ordered by row, then column, then shape: anchor
   * k of cell (row, column) has the index firstAnchor + (row * columns + column) * anchorsPerCell + k.
   */
  firstAnchor: number;
}

/** All eight stages of one image. A is the number of anchors, P of proposals, R of shown RoIs, L of classes. */
export interface Overview {
  /** The size of the image, [height, width], in pixels. */
  size: [number, number];
  /** Stage 1: the feature maps of each level. */
  levels: Level[];
  /** Stage 2 (A, 4): the anchors of all levels, in pixels. */
  anchors: Floats;
  /** (anchorsPerCell, 2): size in pixels and ratio height / width of each anchor of a cell, in the order of the anchors. */
  anchorShapes: Floats;
  /** Stage 3 (A,): the objectness logit of each anchor; sigmoid(logit) is its score. */
  objectness: Floats;
  /** (A, 4): the deltas dx, dy, dw, dh of each anchor. */
  anchorDeltas: Floats;
  /** Number of candidates before NMS, and number after it, before the best ones were chosen. */
  counts: { candidates: number; afterNms: number };
  /** Stage 4 (P, 4): the proposals, which are the RoIs of the second stage, in descending order of score. */
  proposals: Floats;
  /** (P,): the score of each proposal. */
  proposalScores: Floats;
  /** (P,): the index of the anchor from which each proposal was made. */
  proposalAnchors: Ints;
  /** (R,): the indices of the RoIs whose sample points and pooled features are below: those of detections come first. */
  shown: Ints;
  /**
   * Stage 5. For RoIAlign (R, ph, pw, S, 2): x, y of the S sample points of each bin, in pixels of the image. For
   * RoIPool (R, ph, pw, 1, 4): the box of the cells of each bin, in pixels of the image; cell (row, column) is centred
   * on (column * stride, row * stride). An empty bin has x2 <= x1 or y2 <= y1.
   */
  samples: Floats;
  /** Stage 6 (R, C, ph, pw): the pooled features of the shown RoIs. */
  pooled: Floats;
  /** Stage 7 (P, L): the class probabilities of every RoI; each row has the sum 1. */
  classScores: Floats;
  /** (P, L): the class logits of every RoI. */
  classLogits: Floats;
  /** (P, L, 4): for each RoI and class, the deltas dx, dy, dw, dh of the second stage (not yet divided by the weights). */
  boxDeltas: Floats;
  /** Stage 8 (D, 4): the detections, in descending order of score. */
  boxes: Floats;
  /** (D,): their scores. */
  scores: Floats;
  /** (D,): their labels. */
  labels: Ints;
  /** (D,): for each detection, the index of the RoI from which it was made. */
  detectionRois: Ints;
  /**
   * Milliseconds of each stage, in the order of computation: "backbone", "anchors", "RPN head", "proposals",
   * "RoIAlign" or "RoIPool", "head", "detections"; and "total", the time from the request to the answer in the worker.
   */
  times: Record<string, number>;
}

// ---------------------------------------------------------------------- arithmetic

/** A number with its name. */
export interface Term {
  /** Such as "anchor width" or "dx". */
  name: string;
  value: number;
}

/** How one number is computed. */
export interface Arithmetic {
  /** What the number is, such as "objectness logit of anchor 733". */
  title: string;
  /** The formula with names, such as "x = anchor x + dx * anchor width". One line. */
  formula: string;
  /** The inputs, in the order of the formula. */
  inputs: Term[];
  /** The formula with values, one line per step, such as "x = 64.0 + 0.12 * 24.0 = 66.9". */
  steps: string[];
  /** The result. It equals the array element of the overview, within float32 rounding. */
  result: number;
  /**
   * If the formula has a long sum of products: its factors (K,) each, or null. The sum is offset + the sum of a * b. If it
   * is not the result, the first step computes it, and the other steps compute the result from it.
   */
  products: { a: Floats; b: Floats; offset: number; nameOfA: string; nameOfB: string } | null;
}

/** One cell of a feature map. */
export interface Cell {
  level: number;
  row: number;
  column: number;
  /** (C,): the features at this cell. */
  features: Floats;
  /** The pixels on which the features depend, clipped to the image. */
  receptiveField: Box;
  /** The pixels on which the logits and deltas of the anchors of this cell depend, clipped to the image. */
  rpnReceptiveField: Box;
  /** (anchorsPerCell,): the indices of the anchors of this cell. */
  anchors: Ints;
  /** (C,): the features of the RPN's hidden layer at this cell, from which its logits and deltas are computed. */
  hidden: Floats;
  /** How one feature is computed by the last layer of the backbone: that of the largest feature of the cell. */
  feature: { channel: number; arithmetic: Arithmetic };
}

/** What became of an anchor. */
export type Fate =
  /** It became the proposal with this index. */
  | { kind: "proposal"; proposal: number }
  /** It was not among the best of its level, which go to NMS; `rank` is its place by score. */
  | { kind: "not a candidate"; rank: number }
  /** NMS dropped its box, because the IoU with the box of a better anchor is greater than the threshold. */
  | { kind: "suppressed"; by: number; byBox: Box; iou: number }
  /** NMS kept its box, but there are enough better ones; `rank` is its place after NMS. */
  | { kind: "not among the best"; rank: number };

/** One anchor. */
export interface Anchor {
  index: number;
  level: number;
  row: number;
  column: number;
  /** Size in pixels and ratio height / width. */
  size: number;
  ratio: number;
  box: Box;
  logit: number;
  /** sigmoid(logit). */
  score: number;
  /** dx, dy, dw, dh. */
  deltas: [number, number, number, number];
  /** The anchor, moved by its deltas, before and after clipping to the image. */
  decoded: Box;
  clipped: Box;
  fate: Fate;
  /** How the logit, the score and the four coordinates x1, y1, x2, y2 of `decoded` are computed. */
  arithmetic: { logit: Arithmetic; score: Arithmetic; box: Arithmetic[] };
}

/** One RoI. */
export interface Roi {
  index: number;
  box: Box;
  score: number;
  /** The level from which it is pooled. */
  level: number;
  /** As in `Overview`, of this RoI alone: (ph, pw, S, 2) or (ph, pw, 1, 4). */
  samples: Floats;
  /** (C, ph, pw). */
  pooled: Floats;
}

/** One point at which RoIAlign reads the feature map. */
export interface Sample {
  /** In pixels of the image. */
  x: number;
  y: number;
  /** In cells of the feature map. */
  column: number;
  row: number;
  /** The four neighbouring cells; the value is the sum of weight * value. Their weights have the sum 1. */
  neighbours: { row: number; column: number; weight: number; value: number }[];
  value: number;
}

/** One number of the pooled features. */
export interface Bin {
  roi: number;
  row: number;
  column: number;
  channel: number;
  /** RoIAlign: the bin. RoIPool: the box of its cells. Both are in pixels of the image. */
  box: Box;
  /** RoIAlign: the samples, whose mean is the result. RoIPool: empty. */
  samples: Sample[];
  /** RoIPool: the cells, whose maximum is the result. RoIAlign: empty. */
  cells: { row: number; column: number; value: number }[];
  arithmetic: Arithmetic;
}

/** The class score of a RoI and the box of this class. */
export interface Score {
  roi: number;
  label: number;
  /** How the logit is computed from the hidden layer, the probability from all logits, the box from RoI and deltas. */
  logit: Arithmetic;
  probability: Arithmetic;
  /** x1, y1, x2, y2, before clipping to the image. */
  box: Arithmetic[];
}

/** The path of a detection, from the detection back to the pixels. */
export interface Path {
  detection: number;
  box: Box;
  score: number;
  label: number;
  /** (L,): the class probabilities of its RoI. */
  classScores: Floats;
  /** dx, dy, dw, dh of the detected class. */
  deltas: [number, number, number, number];
  scores: Score;
  roi: Roi;
  /** The bin and channel with the largest pooled feature of the RoI. */
  bin: Bin;
  /** The proposal has the index of the RoI. */
  proposal: { index: number; box: Box; score: number };
  anchor: Anchor;
  /** The cell of the anchor; its RPN's receptive field is the end of the path. */
  cell: Cell;
  /** (h, w, 3): the pixels of `cell.rpnReceptiveField`, RGB in 0 .. 255. */
  pixels: Bytes;
}

// ---------------------------------------------------------------------- training

/** The state of a training at its start. */
export interface TrainingStart {
  /** Number of steps of the whole run. Then `TrainingChunk.done` is true, and further chunks have no steps. */
  steps: number;
  /** Number of pages in a batch. */
  batchSize: number;
  /** Names of the losses, in the order of the columns of `TrainingChunk.losses`. The last one is the total. */
  lossNames: string[];
  /** The page on which proposals and detections are shown. */
  page: Page;
  /** What the untrained detector finds on this page. */
  preview: Preview;
}

/** What the detector that is being trained finds on the fixed page. */
export interface Preview {
  /** Number of training steps before this preview. */
  step: number;
  /** (K, 4) and (K,): the best proposals (at most 20) and their scores. */
  proposals: Floats;
  proposalScores: Floats;
  /** (D, 4), (D,), (D,): the detections. */
  boxes: Floats;
  scores: Floats;
  labels: Ints;
  /** Fraction of the objects of the page that have a proposal with an IoU of at least 0.5. */
  recall: number;
}

/** The result of a few training steps. */
export interface TrainingChunk {
  /** Number of steps that the detector has learned from in all. */
  step: number;
  /** True after the last step of the recipe, when the last AP is known. */
  done: boolean;
  /** (S, 5): the losses of the S steps of this chunk. S may be 0, while the AP is being measured. */
  losses: Floats;
  /** (S,): the learning rate of each step. */
  learningRates: Floats;
  /** The AP at IoU 0.5 on pages that are not trained on, in [0, 1], if its measurement ended in this chunk, else null. */
  ap: { step: number; ap50: number } | null;
  /** A new preview, every ten steps or so, else null. */
  preview: Preview | null;
  /** Milliseconds of this chunk in the worker. */
  milliseconds: number;
}

// ---------------------------------------------------------------------- faults

/** What the doctor says about a stage. */
export interface Verdict {
  /** Such as "anchors". */
  stage: string;
  /** The measurement, a sentence. */
  number: string;
  /** What is wrong, or null. */
  trouble: string | null;
  /** What to do about it; empty if nothing is wrong. */
  remedy: string;
}

/** The report about a detector with a planted fault. */
export interface Diagnosis {
  fault: Fault;
  /** In the order in which an image passes the stages. */
  verdicts: Verdict[];
  /** The report of `rcnn doctor`, as text. */
  text: string;
  /** A page with the annotations as the faulty data set has them. */
  page: Page;
  /** (D, 4), (D,), (D,): what the faulty detector finds on this page, with a score of at least 0.5. */
  boxes: Floats;
  scores: Floats;
  labels: Ints;
  /** Objects and detections of the sound detector on the same page. */
  sound: { page: Page; boxes: Floats; scores: Floats; labels: Ints };
}

// ---------------------------------------------------------------------- the engine

/** Thrown by `detect` when a newer call of `detect` made the answer useless. */
export class Superseded extends Error {}

/**
 * The engine, as the page sees it. A promise is rejected with an `Error` whose message is one clear line.
 *
 * `cell`, `anchor`, `roi`, `bin`, `score` and `path` ask about the last image that was detected.
 */
export interface Engine {
  /** Load everything; call it once, before anything else. */
  load(onProgress: (progress: Progress) => void): Promise<Ready>;
  /** Draw a page of digits; the same index gives the same page. */
  page(index: number): Promise<Page>;
  /**
   * Run all eight stages. `image` (128, 128, 3) RGB or (128, 128) grey, values in 0 .. 255. The caller keeps the image. A
   * newer call supersedes an older one, whose promise is rejected with `Superseded`. A recording has answers only for its
   * own pages and settings.
   */
  detect(image: Bytes, settings: Settings, detector?: Detector): Promise<Overview>;
  cell(level: number, row: number, column: number): Promise<Cell>;
  anchor(index: number): Promise<Anchor>;
  roi(index: number): Promise<Roi>;
  bin(roi: number, row: number, column: number, channel: number): Promise<Bin>;
  score(roi: number, label: number): Promise<Score>;
  path(detection: number): Promise<Path>;
  /** Start (again) to train a detector of shapes from random weights, for `steps` steps (1 .. 3000, default 1300). */
  startTraining(seed: number, steps?: number): Promise<TrainingStart>;
  /**
   * Train on for about `count` steps (1 .. 20; 1 or 2 keep the tab responsive). To pause, do not call it; to resume, call
   * it again. Detections of other images may come between two chunks.
   */
  trainSteps(count: number): Promise<TrainingChunk>;
  /** Plant a fault, and ask the doctor. This takes a second or more. */
  breakIt(fault: string): Promise<Diagnosis>;
  /** Stop the worker. */
  close(): void;
}

// ---------------------------------------------------------------------- messages

/** A message to the worker: a method of `Engine` with its arguments. */
export interface Request {
  /** A number that no other request has. */
  id: number;
  /** The name of the method. */
  command: Command;
  /** Its arguments, without callbacks. The only argument of "load" is the address of the folder with the files. */
  args: unknown[];
}

/** The methods of `Engine` that a worker or a recording answers. */
export type Command = Exclude<keyof Engine, "close">;

/** A message from the worker. */
export type Response =
  | { id: number; kind: "progress"; progress: Progress }
  | { id: number; kind: "result"; result: unknown }
  | { id: number; kind: "superseded" }
  | { id: number; kind: "error"; message: string };
