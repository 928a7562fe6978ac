// A box that scrolls sideways is a stop of the Tab key only while it is wider than its place.
const boxes = ".rcnn-wide, .rcnn-source pre, .bd-article table, .bd-article div.highlight pre, mjx-container[display]";
const update = () => {
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
};
window.addEventListener("load", () => {
  update();
  new ResizeObserver(update).observe(document.body);
});
