/** The stages of the explorers in plain numbers. The results equal those of rcnn (tests/web compares them). */

/** x1, y1, x2, y2 in pixels, or in cells of a feature map. */
export type Box = readonly [number, number, number, number];

export function area([x1, y1, x2, y2]: Box): number {
  return (x2 - x1) * (y2 - y1);
}

/** Return the intersection of two boxes; it is empty if the boxes do not overlap. */
export function intersection(a: Box, b: Box): Box {
  const x1 = Math.max(a[0], b[0]);
  const y1 = Math.max(a[1], b[1]);
  return [x1, y1, Math.max(x1, Math.min(a[2], b[2])), Math.max(y1, Math.min(a[3], b[3]))];
}

/** Return the intersection over union of two boxes; 0 if the union is empty. */
export function iou(a: Box, b: Box): number {
  const shared = area(intersection(a, b));
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}

/** Return a box with its centre shifted and its sides multiplied by `scale`. */
export function moved([x1, y1, x2, y2]: Box, dx: number, dy: number, scale: number): Box {
  const [x, y] = [(x1 + x2) / 2 + dx, (y1 + y2) / 2 + dy];
  const [width, height] = [(x2 - x1) * scale, (y2 - y1) * scale];
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
}

/** Return the indices of scores in descending order; equal scores keep their order. */
export function descending(scores: readonly number[]): number[] {
  return scores.map((_, i) => i).sort((i, j) => scores[j] - scores[i] || i - j);
}

/** Return the ranks of the boxes that non-maximum suppression keeps; the boxes are in descending order of score. */
export function suppress(boxes: readonly Box[], threshold: number): number[] {
  const kept: number[] = [];
  boxes.forEach((box, rank) => {
    if (!kept.some((other) => iou(boxes[other], box) > threshold)) kept.push(rank);
  });
  return kept;
}

export type State = "waiting" | "kept now" | "kept before" | "removed now" | "removed before";

/** Return the state of each box after some steps of suppression; the boxes are in descending order of score. */
export function states(boxes: readonly Box[], threshold: number, steps: number): State[] {
  const done = suppress(boxes, threshold).slice(0, steps);
  const now = done[done.length - 1];
  return boxes.map((box, rank) => {
    if (rank === now) return "kept now";
    if (done.includes(rank)) return "kept before";
    const first = done.find((kept) => kept < rank && iou(boxes[kept], box) > threshold);
    if (first === undefined) return "waiting";
    return first === now ? "removed now" : "removed before";
  });
}

/** Round to the nearest integer; halves to the even one, as in NumPy. */
export function roundHalfToEven(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** Round to the nearest integer; halves away from zero. */
export function roundHalfAway(x: number): number {
  return Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
}

/** Return the anchors of one cell around (0, 0): the ratios outermost, the sizes innermost. */
export function cellAnchors(sizes: readonly number[], ratios: readonly number[]): Box[] {
  return ratios.flatMap((ratio) =>
    sizes.map((size): Box => {
      const height = Math.sqrt(ratio) * size;
      const width = (1 / Math.sqrt(ratio)) * size;
      const sides = [-width / 2, -height / 2, width / 2, height / 2].map(roundHalfToEven);
      return [sides[0], sides[1], sides[2], sides[3]];
    }),
  );
}

/** Return the best anchor of an object and their IoU, among the anchors of all cells. */
export function bestAnchor(object: Box, cell: readonly Box[], size: readonly [number, number], stride: number) {
  const [rows, columns] = [Math.ceil(size[0] / stride), Math.ceil(size[1] / stride)];
  let best: { box: Box; iou: number } = { box: cell[0], iou: -1 };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [x, y] = [column * stride, row * stride];
      for (const anchor of cell) {
        const box: Box = [anchor[0] + x, anchor[1] + y, anchor[2] + x, anchor[3] + y];
        const value = iou(box, object);
        if (value > best.iou) best = { box, iou: value };
      }
    }
  }
  return best;
}

/** A feature map: rows of values. */
export type FeatureMap = readonly (readonly number[])[];

/** Return the rounded bins of RoIPool as boxes of whole cells; the last row and column of a box are not in the bin. */
export function poolBins(map: FeatureMap, roi: Box, bins: number): Box[][] {
  const [height, width] = [map.length, map[0].length];
  const [x1, y1, x2, y2] = roi.map(roundHalfAway);
  const [columns, rows] = [Math.max(x2 - x1 + 1, 1), Math.max(y2 - y1 + 1, 1)];
  const clip = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  return Array.from({ length: bins }, (_, i) =>
    Array.from({ length: bins }, (_, j): Box => [
      clip(Math.floor((j * columns) / bins) + x1, width),
      clip(Math.floor((i * rows) / bins) + y1, height),
      clip(Math.ceil(((j + 1) * columns) / bins) + x1, width),
      clip(Math.ceil(((i + 1) * rows) / bins) + y1, height),
    ]),
  );
}

/** Return the largest value in each bin of RoIPool; 0 for an empty bin. */
export function roiPool(map: FeatureMap, roi: Box, bins: number): number[][] {
  return poolBins(map, roi, bins).map((row) =>
    row.map(([x1, y1, x2, y2]) => {
      let largest = -Infinity;
      for (let y = y1; y < y2; y++) for (let x = x1; x < x2; x++) largest = Math.max(largest, map[y][x]);
      return largest === -Infinity ? 0 : largest;
    }),
  );
}

/** Return the sample points of RoIAlign as [x, y] in cells, for each bin. */
export function samplePoints(roi: Box, bins: number, samples: number, aligned: boolean): [number, number][][][] {
  const offset = aligned ? 0.5 : 0;
  const [x1, y1] = [roi[0] - offset, roi[1] - offset];
  let [width, height] = [roi[2] - roi[0], roi[3] - roi[1]];
  if (!aligned) [width, height] = [Math.max(width, 1), Math.max(height, 1)];
  const at = (first: number, side: number, bin: number, sample: number) =>
    first + (side / bins) * (bin + (sample + 0.5) / samples);
  const range = Array.from({ length: samples }, (_, i) => i);
  return Array.from({ length: bins }, (_, i) =>
    Array.from({ length: bins }, (_, j) =>
      range.flatMap((a) =>
        range.map((b): [number, number] => [at(x1, width, j, b), at(y1, height, i, a)]),
      ),
    ),
  );
}

/** Return the value of a map between its cells: a weighted mean of the four nearest; 0 far outside. */
export function bilinear(map: FeatureMap, x: number, y: number): number {
  const [height, width] = [map.length, map[0].length];
  if (y < -1 || y > height || x < -1 || x > width) return 0;
  const [fy, fx] = [Math.min(Math.max(y, 0), height - 1), Math.min(Math.max(x, 0), width - 1)];
  const [top, left] = [Math.floor(fy), Math.floor(fx)];
  const [bottom, right] = [Math.min(top + 1, height - 1), Math.min(left + 1, width - 1)];
  const [dy, dx] = [fy - top, fx - left];
  const above = map[top][left] * (1 - dx) + map[top][right] * dx;
  const below = map[bottom][left] * (1 - dx) + map[bottom][right] * dx;
  return above * (1 - dy) + below * dy;
}

/** Return the mean of the sample points of each bin of RoIAlign. */
export function roiAlign(map: FeatureMap, roi: Box, bins: number, samples: number, aligned: boolean): number[][] {
  return samplePoints(roi, bins, samples, aligned).map((row) =>
    row.map((points) => points.reduce((sum, [x, y]) => sum + bilinear(map, x, y), 0) / points.length),
  );
}

/** Return precision and recall after each detection of a ranked list. */
export function precisionRecall(correct: readonly boolean[], objects: number) {
  let right = 0;
  return correct.map((isRight, i) => {
    if (isRight) right += 1;
    return { precision: right / (i + 1), recall: right / objects };
  });
}
