/** Arithmetic as text: formulas with their values, tables and bars. */

import { html } from "../../src/element";
import type { Arithmetic } from "../protocol";
import { labelColor, textOn } from "./colors";
import { shown } from "./view";

const MOST_PRODUCTS = 5;
const MOST_STEPS = 8;

/** Return a block with a sentence and its arithmetic. */
export function sum(...children: (Node | string)[]): HTMLElement {
  return html("div", { class: "sum" }, ...children);
}

export function sentence(...children: (Node | string)[]): HTMLElement {
  return html("p", {}, ...children);
}

export function formula(...children: (Node | string)[]): HTMLElement {
  return html("code", { class: "formula" }, ...children);
}

/** Return how one number is computed. `short` leaves out all steps but the last. */
export function arithmetic(given: Arithmetic, short = false): HTMLElement {
  const { title, formula: general, steps, products, result } = given;
  const block = sum(sentence(html("b", {}, title.charAt(0).toUpperCase() + title.slice(1))), formula(tidy(general)));
  const last = steps.length - 1;
  if (products) {
    const total = addProducts(block, products);
    const isResult = Math.abs(total - result) <= 1e-3 * Math.max(1, Math.abs(result));
    if (!isResult) steps.slice(1).forEach((step, i) => block.append(formula(i + 1 === last ? html("b", {}, tidy(step)) : tidy(step))));
    return block;
  }
  if (!short) steps.slice(0, MOST_STEPS).forEach((step, i) => block.append(formula(i === last ? html("b", {}, tidy(step)) : tidy(step))));
  if (short || steps.length > MOST_STEPS) block.append(formula(html("b", {}, tidy(steps[last]))));
  return block;
}

/** Return the arithmetic of several coordinates, one line each. */
export function coordinates(heading: string, given: readonly Arithmetic[]): HTMLElement {
  const block = sum(sentence(html("b", {}, heading)));
  for (const { formula: general, steps } of given) {
    block.append(formula(tidy(general), html("br"), html("b", {}, tidy(steps[steps.length - 1]))));
  }
  return block;
}

function tidy(text: string): string {
  return text.replace(/ \* /g, " × ").replace(/(^|[ (=])-(?=\w)/g, "$1−").replace(/ - /g, " − ");
}

/** Add a table with the largest products of a long sum, and return the sum. */
function addProducts(block: HTMLElement, { a, b, offset, nameOfA, nameOfB }: NonNullable<Arithmetic["products"]>): number {
  const values = Array.from(a.data, (value, i) => value * b.data[i]);
  const order = [...values.keys()].sort((i, j) => Math.abs(values[j]) - Math.abs(values[i]));
  const rows = order.slice(0, MOST_PRODUCTS).map((i) => [shown(a.data[i]), shown(b.data[i]), shown(values[i])]);
  const rest = order.slice(MOST_PRODUCTS).reduce((total, i) => total + values[i], 0);
  if (order.length > MOST_PRODUCTS) rows.push([`the other ${order.length - MOST_PRODUCTS}`, "", shown(rest)]);
  if (offset) rows.push(["constant", "", shown(offset)]);
  const total = values.reduce((sum, value) => sum + value, offset);
  rows.push(["sum", "", shown(total)]);
  block.append(table([nameOfA, nameOfB, "product"], rows, rows.length - 1));
  return total;
}

export function table(head: readonly string[], rows: readonly (readonly (string | Node)[])[], chosen = -1): HTMLElement {
  const first = html("tr", {}, ...head.map((text) => html("th", { scope: "col" }, text)));
  const body = rows.map((cells, i) => html("tr", i === chosen ? { class: "chosen" } : {}, ...cells.map((cell) => html("td", {}, cell))));
  const grid = html("table", {}, html("thead", {}, first), html("tbody", {}, ...body));
  return html("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `Table: ${head.join(", ")}` }, grid);
}

/** Return a probability with three decimals. */
export function probability(value: number): string {
  return value > 0 && value < 0.0005 ? "< 0.001" : value.toFixed(3);
}

/** Return bars of values between 0 and `most`. */
export function bars(
  items: readonly { name: string; value: number; color?: string }[],
  most = 1,
  text: (value: number) => string = shown,
): HTMLElement {
  return html(
    "div",
    { class: "bars" },
    ...items.map(({ name, value, color }) => {
      const bar = html("i", { style: `width:${((100 * Math.max(value, 0)) / most).toFixed(1)}%${color ? `;background:${color}` : ""}` });
      return html("div", {}, html("span", {}, name), html("span", {}, bar), html("span", {}, text(value)));
    }),
  );
}

/** Return a button for a class. */
export function chip(text: string, label: number, pressed: boolean, key: string, press: () => void): HTMLButtonElement {
  const color = labelColor(label);
  const button = html("button", {
    type: "button", class: "chip", "aria-pressed": String(pressed), "data-key": key,
    style: `--chip:${color};--chip-ink:${textOn(color)}`,
  });
  button.textContent = text;
  button.addEventListener("click", press);
  return button;
}

export function button(text: string, press: () => void, className = "button"): HTMLButtonElement {
  const element = html("button", { type: "button", class: className });
  element.textContent = text;
  element.addEventListener("click", press);
  return element;
}

/** Return a list of choices with a label. */
export function select(label: string, choices: readonly string[], chosen: number, change: (i: number) => void): HTMLElement {
  const list = html("select", { "data-key": label }, ...choices.map((text, i) => html("option", { value: i }, text)));
  list.selectedIndex = chosen;
  list.addEventListener("change", () => change(list.selectedIndex));
  return html("label", {}, html("span", {}, label), list);
}
