/** Drawing on canvases, in the pixels of the image. */

import type { Box, Floats, Level, Overview } from "../protocol";
import { activationColor, css, HIGHLIGHT, labelColor, textOn, valueColor } from "./colors";
import { boxAt, boxesOf, cellOf, changes, type Result, shownAt, sigmoid, type View } from "./view";

export type Context = CanvasRenderingContext2D;
const MOST_TAGS = 30; // with more detections, only those with a high score have a tag
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** Set the resolution of a canvas from its size on the screen, and scale it so that `view` fills its width. */
export function prepare(canvas: HTMLCanvasElement, view: Box): Context {
  const [x1, y1, x2, y2] = view;
  const width = Math.round(Math.max(canvas.clientWidth, 60) * Math.min(window.devicePixelRatio || 1, 3));
  const height = Math.round((width * (y2 - y1)) / (x2 - x1));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d") as Context;
  const scale = width / (x2 - x1);
  context.setTransform(scale, 0, 0, scale, -x1 * scale, -y1 * scale);
  context.clearRect(x1, y1, x2 - x1, y2 - y1);
  if (x1 < 0 || y1 < 0 || x2 > 128 || y2 > 128) {
    context.fillStyle = "rgb(128 134 142 / 0.3)"; // outside the image
    context.fillRect(x1, y1, x2 - x1, y2 - y1);
  }
  context.imageSmoothingEnabled = false;
  return context;
}

/** Return the number of image pixels per pixel of the screen. */
function unit(context: Context): number {
  return Math.min(window.devicePixelRatio || 1, 3) / context.getTransform().a;
}

const copies = new WeakMap<ImageData, HTMLCanvasElement>();

/** Draw an image at its own size; `dim` between 0 and 1 makes it darker, so that what lies on it is visible. */
export function paintImage(context: Context, image: ImageData, dim = 0): void {
  let copy = copies.get(image);
  if (!copy) {
    copy = document.createElement("canvas");
    [copy.width, copy.height] = [image.width, image.height];
    copy.getContext("2d")?.putImageData(image, 0, 0);
    copies.set(image, copy);
  }
  context.imageSmoothingEnabled = unit(context) > 1;
  context.drawImage(copy, 0, 0);
  context.imageSmoothingEnabled = false;
  if (dim) {
    context.fillStyle = `rgb(40 44 50 / ${dim})`;
    context.fillRect(0, 0, image.width, image.height);
  }
}

interface Look {
  color: string;
  width?: number; // pixels of the screen
  dash?: readonly number[];
  halo?: boolean;
}

/** Draw the outline of a box. A dark halo keeps it visible on any image. */
export function paintBox(context: Context, [x1, y1, x2, y2]: Box, { color, width = 1.5, dash, halo = true }: Look): void {
  const one = unit(context);
  context.save();
  context.lineJoin = "miter";
  if (halo) {
    context.strokeStyle = "rgb(0 0 0 / 0.65)";
    context.lineWidth = (width + 1.6) * one;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (dash) context.setLineDash(dash.map((length) => length * one));
  context.strokeStyle = color;
  context.lineWidth = width * one;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.restore();
}

/** Write a tag at the top of a box, within an image of the given size. */
export function paintTag(context: Context, [x1, y1]: Box, text: string, color: string, side: number, pixels = 12): void {
  const one = unit(context);
  context.save();
  context.font = `600 ${pixels * one}px ${FONT}`;
  const [width, height] = [context.measureText(text).width + 6 * one, (pixels + 4) * one];
  const x = Math.min(Math.max(x1, 0), side - width);
  const y = y1 - height < 0 ? Math.max(y1, 0) : y1 - height;
  context.fillStyle = color;
  context.fillRect(x, y, width, height);
  context.fillStyle = textOn(color);
  context.textBaseline = "middle";
  context.fillText(text, x + 3 * one, y + height / 2 + 0.5 * one);
  context.restore();
}

/** Return the values of one channel of a level, or of the largest of all channels, with the largest value. */
export function channelValues({ features }: Level, channel: number): { values: Float32Array; most: number } {
  const [channels, rows, columns] = features.shape;
  const size = rows * columns;
  let values: Float32Array;
  if (channel >= 0) values = features.data.subarray(channel * size, (channel + 1) * size);
  else {
    values = new Float32Array(size);
    for (let c = 0; c < channels; c++) {
      for (let i = 0; i < size; i++) values[i] = Math.max(values[i], features.data[c * size + i]);
    }
  }
  return { values, most: Math.max(...values, 1e-6) };
}

/** Return the pixels that a cell stands for; it is centred on column * stride. */
export function cellBox({ stride }: Level, row: number, column: number): Box {
  const [x, y] = [column * stride[1], row * stride[0]];
  return [x - stride[1] / 2, y - stride[0] / 2, x + stride[1] / 2, y + stride[0] / 2];
}

export function paintCells(context: Context, level: Level, color: (i: number) => string): void {
  const [, rows, columns] = level.features.shape;
  const bleed = 0.6 * unit(context); // no gaps between cells
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [x1, y1, x2, y2] = cellBox(level, row, column);
      context.fillStyle = color(row * columns + column);
      context.fillRect(x1, y1, x2 - x1 + bleed, y2 - y1 + bleed);
    }
  }
}

/** Draw the feature map over the image. */
export function paintFeatures(context: Context, view: View, channel = -1, opacity = 0.82): void {
  paintImage(context, view.image);
  const level = view.overview.levels[0];
  const { values, most } = channelValues(level, channel);
  paintCells(context, level, (i) => css(activationColor(values[i] / most), opacity));
}

export function paintAnchors(context: Context, view: View): void {
  paintImage(context, view.image, 0.45);
  const { overview } = view;
  const level = overview.levels[0];
  const [, rows, columns] = level.features.shape;
  context.fillStyle = "#fff";
  const radius = Math.max(0.9 * unit(context), 0.55);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      context.beginPath();
      context.arc(column * level.stride[1], row * level.stride[0], radius, 0, 2 * Math.PI);
      context.fill();
    }
  }
  const { shape } = cellOf(overview, view.anchor);
  for (let k = 0; k < level.anchorsPerCell; k++) {
    if (k !== shape) paintBox(context, boxAt(overview.anchors, view.anchor - shape + k), { color: "#9fd4f5", width: 1.2 });
  }
  paintBox(context, boxAt(overview.anchors, view.anchor), { color: HIGHLIGHT, width: 2.4 });
}

/** Return the highest score of the anchors of each cell of a level. */
export function bestScores(overview: Overview, level = 0): Float32Array {
  const { features, anchorsPerCell, firstAnchor } = overview.levels[level];
  const cells = features.shape[1] * features.shape[2];
  return Float32Array.from({ length: cells }, (_, i) => {
    const first = firstAnchor + i * anchorsPerCell;
    return sigmoid(Math.max(...overview.objectness.data.subarray(first, first + anchorsPerCell)));
  });
}

export function paintObjectness(context: Context, view: View): void {
  paintImage(context, view.image, 0.5);
  const scores = bestScores(view.overview);
  paintCells(context, view.overview.levels[0], (i) => css(valueColor(scores[i]), scores[i] < 0.02 ? 0 : 0.25 + 0.6 * scores[i]));
  const { row, column, level } = cellOf(view.overview, view.anchor);
  paintBox(context, cellBox(view.overview.levels[level], row, column), { color: HIGHLIGHT, width: 2 });
}

export function paintProposals(context: Context, view: View): void {
  paintImage(context, view.image, 0.55);
  const { overview, before } = view;
  const boxes = boxesOf(overview.proposals);
  for (let i = boxes.length - 1; i >= 0; i--) {
    const score = overview.proposalScores.data[i];
    context.globalAlpha = 0.35 + 0.65 * score;
    paintBox(context, boxes[i], { color: css(valueColor(score)), width: 1.2, halo: score > 0.5 });
  }
  context.globalAlpha = 1;
  if (before) {
    const old = boxesOf(before.overview.proposals);
    const { added, gone } = changes(boxes, old);
    context.globalAlpha = gone.length > 20 ? 0.4 : 1; // so that the others stay visible
    for (const i of gone) paintGone(context, old[i]);
    context.globalAlpha = 1;
    for (const i of added) paintBox(context, boxes[i], { color: "#ff7a5c", width: 2 });
  }
  if (view.roi >= 0) paintBox(context, boxes[view.roi], { color: HIGHLIGHT, width: 2.6 });
}

/** Draw a box that a change has removed. */
export function paintGone(context: Context, box: Box): void {
  paintBox(context, box, { color: "#fff", width: 1.3, dash: [4, 3] });
}

/** Return the part of the page around a RoI, as a square. */
export function around(box: Box, size: readonly [number, number]): Box {
  const [x1, y1, x2, y2] = box;
  const side = Math.max(x2 - x1, y2 - y1, 16) * 1.35 + 8;
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const most = Math.max(...size);
  const left = Math.min(Math.max(x - side / 2, -8), Math.max(most + 4 - side, -8));
  const top = Math.min(Math.max(y - side / 2, -8), Math.max(most + 4 - side, -8));
  return [left, top, left + side, top + side];
}

/** Return the part of the page around the chosen RoI and, for RoIPool, around the cells of its bins. */
export function aroundSamples({ overview, roi }: View): Box {
  let [x1, y1, x2, y2] = boxAt(overview.proposals, roi);
  const samples = samplesOf(overview, shownAt(overview, roi));
  if (samples?.shape[samples.shape.length - 1] === 4) {
    for (const [left, top, right, bottom] of boxesOf({ shape: [samples.data.length / 4, 4], data: samples.data })) {
      if (right <= left || bottom <= top) continue; // an empty bin
      [x1, y1, x2, y2] = [Math.min(x1, left), Math.min(y1, top), Math.max(x2, right), Math.max(y2, bottom)];
    }
  }
  return around([x1, y1, x2, y2], overview.size);
}

/** Return a bin of a RoI; `shape` is the number of rows and columns of bins. */
export function binBox(roi: Box, shape: readonly number[], row: number, column: number): Box {
  const [x1, y1, x2, y2] = roi;
  const [width, height] = [(x2 - x1) / shape[1], (y2 - y1) / shape[0]];
  return [x1 + column * width, y1 + row * height, x1 + (column + 1) * width, y1 + (row + 1) * height];
}

/** Return the bin that is chosen: for RoIAlign the part of the RoI, for RoIPool the box of its cells. */
export function chosenBin({ overview, roi, bin: { row, column } }: View): Box {
  const [, , rows, columns] = overview.pooled.shape;
  const samples = samplesOf(overview, shownAt(overview, roi));
  if (samples?.shape[samples.shape.length - 1] === 4) return boxAt(samples, row * columns + column);
  return binBox(boxAt(overview.proposals, roi), [rows, columns], row, column);
}

/** Draw the sample points of RoIAlign, or the cells of RoIPool, of a RoI on the feature map. */
export function paintSamples(context: Context, view: View, samples: Floats | null, channel = -1): void {
  paintFeatures(context, view, channel, 0.9);
  const one = unit(context);
  if (view.roi < 0) return;
  const roi = boxAt(view.overview.proposals, view.roi);
  if (samples) {
    const [rows, columns] = samples.shape;
    const [count, width] = samples.shape.slice(-2);
    const { data } = samples;
    context.strokeStyle = css([230, 159, 0], 0.75);
    context.lineWidth = one;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const [x1, y1, x2, y2] = binBox(roi, [rows, columns], row, column);
        context.strokeRect(x1, y1, x2 - x1, y2 - y1);
        for (let s = 0; s < count; s++) {
          const at = ((row * columns + column) * count + s) * width;
          if (width === 2) {
            context.beginPath();
            context.arc(data[at], data[at + 1], Math.max(1.5 * one, 0.32), 0, 2 * Math.PI);
            context.fillStyle = "#fff";
            context.fill();
          } else if (data[at + 2] > data[at] && data[at + 3] > data[at + 1]) {
            paintBox(context, [data[at], data[at + 1], data[at + 2], data[at + 3]], { color: "#fff", width: 1, halo: false });
          }
        }
      }
    }
  }
  paintBox(context, roi, { color: HIGHLIGHT, width: 2.4 });
}

/** Return the sample points of a RoI from an overview, or null. */
export function samplesOf({ samples }: Overview, at: number): Floats | null {
  if (at < 0) return null;
  const shape = samples.shape.slice(1);
  const size = shape.reduce((product, length) => product * length, 1);
  return { shape, data: samples.data.subarray(at * size, (at + 1) * size) };
}

/** Return the pooled features (C, ph, pw) of a RoI from an overview, or null. */
export function pooledOf(overview: Overview, roi: number): Floats | null {
  const at = shownAt(overview, roi);
  if (at < 0) return null;
  const shape = overview.pooled.shape.slice(1);
  const size = shape[0] * shape[1] * shape[2];
  return { shape, data: overview.pooled.data.subarray(at * size, (at + 1) * size) };
}

/** Return the channels with the largest pooled features first. */
export function strongestChannels({ shape, data }: Floats, count: number): number[] {
  const size = shape[1] * shape[2];
  const largest = Array.from({ length: shape[0] }, (_, c) => Math.max(...data.subarray(c * size, (c + 1) * size)));
  return [...largest.keys()].sort((a, b) => largest[b] - largest[a] || a - b).slice(0, count);
}

/** Draw channels of the pooled features as a square of small maps, in a picture of 128 x 128. */
export function paintPooled(context: Context, pooled: Floats, channels: readonly number[], chosen?: View["bin"]): void {
  const most = Math.max(...pooled.data, 1e-6);
  const [, rows, columns] = pooled.shape;
  const per = Math.ceil(Math.sqrt(channels.length));
  const side = 128 / per;
  const inner = side * 0.9;
  channels.forEach((channel, i) => {
    const [left, top] = [(i % per) * side + (side - inner) / 2, Math.floor(i / per) * side + (side - inner) / 2];
    const [width, height] = [inner / columns, inner / rows];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = pooled.data[(channel * rows + row) * columns + column];
        context.fillStyle = css(activationColor(value / most));
        const bleed = 0.6 * unit(context);
        context.fillRect(left + column * width, top + row * height, width + bleed, height + bleed);
        if (chosen && chosen.channel === channel && chosen.row === row && chosen.column === column) {
          context.strokeStyle = HIGHLIGHT;
          context.lineWidth = 2 * unit(context);
          context.strokeRect(left + column * width, top + row * height, width, height);
        }
      }
    }
    if (chosen?.channel === channel) {
      paintBox(context, [left, top, left + inner, top + inner], { color: HIGHLIGHT, width: 1.2, halo: false });
    }
  });
}

/** Draw the class scores of the chosen RoI as bars, in a picture of 128 x 128. */
export function paintScores(context: Context, view: View, ink: string): void {
  const { classScores } = view.overview;
  if (view.roi < 0) return;
  const classes = classScores.shape[1];
  const height = 124 / classes;
  const small = unit(context) * 9 > height ? height / unit(context) : Math.min((height / unit(context)) * 0.75, 14);
  const names = view.classes.map((name, i) => (i ? name : "none"));
  context.font = `400 ${small * unit(context)}px ${FONT}`;
  const left = Math.max(...names.map((name) => context.measureText(name).width)) + 5;
  for (let label = 0; label < classes; label++) {
    const score = classScores.data[view.roi * classes + label];
    const y = 2 + label * height;
    context.fillStyle = ink;
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.font = `${label === view.label ? 700 : 400} ${small * unit(context)}px ${FONT}`;
    context.fillText(names[label], left - 2.5, y + height / 2);
    context.textAlign = "start";
    context.fillStyle = labelColor(label);
    context.fillRect(left, y + height * 0.16, Math.max((126 - left) * score, 0.6), height * 0.68);
  }
}

/** Draw the detections of a result, and what a change of the knobs has added and removed. */
export function paintDetections(
  context: Context,
  { image, overview }: Result,
  classes: readonly string[],
  { before = null, chosen = -1, dim = 0.15 }: { before?: Result | null; chosen?: number; dim?: number } = {},
): void {
  paintImage(context, image, dim);
  const boxes = boxesOf(overview.boxes);
  const labels = overview.labels.data;
  const old = before ? boxesOf(before.overview.boxes) : [];
  const oldLabels = before?.overview.labels.data;
  const { added, gone } = before ? changes(boxes, old, labels, oldLabels) : { added: [], gone: [] };
  for (let i = boxes.length - 1; i >= 0; i--) {
    const score = overview.scores.data[i];
    context.globalAlpha = score < 0.5 ? 0.65 : 1;
    if (added.includes(i)) paintBox(context, boxes[i], { color: "#fff", width: 5 });
    paintBox(context, boxes[i], { color: labelColor(labels[i]), width: i === chosen ? 3.2 : 2 });
    const hasTag = boxes.length <= MOST_TAGS || score >= 0.5 || i === chosen;
    if (hasTag) paintTag(context, boxes[i], classes[labels[i]], labelColor(labels[i]), image.width, 11);
  }
  context.globalAlpha = 1;
  for (const i of gone) paintGone(context, old[i]);
}
