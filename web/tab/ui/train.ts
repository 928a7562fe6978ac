/** Training in the tab: a detector of shapes from random weights. */

import { html, svg } from "../../src/element";
import type { Engine, Preview, Ready, TrainingStart } from "../protocol";
import { HIGHLIGHT, labelColor, valueColor, css } from "./colors";
import * as paint from "./paint";
import { button } from "./sums";
import { boxAt, boxesOf, toImage } from "./view";

const SEED = 0;
const STEPS = 2; // per request, so that detections do not wait long
const WARM_UP = 10; // slower steps at the start, which the estimate of the time leaves out

/** What the training needs from the page. */
export interface TrainingHost {
  engine(): Engine;
  ready(): Ready;
  /** Look inside the detector that is being trained, on its page. */
  inspect(image: ImageData): void;
}

export class Training {
  readonly element = html("div", {});
  private readonly start = button("Start the training", () => this.toggle(), "button primary");
  private readonly restart = button("Start again", () => void this.begin());
  private readonly inspect: HTMLButtonElement;
  private readonly progress = html("progress", { max: 1, value: 0, "aria-label": "Training steps done" });
  private readonly status = html("p", { role: "status", class: "muted" });
  private readonly note = html("p", { class: "notice" });
  private readonly chart = html("div", {});
  private readonly canvas = html("canvas", { role: "img", "aria-label": "The fixed page" });
  private readonly scrub = html("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": "Preview" });
  private readonly caption = html("p", {});
  private state: "new" | "running" | "paused" | "done" = "new";
  private started: TrainingStart | null = null;
  private image: ImageData | null = null;
  private losses: number[] = []; // the total loss of each step
  private parts: number[][] = []; // the losses of the last step
  private aps: { step: number; ap50: number }[] = [];
  private previews: Preview[] = [];
  private shownPreview = -1; // -1 follows the newest
  private rate = 0; // milliseconds per step
  private run = 0; // changes when the training starts again or the engine changes
  private looping = -1; // the run whose steps are being asked for

  constructor(private readonly host: TrainingHost) {
    this.inspect = button("Look inside this detector", () => this.image && this.host.inspect(this.image));
    this.scrub.addEventListener("input", () => {
      const at = Number(this.scrub.value);
      this.shownPreview = at === this.previews.length - 1 ? -1 : at;
      this.drawPage();
    });
    this.element.append(
      html("h2", {}, "Train a detector from random weights"),
      html(
        "p",
        { class: "lead muted" },
        "The detector learns to find shapes on drawn pages. At first, its proposals are scattered. Watch them settle on the objects " +
          "while the loss falls. You can pause, look around and resume.",
      ),
      this.note,
      html("div", { class: "actions" }, this.start, this.restart, this.inspect, this.progress),
      this.status,
      html(
        "div",
        { class: "columns" },
        html("section", { class: "card" }, html("h3", {}, "Loss and average precision"), this.chart),
        html(
          "section",
          { class: "card" },
          html("h3", {}, "Proposals and detections on a fixed page"),
          this.canvas,
          html("label", { class: "knob" }, html("span", {}, "Training step"), this.scrub, html("output")),
          this.caption,
        ),
      ),
    );
    this.render();
  }

  /** Begin anew with another engine. */
  reset(): void {
    this.run++;
    this.state = "new";
    this.started = null;
    this.losses = [];
    this.aps = [];
    this.previews = [];
    this.parts = [];
    this.shownPreview = -1;
    this.rate = 0;
    this.render();
  }

  pause(): void {
    if (this.state === "running") this.toggle();
  }

  private toggle(): void {
    if (this.state === "new") void this.begin();
    else if (this.state === "running") {
      this.state = "paused";
      this.render();
    } else if (this.state === "paused") {
      this.state = "running";
      this.render();
      void this.loop(this.run);
    }
  }

  private async begin(): Promise<void> {
    this.reset();
    const run = this.run;
    this.state = "running";
    this.render();
    try {
      const started = await this.host.engine().startTraining(SEED);
      if (run !== this.run) return;
      this.started = started;
      this.image = toImage(started.page.image);
      this.previews = [started.preview];
      this.render();
      await this.loop(run);
    } catch (error) {
      this.fail(error, run);
    }
  }

  private async loop(run: number): Promise<void> {
    if (this.looping === run) return; // paused and resumed while steps are computed
    this.looping = run;
    try {
      while (run === this.run && this.state === "running" && this.started) {
        const chunk = await this.host.engine().trainSteps(STEPS);
        if (run !== this.run) return;
        const { data, shape } = chunk.losses;
        for (let i = 0; i < shape[0]; i++) {
          const row = Array.from(data.subarray(i * shape[1], (i + 1) * shape[1]));
          this.losses.push(row[row.length - 1]);
          this.parts = [row];
        }
        if (shape[0] && this.losses.length > WARM_UP) {
          const each = chunk.milliseconds / shape[0];
          this.rate = this.rate ? 0.9 * this.rate + 0.1 * each : each;
        }
        if (chunk.ap) this.aps.push(chunk.ap);
        if (chunk.preview) this.previews.push(chunk.preview);
        if (chunk.done) this.state = "done";
        this.render();
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
    } catch (error) {
      this.fail(error, run);
    } finally {
      if (this.looping === run) this.looping = -1;
    }
  }

  private fail(error: unknown, run: number): void {
    if (run !== this.run) return;
    this.state = this.started ? "paused" : "new";
    this.render();
    this.status.textContent = (error as Error).message;
  }

  private render(): void {
    const labels = { new: "Start the training", running: "Pause", paused: "Resume", done: "Finished" };
    this.start.textContent = labels[this.state];
    this.start.disabled = this.state === "done";
    this.restart.hidden = this.state === "new";
    const recorded = this.host.ready().recorded;
    this.note.hidden = !recorded;
    this.note.textContent = "This is a recorded training. It becomes a training on your computer when the detector is ready.";
    this.inspect.hidden = recorded || !this.started || !this.host.ready().classes.trained;
    const step = this.losses.length;
    const steps = this.started?.steps ?? 0;
    this.progress.value = steps ? step / steps : 0;
    this.progress.hidden = this.state === "new";
    const left = ((steps - step) * this.rate) / 1000;
    const time = recorded || !this.rate || this.state !== "running" ? "" : `, about ${left > 90 ? `${Math.round(left / 60)} min` : `${Math.round(left)} s`} left`;
    const ap = this.aps.length ? `, AP50 ${this.aps[this.aps.length - 1].ap50.toFixed(2)}` : "";
    this.status.textContent = this.started ? `Step ${step} of ${steps}${ap}${time}.` : this.state === "running" ? "The training starts …" : "";
    this.scrub.max = String(Math.max(this.previews.length - 1, 0));
    this.scrub.disabled = this.previews.length < 2;
    this.drawChart();
    this.drawPage();
  }

  /** Draw the fixed page again, for example after a change of size. */
  draw(): void {
    this.drawPage();
  }

  private drawPage(): void {
    const at = this.shownPreview < 0 ? this.previews.length - 1 : Math.min(this.shownPreview, this.previews.length - 1);
    const output = this.scrub.parentElement?.querySelector("output");
    this.scrub.value = String(Math.max(at, 0));
    if (output) output.textContent = this.previews[at] ? String(this.previews[at].step) : "";
    const { image, started } = this;
    this.canvas.hidden = !image || !started;
    const preview = this.previews[at];
    if (!image || !started || !preview) {
      this.caption.textContent = "The page appears when the training starts.";
      return;
    }
    const context = paint.prepare(this.canvas, [0, 0, image.width, image.height]);
    paint.paintImage(context, image, 0.3);
    for (const box of boxesOf(started.page.boxes)) paint.paintBox(context, box, { color: "#fff", width: 1.2, dash: [4, 3] });
    for (let i = preview.proposals.shape[0] - 1; i >= 0; i--) {
      const score = preview.proposalScores.data[i];
      paint.paintBox(context, boxAt(preview.proposals, i), { color: css(valueColor(score), 0.85), width: 1.2, halo: false });
    }
    const classes = this.host.ready().classes.trained ?? [];
    for (let i = preview.boxes.shape[0] - 1; i >= 0; i--) {
      const [label, score] = [preview.labels.data[i], preview.scores.data[i]];
      if (score < 0.5) continue;
      const box = boxAt(preview.boxes, i);
      paint.paintBox(context, box, { color: labelColor(label), width: 2.4 });
      paint.paintTag(context, box, `${classes[label] ?? label}`, labelColor(label), image.width, 11);
    }
    const found = preview.scores.data.filter((score) => score >= 0.5).length;
    const count = found === 0 ? "No detection has" : found === 1 ? "One detection has" : `${found} detections have`;
    this.caption.textContent =
      `After ${preview.step} steps: the ${preview.proposals.shape[0]} best proposals are thin; yellow is a high score. ` +
      `${Math.round(100 * preview.recall)} % of the ${started.page.boxes.shape[0]} objects (dashed) have a proposal with an IoU of at least 0.5. ` +
      `${count} a score of at least 0.5.`;
  }

  private drawChart(): void {
    const [width, height, left, bottom, top, right] = [440, 250, 44, 34, 12, 44];
    const steps = Math.max(this.started?.steps ?? 1, 1);
    const most = Math.max(...this.losses.slice(0, 50), 1) * 1.05;
    const x = (step: number) => left + (step / steps) * (width - left - right);
    const y = (share: number) => top + (1 - share) * (height - top - bottom);
    const label = (px: number, py: number, text: string, anchor = "middle", fill = "currentColor") =>
      svg("text", { x: px, y: py, "text-anchor": anchor, "font-size": 12, fill }, text);
    const bin = Math.max(1, Math.ceil(this.losses.length / 300));
    const points: string[] = [];
    for (let i = 0; i < this.losses.length; i += bin) {
      const part = this.losses.slice(i, i + bin);
      const mean = part.reduce((total, value) => total + value, 0) / part.length;
      points.push(`${x(i + part.length / 2).toFixed(1)} ${y(Math.min(mean / most, 1)).toFixed(1)}`);
    }
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.chartText() });
    drawing.append(
      svg("path", { d: `M${left} ${top}V${height - bottom}H${width - right}V${top}`, stroke: "currentColor", "stroke-opacity": 0.35, fill: "none" }),
      label(left + 4, top + 10, "loss", "start"),
      label(width - right - 4, top + 10, "AP50", "end"),
      label((left + width - right) / 2, height - 4, "training step"),
    );
    for (const share of [0, 0.5, 1]) {
      drawing.append(
        label(left - 6, y(share) + 4, (share * most).toFixed(1), "end"),
        label(width - right + 6, y(share) + 4, share.toFixed(1), "start"),
        label(x(share * steps), height - bottom + 15, this.started ? String(Math.round(share * steps)) : ""),
      );
    }
    if (points.length) drawing.append(svg("path", { d: `M${points.join("L")}`, class: "loss", stroke: "var(--accent)", "stroke-width": 2, fill: "none" }));
    const marks = this.aps.map(({ step, ap50 }) => `${x(step).toFixed(1)} ${y(ap50).toFixed(1)}`);
    if (marks.length) drawing.append(svg("path", { d: `M${marks.join("L")}`, stroke: HIGHLIGHT, "stroke-width": 2, fill: "none" }));
    for (const { step, ap50 } of this.aps) drawing.append(svg("circle", { cx: x(step), cy: y(ap50), r: 4, fill: HIGHLIGHT }));
    const key = html(
      "p",
      { class: "muted" },
      html("span", { class: "dot", style: "--dot:var(--accent)" }, "total loss"),
      html("span", { class: "dot", style: `--dot:${HIGHLIGHT}` }, "AP50 on other pages"),
    );
    const names = this.started?.lossNames ?? [];
    const row = this.parts[0];
    const now = row ? names.map((name, i) => `${name} ${row[i].toFixed(2)}`).join(", ") : "";
    this.chart.replaceChildren(drawing, key, html("p", { class: "muted" }, now));
  }

  private chartText(): string {
    if (!this.losses.length) return "Loss and AP50; no step yet";
    return `Loss ${this.losses[0].toFixed(2)} at first, ${this.losses[this.losses.length - 1].toFixed(2)} after ${this.losses.length} steps`;
  }
}
