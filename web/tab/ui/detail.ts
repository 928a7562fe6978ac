/** The detail of one stage: a large picture, in which a student chooses a cell, an anchor, a RoI or a bin, and its numbers. */

import { html } from "../../src/element";
import type { Bin, Box, Engine } from "../protocol";
import { HIGHLIGHT, labelColor } from "./colors";
import * as paint from "./paint";
import { pathSteps } from "./path";
import { arithmetic, bars, button, chip, coordinates, formula, probability, select, sentence, sum, table } from "./sums";
import {
  anchorAt, boxAt, boxesOf, cellOf, detectionNear, follow, followRoi, shown, shownAt, sigmoid, STAGES, type StageName, type View,
} from "./view";

const PAGE: Box = [0, 0, 128, 128];
const ALL_CHANNELS = 64; // channels that the detail of the pooled features shows

/** What the detail needs from the page. */
export interface Host {
  engine(): Engine;
  view(): View | null;
  choose(view: View): void;
  open(stage: StageName): void;
  isRecorded(): boolean;
}

interface Stage {
  how: string;
  region(view: View): Box;
  paint(context: paint.Context, view: View, canvas: HTMLCanvasElement): void;
  /** Return the view after a click at a point. */
  pick(view: View, x: number, y: number): View;
  /** Return the view after an arrow key. */
  step(view: View, dx: number, dy: number): View;
  options?(view: View, choose: (view: View) => void): Node[];
  sums(view: View, engine: Engine): Promise<Node[]>;
}

/** The receptive fields of the cells that were asked for; they do not depend on the image. */
const receptiveFields = new Map<string, Box>();

const clamp = (value: number, most: number) => Math.min(Math.max(value, 0), most);

function withCell(view: View, row: number, column: number, shape = cellOf(view.overview, view.anchor).shape): View {
  const [, rows, columns] = view.overview.levels[0].features.shape;
  const cell = { level: 0, row: clamp(row, rows - 1), column: clamp(column, columns - 1) };
  const anchor = anchorAt(view.overview, cell, shape);
  const roi = view.overview.proposalAnchors.data.indexOf(anchor);
  return roi >= 0 ? { ...followRoi(view, roi), anchor } : { ...view, anchor };
}

function pickCell(view: View, x: number, y: number, shape?: number): View {
  const { stride } = view.overview.levels[0];
  return withCell(view, Math.round(y / stride[0]), Math.round(x / stride[1]), shape);
}

function stepCell(view: View, dx: number, dy: number): View {
  const { row, column } = cellOf(view.overview, view.anchor);
  return withCell(view, row + dy, column + dx);
}

/** Return the anchor of a cell with the highest score. */
function bestShape(view: View, x: number, y: number): number {
  const level = view.overview.levels[0];
  const there = pickCell(view, x, y, 0).anchor;
  const logits = view.overview.objectness.data.subarray(there, there + level.anchorsPerCell);
  return logits.indexOf(Math.max(...logits));
}

function anchorOptions(view: View, choose: (view: View) => void): Node[] {
  const { row, column, shape } = cellOf(view.overview, view.anchor);
  const { data, shape: size } = view.overview.anchorShapes;
  const names = Array.from({ length: size[0] }, (_, k) => `size ${shown(data[2 * k])}, ratio ${shown(data[2 * k + 1])}`);
  return [select(`Anchor of cell (${row}, ${column})`, names, shape, (k) => choose(withCell(view, row, column, k)))];
}

function binOptions(view: View, choose: (view: View) => void): Node[] {
  const { pooled } = view.overview;
  const names = Array.from({ length: pooled.shape[1] }, (_, c) => String(c));
  return [
    ...roiOptions(view, choose),
    select("Channel", names, view.bin.channel, (channel) => choose({ ...view, bin: { ...view.bin, channel } })),
  ];
}

/** Return a list of the proposals, which chooses the RoI. */
function roiOptions(view: View, choose: (view: View) => void): Node[] {
  const { proposalScores } = view.overview;
  const names = Array.from(proposalScores.data, (score, i) => `${i} (score ${score.toFixed(2)})`);
  return [select("RoI", names, view.roi, (roi) => choose(followRoi(view, roi)))];
}

function stepBin(view: View, dx: number, dy: number): View {
  const [, , rows, columns] = view.overview.pooled.shape;
  const { row, column } = view.bin;
  return { ...view, bin: { ...view.bin, row: clamp(row + dy, rows - 1), column: clamp(column + dx, columns - 1) } };
}

async function binSums(view: View, engine: Engine): Promise<Node[]> {
  if (view.roi < 0) return [sentence("There is no proposal on this page.")];
  const bin = await engine.bin(view.roi, view.bin.row, view.bin.column, view.bin.channel);
  return binNumbers(bin);
}

/** Return the numbers of a bin: its sample points, or its cells. */
export function binNumbers(bin: Bin): Node[] {
  const head = sentence(
    `RoI ${bin.roi}, bin (${bin.row}, ${bin.column}), channel ${bin.channel}. `,
    bin.samples.length
      ? "RoIAlign reads the feature map at each white point, between the cells, and takes the mean."
      : "RoIPool rounds the bin to whole cells and takes their maximum.",
  );
  const blocks: Node[] = [head];
  if (bin.samples.length) {
    const lines = bin.samples.map(({ row, column, neighbours, value }) =>
      formula(
        `at (${row.toFixed(2)}, ${column.toFixed(2)}): `,
        neighbours.map((cell) => `${shown(cell.weight)} × ${shown(cell.value)}`).join(" + "),
        " = ",
        html("b", { class: "value" }, shown(value)),
      ),
    );
    blocks.push(
      sum(
        sentence(html("b", {}, "Bilinear interpolation"), " at each point (row, column): the sum of weight × value of the four nearest cells"),
        ...lines,
      ),
    );
  } else if (bin.cells.length) {
    const rows = bin.cells.map(({ row, column, value }) => [`(${row}, ${column})`, shown(value)]);
    const largest = bin.cells.reduce((best, cell, i) => (cell.value > bin.cells[best].value ? i : best), 0);
    blocks.push(sum(table(["cell (row, column)", "value"], rows, largest)));
  }
  blocks.push(arithmetic(bin.arithmetic, true));
  return blocks;
}

/** Return one sentence about what became of an anchor. */
async function fateOf(view: View, engine: Engine): Promise<Node[]> {
  const anchor = await engine.anchor(view.anchor);
  const { fate } = anchor;
  let text = "";
  if (fate.kind === "proposal") text = `Its box became proposal ${fate.proposal}.`;
  else if (fate.kind === "suppressed") {
    text = `NMS dropped its box: the IoU with the box of anchor ${fate.by}, which has a higher score, is ${fate.iou.toFixed(2)}.`;
  } else if (fate.kind === "not a candidate") text = `Its score has rank ${fate.rank + 1}, so it is not a candidate.`;
  else text = `NMS kept its box, but its rank is ${fate.rank + 1}, and fewer proposals are kept.`;
  return [sentence(html("b", {}, "What became of it: "), text)];
}

const stages: Record<StageName, Stage> = {
  features: {
    how: "Click a cell, or move with the arrow keys. The dashed box is its receptive field.",
    region: () => [-4, -4, 128, 128],
    paint(context, view) {
      paint.paintFeatures(context, view, view.channel);
      const { level, row, column } = cellOf(view.overview, view.anchor);
      paint.paintBox(context, paint.cellBox(view.overview.levels[level], row, column), { color: HIGHLIGHT, width: 2.5 });
      const field = receptiveFields.get(`${level} ${row} ${column}`);
      if (field) paint.paintBox(context, field, { color: "#fff", width: 1.6, dash: [5, 4] });
    },
    pick: (view, x, y) => pickCell(view, x, y),
    step: stepCell,
    options(view, choose) {
      const names = ["largest of all", ...Array.from({ length: view.overview.levels[0].features.shape[0] }, (_, c) => String(c))];
      return [select("Channel", names, view.channel + 1, (i) => choose({ ...view, channel: i - 1 }))];
    },
    async sums(view, engine) {
      const { level, row, column } = cellOf(view.overview, view.anchor);
      const cell = await engine.cell(level, row, column);
      receptiveFields.set(`${level} ${row} ${column}`, cell.receptiveField);
      const [x1, y1, x2, y2] = cell.receptiveField.map(Math.round);
      const values = Array.from(cell.features.data, (value, channel) => ({ name: `channel ${channel}`, value }));
      const best = values.sort((a, b) => b.value - a.value).slice(0, 5);
      return [
        sentence(
          `Cell (row ${row}, column ${column}) holds ${values.length} numbers, one per channel. ` +
            `They depend on the pixels x ${x1} to ${x2}, y ${y1} to ${y2}: its receptive field.`,
        ),
        sum(sentence(html("b", {}, "Its largest features")), bars(best, best[0].value || 1)),
        arithmetic(cell.feature.arithmetic),
      ];
    },
  },
  anchors: {
    how: "Click a cell, or move with the arrow keys. Each white point is the centre of the anchors of one cell.",
    region: () => [-16, -16, 144, 144],
    paint: (context, view) => paint.paintAnchors(context, view),
    pick: (view, x, y) => pickCell(view, x, y),
    step: stepCell,
    options: anchorOptions,
    async sums(view) {
      const { overview } = view;
      const { row, column, shape, level } = cellOf(overview, view.anchor);
      const { stride, anchorsPerCell } = overview.levels[level];
      const { data } = overview.anchorShapes;
      const [x1, y1, x2, y2] = boxAt(overview.anchors, view.anchor);
      const [size, ratio] = [data[2 * shape], data[2 * shape + 1]];
      const rows = Array.from({ length: anchorsPerCell }, (_, k) => {
        const box = boxAt(overview.anchors, view.anchor - shape + k);
        return [shown(data[2 * k]), shown(data[2 * k + 1]), `${shown(box[2] - box[0])} × ${shown(box[3] - box[1])}`];
      });
      return [
        sentence(
          `The grid has ${overview.levels[level].features.shape.slice(1).join(" × ")} cells with ${anchorsPerCell} anchors each: ` +
            `${overview.anchors.shape[0]} anchors. They do not depend on the image.`,
        ),
        sum(
          sentence(html("b", {}, `Anchor ${view.anchor}`), ` at cell (${row}, ${column}), size ${shown(size)}, ratio ${shown(ratio)}`),
          formula(`centre = (column × stride, row × stride) = (${column} × ${stride[1]}, ${row} × ${stride[0]}) = (${column * stride[1]}, ${row * stride[0]})`),
          formula(`width = size ÷ √ratio = ${shown(size)} ÷ √${shown(ratio)} = ${shown(size / Math.sqrt(ratio))}`),
          formula(`height = size × √ratio = ${shown(size)} × √${shown(ratio)} = ${shown(size * Math.sqrt(ratio))}`),
          formula("half of each side is rounded: ", html("b", {}, `box = (${[x1, y1, x2, y2].map(shown).join(", ")})`)),
        ),
        sum(sentence(html("b", {}, "All anchors of this cell")), table(["size", "ratio", "width × height"], rows, shape)),
      ];
    },
  },
  objectness: {
    how: "Click a cell, or move with the arrow keys. The colour is the best score of its anchors: yellow is near 1.",
    region: () => [-4, -4, 128, 128],
    paint(context, view) {
      paint.paintObjectness(context, view);
      paint.paintBox(context, boxAt(view.overview.anchors, view.anchor), { color: HIGHLIGHT, width: 1.5, dash: [4, 3] });
    },
    pick: (view, x, y) => pickCell(view, x, y, bestShape(view, x, y)),
    step: stepCell,
    options: anchorOptions,
    async sums(view, engine) {
      const { overview } = view;
      const { shape, level } = cellOf(overview, view.anchor);
      const { anchorsPerCell } = overview.levels[level];
      const { data } = overview.anchorShapes;
      const items = Array.from({ length: anchorsPerCell }, (_, k) => ({
        name: `${shown(data[2 * k])}, ${shown(data[2 * k + 1])}`,
        value: sigmoid(overview.objectness.data[view.anchor - shape + k]),
        color: k === shape ? HIGHLIGHT : undefined,
      }));
      const anchor = await engine.anchor(view.anchor);
      return [
        sum(sentence(html("b", {}, "Scores of the anchors of this cell"), " (size, ratio)"), bars(items, 1, probability)),
        arithmetic(anchor.arithmetic.score),
        arithmetic(anchor.arithmetic.logit),
      ];
    },
  },
  proposals: {
    how: "Click a proposal, or use the arrow keys to go from the best to the worst. The dashed box is its anchor.",
    region: () => PAGE,
    paint(context, view) {
      paint.paintProposals(context, view);
      paint.paintBox(context, boxAt(view.overview.anchors, view.anchor), { color: HIGHLIGHT, width: 1.5, dash: [4, 3] });
    },
    pick(view, x, y) {
      const inside = boxesOf(view.overview.proposals)
        .map(([x1, y1, x2, y2], i) => ({ i, hit: x >= x1 && x <= x2 && y >= y1 && y <= y2 }))
        .filter(({ hit }) => hit)
        .map(({ i }) => i);
      if (!inside.length) return view;
      return followRoi(view, inside[(inside.indexOf(view.roi) + 1) % inside.length]); // the next one at each click
    },
    step: (view, dx, dy) => (view.roi < 0 ? view : followRoi(view, clamp(view.roi + dx + dy, view.overview.proposals.shape[0] - 1))),
    options: roiOptions,
    async sums(view, engine) {
      const { counts, anchors, proposals } = view.overview;
      const anchor = await engine.anchor(view.anchor);
      return [
        sentence(
          `${anchors.shape[0]} anchors → ${counts.candidates} candidates → ${counts.afterNms} after NMS → ` +
            `${proposals.shape[0]} proposals. Click again at the same place for the next proposal there.`,
        ),
        ...(await fateOf(view, engine)),
        sum(
          sentence(html("b", {}, "Deltas of this anchor")),
          formula(["dx", "dy", "dw", "dh"].map((name, i) => `${name} = ${shown(anchor.deltas[i])}`).join(", ")),
        ),
        coordinates("The anchor, moved by its deltas", anchor.arithmetic.box),
      ];
    },
  },
  samples: {
    how: "Click a bin, or move with the arrow keys.",
    region: (view) => (view.roi < 0 ? PAGE : paint.aroundSamples(view)),
    paint(context, view) {
      const samples = paint.samplesOf(view.overview, shownAt(view.overview, view.roi));
      paint.paintSamples(context, view, samples, view.bin.channel);
      if (view.roi >= 0) paint.paintBox(context, paint.chosenBin(view), { color: "#fff", width: 2.6 });
    },
    pick(view, x, y) {
      if (view.roi < 0) return view;
      const [, , rows, columns] = view.overview.pooled.shape;
      const [x1, y1, x2, y2] = boxAt(view.overview.proposals, view.roi);
      const column = clamp(Math.floor(((x - x1) / (x2 - x1)) * columns), columns - 1);
      const row = clamp(Math.floor(((y - y1) / (y2 - y1)) * rows), rows - 1);
      return { ...view, bin: { ...view.bin, row, column } };
    },
    step: stepBin,
    options: binOptions,
    sums: binSums,
  },
  pooled: {
    how: "Each small map is one channel of the RoI. Click a number in a map, or move with the arrow keys.",
    region: () => PAGE,
    paint(context, view) {
      const pooled = paint.pooledOf(view.overview, view.roi);
      if (pooled) paint.paintPooled(context, pooled, channelOrder(view), view.bin);
    },
    pick(view, x, y) {
      const order = channelOrder(view);
      const per = Math.ceil(Math.sqrt(order.length));
      const side = 128 / per;
      const channel = order[Math.floor(y / side) * per + Math.floor(x / side)];
      if (channel === undefined) return view;
      const [, , rows, columns] = view.overview.pooled.shape;
      const part = (value: number, count: number) => clamp(Math.floor((((value % side) / side - 0.05) / 0.9) * count), count - 1);
      return { ...view, bin: { channel, row: part(y, rows), column: part(x, columns) } };
    },
    step: stepBin,
    options: binOptions,
    sums: binSums,
  },
  scores: {
    how: "Click a class, or use the arrow keys up and down.",
    region: () => PAGE,
    paint(context, view, canvas) {
      paint.paintScores(context, view, getComputedStyle(canvas).color);
    },
    pick: (view, _, y) => ({ ...view, label: clamp(Math.floor(((y - 2) / 124) * view.classes.length), view.classes.length - 1) }),
    step: (view, _, dy) => ({ ...view, label: clamp(view.label + dy, view.classes.length - 1) }),
    options: roiOptions,
    async sums(view, engine) {
      if (view.roi < 0) return [sentence("There is no proposal on this page.")];
      const score = await engine.score(view.roi, view.label);
      const name = view.label ? `class ${view.classes[view.label]}` : "the background (“none”)";
      return [
        sentence(`The probability that RoI ${view.roi} is ${name}. The probabilities of all classes sum to 1.`),
        arithmetic(score.probability),
        arithmetic(score.logit),
        ...(score.box.length ? [coordinates("The box of this class, from the RoI and its deltas", score.box)] : []),
      ];
    },
  },
  detections: {
    how: "Click a detection to trace it back to the pixels, or use the arrow keys.",
    region: () => PAGE,
    paint(context, view) {
      paint.paintDetections(context, view, view.classes, { before: view.before, chosen: view.detection });
    },
    pick: (view, x, y) => {
      const found = detectionNear(view.overview, [x, y], true);
      return found < 0 ? view : follow(view, found);
    },
    step: (view, dx, dy) => follow(view, clamp(view.detection + dx + dy, view.overview.boxes.shape[0] - 1)),
    async sums(view) {
      const { boxes, labels, scores, detectionRois } = view.overview;
      if (!boxes.shape[0]) return [sentence("No detection has a score above the threshold.")];
      const rows = Array.from({ length: boxes.shape[0] }, (_, i) => [
        html("span", { style: `border-left:0.6rem solid ${labelColor(labels.data[i])};padding-left:0.4rem` }, view.classes[labels.data[i]]),
        scores.data[i].toFixed(3),
        String(detectionRois.data[i]),
        boxAt(boxes, i).map((value) => value.toFixed(1)).join(", "),
      ]);
      return [
        sentence("A detection is a RoI, moved by the deltas of its class, whose score is above the threshold and which class-wise NMS keeps."),
        table(["class", "score", "RoI", "x1, y1, x2, y2"], rows, view.detection),
      ];
    },
  },
};

/** Scroll a long list, but not the page, so that the chosen element is visible. */
function reveal(list: HTMLElement, chosen: HTMLElement | null): void {
  if (!chosen) return;
  const [top, bottom] = [chosen.offsetTop, chosen.offsetTop + chosen.offsetHeight];
  const isVisible = top >= list.scrollTop && bottom <= list.scrollTop + list.clientHeight;
  if (!isVisible) list.scrollTop = (top + bottom - list.clientHeight) / 2;
}

function channelOrder(view: View): number[] {
  return Array.from({ length: Math.min(view.overview.pooled.shape[1], ALL_CHANNELS) }, (_, c) => c);
}

/** The detail below the overview. */
export class Detail {
  readonly element = html("section", { class: "detail", "aria-label": "Detail of a stage" });
  private readonly heading = html("h2", { tabindex: -1 });
  private readonly options = html("div", { class: "options" });
  private readonly chips = html("div", { class: "chips", role: "group", "aria-label": "Detections" });
  private readonly canvas = html("canvas", { width: 400, height: 400 });
  private readonly frame = html("div", { tabindex: 0, role: "group" }, this.canvas);
  private readonly how = html("p", { class: "how", id: "how" });
  private readonly sums = html("div", { class: "sums", "aria-live": "polite" });
  private readonly trace = html("div", {});
  private stage: StageName = "detections";
  private asked = 0;

  constructor(private readonly host: Host) {
    const picture = html("figure", { class: "picture" }, this.frame, this.how);
    const go = (by: number) => {
      const at = STAGES.findIndex(({ name }) => name === this.stage);
      this.host.open(STAGES[(at + by + STAGES.length) % STAGES.length].name);
    };
    const steps = html("div", { class: "steps" }, button("← previous stage", () => go(-1)), button("next stage →", () => go(1)));
    this.element.append(
      html("header", {}, this.heading, steps),
      html("div", { class: "body" }, picture, html("div", {}, this.options, this.sums)),
      html("div", { class: "follow" }, html("span", {}, "Trace back a detection:"), this.chips),
      this.trace,
    );
    this.frame.setAttribute("aria-describedby", "how");
    this.canvas.addEventListener("click", (event) => {
      const { left, top, width, height } = this.canvas.getBoundingClientRect();
      const view = this.host.view();
      if (!view) return;
      const [x1, y1, x2, y2] = this.now.region(view);
      const [x, y] = [x1 + ((event.clientX - left) / width) * (x2 - x1), y1 + ((event.clientY - top) / height) * (y2 - y1)];
      this.host.choose(this.now.pick(view, x, y));
    });
    const keys: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.frame.addEventListener("keydown", (event) => {
      const key = keys[event.key];
      const view = this.host.view();
      if (!key || !view) return;
      event.preventDefault();
      this.host.choose(this.now.step(view, ...key));
    });
  }

  private get now(): Stage {
    return stages[this.stage];
  }

  /** Show another stage. */
  open(stage: StageName): void {
    this.stage = stage;
    const at = STAGES.findIndex(({ name }) => name === stage);
    this.heading.textContent = `${at + 1}  ${STAGES[at].title}`;
    this.how.textContent = this.now.how;
    this.frame.setAttribute("aria-label", `${STAGES[at].title}: picture. ${this.now.how}`);
    if (this.host.view()) this.update(true);
  }

  /** Draw again. While a stroke is being drawn, `settled` is false, and the numbers stay as they are. */
  update(settled: boolean): void {
    const view = this.host.view();
    if (!view || this.element.hidden) return;
    this.paint(view);
    if (settled) void this.calculate(view);
  }

  private paint(view: View): void {
    this.now.paint(paint.prepare(this.canvas, this.now.region(view)), view, this.canvas);
  }

  private async calculate(view: View): Promise<void> {
    const id = ++this.asked;
    const focus = (this.element.getRootNode() as ShadowRoot).activeElement?.getAttribute("data-key");
    this.options.replaceChildren(...(this.now.options?.(view, (next) => this.host.choose(next)) ?? []));
    const { boxes, labels, scores } = view.overview;
    const chips = Array.from({ length: boxes.shape[0] }, (_, i) => {
      const text = `${view.classes[labels.data[i]]} · ${scores.data[i].toFixed(2)}`;
      return chip(text, labels.data[i], i === view.detection, `chip ${i}`, () => {
        this.host.choose(follow(view, i));
        this.host.open("detections");
      });
    });
    this.chips.replaceChildren(...(chips.length ? chips : ["none"]));
    reveal(this.chips, this.chips.querySelector("[aria-pressed=true]"));
    if (focus) this.element.querySelector<HTMLElement>(`[data-key="${focus}"]`)?.focus();
    this.trace.hidden = this.stage !== "detections";
    try {
      const nodes = await this.now.sums(view, this.host.engine());
      if (id !== this.asked) return;
      this.sums.replaceChildren(...nodes);
      for (const table of this.sums.querySelectorAll<HTMLElement>(".scroll")) reveal(table, table.querySelector("tr.chosen"));
      if (this.stage === "features") this.paint(view);
      if (this.stage !== "detections") return;
      const steps = view.detection >= 0 ? await pathSteps(view, this.host.engine()) : null;
      if (id !== this.asked) return;
      this.trace.replaceChildren(...(steps ? [steps.element] : []));
      steps?.draw();
    } catch (error) {
      if (id !== this.asked) return;
      const text = this.host.isRecorded()
        ? "The recorded walk does not contain these numbers. The live detector computes them."
        : (error as Error).message;
      this.sums.replaceChildren(html("p", { class: "notice" }, text));
      this.trace.replaceChildren();
    }
  }
}
