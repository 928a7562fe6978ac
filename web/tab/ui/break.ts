/** Planted faults, and what the doctor says. */

import { html } from "../../src/element";
import type { Box, Diagnosis, Engine, Fault, Floats, Ints, Page, Ready } from "../protocol";
import { labelColor } from "./colors";
import * as paint from "./paint";
import { boxAt, boxesOf, toImage } from "./view";

export class Breaking {
  readonly element = html("div", {});
  private readonly faults = html("div", { class: "faults", role: "group", "aria-label": "Faults" });
  private readonly status = html("p", { role: "status", class: "muted" });
  private readonly result = html("div", {});
  private readonly canvases = [0, 1].map(() => html("canvas", { role: "img" }));
  private diagnosis: Diagnosis | null = null;
  private chosen = "";
  private asked = 0;

  constructor(
    private readonly engine: () => Engine,
    private readonly ready: () => Ready,
  ) {
    this.element.append(
      html("h2", {}, "Break it, and ask the doctor"),
      html(
        "p",
        { class: "lead muted" },
        "Choose a fault. It is planted into the detector or its data. The doctor then measures every stage, names the stage that " +
          "fails and says what to change. It does not know which fault you chose.",
      ),
      this.faults,
      this.status,
      this.result,
    );
    this.reset();
  }

  /** Take the faults of another engine. */
  reset(): void {
    this.asked++;
    this.diagnosis = null;
    this.chosen = "";
    this.status.textContent = "";
    this.result.replaceChildren();
    this.faults.replaceChildren(...this.ready().faults.map((fault) => this.choice(fault)));
  }

  private choice(fault: Fault): HTMLElement {
    const name = fault.name === "sound" ? "no fault" : fault.name;
    const element = html("button", { type: "button", class: "fault", "aria-pressed": "false", "data-name": fault.name });
    element.append(html("b", {}, name.charAt(0).toUpperCase() + name.slice(1)), html("span", {}, fault.description));
    element.addEventListener("click", () => void this.choose(fault));
    return element;
  }

  private async choose(fault: Fault): Promise<void> {
    const id = ++this.asked;
    this.chosen = fault.name;
    for (const each of this.faults.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each.dataset.name === fault.name));
    this.status.textContent = "The doctor examines the detector …";
    try {
      const diagnosis = await this.engine().breakIt(fault.name);
      if (id !== this.asked) return;
      this.diagnosis = diagnosis;
      this.status.textContent = "";
      this.show(diagnosis);
    } catch (error) {
      if (id !== this.asked) return;
      this.result.replaceChildren();
      this.status.textContent = (error as Error).message;
    }
  }

  private show({ verdicts, text }: Diagnosis): void {
    const troubles = verdicts.filter(({ trouble }) => trouble).length;
    const list = verdicts.map(({ stage, number, trouble, remedy }) =>
      html(
        "div",
        { class: trouble ? "verdict trouble" : "verdict" },
        html("span", { class: "mark", "aria-hidden": "true" }, trouble ? "!" : "✓"),
        html("span", {}, html("b", {}, stage), trouble ? "" : html("span", { class: "sr" }, ", fine"), ` — ${number}`),
        ...(trouble ? [html("p", {}, trouble), ...(remedy ? [html("p", {}, html("b", {}, "Remedy: "), remedy)] : [])] : []),
      ),
    );
    const heading = troubles === 0 ? "The doctor finds nothing wrong" : `The doctor finds ${troubles === 1 ? "one trouble" : `${troubles} troubles`}`;
    const titles = this.chosen === "sound" ? ["The sound detector", "The same page, without a fault"] : ["The sound detector", "With the fault"];
    this.result.replaceChildren(
      html(
        "div",
        { class: "columns" },
        html(
          "section",
          { class: "card" },
          html("h3", {}, "A page: annotations (dashed) and detections"),
          html("div", { class: "pair" }, ...this.canvases.map((canvas, i) => html("figure", {}, canvas, html("figcaption", {}, titles[i])))),
        ),
        html(
          "section",
          { class: "card" },
          html("h3", {}, heading),
          ...list,
          html("details", {}, html("summary", {}, "The report as text"), html("pre", { tabindex: 0 }, text)),
        ),
      ),
    );
    this.draw();
  }

  /** Draw the pictures again, for example after a change of size. */
  draw(): void {
    const { diagnosis } = this;
    if (!diagnosis) return;
    const { sound } = diagnosis;
    this.paintPage(this.canvases[0], "the sound detector", sound.page, sound.boxes, sound.labels);
    this.paintPage(this.canvases[1], "the detector with the fault", diagnosis.page, diagnosis.boxes, diagnosis.labels);
  }

  private paintPage(canvas: HTMLCanvasElement, name: string, page: Page, boxes: Floats, labels: Ints): void {
    const image = toImage(page.image);
    const side = Math.max(image.width, image.height);
    const context = paint.prepare(canvas, [0, 0, side, side]);
    paint.paintImage(context, image, 0.1);
    for (const box of boxesOf(page.boxes)) paint.paintBox(context, box, { color: "#fff", width: 1.4, dash: [4, 3] });
    const classes = this.ready().classes.digits;
    for (let i = boxes.shape[0] - 1; i >= 0; i--) {
      const [label, box]: [number, Box] = [labels.data[i], boxAt(boxes, i)];
      paint.paintBox(context, box, { color: labelColor(label), width: 2 });
      paint.paintTag(context, box, classes[label] ?? String(label), labelColor(label), side, 11);
    }
    canvas.setAttribute("aria-label", `${name}: ${boxes.shape[0]} detections, ${page.boxes.shape[0]} annotated objects`);
  }
}
