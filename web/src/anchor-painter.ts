import { COLORS, type Control, Explorer, panel, plot, rectangle, short, svg, tag } from "./element";
import { bestAnchor, type Box, cellAnchors } from "./geometry";

interface Data {
  size: [number, number]; // height, width of every page
  pages: Box[][]; // the objects of each page
  images: string[]; // the pictures of the first pages
}

const RATIOS: readonly (readonly number[])[] = [[1], [1.4], [1, 1.7], [1.2, 1.6], [0.5, 1, 2]];
const STRIDES = [4, 8, 16];

/** Anchors of any sizes, ratios and stride, and how well they cover the objects of a data set. */
export class AnchorPainter extends Explorer<Data> {
  protected settings(): Control[] {
    const ratios = RATIOS.map((each) => each.join(", "));
    return [
      { name: "page", label: "page", value: 0, low: 0, high: this.data.images.length - 1, step: 1 },
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
    const cell = cellAnchors(sizes, RATIOS[this.values.ratios]);
    const [height, width] = this.data.size;
    const view: Box = [0, 0, width, height];
    const image = () => svg("image", { href: this.data.images[page], width, height, opacity: 0.6 });
    const centre = (side: number) => Math.floor(side / stride / 2) * stride;
    const middle = cell.map(([x1, y1, x2, y2]): Box => {
      const [x, y] = [centre(width), centre(height)];
      return [x1 + x, y1 + y, x2 + x, y2 + y];
    });
    const dots: Node[] = [];
    for (let y = 0; y < height; y += stride)
      for (let x = 0; x < width; x += stride) dots.push(svg("circle", { cx: x, cy: y, r: 0.7, fill: COLORS.blue }));
    const here = this.data.pages[page].map((object) => ({ object, ...bestAnchor(object, cell, this.data.size, stride) }));
    const all = this.data.pages.flat().map((object) => bestAnchor(object, cell, this.data.size, stride).iou);
    const sorted = [...all].sort((a, b) => a - b);
    const share = (limit: number) => all.filter((value) => value >= limit).length / all.length;
    const steps = sorted.map((value, i): [number, number] => [value, 1 - i / sorted.length]);
    const panels = [
      panel(
        `${cell.length} anchors per cell`,
        view,
        image(),
        ...dots,
        ...middle.map((box) => rectangle(box, { stroke: COLORS.orange, "stroke-width": 2 })),
      ),
      panel(
        "Best anchor of each object",
        view,
        image(),
        ...here.flatMap(({ object, box, iou }) => [
          rectangle(object, { stroke: "#fff", "stroke-width": 2, "stroke-dasharray": "4 3" }),
          rectangle(box, { stroke: iou >= 0.5 ? COLORS.green : COLORS.orange, "stroke-width": 2.5 }),
          tag(object, iou),
        ]),
      ),
      plot(
        "Objects of all pages",
        { x: "IoU with the best anchor", y: "fraction of objects above" },
        [0, 0, 1, 1],
        [{ name: "", color: COLORS.blue, points: [[0, 1], ...steps] }],
        0.5,
      ),
    ];
    const text =
      `Sizes ${sizes.map(short).join(", ")}. Of ${all.length} objects, ${(100 * share(0.5)).toFixed(0)} % have an ` +
      `anchor with an IoU of at least 0.5, and ${(100 * share(0.7)).toFixed(0)} % of at least 0.7.`;
    return { panels, text };
  }
}
