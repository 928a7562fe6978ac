// The script of the viewer. It reads the images and their boxes from the element "data", and draws one image at a time.
// Text from the data set is only ever assigned to `textContent`, so it cannot become HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const EDGE = 0.05; // of the height; boxes nearer than this to the border have their tag inside
const judged = data.kinds.length > 0; // the viewer was made with a detector
let shown = []; // the images that pass the filters, in order
let current = 0; // index in `shown`

// ---------------------------------------------------------------------- the choice of images

const boxesOf = (image) => [...image.objects, ...image.detections];

// An image passes if one of its boxes has both the class and the kind of error.
function passes(image) {
  const [split, label, kind] = ["split", "class", "kind"].map((id) => element(id).value);
  const fits = (box) =>
    (label === "" || box.label === Number(label)) && (kind === "" || (kind === "any" ? box.wrong : box.kind === kind));
  return (split === "" || image.split === split) && ((label === "" && kind === "") || boxesOf(image).some(fits));
}

function choose() {
  const before = shown[current];
  shown = data.images.filter(passes);
  const order = element("order").value;
  if (order === "errors") shown.sort((a, b) => b.errors - a.errors);
  if (order === "objects") shown.sort((a, b) => b.objects.length - a.objects.length);
  element("count").textContent = `${shown.length} of ${data.images.length} images`;
  element("list").replaceChildren(...shown.map(listItem));
  show(order === "given" ? Math.max(shown.indexOf(before), 0) : 0);
}

function listItem(image, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = image.name;
  if (judged) {
    const count = document.createElement("span");
    count.className = image.errors ? "count wrong" : "count";
    count.textContent = image.errors === 1 ? "1 error" : `${image.errors} errors`;
    button.append(" ", count);
  }
  button.addEventListener("click", () => show(index));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

// ---------------------------------------------------------------------- one image

function show(index) {
  const [old] = element("list").querySelectorAll("[aria-current]");
  if (old) old.removeAttribute("aria-current");
  current = Math.min(Math.max(index, 0), Math.max(shown.length - 1, 0));
  const image = shown[current];
  element("frame").hidden = !image;
  element("previous").disabled = !image || current === 0;
  element("next").disabled = !image || current === shown.length - 1;
  element("boxes").replaceChildren();
  element("rows").replaceChildren();
  if (!image) {
    element("caption").textContent = "No image passes the filters.";
    return;
  }
  const errors = judged ? `; errors: ${image.errors}` : "";
  element("caption").textContent =
    `${current + 1} / ${shown.length}: ${image.name} (${image.split}), ${image.width} x ${image.height} pixels, ` +
    `objects: ${image.objects.length}${errors}`;
  element("image").src = image.address;
  element("image").alt = image.name;
  element("frame").style.aspectRatio = `${image.width} / ${image.height}`;
  element("frame").style.setProperty("--ratio", image.width / image.height);
  const wanted = [...(element("objects").checked ? image.objects : [])];
  if (element("detections").checked) wanted.push(...image.detections);
  wanted.sort((a, b) => b.wrong - a.wrong); // errors are first in the table, and on top of the image
  for (const box of wanted) {
    const drawing = drawBox(box, image);
    const row = tableRow(box);
    for (const part of [drawing, row]) {
      part.addEventListener("mouseenter", () => mark([drawing, row], true));
      part.addEventListener("mouseleave", () => mark([drawing, row], false));
    }
    element("boxes").prepend(drawing);
    element("rows").append(row);
  }
  const item = element("list").children[current];
  item.setAttribute("aria-current", "true");
  const list = element("list"); // scrolled alone; `scrollIntoView` would also scroll the page
  list.scrollTop = Math.min(item.offsetTop, Math.max(list.scrollTop, item.offsetTop + item.offsetHeight - list.clientHeight));
}

function mark(parts, on) {
  for (const part of parts) part.classList.toggle("marked", on);
}

// The style class of a box; an object with another kind than "missed" looks the same with and without a detector.
function look(box) {
  if (box.score === undefined) return box.kind === "missed" ? "missed" : "object";
  return box.wrong ? "wrong" : "right";
}

function drawBox(box, image) {
  const [x1, y1, x2, y2] = box.corners;
  const drawing = document.createElement("div");
  drawing.className = `box ${look(box)}`;
  const room = look(box) === "right" || look(box) === "wrong" ? y1 : image.height - y2; // for the tag
  drawing.classList.toggle("edge", room < EDGE * image.height);
  drawing.classList.toggle("east", x1 > (1 - 4 * EDGE) * image.width);
  drawing.style.left = `${(100 * x1) / image.width}%`;
  drawing.style.top = `${(100 * y1) / image.height}%`;
  drawing.style.width = `${(100 * (x2 - x1)) / image.width}%`;
  drawing.style.height = `${(100 * (y2 - y1)) / image.height}%`;
  const tag = document.createElement("span");
  const score = box.score === undefined ? "" : ` ${box.score.toFixed(2)}`;
  tag.textContent = data.classes[box.label] + score + (box.wrong || box.kind === "ignored" ? `, ${box.kind}` : "");
  const covered = box.kind === "found" && element("detections").checked; // the tag of the detection is there
  if (!covered) drawing.append(tag);
  return drawing;
}

function tableRow(box) {
  const row = document.createElement("tr");
  const isObject = box.score === undefined;
  const kind = isObject && box.kind !== "object" ? `object, ${box.kind}` : box.kind;
  const score = isObject ? "" : box.score.toFixed(3);
  const corners = box.corners.map((x) => x.toFixed(1)).join(", ");
  for (const [content, name] of [[data.classes[box.label], ""], [kind, ""], [score, "number"], [corners, "number"]]) {
    const cell = document.createElement("td");
    cell.textContent = content;
    cell.className = name;
    row.append(cell);
  }
  row.className = look(box);
  return row;
}

// ---------------------------------------------------------------------- controls

function addOption(id, value, label) {
  const option = document.createElement("option");
  option.value = value;
  option.textContent = label;
  element(id).append(option);
}

const KEYS = {
  ArrowLeft: () => show(current - 1),
  k: () => show(current - 1),
  ArrowRight: () => show(current + 1),
  j: () => show(current + 1),
  Home: () => show(0),
  End: () => show(shown.length - 1),
  o: () => element("objects").click(),
  d: () => element("detections").click(),
  e: () => {
    if (!judged) return;
    element("kind").value = element("kind").value ? "" : "any";
    choose();
  },
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey;
  if (typing || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

for (const split of data.splits) addOption("split", split, split);
element("split").parentElement.hidden = data.splits.length < 2;
data.classes.forEach((name, label) => {
  const count = data.images.filter((image) => boxesOf(image).some((box) => box.label === label)).length;
  if (label > 0) addOption("class", label, `${name} (${count})`);
});
if (judged) {
  addOption("kind", "any", "with any error");
  for (const kind of data.kinds) addOption("kind", kind, kind);
  addOption("order", "errors", "most errors first");
}
addOption("order", "objects", "most objects first");
document.body.classList.toggle("unjudged", !judged);
element("previous").addEventListener("click", () => show(current - 1));
element("next").addEventListener("click", () => show(current + 1));
for (const id of ["split", "class", "kind", "order"]) element(id).addEventListener("change", choose);
for (const id of ["objects", "detections"]) element(id).addEventListener("change", () => show(current));
element("filters").addEventListener("submit", (event) => event.preventDefault());
choose();
