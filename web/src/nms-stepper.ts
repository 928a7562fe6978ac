import { COLORS, type Control, edged, Explorer, html, panel, picture, rectangle, tags, withLegend } from "./element";
import { type Box, descending, type State, states, suppress } from "./geometry";

interface Data {
  boxes: Box[];
  scores: number[];
  threshold: number;
  image?: string; // address of the picture behind the boxes
  size: [number, number]; // of the picture: height, width
}

interface Look {
  color: string;
  width: number;
  dashes?: string;
}

// As in rcnn.plot.suppression_step. Later states are drawn on top.
const LOOKS: Record<State, Look> = {
  "removed before": { color: COLORS.faded, width: 1.2, dashes: "1.5 3" },
  waiting: { color: COLORS.sky, width: 1.2 },
  "kept before": { color: COLORS.green, width: 2 },
  "removed now": { color: COLORS.vermilion, width: 2, dashes: "5 3" },
  "kept now": { color: COLORS.yellow, width: 3 },
};
const STATES = Object.keys(LOOKS) as State[];

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
    const drawn: Node[] = this.data.image ? [picture(this.data.image, this.data.size, true)] : [];
    for (const state of STATES) {
      const { color, width: line, dashes } = LOOKS[state];
      boxes.forEach((box, rank) => {
        if (now[rank] !== state) return;
        const plain = { stroke: color, "stroke-width": line, "stroke-dasharray": dashes ?? "" };
        drawn.push(state === "removed before" ? rectangle(box, plain) : edged(box, color, line, dashes));
      });
    }
    const tagged = boxes.map((_, rank) => rank).filter((rank) => now[rank] !== "removed before");
    drawn.push(
      tags(
        tagged.map((rank) => boxes[rank]),
        tagged.map((rank) => String(rank + 1)),
        tagged.map((rank) => LOOKS[now[rank]].color),
        this.data.size,
      ),
    );
    const rows = boxes.map((_, rank) =>
      html(
        "tr",
        { "data-state": now[rank] },
        html("th", { scope: "row" }, String(rank + 1)),
        html("td", {}, this.data.scores[order[rank]].toFixed(3)),
        html("td", {}, html("span", { class: "dot", style: `--color: ${LOOKS[now[rank]].color}` }), now[rank]),
      ),
    );
    const head = html("tr", {}, ...["rank", "score", "state"].map((text) => html("th", { scope: "col" }, text)));
    const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows));
    const count = (...names: State[]) => now.filter((state) => names.includes(state)).length;
    const text =
      `After step ${done} of ${kept.length}: ${count("kept now", "kept before")} kept, ` +
      `${count("removed now", "removed before")} removed, ${count("waiting")} waiting.`;
    const picturePanel = withLegend(
      panel(done ? `After step ${done} of ${kept.length}` : "Before the first step", [0, 0, width, height], ...drawn),
      [...STATES]
        .reverse()
        .filter((state) => now.includes(state))
        .map((state) => ({
          color: LOOKS[state].color,
          text: `${state}: ${count(state)}`,
          look: state === "removed now" ? ("dashed" as const) : state === "removed before" ? ("dotted" as const) : undefined,
        })),
    );
    return { panels: [picturePanel, table], text };
  }
}
