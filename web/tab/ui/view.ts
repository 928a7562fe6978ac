/** What the page shows: one image, its eight stages, and the chosen detection, cell, anchor, bin and class. */

import { type Box as ReadonlyBox, iou } from "../../src/geometry";
import type { Box, Bytes, Floats, Overview, Settings } from "../protocol";

/** The eight stages, in the order of computation. */
export const STAGES = [
  { name: "features", title: "Features", line: "A convolutional network turns the pixels into a grid of cells, with many numbers per cell." },
  { name: "anchors", title: "Anchors", line: "Boxes of fixed sizes stand at every cell. They are the first guess." },
  { name: "objectness", title: "Objectness", line: "For each anchor, the RPN predicts how likely it contains an object." },
  { name: "proposals", title: "Proposals", line: "The best anchors are moved by their deltas. NMS drops boxes that overlap a better one." },
  { name: "samples", title: "RoI sample points", line: "Each proposal becomes a RoI. It is divided into bins, which read the features at points." },
  { name: "pooled", title: "Pooled features", line: "The points of each bin give one number per channel: the same size for every RoI." },
  { name: "scores", title: "Class scores", line: "The head turns the pooled features into a probability for each class." },
  { name: "detections", title: "Detections", line: "Deltas refine the box of each class. A score threshold and NMS keep the best." },
] as const;

export type StageName = (typeof STAGES)[number]["name"];

/** One cell of a feature map. */
export interface CellIndex {
  level: number;
  row: number;
  column: number;
}

/** A result, with what it was computed from. */
export interface Result {
  image: ImageData;
  settings: Settings;
  overview: Overview;
}

export interface View extends Result {
  classes: string[];
  /** The result before the last change of a knob, or null. */
  before: Result | null;
  /** The detection whose path is drawn, or -1. */
  detection: number;
  roi: number;
  anchor: number;
  bin: { row: number; column: number; channel: number };
  label: number;
  /** The channel that the detail of the features shows; -1 is the largest of all channels. */
  channel: number;
}

/** Return row i of an array of boxes. */
export function boxAt({ data }: Floats, i: number): Box {
  return [data[4 * i], data[4 * i + 1], data[4 * i + 2], data[4 * i + 3]];
}

export function boxesOf(array: Floats): Box[] {
  return Array.from({ length: array.shape[0] }, (_, i) => boxAt(array, i));
}

/** Return the pixels of a canvas as RGB, as the engine takes them. */
export function toBytes({ data, width, height }: ImageData): Bytes {
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) rgb.set(data.subarray(4 * i, 4 * i + 3), 3 * i);
  return { shape: [height, width, 3], data: rgb };
}

/** Return RGB values as pixels of a canvas. */
export function toImage({ shape, data }: Bytes): ImageData {
  const image = new ImageData(shape[1], shape[0]);
  for (let i = 0; i < shape[0] * shape[1]; i++) {
    image.data.set(data.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Return the cell of an anchor, and which of the cell's anchors it is. */
export function cellOf(overview: Overview, anchor: number): CellIndex & { shape: number } {
  let level = 0;
  while (level + 1 < overview.levels.length && overview.levels[level + 1].firstAnchor <= anchor) level++;
  const { features, anchorsPerCell, firstAnchor } = overview.levels[level];
  const columns = features.shape[2];
  const cell = Math.floor((anchor - firstAnchor) / anchorsPerCell);
  return { level, row: Math.floor(cell / columns), column: cell % columns, shape: (anchor - firstAnchor) % anchorsPerCell };
}

/** Return the index of an anchor of a cell. */
export function anchorAt(overview: Overview, { level, row, column }: CellIndex, shape: number): number {
  const { features, anchorsPerCell, firstAnchor } = overview.levels[level];
  return firstAnchor + (row * features.shape[2] + column) * anchorsPerCell + shape;
}

/** Return the position of a RoI among those whose sample points and pooled features are known, or -1. */
export function shownAt(overview: Overview, roi: number): number {
  return overview.shown.data.indexOf(roi);
}

export function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

/** Return a view in which a detection is chosen, and with it its RoI, its class, its anchor and its strongest bin. */
export function follow(view: View, detection: number): View {
  const { overview } = view;
  if (detection < 0 || detection >= overview.boxes.shape[0]) {
    const none = overview.proposals.shape[0] === 0;
    return followRoi({ ...view, detection: -1, label: 0 }, none ? -1 : 0);
  }
  const next = followRoi(view, overview.detectionRois.data[detection]);
  return { ...next, detection, label: overview.labels.data[detection] };
}

/** Return a view in which a RoI is chosen, its anchor, and the bin and channel with the largest pooled feature. */
export function followRoi(view: View, roi: number): View {
  const { overview } = view;
  const { data, shape } = overview.pooled;
  const at = shownAt(overview, roi);
  const bin = { row: 0, column: 0, channel: 0 };
  if (at >= 0) {
    const [, channels, rows, columns] = shape;
    const size = channels * rows * columns;
    let best = 0;
    for (let i = 0; i < size; i++) if (data[at * size + i] > data[at * size + best]) best = i;
    bin.channel = Math.floor(best / (rows * columns));
    bin.row = Math.floor((best % (rows * columns)) / columns);
    bin.column = best % columns;
  }
  const detection = overview.detectionRois.data.indexOf(roi);
  const anchor = roi >= 0 ? overview.proposalAnchors.data[roi] : 0;
  const label = detection >= 0 ? overview.labels.data[detection] : topClass(overview, roi);
  return { ...view, roi, anchor, bin, detection, label };
}

/** Return the class with the highest score of a RoI. */
export function topClass({ classScores: { data, shape } }: Overview, roi: number): number {
  if (roi < 0) return 0;
  const row = data.subarray(roi * shape[1], (roi + 1) * shape[1]);
  return row.indexOf(Math.max(...row));
}

/** Return the detection at a point or, if there is none, a near one with a high score. `inside` wants one at the point. */
export function detectionNear({ boxes, scores }: Overview, [x, y]: readonly [number, number], inside = false): number {
  let best = -1;
  let least = Infinity;
  boxesOf(boxes).forEach(([x1, y1, x2, y2], i) => {
    const isInside = x >= x1 && x <= x2 && y >= y1 && y <= y2;
    const far = isInside ? ((x2 - x1) * (y2 - y1)) / 1e5 : Math.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2);
    const distance = far + (scores.data[i] < 0.5 ? 30 : 0);
    if ((isInside || !inside) && distance < least) [best, least] = [i, distance];
  });
  return best;
}

/** Return the detection that overlaps a box most, or -1. */
export function sameDetection({ boxes }: Overview, box: ReadonlyBox): number {
  let best = -1;
  let most = 0.3;
  boxesOf(boxes).forEach((other, i) => {
    const value = iou(other, box);
    if (value > most) [best, most] = [i, value];
  });
  return best;
}

/**
 * Return the indices of the boxes that a change has added, and of the old boxes that are gone. Boxes are equal if they
 * have the same label and an IoU of at least 0.9; each is the equal of one other.
 */
export function changes(
  boxes: readonly Box[],
  old: readonly Box[],
  labels?: ArrayLike<number>,
  oldLabels?: ArrayLike<number>,
): { added: number[]; gone: number[] } {
  const gone = new Set(old.keys());
  const added: number[] = [];
  boxes.forEach((box, i) => {
    let match = -1;
    let most = 0.9;
    for (const k of gone) {
      if (labels && oldLabels && labels[i] !== oldLabels[k]) continue;
      const value = iou(box, old[k]);
      if (value >= most) [match, most] = [k, value];
    }
    if (match < 0) added.push(i);
    else gone.delete(match);
  });
  return { added, gone: [...gone] };
}

/** Return a number as it is shown in arithmetic: four significant digits. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value).replace("-", "−");
  const isPlain = Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5;
  const text = isPlain ? String(Number(value.toPrecision(4))) : value.toExponential(1);
  return text.replace("-", "−");
}
