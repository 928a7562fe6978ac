/** The path of a detection: from its box back to the pixels. */

import { html } from "../../src/element";
import type { Box, Engine, Path } from "../protocol";
import { HIGHLIGHT, labelColor } from "./colors";
import * as paint from "./paint";
import { bars, formula, probability } from "./sums";
import { shown, toImage, type View } from "./view";

interface Step {
  title: string;
  text: string;
  region?: Box;
  draw?: (context: paint.Context) => void;
  extra?: Node;
}

/** Return the steps of the path as a list, and a function that draws their pictures once they are on the page. */
export async function pathSteps(view: View, engine: Engine): Promise<{ element: HTMLElement; draw: () => void }> {
  const path = await engine.path(view.detection);
  const drawings: [HTMLCanvasElement, Step][] = [];
  const items = steps(view, path).map((step, i) => {
    const item = html("li", {}, html("h3", {}, `${i + 1}  ${step.title}`));
    if (step.draw && step.region) {
      const canvas = html("canvas", { "aria-hidden": "true" });
      drawings.push([canvas, step]);
      item.append(canvas);
    }
    if (step.extra) item.append(step.extra);
    item.append(html("p", {}, step.text));
    return item;
  });
  const name = view.classes[path.label];
  const element = html(
    "div",
    { class: "tracing" },
    html("h3", {}, `Trace back: why is this a ${name}?`),
    html("ol", { class: "path" }, ...items),
  );
  const draw = () => drawings.forEach(([canvas, step]) => step.draw?.(paint.prepare(canvas, step.region as Box)));
  return { element, draw };
}

function steps(view: View, path: Path): Step[] {
  const { image, overview, classes } = view;
  const color = labelColor(path.label);
  const close = paint.around(union(path.box, path.roi.box), overview.size);
  const wide = paint.around(union(union(path.box, path.anchor.box), path.anchor.clipped), overview.size);
  const scores = Array.from(path.classScores.data, (value, label) => ({
    name: label ? classes[label] : "none", value, color: labelColor(label), label,
  }));
  const best = [...scores].sort((a, b) => b.value - a.value).slice(0, 4);
  const field = path.cell.rpnReceptiveField;
  const pixels = toImage(path.pixels);
  const deltas = ["dx", "dy", "dw", "dh"].map((name, i) => `${name} = ${shown(path.deltas[i])}`).join(", ");
  const lines = (box: Box) => box.map((value) => value.toFixed(1)).join(", ");
  return [
    {
      title: "Detection",
      text: `Class ${classes[path.label]}, score ${path.score.toFixed(3)}, box (${lines(path.box)}).`,
      region: close,
      draw(context) {
        paint.paintImage(context, image);
        paint.paintBox(context, path.box, { color, width: 3 });
        paint.paintTag(context, path.box, classes[path.label], color, close[2], 12);
      },
    },
    {
      title: "Class scores",
      text: `Softmax turns the logits of RoI ${path.roi.index} into these probabilities; the four largest are shown.`,
      extra: bars(best, 1, probability),
    },
    {
      title: "Box deltas",
      text: "The deltas of the class move the RoI (dashed) to the box of the detection.",
      region: close,
      draw(context) {
        paint.paintImage(context, image, 0.25);
        paint.paintBox(context, path.roi.box, { color: HIGHLIGHT, width: 2, dash: [5, 4] });
        paint.paintBox(context, path.box, { color, width: 2.6 });
      },
      extra: formula(deltas),
    },
    {
      title: "RoI and its sample points",
      text: `The head sees the features only at these points. The largest pooled feature is in bin (${path.bin.row}, ${path.bin.column}), channel ${path.bin.channel}.`,
      region: close,
      draw(context) {
        paint.paintSamples(context, { ...view, roi: path.roi.index }, path.roi.samples, path.bin.channel);
        paint.paintBox(context, path.bin.box, { color: "#fff", width: 2 });
      },
    },
    {
      title: "Proposal",
      text: `Proposal ${path.proposal.index}, with objectness score ${path.proposal.score.toFixed(3)}. It is the same box as the RoI.`,
      region: wide,
      draw(context) {
        paint.paintImage(context, image, 0.25);
        paint.paintBox(context, path.anchor.box, { color: "#9fd4f5", width: 1.6, dash: [4, 3] });
        paint.paintBox(context, path.proposal.box, { color: HIGHLIGHT, width: 2.6 });
      },
    },
    {
      title: "Anchor",
      text:
        `Anchor ${path.anchor.index}: size ${shown(path.anchor.size)}, ratio ${shown(path.anchor.ratio)}, at cell (${path.anchor.row}, ` +
        `${path.anchor.column}). Its logit ${shown(path.anchor.logit)} gives the score, and its deltas move it to the proposal.`,
      region: wide,
      draw(context) {
        paint.paintImage(context, image, 0.25);
        paint.paintBox(context, paint.cellBox(overview.levels[path.anchor.level], path.anchor.row, path.anchor.column), { color: "#fff", width: 1.2 });
        paint.paintBox(context, path.anchor.box, { color: "#9fd4f5", width: 2.4 });
      },
    },
    {
      title: "Pixels",
      text: `The scores and deltas of this anchor depend on these ${pixels.width} × ${pixels.height} pixels, its receptive field (x ${Math.round(field[0])} to ${Math.round(field[2])}, y ${Math.round(field[1])} to ${Math.round(field[3])}).`,
      region: [0, 0, Math.max(pixels.width, pixels.height), Math.max(pixels.width, pixels.height)],
      draw(context) {
        paint.paintImage(context, pixels);
        const moved = path.anchor.box.map((value, i) => value - field[i % 2]) as Box;
        paint.paintBox(context, moved, { color: "#9fd4f5", width: 1.6, dash: [4, 3] });
      },
    },
  ];
}

function union(a: Box, b: Box): Box {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}
