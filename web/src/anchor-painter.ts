import { COLORS, type Control, edged, Explorer, iouColor, panel, picture, plot, short, svg, tags, withLegend } from "./element";
import { bestAnchor, type Box, cellAnchors } from "./geometry";

interface Data {
  size: [number, number]; // height, width of every page
  pages: Box[][]; // the objects of each page
  images: string[]; // the pictures of the first pages
  first?: number; // page to show first
}

const RATIOS: readonly (readonly number[])[] = [[1], [1.4], [1, 1.7], [1.2, 1.6], [0.5, 1, 2]];
const STRIDES = [4, 8, 16];
const RATIO_COLORS = [COLORS.sky, COLORS.orange, COLORS.green]; // by ascending ratio, as in the figures

/** Anchors of any sizes, ratios and stride, and how well they cover the objects of a data set. */
export class AnchorPainter extends Explorer<Data> {
  protected settings(): Control[] {
    const ratios = RATIOS.map((each) => each.join(", "));
    return [
      { name: "page", label: "page", value: this.data.first ?? 0, low: 0, high: this.data.images.length - 1, step: 1 },
      { name: "smallest", label: "smallest size, pixels", value: 16, low: 6, high: 40, step: 1 },
      { name: "count", label: "number of sizes", value: 3, low: 1, high: 6, step: 1 },
      { name: "factor", label: "factor between sizes", value: 2, low: 1.1, high: 2.5, step: 0.1 },
      { name: "ratios", label: "height / width", value: 4, low: 0, high: 4, step: 1, choices: ratios },
      { name: "stride", label: "stride, pixels", value: 1, low: 0, high: 2, step: 1, choices: STRIDES.map(String) },
    ];
  }

  protected draw() {
    const { page, smallest, count, factor } = this.values;
    const stride = STRIDES[this.values.stride];
    const sizes = Array.from({ length: count }, (_, i) => smallest * factor ** i);
    const ratios = RATIOS[this.values.ratios];
    const cell = cellAnchors(sizes, ratios);
    const [height, width] = this.data.size;
    const view: Box = [0, 0, width, height];
    const image = () => picture(this.data.images[page], this.data.size, true);
    const centre = (side: number) => Math.floor(side / stride / 2) * stride;
    const middle = cell.map(([x1, y1, x2, y2]): Box => {
      const [x, y] = [centre(width), centre(height)];
      return [x1 + x, y1 + y, x2 + x, y2 + y];
    });
    const dots: Node[] = [];
    for (let y = 0; y < height; y += stride)
      for (let x = 0; x < width; x += stride) dots.push(svg("circle", { cx: x, cy: y, r: 0.7, fill: COLORS.yellow }));
    const here = this.data.pages[page].map((object) => ({ object, ...bestAnchor(object, cell, this.data.size, stride) }));
    const all = this.data.pages.flat().map((object) => bestAnchor(object, cell, this.data.size, stride).iou);
    const sorted = [...all].sort((a, b) => a - b);
    const share = (limit: number) => all.filter((value) => value >= limit).length / all.length;
    const steps = sorted.map((value, i): [number, number] => [value, 1 - i / sorted.length]);
    const panels = [
      withLegend(
        panel(
          `${cell.length} anchors per cell`,
          view,
          image(),
          ...dots,
          ...middle.map((box, i) => edged(box, RATIO_COLORS[Math.floor(i / sizes.length)], 1.5)),
        ),
        ratios.map((ratio, i) => ({ color: RATIO_COLORS[i], text: `height / width ${short(ratio)}` })),
      ),
      withLegend(
        panel(
          "Best anchor of each object",
          view,
          image(),
          ...here.map(({ object }) => edged(object, "#fff", 1.5, "4 3")),
          ...here.map(({ box, iou }) => edged(box, iouColor(iou))),
          tags(
            here.map(({ box }) => box),
            here.map(({ iou }) => iou.toFixed(2)),
            here.map(({ iou }) => iouColor(iou)),
            this.data.size,
          ),
        ),
        [
          { color: "#fff", text: "object", look: "dashed" },
          { color: iouColor(0.6), text: "best anchor and its IoU" },
        ],
      ),
      plot(
        "Objects of all pages",
        { x: "IoU with the best anchor", y: "fraction of objects above" },
        [0, 0, 1, 1],
        [{ name: "", color: COLORS.blue, points: [[0, 1], ...steps] }],
        [0.5, 0.7],
      ),
    ];
    const text =
      `Sizes ${sizes.map(short).join(", ")}. Of ${all.length} objects, ${(100 * share(0.5)).toFixed(0)} % have an ` +
      `anchor with an IoU of at least 0.5, and ${(100 * share(0.7)).toFixed(0)} % of at least 0.7.`;
    return { panels, text };
  }
}
