import { cells, COLORS, type Control, Explorer, panel, plot, rectangle, svg } from "./element";
import { type Box, type FeatureMap, poolBins, roiAlign, roiPool, samplePoints } from "./geometry";

const FIRST: Box = [1.25, 1.5, 4, 4.75]; // the RoI before it is shifted, in cells
const BINS = 2;
const MOST = 2; // largest shift, in cells

/** RoIPool and RoIAlign of a RoI that slides over a feature map by fractions of a cell. */
export class PoolCompare extends Explorer<{ map: FeatureMap }> {
  protected settings(): Control[] {
    return [
      { name: "shift", label: "shift of the RoI, cells", value: 0.2, low: 0, high: MOST, step: 0.05 },
      { name: "samples", label: "samples per side", value: 1, low: 0, high: 2, step: 1, choices: ["1", "2", "4"] },
      { name: "aligned", label: "aligned", value: 0, low: 0, high: 1, step: 1, choices: ["no", "yes"] },
    ];
  }

  protected draw() {
    const { map } = this.data;
    const { shift } = this.values;
    const [samples, aligned] = [2 ** this.values.samples, this.values.aligned === 1];
    const roi = this.at(shift);
    const view: Box = [0, 0, map[0].length, map.length];
    const outline = () => rectangle(roi, { stroke: "#fff", "stroke-width": 2, "stroke-dasharray": "5 4" });
    const bins = poolBins(map, roi, BINS).flat();
    const points = samplePoints(roi, BINS, samples, aligned).flat(2);
    const pooled = roiPool(map, roi, BINS);
    const averaged = roiAlign(map, roi, BINS, samples, aligned);
    const shifts = Array.from({ length: 161 }, (_, i) => (i * MOST) / 160);
    const curve = (values: (roi: Box) => number[][]) =>
      shifts.map((x): [number, number] => [x, values(this.at(x))[0][0]]);
    const panels = [
      panel(
        "RoIPool: rounded bins",
        view,
        cells(map),
        ...bins.map((bin) => rectangle(bin, { stroke: COLORS.orange, "stroke-width": 2.5 })),
        outline(),
      ),
      panel(
        "RoIAlign: sample points",
        view,
        cells(map),
        outline(),
        // The cell in column 0 is drawn from 0 to 1, and a sample at x = 0 reads it alone: that is its centre.
        ...points.map(([x, y]) => svg("circle", { cx: x + 0.5, cy: y + 0.5, r: 0.1, fill: COLORS.orange })),
      ),
      plot(
        "Output of the first bin",
        { x: "shift, cells", y: "output" },
        [0, 0, MOST, 1],
        [
          { name: "RoIPool", color: COLORS.blue, points: curve((box) => roiPool(map, box, BINS)) },
          { name: "RoIAlign", color: COLORS.orange, points: curve((box) => roiAlign(map, box, BINS, samples, aligned)) },
        ],
        shift,
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
