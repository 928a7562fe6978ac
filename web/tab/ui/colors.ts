/** Colours of classes and colour maps of values; both are those of `rcnn.plot`. */

// CLASS_COLORS of rcnn.plot.style: those of Okabe and Ito, "Color Universal Design" (2008), and two more.
const CLASS_COLORS = [
  "#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999", "#6600CC", "#B3FF99",
];
const VIRIDIS =
  "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725";
const CIVIDIS =
  "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838";

export const HIGHLIGHT = "#E69F00"; // the chosen cell, anchor, RoI or bin

type Rgb = readonly [number, number, number];

/** Return the colour of a class; label 0 is the background. */
export function labelColor(label: number): string {
  return label > 0 ? CLASS_COLORS[(label - 1) % CLASS_COLORS.length] : "#999999";
}

/** Return black or white, whichever is easier to read on a colour. */
export function textOn(color: string): string {
  const [red, green, blue] = hexToRgb(color.slice(1)).map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

/** Colour of a score, a probability or an IoU. */
export const valueColor = scale(VIRIDIS);

/** Colour of an activation. */
export const activationColor = scale(CIVIDIS);

function scale(stops: string): (value: number) => Rgb {
  const points = stops.split(" ").map(hexToRgb);
  return (value) => {
    const at = Math.min(Math.max(value, 0), 1) * (points.length - 1) || 0;
    const below = Math.min(Math.floor(at), points.length - 2);
    const [low, high] = [points[below], points[below + 1]];
    const mix = (i: number) => Math.round(low[i] + (high[i] - low[i]) * (at - below));
    return [mix(0), mix(1), mix(2)];
  };
}

function hexToRgb(text: string): Rgb {
  const value = Number.parseInt(text, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** Return a colour as CSS. */
export function css([red, green, blue]: Rgb, opacity = 1): string {
  return `rgb(${red} ${green} ${blue} / ${opacity})`;
}
