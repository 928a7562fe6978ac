import { COLORS, type Control, Explorer, html, panel, rectangle, svg } from "./element";
import { type Box, descending, type State, states, suppress } from "./geometry";

interface Data {
  boxes: Box[];
  scores: number[];
  threshold: number;
  image?: string; // address of the picture behind the boxes
  size: [number, number]; // of the picture: height, width
}

const LOOKS: Record<State, { stroke: string; "stroke-width": number; "stroke-dasharray"?: string }> = {
  waiting: { stroke: COLORS.grey, "stroke-width": 1.5 },
  "kept now": { stroke: COLORS.green, "stroke-width": 4 },
  "kept before": { stroke: COLORS.green, "stroke-width": 2.5 },
  "removed now": { stroke: COLORS.orange, "stroke-width": 2.5, "stroke-dasharray": "4 3" },
  "removed before": { stroke: COLORS.orange, "stroke-width": 1, "stroke-dasharray": "2 4" },
};

/** Non-maximum suppression, one step at a time, with any threshold. */
export class NmsStepper extends Explorer<Data> {
  protected settings(): Control[] {
    return [
      { name: "steps", label: "steps", value: 1, low: 0, high: this.data.boxes.length, step: 1 },
      { name: "threshold", label: "IoU threshold", value: this.data.threshold, low: 0.1, high: 0.9, step: 0.05 },
    ];
  }

  protected draw() {
    const order = descending(this.data.scores);
    const boxes = order.map((i) => this.data.boxes[i]);
    const { threshold } = this.values;
    const kept = suppress(boxes, threshold);
    const done = Math.min(this.values.steps, kept.length);
    const now = states(boxes, threshold, done);
    const [height, width] = this.data.size;
    const drawn: Node[] = this.data.image ? [svg("image", { href: this.data.image, width, height })] : [];
    boxes.forEach((box, rank) => drawn.push(rectangle(box, { ...LOOKS[now[rank]] })));
    const rows = boxes.map((_, rank) =>
      html(
        "tr",
        { "data-state": now[rank] },
        html("th", { scope: "row" }, String(rank + 1)),
        html("td", {}, this.data.scores[order[rank]].toFixed(3)),
        html("td", {}, now[rank]),
      ),
    );
    const head = html("tr", {}, ...["rank", "score", "state"].map((text) => html("th", { scope: "col" }, text)));
    const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows));
    const count = (...names: State[]) => now.filter((state) => names.includes(state)).length;
    const text =
      `After step ${done} of ${kept.length}: ${count("kept now", "kept before")} kept, ` +
      `${count("removed now", "removed before")} removed, ${count("waiting")} waiting.`;
    return { panels: [panel("Boxes", [0, 0, width, height], ...drawn), table], text };
  }
}
