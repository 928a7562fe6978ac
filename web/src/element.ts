/** The frame of an explorer: controls, a drawing in SVG, and a sentence that says what the drawing shows. */

import type { Box, FeatureMap } from "./geometry";

export const COLORS = { blue: "#0072B2", orange: "#D55E00", sky: "#56B4E9", green: "#009E73", grey: "#8a8a8a" };
const SVG = "http://www.w3.org/2000/svg";

type Attributes = Readonly<Record<string, string | number>>;

/** Return an SVG element with attributes and children. */
export function svg(tag: string, attributes: Attributes = {}, ...children: (Node | string)[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Return an HTML element with attributes and children. */
export function html<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[T] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Return a rectangle for a box. */
export function rectangle([x1, y1, x2, y2]: Box, attributes: Attributes = {}): SVGElement {
  const sides = { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
  return svg("rect", { fill: "none", "vector-effect": "non-scaling-stroke", ...sides, ...attributes });
}

/** Return a number above a box, or inside it at the top of the drawing. */
export function tag([x1, y1]: Box, value: number): SVGElement {
  return svg("text", { x: x1, y: Math.max(y1 - 1, 6.5), "font-size": 7, fill: "#000" }, value.toFixed(2));
}

/** Return a picture (a drawing of `width` x `height` units) with a heading above it. */
export function panel(heading: string, box: Box, ...children: (Node | string)[]): HTMLElement {
  const [x1, y1, x2, y2] = box;
  const drawing = svg("svg", { viewBox: `${x1} ${y1} ${x2 - x1} ${y2 - y1}`, "aria-hidden": "true" }, ...children);
  return html("figure", {}, html("figcaption", {}, heading), drawing);
}

/** Return one rectangle for each cell of a feature map, from dark (low) to light (high), with its value. */
export function cells(map: FeatureMap): SVGElement {
  const values = map.flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const group = svg("g", {});
  map.forEach((row, y) =>
    row.forEach((value, x) => {
      const light = 22 + (58 * (value - low)) / (high - low || 1);
      group.append(svg("rect", { x, y, width: 1.01, height: 1.01, fill: `hsl(215 45% ${light}%)` }));
    }),
  );
  return group;
}

/** Return a plot of lines against x, with axes and a legend. */
export function plot(
  heading: string,
  labels: { x: string; y: string },
  range: Box,
  lines: readonly { name: string; color: string; points: readonly (readonly [number, number])[]; dots?: boolean }[],
  at?: number,
): HTMLElement {
  const [left, top, width, height] = [46, 8, 244, 190];
  const [x1, y1, x2, y2] = range;
  const px = (x: number) => left + ((x - x1) / (x2 - x1)) * width;
  const py = (y: number) => top + height - ((y - y1) / (y2 - y1)) * height;
  const text = (x: number, y: number, content: string, anchor = "middle") =>
    svg("text", { x, y, "text-anchor": anchor, "font-size": 11, fill: "currentColor" }, content);
  const parts: Node[] = [
    svg("path", { d: `M${left} ${top}V${top + height}H${left + width}`, stroke: "currentColor", fill: "none" }),
    text(left + width / 2, top + height + 34, labels.x),
    svg("g", { transform: `translate(12 ${top + height / 2}) rotate(-90)` }, text(0, 0, labels.y)),
  ];
  for (const share of [0, 0.5, 1]) {
    const [x, y] = [x1 + share * (x2 - x1), y1 + share * (y2 - y1)];
    parts.push(text(px(x), top + height + 16, short(x)), text(left - 6, py(y) + 4, short(y), "end"));
  }
  if (at !== undefined) {
    parts.push(svg("path", { d: `M${px(at)} ${top}V${top + height}`, stroke: "currentColor", "stroke-dasharray": 4 }));
  }
  lines.forEach(({ name, color, points, dots }, i) => {
    const d = points.map(([x, y], k) => `${k ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    parts.push(svg("path", { d, stroke: color, "stroke-width": 2, fill: "none" }));
    if (dots) points.forEach(([x, y]) => parts.push(svg("circle", { cx: px(x), cy: py(y), r: 2.5, fill: color })));
    if (name) {
      const y = top + height + 56 + 17 * i;
      parts.push(svg("path", { d: `M${left} ${y - 4}h22`, stroke: color, "stroke-width": 3 }));
      parts.push(text(left + 30, y, name, "start"));
    }
  });
  const legend = lines.filter(({ name }) => name).length * 17 + (lines.some(({ name }) => name) ? 14 : 0);
  return panel(heading, [0, 0, 300, top + height + 40 + legend], ...parts);
}

/** Return a number with at most two decimals. */
export function short(x: number): string {
  return String(Math.round(x * 100) / 100);
}

export interface Control {
  name: string;
  label: string;
  value: number;
  low: number;
  high: number;
  step: number;
  choices?: readonly string[]; // names of the values low, low + step, ...
}

/** A custom element with sliders, which draws again when a slider moves. Its data is JSON in a <script> inside it. */
export abstract class Explorer<Data> extends HTMLElement {
  protected data!: Data;
  protected values: Record<string, number> = {};
  private inputs: Record<string, HTMLInputElement> = {};
  private outputs: Record<string, HTMLElement> = {};
  private controls: Control[] = [];
  private drawing = html("div", { class: "drawing" });
  private summary = html("p", { role: "status" });

  connectedCallback(): void {
    if (this.controls.length) return; // moved within the page
    const source = this.querySelector("script[type='application/json']");
    this.data = JSON.parse(source?.textContent || "{}") as Data;
    this.controls = this.settings();
    const form = html("div", { class: "controls" });
    for (const control of this.controls) {
      this.values[control.name] = control.value;
      const { low, high, step, value } = control;
      const input = html("input", { type: "range", min: low, max: high, step, value });
      const output = html("output");
      input.addEventListener("input", () => this.set({ [control.name]: Number(input.value) }));
      this.inputs[control.name] = input;
      this.outputs[control.name] = output;
      form.append(html("label", {}, html("span", {}, control.label), input, output));
    }
    this.classList.add("rcnn-explorer");
    this.replaceChildren(form, this.drawing, this.summary);
    this.update();
  }

  /** Change some settings, within their limits, and draw again. */
  set(values: Readonly<Record<string, number>>): void {
    for (const { name, low, high, step } of this.controls) {
      if (name in values) {
        const steps = Math.round((Math.min(Math.max(values[name], low), high) - low) / step);
        this.values[name] = Number((low + steps * step).toFixed(6));
      }
    }
    this.update();
  }

  private update(): void {
    for (const { name, choices, low, step } of this.controls) {
      const value = this.values[name];
      const text = choices ? choices[Math.round((value - low) / step)] : short(value);
      this.inputs[name].value = String(value);
      this.inputs[name].setAttribute("aria-valuetext", text);
      this.outputs[name].textContent = text;
    }
    const { panels, text } = this.draw();
    this.drawing.replaceChildren(...panels);
    this.summary.textContent = text;
  }

  /** Return the sliders. */
  protected abstract settings(): Control[];

  /** Return the panels of the drawing, and a sentence with the most important numbers. */
  protected abstract draw(): { panels: HTMLElement[]; text: string };
}
