import { COLORS, type Control, Explorer, panel, plot, rectangle, svg, tag } from "./element";
import { type Box, precisionRecall } from "./geometry";

interface Data {
  name: string; // of the class
  size: [number, number];
  images: string[]; // the pictures of the first pages
  objects: Box[][]; // of this class, on each of these pages
  total: number; // objects of this class on all pages
  ranked: { page: number; box: Box; score: number; correct: boolean }[]; // on all pages, in descending order of score
}

/** The detections of one class above a score threshold, and their precision and recall. */
export class ScoreThreshold extends Explorer<Data> {
  protected settings(): Control[] {
    return [
      { name: "threshold", label: "score threshold", value: 0.5, low: 0, high: 1, step: 0.01 },
      { name: "page", label: "page", value: 0, low: 0, high: this.data.images.length - 1, step: 1 },
    ];
  }

  protected draw() {
    const { threshold, page } = this.values;
    const { ranked, total, name } = this.data;
    const [height, width] = this.data.size;
    const shown = ranked.filter(({ score }) => score > threshold);
    const curve = precisionRecall(ranked.map(({ correct }) => correct), total);
    const points = curve.map(({ precision, recall }): [number, number] => [recall, precision]);
    const here = shown.filter((found) => found.page === page);
    const panels = [
      panel(
        `Page ${page}, class ${name}`,
        [0, 0, width, height],
        svg("image", { href: this.data.images[page], width, height }),
        ...this.data.objects[page].map((box) =>
          rectangle(box, { stroke: "#fff", "stroke-width": 3, "stroke-dasharray": "4 3" }),
        ),
        ...here.flatMap(({ box, score, correct }) => [
          rectangle(box, { stroke: correct ? COLORS.green : COLORS.orange, "stroke-width": 2.5 }),
          tag(box, score),
        ]),
      ),
      plot("All pages", { x: "recall", y: "precision" }, [0, 0, 1, 1], [
        { name: "all detections", color: COLORS.grey, points },
        { name: "above the threshold", color: COLORS.green, points: points.slice(0, shown.length), dots: true },
      ]),
    ];
    const last = curve[shown.length - 1];
    const text = last
      ? `${shown.length} detections above ${threshold}: precision ${last.precision.toFixed(2)}, recall ` +
        `${last.recall.toFixed(2)}, of ${total} objects. Green boxes are correct, dashed boxes are the objects.`
      : `No detection above ${threshold}; ${total} objects.`;
    return { panels, text };
  }
}
