/** The frame of an explorer: controls, a drawing in SVG, and a sentence that says what the drawing shows. */

import { area, type Box, type FeatureMap, intersection } from "./geometry";

/** The colours of rcnn.plot, so that an explorer looks like the figures of its notebook. */
export const COLORS = {
  sky: "#56B4E9",
  orange: "#E69F00",
  green: "#009E73",
  yellow: "#F0E442",
  purple: "#CC79A7",
  vermilion: "#D55E00",
  blue: "#0072B2",
  neutral: "#999999",
  faded: "#a8a8a8",
};
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const CIVIDIS = ["#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#dec958", "#fee838"];
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

/** Return a box with a dark edge, which is visible on any image. The edge of a dashed box is solid. */
export function edged(box: Box, color: string, width = 2, dashes = ""): SVGElement {
  const edge = { stroke: "#000", "stroke-opacity": 0.75, "stroke-width": width + 1.6 };
  const line = { stroke: color, "stroke-width": width, ...(dashes ? { "stroke-dasharray": dashes } : {}) };
  return svg("g", {}, rectangle(box, edge), rectangle(box, line));
}

/** Return a picture, in its own colours or darker, so that boxes stand out. */
export function picture(href: string, [height, width]: readonly [number, number], dimmed = false): SVGElement {
  return svg("image", { href, width, height, ...(dimmed ? { style: "filter: brightness(0.62)" } : {}) });
}

/** Return the text of each box on a background in the colour of the box, in a view of `size` (height, width). */
export function tags(
  boxes: readonly Box[],
  texts: readonly string[],
  colors: readonly string[],
  [height, width]: readonly [number, number],
): SVGElement {
  const font = 0.045 * width;
  const placed: Box[] = [];
  const group = svg("g", {});
  boxes.forEach(([x1, y1, x2, y2], i) => {
    const [w, h] = [(0.62 * texts[i].length + 0.4) * font, 1.2 * font];
    const corners = [[x1, y1 - h], [x2 - w, y1 - h], [x1, y2], [x2 - w, y2], [x2, y1], [x1 - w, y1], [x1, y1], [x2 - w, y2 - h]];
    let best = { cost: Infinity, place: [0, 0, 0, 0] as Box };
    for (const [left, top] of corners) {
      const x = Math.min(Math.max(left, 0), width - w);
      const y = Math.min(Math.max(top, 0), height - h);
      const place: Box = [x, y, x + w, y + h];
      const hidden = placed.reduce((sum, other) => sum + area(intersection(place, other)), 0);
      const cost = hidden + 0.05 * (Math.abs(x - left) + Math.abs(y - top));
      if (cost < best.cost - 1e-9) best = { cost, place };
    }
    placed.push(best.place);
    const [x, y] = best.place;
    const text = { x: x + 0.2 * font, y: y + 0.92 * font, "font-size": font, fill: contrasting(colors[i]) };
    group.append(svg("rect", { x, y, width: w, height: h, fill: colors[i] }), svg("text", text, texts[i]));
  });
  return group;
}

function channels(color: string): number[] {
  return [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
}

/** Return black or white, whichever has the higher contrast with a colour. */
export function contrasting(color: string): string {
  const [r, g, b] = channels(color).map((c) => (c <= 10 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

/** Return the colour of a number in [0, 1]. */
function between(stops: readonly string[], share: number): string {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const [from, to] = [channels(stops[low]), channels(stops[low + 1])];
  const hex = from.map((value, i) => Math.round(value + (at - low) * (to[i] - value)).toString(16).padStart(2, "0"));
  return `#${hex.join("")}`;
}

/** Return the colour of an IoU. */
export function iouColor(value: number): string {
  return between(VIRIDIS, value);
}

/** Return a picture (a drawing of `width` x `height` units) with a heading above it. */
export function panel(heading: string, box: Box, ...children: (Node | string)[]): HTMLElement {
  const [x1, y1, x2, y2] = box;
  const drawing = svg("svg", { viewBox: `${x1} ${y1} ${x2 - x1} ${y2 - y1}`, "aria-hidden": "true" }, ...children);
  return html("figure", {}, html("figcaption", {}, heading), drawing);
}

/** Return a figure with a legend: for each entry, its look and its text. */
export function withLegend(
  figure: HTMLElement,
  entries: readonly { color: string; text: string; look?: "dashed" | "dotted" | "dot" }[],
): HTMLElement {
  const items = entries.map(({ color, text, look = "solid" }) =>
    html("li", {}, html("span", { class: `swatch ${look}`, style: `--color: ${color}` }), text),
  );
  figure.append(html("ul", { class: "legend" }, ...items));
  return figure;
}

/** Return one rectangle for each cell of a feature map. The centre of the cell in row y and column x is (x, y). */
export function cells(map: FeatureMap): SVGElement {
  const values = map.flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const group = svg("g", {});
  map.forEach((row, y) =>
    row.forEach((value, x) => {
      const fill = between(CIVIDIS, (value - low) / (high - low || 1));
      const side = { width: 1, height: 1, stroke: "#fff", "stroke-width": 0.02 };
      group.append(svg("rect", { x: x - 0.5, y: y - 0.5, fill, ...side }));
    }),
  );
  return group;
}

/** A mark in a plot; a ring also has dotted lines to both axes. */
export interface Mark {
  x: number;
  y: number;
  color: string;
  shape?: "dot" | "cross" | "ring";
  opacity?: number;
}

/** Return a plot of lines against x, with axes and a legend. */
export function plot(
  heading: string,
  labels: { x: string; y: string },
  range: Box,
  lines: readonly { name: string; color: string; points: readonly (readonly [number, number])[]; width?: number }[],
  at: readonly number[] = [],
  marks: readonly Mark[] = [],
): HTMLElement {
  const [left, top, width, height] = [46, 8, 194, 170];
  const [x1, y1, x2, y2] = range;
  const px = (x: number) => left + ((x - x1) / (x2 - x1)) * width;
  const py = (y: number) => top + height - ((y - y1) / (y2 - y1)) * height;
  const text = (x: number, y: number, content: string, anchor = "middle") =>
    svg("text", { x, y, "text-anchor": anchor, "font-size": 12, fill: "currentColor" }, content);
  const parts: Node[] = [
    svg("path", { d: `M${left} ${top}V${top + height}H${left + width}`, stroke: "currentColor", fill: "none" }),
    text(left + width / 2, top + height + 34, labels.x),
    svg("g", { transform: `translate(12 ${top + height / 2}) rotate(-90)` }, text(0, 0, labels.y)),
  ];
  for (const share of [0, 0.5, 1]) {
    const [x, y] = [x1 + share * (x2 - x1), y1 + share * (y2 - y1)];
    parts.push(text(px(x), top + height + 16, short(x)), text(left - 6, py(y) + 4, short(y), "end"));
  }
  for (const x of at) {
    parts.push(svg("path", { d: `M${px(x)} ${top}V${top + height}`, stroke: "currentColor", "stroke-dasharray": 4 }));
  }
  lines.forEach(({ name, color, points, width = 2 }, i) => {
    const d = points.map(([x, y], k) => `${k ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    parts.push(svg("path", { d, stroke: color, "stroke-width": width, fill: "none" }));
    if (name) {
      const y = top + height + 56 + 17 * i;
      parts.push(svg("path", { d: `M${left} ${y - 4}h22`, stroke: color, "stroke-width": 3 }));
      parts.push(text(left + 30, y, name, "start"));
    }
  });
  for (const { x, y, color, shape = "dot", opacity = 1 } of marks) {
    const [cx, cy] = [px(x), py(y)];
    const cross = `M${cx - 3.5} ${cy - 3.5}l7 7m0 -7l-7 7`;
    if (shape === "dot") parts.push(svg("circle", { cx, cy, r: 3, fill: color, opacity }));
    else if (shape === "cross") parts.push(svg("path", { d: cross, stroke: color, "stroke-width": 2.2, opacity }));
    else {
      const dotted = `M${left} ${cy}H${cx}V${top + height}`;
      parts.push(svg("path", { d: dotted, stroke: color, fill: "none", "stroke-dasharray": "2 3" }));
      parts.push(svg("circle", { cx, cy, r: 7, stroke: color, "stroke-width": 1.8, fill: "none" }));
    }
  }
  const legend = lines.filter(({ name }) => name).length * 17 + (lines.some(({ name }) => name) ? 14 : 0);
  return panel(heading, [0, 0, 250, top + height + 40 + legend], ...parts);
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
  protected drawing = html("div", { class: "drawing" });
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
