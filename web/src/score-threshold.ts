import { COLORS, type Control, edged, Explorer, type Mark, panel, picture, plot, tags, withLegend } from "./element";
import { type Box, precisionRecall } from "./geometry";

interface Data {
  name: string; // of the class
  size: [number, number];
  first: number; // sheet of the first picture
  start: number; // sheet to show first
  images: string[]; // pictures of some sheets
  objects: Box[][]; // of this class, on each of these sheets
  total: number; // objects of this class on all sheets
  ranked: { page: number; box: Box; score: number; correct: boolean }[]; // on all sheets, in descending order of score
}

/** The detections of one class above a score threshold, and their precision and recall. */
export class ScoreThreshold extends Explorer<Data> {
  protected settings(): Control[] {
    const { first, start, images } = this.data;
    return [
      { name: "threshold", label: "score threshold", value: 0.5, low: 0, high: 1, step: 0.01 },
      { name: "page", label: "sheet", value: start, low: first, high: first + images.length - 1, step: 1 },
    ];
  }

  protected draw() {
    const { threshold, page } = this.values;
    const { ranked, total, name, first } = this.data;
    const [height, width] = this.data.size;
    const shown = ranked.filter(({ score }) => score > threshold);
    const curve = precisionRecall(ranked.map(({ correct }) => correct), total);
    const points = curve.map(({ precision, recall }): [number, number] => [recall, precision]);
    const here = shown.filter((found) => found.page === page);
    const color = (correct: boolean) => (correct ? COLORS.blue : COLORS.vermilion);
    const marks = points.map(
      ([x, y], i): Mark => ({
        x,
        y,
        color: color(ranked[i].correct),
        shape: ranked[i].correct ? "dot" : "cross",
        opacity: i < shown.length ? 1 : 0.3,
      }),
    );
    if (shown.length) {
      const [x, y] = points[shown.length - 1];
      marks.push({ x, y, color: "currentColor", shape: "ring" });
    }
    const panels = [
      withLegend(
        panel(
          `Sheet ${page}, class ${name}`,
          [0, 0, width, height],
          picture(this.data.images[page - first], this.data.size),
          ...this.data.objects[page - first].map((box) => edged(box, "#fff", 1.5, "4 3")),
          ...here.map(({ box, correct }) => edged(box, color(correct))),
          tags(
            here.map(({ box }) => box),
            here.map(({ score }) => score.toFixed(2)),
            here.map(({ correct }) => color(correct)),
            this.data.size,
          ),
        ),
        [
          { color: "#fff", text: `object: ${this.data.objects[page - first].length}`, look: "dashed" },
          { color: color(true), text: `correct: ${here.filter(({ correct }) => correct).length}` },
          { color: color(false), text: `wrong: ${here.filter(({ correct }) => !correct).length}` },
        ],
      ),
      plot(
        "All sheets",
        { x: "recall", y: "precision" },
        [0, 0, 1, 1],
        [{ name: "", color: COLORS.neutral, points, width: 1 }],
        [],
        marks,
      ),
    ];
    const last = curve[shown.length - 1];
    const text = last
      ? `${shown.length} detections above ${threshold}: precision ${last.precision.toFixed(2)}, recall ` +
        `${last.recall.toFixed(2)}, of ${total} objects.`
      : `No detection above ${threshold}; ${total} objects.`;
    return { panels, text };
  }
}
