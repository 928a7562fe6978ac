/** The element <rcnn-tab>: a two-stage detector in a page, with a recorded walk until it runs. */

import { html } from "../../src/element";
import { type Engine, type Overview, type Progress, type Ready, type Settings, Superseded } from "../protocol";
import { Breaking } from "./break";
import { labelColor } from "./colors";
import { Detail } from "./detail";
import { Knobs } from "./knobs";
import { Pad, SIDE } from "./pad";
import * as paint from "./paint";
import { button, select } from "./sums";
import style from "./tab.css";
import { Training } from "./train";
import {
  boxAt, boxesOf, detectionNear, follow, type Result, sameDetection, shownAt, sigmoid, STAGES, type StageName, toBytes, toImage, type View,
} from "./view";

const PENS: readonly [string, number][] = [["fine", 3.5], ["medium", 5], ["bold", 7]];
const VIEWS = [["look", "Look inside"], ["train", "Train"], ["break", "Break it"]] as const;
const PAGE_REGION: [number, number, number, number] = [0, 0, SIDE, SIDE];

/** What opens the two engines; `base` is the address of the folder with the files of the tab. */
export interface Engines {
  play(base: string): Engine;
  connect(base: string): Engine;
  /** Return whether this browser can run the second one. */
  canRun(): boolean;
}

type Mode = "opening" | "recorded" | "loading" | "live" | "failed";

/** `base` is the folder with the files. `start="ask"` loads the detector only when somebody uses the page. */
export class RcnnTab extends HTMLElement {
  static engines: Engines;
  private engine!: Engine;
  private ready!: Ready;
  private view: View | null = null;
  private mode: Mode = "opening";
  private settings!: Settings;
  private pad!: Pad;
  private knobs!: Knobs;
  private detail!: Detail;
  private training!: Training;
  private breaking!: Breaking;
  private page = 0;
  private stroke = false; // a stroke is being drawn
  private wanted = false; // the image or a setting has changed since the last request
  private busy = false;
  private isCurrent = true; // the view shows the present image
  private pending: Result | null = null; // becomes `before` with the next result
  private pen: [number, number] | null = null;
  private readonly state = html("p", { class: "state", role: "status" });
  private readonly stateText = html("span");
  private readonly starter: HTMLButtonElement = button("Start the detector", () => void this.goLive());
  private readonly panels = new Map<StageName, { button: HTMLButtonElement; canvas: HTMLCanvasElement; count: HTMLElement }>();
  private readonly overlay = html("canvas", { class: "overlay", "aria-hidden": "true" });
  private readonly caption = html("p", { class: "caption" });
  private readonly tools = html("div", { class: "tools" });
  private readonly hint = html("p", { class: "hint" });
  private readonly undo = button("Undo", () => this.pad.undo());
  private readonly timing = html("span", { class: "timing" });
  private readonly tabs: HTMLButtonElement[] = [];
  private readonly parts: HTMLElement[] = [];
  private frame = 0;

  connectedCallback(): void {
    if (this.shadowRoot) return; // moved within the page
    const root = this.attachShadow({ mode: "open" });
    root.append(html("style", {}, style));
    this.followTheme();
    void this.openRecording(root);
  }

  private get base(): string {
    return new URL(this.getAttribute("base") ?? ".", document.baseURI).href.replace(/\/?$/, "/");
  }

  // -------------------------------------------------------------------- opening

  private async openRecording(root: ShadowRoot): Promise<void> {
    try {
      this.engine = RcnnTab.engines.play(this.base);
      this.ready = await this.engine.load(() => undefined);
    } catch (error) {
      root.append(html("p", { class: "notice" }, `The recorded walk could not be loaded: ${(error as Error).message}`));
      return;
    }
    this.settings = { ...this.ready.defaults };
    this.build(root);
    this.setMode("recorded");
    this.page = this.ready.recordedPages?.[0] ?? 0;
    await this.takePage(this.page);
    this.detail.element.hidden = this.getAttribute("start") === "ask"; // until a stage is clicked
    this.open("detections");
    this.dataset.ready = "recorded";
    if (!this.waits) void this.goLive();
  }

  /** True if the detector is loaded only when somebody uses the page: with start="ask", or ?recorded in the address. */
  private get waits(): boolean {
    return this.getAttribute("start") === "ask" || new URLSearchParams(location.search).has("recorded");
  }

  /** Load the detector, and replace the recorded walk by it. */
  async goLive(): Promise<void> {
    if (this.mode !== "recorded") return;
    if (!RcnnTab.engines.canRun()) {
      return this.setMode("failed", "This browser has no WebAssembly SIMD, so the detector cannot run here.");
    }
    this.setMode("loading");
    const engine = RcnnTab.engines.connect(this.base);
    try {
      const ready = await engine.load((progress) => this.showProgress(progress));
      this.engine.close();
      [this.engine, this.ready] = [engine, ready];
    } catch (error) {
      engine.close();
      this.setMode("failed", `The detector could not be loaded: ${(error as Error).message}`);
      if (!this.isCurrent) await this.takePage(this.page); // the recording has no answer for what was drawn
      return;
    }
    this.setMode("live");
    this.knobs.use(this.ready, this.settings);
    this.training.reset();
    this.breaking.reset();
    this.request();
    this.dataset.ready = "live";
  }

  private showProgress({ fraction, bytes }: Progress): void {
    const size = bytes ? `, ${(bytes / 1e6).toFixed(1)} MB` : "";
    this.stateText.textContent = `Recorded walk, until the detector is loaded: ${Math.round(100 * fraction)} %${size}`;
  }

  private setMode(mode: Mode, reason = ""): void {
    this.mode = mode;
    const texts: Record<Mode, string> = {
      opening: "",
      recorded: "Recorded walk.",
      loading: "Recorded walk, until the detector is loaded.",
      live: "Live: the detector runs in this tab. Nothing leaves your computer.",
      failed: `Recorded walk. ${reason}`,
    };
    this.stateText.textContent = texts[mode];
    this.state.dataset.state = mode;
    this.starter.hidden = mode !== "recorded";
    this.pad.enabled = mode !== "failed";
    this.tools.hidden = mode === "failed";
    this.showHint();
  }

  private showHint(): void {
    const texts: Record<Mode, string> = {
      opening: "",
      recorded: "",
      loading: this.isCurrent ? "" : "The stages follow when the detector is loaded",
      live: this.pad.isBlank ? "Draw digits here" : "",
      failed: "",
    };
    const text = texts[this.mode];
    const isTrained = this.pad.detector === "trained";
    this.caption.textContent = isTrained ? "Your detector of shapes:" : this.mode === "failed" ? "A recorded page:" : "Draw digits here:";
    this.hint.replaceChildren(...(text ? [html("span", {}, text)] : []));
  }

  private followTheme(): void {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const apply = () => {
      const chosen = document.documentElement.dataset.theme;
      this.dataset.theme = chosen === "dark" || (chosen !== "light" && dark.matches) ? "dark" : "light";
      this.draw();
    };
    dark.addEventListener("change", apply);
    new MutationObserver(apply).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    apply();
  }

  // -------------------------------------------------------------------- building

  private build(root: ShadowRoot): void {
    const host = {
      engine: () => this.engine,
      ready: () => this.ready,
      view: () => this.view,
      isRecorded: () => this.ready.recorded,
      choose: (view: View) => this.choose(view),
      open: (stage: StageName) => this.open(stage),
      inspect: (image: ImageData) => this.inspect(image),
    };
    this.pad = new Pad((drawing, point) => this.padChanged(drawing, point));
    this.knobs = new Knobs(this.ready, (settings, fresh) => this.turn(settings, fresh));
    this.detail = new Detail(host);
    this.training = new Training(host);
    this.breaking = new Breaking(host.engine, host.ready);
    this.state.append(this.stateText);
    const tabs = html("div", { class: "tabs", role: "tablist", "aria-label": "Views" });
    VIEWS.forEach(([name, text], i) => {
      const tab = html("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `part-${name}` }, text);
      tab.addEventListener("click", () => this.select(i));
      this.tabs.push(tab);
      tabs.append(tab);
    });
    tabs.addEventListener("keydown", ({ key }) => {
      const now = this.tabs.findIndex((tab) => tab.tabIndex === 0);
      const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: VIEWS.length - 1 }[key];
      if (next === undefined) return;
      this.select((next + VIEWS.length) % VIEWS.length);
      this.tabs[(next + VIEWS.length) % VIEWS.length].focus();
    });
    const contents = [[this.flow(), this.detail.element], [this.training.element], [this.breaking.element]];
    VIEWS.forEach(([name], i) => {
      this.parts.push(html("div", { id: `part-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}` }, ...contents[i]));
    });
    root.append(html("div", { class: "bar" }, tabs, html("div", { class: "bar-end" }, this.state, this.starter)), ...this.parts);
    this.select(0);
    new ResizeObserver(() => this.draw()).observe(this);
  }

  private flow(): HTMLElement {
    this.pad.element.append(this.overlay, this.hint);
    const input = html(
      "div",
      { class: "input" },
      html("div", {}, this.caption, this.pad.element),
      this.tools,
    );
    const pens = PENS.map(([name]) => name);
    this.tools.append(
      button("Clear", () => this.clear()),
      this.undo,
      button("Take a page", () => void this.nextPage()),
      html("div", { class: "options pens" }, select("Pen", pens, 1, (i) => (this.pad.width = PENS[i][1]))),
    );
    const list = html("ol", { class: "stages" });
    STAGES.forEach(({ name, title, line }, i) => {
      const canvas = html("canvas", { "aria-hidden": "true" });
      const count = html("span", { class: "count" });
      const element = html(
        "button",
        { type: "button", class: "stage", "data-stage": name },
        html("span", { class: "title" }, html("span", { class: "number" }, String(i + 1)), html("span", {}, title)),
        canvas,
        count,
        html("span", { class: "line" }, line),
      );
      element.addEventListener("click", (event) => this.clickPanel(name, canvas, event));
      this.panels.set(name, { button: element, canvas, count });
      list.append(html("li", {}, element));
    });
    const explanation = html(
      "p",
      { class: "explain" },
      "Draw a digit, and watch the eight stages of the detector, from the features to the detections. The ",
      html("b", { class: "orange" }, "orange"),
      " marks follow one detection through all stages. Click a stage to see its numbers. ",
      this.timing,
    );
    return html("div", {}, explanation, html("div", { class: "flow" }, input, this.knobs.element, list));
  }

  private select(chosen: number): void {
    this.tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
      this.parts[i].hidden = i !== chosen;
    });
    if (chosen > 0) void this.goLive();
    this.draw();
  }

  // -------------------------------------------------------------------- the image and the settings

  private async takePage(index: number): Promise<void> {
    try {
      const page = await this.engine.page(index);
      this.pen = null;
      this.pad.setPage(toImage(page.image));
    } catch (error) {
      this.stateText.textContent = (error as Error).message;
    }
  }

  private async nextPage(): Promise<void> {
    const pages = this.ready.recordedPages ?? Array.from({ length: this.ready.pages }, (_, i) => i);
    this.page = pages[(pages.indexOf(this.page) + 1) % pages.length];
    await this.takePage(this.page);
  }

  private clear(): void {
    this.pen = null;
    this.pad.clear();
  }

  /** Look inside the detector that is being trained. */
  private inspect(image: ImageData): void {
    this.training.pause();
    this.pen = null;
    this.pad.setPage(image, "trained");
    this.select(0);
  }

  private padChanged(drawing: boolean, point: [number, number] | null): void {
    this.stroke = drawing;
    if (point) this.pen = point;
    this.pending = null;
    this.undo.disabled = !this.pad.canUndo;
    if (point && this.mode === "recorded") void this.goLive();
    this.showHint();
    this.request();
  }

  private turn(settings: Settings, fresh: boolean): void {
    if (fresh || !this.view?.before) this.pending = this.view;
    else this.pending = this.view.before;
    this.settings = settings;
    if (this.mode === "recorded" && !this.ready.recordedSettings) void this.goLive();
    this.request();
  }

  /** Ask for the stages of the present image; a request that is under way is answered first. */
  private request(): void {
    this.wanted = true;
    if (!this.busy) void this.detect();
  }

  private async detect(): Promise<void> {
    this.busy = true;
    this.setAttribute("aria-busy", "true");
    while (this.wanted) {
      this.wanted = false;
      const { settings, pending, pen } = this;
      const image = this.pad.read();
      try {
        const overview = await this.engine.detect(toBytes(image), settings, this.pad.detector);
        this.isCurrent = true;
        this.show({ image, settings, overview }, pending, pen);
      } catch (error) {
        this.isCurrent = false;
        if (!(error instanceof Superseded) && this.mode === "live") this.timing.textContent = (error as Error).message;
        this.draw();
      }
      this.showHint();
    }
    this.busy = false;
    this.removeAttribute("aria-busy");
  }

  private show(result: Result, before: Result | null, pen: [number, number] | null): void {
    const old = this.view;
    const base: View = {
      ...result,
      classes: this.ready.classes[this.pad.detector] ?? [],
      before,
      detection: -1, roi: -1, anchor: 0, label: 0, channel: -1,
      bin: { row: 0, column: 0, channel: 0 },
    };
    const { overview } = result;
    let chosen = overview.boxes.shape[0] ? 0 : -1;
    if (pen) chosen = detectionNear(overview, pen);
    else if (old && old.detection >= 0) {
      const same = sameDetection(overview, boxAt(old.overview.boxes, old.detection));
      if (same >= 0) chosen = same;
    }
    this.view = follow(base, chosen);
    this.draw();
  }

  // -------------------------------------------------------------------- choosing

  private choose(view: View): void {
    this.view = view;
    this.draw();
  }

  private open(stage: StageName): void {
    for (const [name, panel] of this.panels) panel.button.setAttribute("aria-pressed", String(name === stage));
    this.detail.open(stage);
    this.draw();
  }

  private clickPanel(stage: StageName, canvas: HTMLCanvasElement, event: MouseEvent): void {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const point: [number, number] = [((event.clientX - left) / width) * SIDE, ((event.clientY - top) / height) * SIDE];
    const isOnPage = event.detail > 0 && point[1] >= 0 && point[1] <= SIDE && !["samples", "pooled", "scores"].includes(stage);
    if (this.view && isOnPage) {
      const found = detectionNear(this.view.overview, point, true);
      if (found >= 0) this.view = follow(this.view, found);
    }
    this.detail.element.hidden = false;
    this.open(stage);
    const { bottom, top: start } = this.detail.element.getBoundingClientRect();
    if (bottom > window.innerHeight && start > window.innerHeight * 0.6) {
      const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.detail.element.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
    }
  }

  // -------------------------------------------------------------------- drawing

  /** Draw everything in the next frame. */
  private draw(): void {
    if (this.frame || !this.pad) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  private paint(): void {
    this.training.draw();
    this.breaking.draw();
    const { view } = this;
    this.undo.disabled = !this.pad.canUndo;
    if (!view || this.parts[0].hidden) return;
    for (const [name, { canvas, count }] of this.panels) {
      this.paintPanel(name, canvas, view);
      count.replaceChildren(...counts[name](view));
    }
    this.paintOverlay(view);
    this.knobs.show(this.settings);
    this.knobs.compare(view);
    if (this.isCurrent) this.timing.textContent = this.mode === "live" ? `All eight stages took ${Math.round(view.overview.times.total)} ms.` : "";
    this.detail.update(!this.stroke);
  }

  private paintPanel(name: StageName, canvas: HTMLCanvasElement, view: View): void {
    const { overview } = view;
    if (name === "samples" && view.roi >= 0) {
      const context = paint.prepare(canvas, paint.aroundSamples(view));
      return paint.paintSamples(context, view, paint.samplesOf(overview, shownAt(overview, view.roi)));
    }
    const context = paint.prepare(canvas, PAGE_REGION);
    if (name === "features") paint.paintFeatures(context, view);
    else if (name === "anchors") paint.paintAnchors(context, view);
    else if (name === "objectness") paint.paintObjectness(context, view);
    else if (name === "proposals") paint.paintProposals(context, view);
    else if (name === "pooled") {
      const pooled = paint.pooledOf(overview, view.roi);
      if (pooled) paint.paintPooled(context, pooled, paint.strongestChannels(pooled, 16));
    } else if (name === "scores") paint.paintScores(context, view, getComputedStyle(canvas).color);
    else if (name === "detections") {
      paint.paintDetections(context, view, view.classes, { before: view.before, chosen: view.detection });
    }
  }

  /** Draw the detections on the page on which the student draws. */
  private paintOverlay(view: View): void {
    const context = paint.prepare(this.overlay, PAGE_REGION);
    const { boxes, labels, scores } = view.overview;
    if (!this.isCurrent) return;
    boxesOf(boxes).forEach((box, i) => {
      if (scores.data[i] < 0.5) return;
      const color = labelColor(labels.data[i]);
      paint.paintBox(context, box, { color, width: i === view.detection ? 3 : 2 });
      paint.paintTag(context, box, view.classes[labels.data[i]], color, SIDE, 12);
    });
  }
}

/** What stands below the picture of each stage. */
const counts: Record<StageName, (view: View) => (Node | string)[]> = {
  features: ({ overview: { levels } }) => levels.map(({ features: { shape } }) => `${shape[0]} channels, ${shape[1]} × ${shape[2]} cells`),
  anchors: ({ overview: { anchors, levels } }) => {
    const [{ features, anchorsPerCell }] = levels;
    return [`${features.shape[1]} × ${features.shape[2]} × ${anchorsPerCell} = ${anchors.shape[0].toLocaleString("en")}`];
  },
  objectness: ({ overview }) => {
    const count = overview.objectness.data.filter((logit) => sigmoid(logit) > 0.5).length;
    return [count === 1 ? "one anchor has a score above 0.5" : `${count} anchors have a score above 0.5`];
  },
  proposals: (view) => [`${view.overview.counts.candidates} candidates, `, changed(view, ({ proposals }) => proposals.shape[0]), " kept"],
  samples: ({ overview: { samples } }) => {
    const [, rows, columns, points, width] = samples.shape;
    return [width === 2 ? `${rows} × ${columns} bins, ${points} points each` : `${rows} × ${columns} bins of whole cells`];
  },
  pooled: ({ overview: { pooled } }) => [`${pooled.shape[1]} × ${pooled.shape[2]} × ${pooled.shape[3]} numbers; 16 channels shown`],
  scores: ({ overview: { classScores }, classes, roi, label }) =>
    roi < 0 ? [] : [`RoI ${roi}: ${label ? classes[label] : "none"} ${classScores.data[roi * classScores.shape[1] + label].toFixed(2)}`],
  detections: (view) => [changed(view, ({ boxes }) => boxes.shape[0]), ` in total, ${view.overview.scores.data.filter((s) => s > 0.5).length} above 0.5`],
};

/** Return a count, and with it the count before a change if it differs. */
function changed({ overview, before }: View, count: (overview: Overview) => number): Node | string {
  const now = count(overview);
  const old = before ? count(before.overview) : now;
  return old === now ? String(now) : html("span", { class: "change" }, `${old} → ${now}`);
}
