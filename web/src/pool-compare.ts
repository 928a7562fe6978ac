import { cells, COLORS, type Control, edged, Explorer, panel, plot, svg, withLegend } from "./element";
import { type Box, type FeatureMap, poolBins, roiAlign, roiPool, samplePoints } from "./geometry";

const FIRST: Box = [1.25, 1.5, 4, 4.75]; // the RoI before it is shifted, in cells
const BINS = 2;
const MOST = 2; // largest shift, in cells

const BIN_COLORS = [COLORS.sky, COLORS.purple]; // of neighbouring bins, which share cells

/** Return a bin of whole cells. A narrow line is drawn over a wide one, so both are visible. */
function edgedBin([x1, y1, x2, y2]: Box, turn: number): SVGElement {
  return edged([x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5], BIN_COLORS[turn], turn ? 1.6 : 4);
}

/** Return [column, row] of the largest cell of a bin; nothing for an empty bin. */
function largest(map: FeatureMap, [x1, y1, x2, y2]: Box): [number, number][] {
  let best: [number, number][] = [];
  for (let y = y1; y < y2; y++) {
    for (let x = x1; x < x2; x++) if (!best.length || map[y][x] > map[best[0][1]][best[0][0]]) best = [[x, y]];
  }
  return best;
}

/** RoIPool and RoIAlign of a RoI that slides over a feature map by fractions of a cell. */
export class PoolCompare extends Explorer<{ map: FeatureMap }> {
  protected settings(): Control[] {
    return [
      { name: "shift", label: "shift, cells", value: 0.2, low: 0, high: MOST, step: 0.05 },
      { name: "samples", label: "samples per side", value: 1, low: 0, high: 2, step: 1, choices: ["1", "2", "4"] },
      { name: "aligned", label: "aligned", value: 0, low: 0, high: 1, step: 1, choices: ["no", "yes"] },
    ];
  }

  protected draw() {
    const { map } = this.data;
    const { shift } = this.values;
    const [samples, aligned] = [2 ** this.values.samples, this.values.aligned === 1];
    const roi = this.at(shift);
    const view: Box = [-0.5, -0.5, map[0].length - 0.5, map.length - 0.5]; // the centre of the first cell is (0, 0)
    const bins = poolBins(map, roi, BINS);
    const offset = aligned ? 0.5 : 0;
    const exact: Box = [roi[0] - offset, roi[1] - offset, roi[2] - offset, roi[3] - offset];
    const [x, y] = [(exact[0] + exact[2]) / 2, (exact[1] + exact[3]) / 2];
    const parts = `M${x} ${exact[1]}V${exact[3]}M${exact[0]} ${y}H${exact[2]}`; // the two bins along each axis
    const dot = (cx: number, cy: number) =>
      svg("circle", { cx, cy, r: 0.11, fill: "#fff", stroke: "#000", "stroke-width": 0.03 });
    const points = samplePoints(roi, BINS, samples, aligned).flat(2);
    const pooled = roiPool(map, roi, BINS);
    const averaged = roiAlign(map, roi, BINS, samples, aligned);
    const shifts = Array.from({ length: 161 }, (_, i) => (i * MOST) / 160);
    const curve = (values: (roi: Box) => number[][]) =>
      shifts.map((x): [number, number] => [x, values(this.at(x))[0][0]]);
    const panels = [
      withLegend(
        panel(
          "RoIPool: rounded bins",
          view,
          cells(map),
          ...[0, 1].flatMap((turn) =>
            bins.flatMap((row, i) => row.filter((_, j) => (i + j) % 2 === turn).map((bin) => edgedBin(bin, turn))),
          ),
          edged(roi, COLORS.orange, 2, "6 4"),
          ...bins.flat().flatMap((bin) => largest(map, bin).map(([column, row]) => dot(column, row))),
        ),
        [
          { color: COLORS.orange, text: "RoI", look: "dashed" },
          ...["bin", "neighbouring bins"].map((text, turn) => ({ color: BIN_COLORS[turn], text })),
          { color: "#fff", text: "largest cell of a bin", look: "dot" },
        ],
      ),
      withLegend(
        panel(
          "RoIAlign: sample points",
          view,
          cells(map),
          svg("path", { d: parts, stroke: COLORS.orange, "stroke-width": 0.04, fill: "none" }),
          edged(exact, COLORS.orange, 2),
          ...points.map(([px, py]) => dot(px, py)),
        ),
        [
          { color: COLORS.orange, text: "RoI and its bins" },
          { color: "#fff", text: "sample point", look: "dot" },
        ],
      ),
      plot(
        "Output of the first bin",
        { x: "shift, cells", y: "output" },
        [0, 0, MOST, 1],
        [
          { name: "RoIPool", color: COLORS.vermilion, points: curve((box) => roiPool(map, box, BINS)) },
          { name: "RoIAlign", color: COLORS.blue, points: curve((box) => roiAlign(map, box, BINS, samples, aligned)) },
        ],
        [shift],
        [
          { x: shift, y: pooled[0][0], color: COLORS.vermilion },
          { x: shift, y: averaged[0][0], color: COLORS.blue },
        ],
      ),
    ];
    const numbers = (values: number[][]) => values.map((row) => row.map((x) => x.toFixed(2)).join(", ")).join("; ");
    const text = `Outputs of the four bins. RoIPool: ${numbers(pooled)}. RoIAlign: ${numbers(averaged)}.`;
    return { panels, text };
  }

  private at(shift: number): Box {
    return [FIRST[0] + shift, FIRST[1], FIRST[2] + shift, FIRST[3]];
  }
}
