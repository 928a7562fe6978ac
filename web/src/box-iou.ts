import { COLORS, type Control, Explorer, panel, rectangle, short, svg, withLegend } from "./element";
import { area, type Box, intersection, iou, moved } from "./geometry";

const STEP = 10; // pixels between two lines of the grid
const REACH = 6; // pixels around B in which a finger takes it

/** A square B moves over a square A: drag it with the mouse or a finger, or use the sliders. */
export class BoxIou extends Explorer<{ side?: number }> {
  connectedCallback(): void {
    super.connectedCallback();
    this.makeDraggable();
  }

  protected settings(): Control[] {
    const reach = Math.round(1.25 * this.side);
    return [
      { name: "dx", label: "dx, pixels", value: this.side / 4, low: -reach, high: reach, step: 1 },
      { name: "dy", label: "dy, pixels", value: 0, low: -reach, high: reach, step: 1 },
      { name: "scale", label: "scale of B", value: 1, low: 0.5, high: 2, step: 0.05 },
    ];
  }

  private get side(): number {
    return this.data.side ?? 20;
  }

  protected draw() {
    const { dx, dy, scale } = this.values;
    const a: Box = [0, 0, this.side, this.side];
    const b = moved(a, dx, dy, scale);
    const margin = 1.75 * this.side + 1;
    const value = iou(a, b);
    const shared = area(intersection(a, b));
    const union = area(a) + area(b) - shared;
    const [low, high] = [-margin, this.side + margin];
    const grid: Node[] = [svg("rect", { x: low, y: low, width: high - low, height: high - low, class: "field" })];
    for (let at = Math.ceil(low / STEP) * STEP; at < high; at += STEP) {
      grid.push(svg("path", { d: `M${at} ${low}V${high}M${low} ${at}H${high}`, class: "grid" }));
      if (at % (2 * STEP)) continue;
      const text = { "font-size": 3.6, fill: "currentColor" };
      grid.push(svg("text", { ...text, x: at, y: high + 4.5, "text-anchor": "middle" }, String(at)));
      grid.push(svg("text", { ...text, x: low - 1, y: at + 1.2, "text-anchor": "end" }, String(at)));
    }
    const label = (text: string, x: number, y: number, color: string) =>
      svg("text", { x, y, "font-size": 4.5, fill: color, "font-weight": "bold" }, text);
    const near: Box = [b[0] - REACH, b[1] - REACH, b[2] + REACH, b[3] + REACH];
    const drawing = panel(
      `IoU ${value.toFixed(2)}`,
      [low - 8, low, high, high + 6],
      ...grid,
      rectangle(a, { fill: COLORS.blue, "fill-opacity": 0.16 }),
      rectangle(b, { fill: COLORS.vermilion, "fill-opacity": 0.16 }),
      rectangle(intersection(a, b), { fill: COLORS.green, "fill-opacity": 0.5 }),
      rectangle(a, { stroke: COLORS.blue, "stroke-width": 3 }),
      rectangle(b, { stroke: COLORS.vermilion, "stroke-width": 3, "stroke-dasharray": "8 4" }),
      label("A", a[0] - 4.5, a[1] - 1.5, COLORS.blue),
      label("B", b[2] + 1.5, b[3] + 4.5, COLORS.vermilion),
      rectangle(near, { "fill-opacity": 0, fill: "#fff", class: "handle" }),
    );
    const pixels = (size: number) => `${short(size)} px\u00b2`;
    withLegend(drawing, [
      { color: COLORS.blue, text: `A: ${pixels(area(a))}` },
      { color: COLORS.vermilion, text: `B: ${pixels(area(b))}`, look: "dashed" },
      { color: COLORS.green, text: `intersection: ${pixels(shared)}` },
    ]);
    const text = `Intersection ${short(shared)}, union ${short(union)} square pixels: IoU = ${value.toFixed(3)}.`;
    return { panels: [drawing], text };
  }

  /** Let the mouse drag anywhere, and a finger at B; elsewhere, a finger scrolls the page. */
  private makeDraggable(): void {
    const keepStill = (start: TouchEvent) => (start.target as Element).matches(".handle") && start.preventDefault();
    this.drawing.addEventListener("touchstart", keepStill, { passive: false }); // the page would scroll with B
    this.drawing.addEventListener("pointerdown", (start) => {
      const target = start.target as Element;
      const picture = target.closest("svg");
      if (!picture || (start.pointerType === "touch" && !target.matches(".handle"))) return;
      start.preventDefault();
      const scale = picture.viewBox.baseVal.width / picture.getBoundingClientRect().width;
      const { dx, dy } = this.values;
      this.drawing.setPointerCapture(start.pointerId); // the drawing stays, but each move replaces what is in it
      const move = (event: PointerEvent) => {
        if (event.pointerId !== start.pointerId) return;
        this.set({
          dx: dx + (event.clientX - start.clientX) * scale,
          dy: dy + (event.clientY - start.clientY) * scale,
        });
      };
      const ends = ["pointerup", "pointercancel"] as const;
      const stop = (event: PointerEvent) => {
        if (event.pointerId !== start.pointerId) return;
        this.drawing.removeEventListener("pointermove", move);
        for (const end of ends) this.drawing.removeEventListener(end, stop);
      };
      this.drawing.addEventListener("pointermove", move);
      for (const end of ends) this.drawing.addEventListener(end, stop);
    });
  }
}
