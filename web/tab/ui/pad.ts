/** The page on which a student draws, with undo, and its pixels. */

import { html } from "../../src/element";
import type { Detector } from "../protocol";

export const SIDE = 128; // pixels of the page

interface Stroke {
  width: number; // pixels of the page
  points: [number, number][];
}

interface Action {
  page?: ImageData; // a new page; without it, the action adds a stroke
  isBlank?: boolean; // nothing is on this page
  detector?: Detector; // that looks at this page
  stroke?: Stroke;
}

/**
 * A page of 128 x 128 pixels. `changed` is called after each change. It gets whether a stroke is not finished, and the
 * last point of the stroke, or null.
 */
export class Pad {
  readonly element = html("div", { class: "pad" });
  readonly canvas = html("canvas", {
    width: SIDE,
    height: SIDE,
    tabindex: 0,
    role: "img",
    "aria-label": "The page. Draw digits with a mouse, a pen or a finger.",
  });
  width = 5;
  enabled = true;
  private readonly pixels: CanvasRenderingContext2D;
  private actions: Action[] = [];
  private current: Stroke | null = null;
  private pointer = 0; // that draws the current stroke; a second finger does not

  constructor(private readonly changed: (drawing: boolean, point: [number, number] | null) => void) {
    this.pixels = this.canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
    this.element.append(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.start(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
      this.canvas.addEventListener(name, (event) => this.stop(event));
    }
  }

  get canUndo(): boolean {
    return this.actions.length > 1;
  }

  /** True if there is nothing on the page. */
  get isBlank(): boolean {
    const last = this.actions[this.actions.length - 1];
    return last?.isBlank === true;
  }

  /** The detector that looks at the present page. */
  get detector(): Detector {
    return this.actions[this.lastPage()]?.detector ?? "digits";
  }

  /** Put a page under all strokes to come. */
  setPage(page: ImageData, detector: Detector = "digits"): void {
    this.actions.push({ page, detector });
    this.paint();
    this.changed(false, null);
  }

  clear(): void {
    this.actions.push({ page: blankPage(), isBlank: true });
    this.paint();
    this.changed(false, null);
  }

  undo(): void {
    if (!this.canUndo) return;
    this.actions.pop();
    this.paint();
    this.changed(false, null);
  }

  /** Return the pixels, (128, 128, 4) in RGBA. */
  read(): ImageData {
    return this.pixels.getImageData(0, 0, SIDE, SIDE);
  }

  private start(event: PointerEvent): void {
    if (this.current || event.button > 0 || !this.enabled) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    const point = this.at(event);
    this.current = { width: this.width, points: [point, [point[0] + 0.01, point[1]]] };
    this.actions.push({ stroke: this.current });
    this.paint();
    this.changed(true, point);
  }

  private move(event: PointerEvent): void {
    if (!this.current || event.pointerId !== this.pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.current.points.push(this.at(each));
    this.paint();
    this.changed(true, this.current.points[this.current.points.length - 1]);
  }

  private stop(event: PointerEvent): void {
    if (!this.current || event.pointerId !== this.pointer) return;
    const { points } = this.current;
    this.current = null;
    this.changed(false, points[points.length - 1]);
  }

  private at(event: PointerEvent): [number, number] {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((event.clientX - left) / width) * SIDE, ((event.clientY - top) / height) * SIDE];
  }

  private lastPage(): number {
    return this.actions.map(({ page }) => page !== undefined).lastIndexOf(true);
  }

  private paint(): void {
    const first = this.lastPage();
    const page = this.actions[first]?.page;
    if (page) this.pixels.putImageData(page, 0, 0);
    for (const { stroke } of this.actions.slice(first + 1)) if (stroke) paintStroke(this.pixels, stroke);
  }
}

/** Draw a stroke as a smooth curve through its points. */
function paintStroke(context: CanvasRenderingContext2D, { width, points }: Stroke): void {
  context.strokeStyle = "rgb(38 36 52)";
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...points[points.length - 1]);
  context.stroke();
}

/** Return an empty sheet of light paper, with faint grain as on the pages of the digits. */
function blankPage(): ImageData {
  const page = new ImageData(SIDE, SIDE);
  let state = 7;
  for (let i = 0; i < page.data.length; i += 4) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const grain = Math.round((state / 2147483648 - 0.5) * 6);
    page.data.set([226 + grain, 226 + grain, 220 + grain, 255], i);
  }
  return page;
}
