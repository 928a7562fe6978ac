/** The settings of the detector, and what the last change of one has changed. */

import { html } from "../../src/element";
import type { Ready, Settings } from "../protocol";
import { button } from "./sums";
import { boxesOf, changes, type Result, type View } from "./view";

interface Knob {
  label: string;
  low: number;
  high: number;
  step: number;
  get(settings: Settings, defaults: Settings): number;
  set(settings: Settings, value: number, defaults: Settings): Settings;
  text(value: number): string;
  choices?: readonly string[];
}

const twoDigits = (value: number) => value.toFixed(2);
const scaled = (values: readonly number[], factor: number, low: number, high: number) =>
  values.map((value) => Math.min(Math.max(Math.round(value * factor * 100) / 100, low), high));

const KNOBS: readonly Knob[] = [
  {
    label: "Score threshold", low: 0, high: 0.95, step: 0.05, text: twoDigits,
    get: ({ scoreThreshold }) => scoreThreshold,
    set: (settings, scoreThreshold) => ({ ...settings, scoreThreshold }),
  },
  {
    label: "NMS, detections", low: 0.05, high: 1, step: 0.05, text: twoDigits,
    get: ({ nmsThreshold }) => nmsThreshold,
    set: (settings, nmsThreshold) => ({ ...settings, nmsThreshold }),
  },
  {
    label: "NMS, proposals", low: 0.05, high: 1, step: 0.05, text: twoDigits,
    get: ({ proposalNmsThreshold }) => proposalNmsThreshold,
    set: (settings, proposalNmsThreshold) => ({ ...settings, proposalNmsThreshold }),
  },
  {
    label: "Proposals kept", low: 0, high: 8, step: 1,
    text: (value) => String(Math.round(2 ** value * 100 / 64) || 1),
    get: ({ proposals }) => Math.log2((proposals * 64) / 100),
    set: (settings, value) => ({ ...settings, proposals: Math.max(1, Math.round((2 ** value * 100) / 64)) }),
  },
  {
    label: "Pooling", low: 0, high: 1, step: 1, choices: ["RoIAlign", "RoIPool"], text: String,
    get: ({ pooling }) => (pooling === "pool" ? 1 : 0),
    set: (settings, value) => ({ ...settings, pooling: value ? "pool" : "align" }),
  },
  {
    label: "Anchor sizes", low: 0.5, high: 2, step: 0.05, text: (value) => `× ${value.toFixed(2)}`,
    get: ({ anchorSizes }, defaults) => anchorSizes[0] / defaults.anchorSizes[0],
    set: (settings, factor, { anchorSizes }) => ({ ...settings, anchorSizes: scaled(anchorSizes, factor, 4, 128) }),
  },
  {
    label: "Anchor ratios", low: 0.5, high: 2, step: 0.05, text: (value) => `× ${value.toFixed(2)}`,
    get: ({ anchorRatios }, defaults) => anchorRatios[0] / defaults.anchorRatios[0],
    set: (settings, factor, { anchorRatios }) => ({ ...settings, anchorRatios: scaled(anchorRatios, factor, 0.1, 10) }),
  },
];

/** The panel with all knobs. `changed` is called with the new settings; `fresh` is true for the first change of a drag. */
export class Knobs {
  readonly element = html("section", { class: "knobs", "aria-label": "Knobs" });
  private readonly grid = html("div", { class: "grid" });
  private readonly note = html("p", { class: "muted" });
  private readonly difference = html("p", { class: "before", role: "status" });
  private readonly reset: HTMLButtonElement;
  private readonly inputs: { input: HTMLInputElement | HTMLSelectElement; output: HTMLElement | null }[] = [];
  private settings!: Settings;
  private last = -1; // the knob that was changed last
  private timer = 0;

  constructor(
    private ready: Ready,
    private readonly changed: (settings: Settings, fresh: boolean) => void,
  ) {
    this.reset = button("Reset", () => this.change({ ...this.ready.defaults }, -1));
    const head = html("div", { class: "head" }, html("h2", {}, "Turn the knobs"), this.reset);
    KNOBS.forEach((knob, i) => {
      const input = knob.choices
        ? html("select", {}, ...knob.choices.map((text, k) => html("option", { value: k }, text)))
        : html("input", { type: "range", min: knob.low, max: knob.high, step: knob.step });
      const output = knob.choices ? null : html("output");
      input.addEventListener("input", () => this.change(knob.set(this.settings, Number(input.value), this.ready.defaults), i));
      this.inputs.push({ input, output });
      const label = html("label", { class: knob.choices ? "knob choice" : "knob" }, html("span", {}, knob.label), input);
      if (output) label.append(output);
      this.grid.append(label);
    });
    this.element.append(head, this.grid, this.note, this.difference);
    this.use(ready, ready.defaults);
  }

  /** Take the facts about another engine. */
  use(ready: Ready, settings: Settings): void {
    this.ready = ready;
    const some = ready.recordedSettings;
    this.note.hidden = !some;
    this.note.textContent = "The recorded walk has some settings only; a slider moves to the nearest of them.";
    KNOBS.forEach((knob, i) => {
      const values = new Set((some ?? []).map((each) => knob.get(each, ready.defaults).toFixed(3)));
      this.inputs[i].input.disabled = some !== null && values.size < 2;
    });
    this.show(settings);
  }

  show(settings: Settings): void {
    this.settings = settings;
    const { defaults } = this.ready;
    KNOBS.forEach((knob, i) => {
      const { input, output } = this.inputs[i];
      const value = knob.get(settings, defaults);
      input.value = String(Number(value.toFixed(4)));
      const text = knob.choices ? knob.choices[value] : knob.text(value);
      if (output) output.textContent = text;
      if (!knob.choices) input.setAttribute("aria-valuetext", text);
    });
    this.reset.disabled = JSON.stringify(settings) === JSON.stringify(defaults);
  }

  private change(settings: Settings, knob: number): void {
    const next = this.nearest(settings, knob);
    const fresh = knob !== this.last || !this.timer;
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => (this.timer = 0), 1500); // a pause ends a drag
    this.last = knob;
    this.show(next);
    this.changed(next, fresh);
  }

  /**
   * Return the settings with a recorded answer that are nearest: first in the knob that was changed, then in the others. The
   * knob moves at least to the next recorded value, so that arrow keys move it, too.
   */
  private nearest(settings: Settings, knob: number): Settings {
    const { recordedSettings, defaults } = this.ready;
    if (!recordedSettings || knob < 0) return settings;
    const { get } = KNOBS[knob];
    const [wanted, now] = [get(settings, defaults), get(this.settings, defaults)];
    const ahead = recordedSettings.filter((one) => (get(one, defaults) - now) * (wanted - now) > 1e-9);
    const distance = (other: Settings) =>
      KNOBS.reduce((total, each, i) => {
        const gap = Math.abs(each.get(other, defaults) - each.get(settings, defaults)) / (each.high - each.low);
        return total + (i === knob ? 1000 * gap : Number(gap > 0.001));
      }, 0);
    return ahead.reduce((best, other) => (distance(other) < distance(best) ? other : best), ahead[0] ?? this.settings);
  }

  /** Show what the last change has changed. */
  compare(view: View | null): void {
    const before = view?.before;
    this.difference.hidden = !view || !before;
    if (!view || !before) return;
    const [now, old] = [view.overview, before.overview];
    const { added, gone } = changes(boxesOf(now.boxes), boxesOf(old.boxes), now.labels.data, old.labels.data);
    const turned = KNOBS.filter((knob) => {
      const [old, now] = [before.settings, view.settings].map((settings) => knob.get(settings, this.ready.defaults));
      return Math.abs(old - now) > 1e-6;
    }).map((knob) => {
      const [old, now] = [before.settings, view.settings].map((settings) => {
        const value = knob.get(settings, this.ready.defaults);
        return knob.choices ? knob.choices[value] : knob.text(value);
      });
      return `${knob.label} ${old} → ${now}`;
    });
    const count = (name: string, result: (each: Result) => number) =>
      html("span", {}, `${name} `, html("b", {}, `${result(before)} → ${result(view)}`));
    this.difference.replaceChildren(
      html("span", {}, turned.join("; ")),
      count("proposals", ({ overview }) => overview.proposals.shape[0]),
      count("detections", ({ overview }) => overview.boxes.shape[0]),
      html("span", { class: "key gone" }, `${gone.length} gone (dashed)`),
      html("span", { class: "key" }, `${added.length} new (bold)`),
    );
  }
}
