import { COLORS, type Control, Explorer, panel, rectangle, short, svg } from "./element";
import { area, type Box, intersection, iou, moved } from "./geometry";

/** A square B moves over a square A: drag it, or use the arrow keys or the sliders. */
export class BoxIou extends Explorer<{ side?: number }> {
  protected settings(): Control[] {
    const reach = Math.round(1.25 * this.side);
    return [
      { name: "dx", label: "shift to the right, pixels", value: this.side / 4, low: -reach, high: reach, step: 1 },
      { name: "dy", label: "shift down, pixels", value: 0, low: -reach, high: reach, step: 1 },
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
    const label = (text: string, [x, y]: Box, color: string) =>
      svg("text", { x: x + 1, y: y + 3.4, "font-size": 3.4, fill: color, "font-weight": "bold" }, text);
    const drawing = panel(
      `IoU ${value.toFixed(2)}`,
      [-margin, -margin, this.side + margin, this.side + margin],
      rectangle(intersection(a, b), { fill: COLORS.green, "fill-opacity": 0.35 }),
      rectangle(a, { stroke: COLORS.blue, "stroke-width": 3 }),
      rectangle(b, { stroke: COLORS.orange, "stroke-width": 3, fill: COLORS.orange, "fill-opacity": 0.08 }),
      label("A", a, COLORS.blue),
      label("B", b, COLORS.orange),
    );
    this.makeDraggable(drawing.querySelector("svg") as SVGSVGElement);
    const shared = area(intersection(a, b));
    const text =
      `Intersection ${short(shared)}, union ${short(area(a) + area(b) - shared)} square pixels: ` +
      `IoU = ${value.toFixed(3)}.`;
    return { panels: [drawing], text };
  }

  private makeDraggable(drawing: SVGSVGElement): void {
    drawing.style.cursor = "grab";
    drawing.style.touchAction = "none";
    drawing.addEventListener("pointerdown", (start) => {
      const scale = drawing.viewBox.baseVal.width / drawing.getBoundingClientRect().width;
      const { dx, dy } = this.values;
      const move = (event: PointerEvent) =>
        this.set({
          dx: dx + (event.clientX - start.clientX) * scale,
          dy: dy + (event.clientY - start.clientY) * scale,
        });
      const stop = () => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", stop);
        window.removeEventListener("pointercancel", stop);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", stop);
      window.addEventListener("pointercancel", stop);
    });
  }
}
