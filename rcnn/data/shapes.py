"""Pages of drawn shapes: the easiest data a detector can learn from, and one whose boxes are exact by construction."""

import numpy as np

from rcnn.data.pages import DrawnPages, blend, clouds, extent, grain

RADII = (10.0, 28.0)  # pixels, from a shape's centre to its farthest point
MIN_VISIBLE = 0.75  # of every object's area, whatever lies over it
MIN_CONTRAST = 90.0  # between a shape's colour and the page's, as a distance in RGB
PLACES_TRIED = 10


class Shapes(DrawnPages):
    """Pages of 1 to 7 overlapping shapes (now and then none) on a textured ground.

    A box goes around the whole shape, hidden parts included; at least 0.75 of each shape is in sight. Arguments as in
    `DrawnPages`.
    """

    classes = ("background", "circle", "square", "triangle", "cross")

    def __init__(
        self, n: int | None = None, seed: int = 0, split: str = "train", size: tuple[int, int] = (128, 128)
    ) -> None:
        super().__init__(n, split, seed, size)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One page; see `DrawnPages.draw`."""
        ground = rng.uniform(30, 225, 3)  # (3,)
        image = draw_texture(rng, self.size, ground)
        layers = np.zeros((0, *self.size), np.float32)
        labels = []
        for _ in range(draw_count(rng)):
            label = int(rng.integers(1, len(self.classes)))
            layer = find_place(rng, self.classes[label], layers)
            if layer is None:  # the page is full
                continue
            rows, columns = extent(layer)
            patch = layer[rows, columns]  # (h, w)
            surface = draw_texture(rng, patch.shape, contrasting_colour(rng, ground))  # (h, w, 3)
            blend(image[rows, columns], surface, patch)
            layers = np.concatenate([layers, layer[None]])  # (G, H, W)
            labels.append(label)
        return image, layers, np.array(labels, np.int64)


def draw_count(rng: np.random.Generator) -> int:
    """How many shapes a page is to hold: 1 to 7, but none on three pages of a hundred."""
    return 0 if rng.uniform() < 0.03 else int(rng.integers(1, 8))


def draw_texture(rng: np.random.Generator, size: tuple[int, ...], colour: np.ndarray) -> np.ndarray:
    """A cloudy, grainy surface (H, W, 3) float32 of about `colour` (3,)."""
    shade = clouds(rng, size, cells=int(rng.integers(3, 12))) * rng.uniform(0, 25)  # (H, W)
    surface: np.ndarray = colour + shade[:, :, None] + grain(rng, size, rng.uniform(1, 8))  # (H, W, 3)
    return surface.astype(np.float32)


def contrasting_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A random colour (3,) that stands out from `ground` (3,)."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - ground) >= MIN_CONTRAST:
            return colour


def find_place(rng: np.random.Generator, kind: str, layers: np.ndarray) -> np.ndarray | None:
    """Coverage (H, W) of a new shape that hides none of `layers` (G, H, W) too far, or None if no place is found."""
    height, width = layers.shape[1:]
    for _ in range(PLACES_TRIED):
        radius = np.exp(rng.uniform(*np.log(RADII)))
        centre = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        layer = shape_coverage(kind, centre, radius, rng.uniform(-0.35, 0.35), (height, width))
        if (visible_shares(np.concatenate([layers, layer[None]])) >= MIN_VISIBLE).all():
            return layer
    return None


def visible_shares(layers: np.ndarray) -> np.ndarray:
    """What part of each of `layers` (G, H, W) no later layer covers, (G,)."""
    masks = layers > 0.5
    covered_later = np.logical_or.accumulate(masks[::-1])[::-1]  # (G, H, W): by this layer or a later one
    hidden = masks[:-1] & covered_later[1:]  # (G - 1, H, W)
    shares = np.ones(len(layers))
    shares[:-1] -= hidden.sum(axis=(1, 2)) / masks[:-1].sum(axis=(1, 2))
    return shares


def shape_coverage(
    kind: str, centre: tuple[float, float], radius: float, angle: float, size: tuple[int, int]
) -> np.ndarray:
    """How much of each pixel (H, W) a shape covers, float32: 1 inside, 0 outside, between the two along the rim.

    Args:
        kind: "circle", "square", "triangle" or "cross".
        centre: (x, y) in continuous coordinates.
        radius: distance from the centre to the farthest point of the shape, in pixels.
        angle: turn in radians, clockwise on the screen.
        size: (height, width) of the page.
    """
    dx = np.arange(size[1], dtype=np.float32) + np.float32(0.5 - centre[0])  # (W,) a pixel stands for its middle
    dy = (np.arange(size[0], dtype=np.float32) + np.float32(0.5 - centre[1]))[:, None]  # (H, 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = signed_distance(kind, cos * dx + sin * dy, cos * dy - sin * dx, np.float32(radius))  # (H, W)
    return np.clip(np.float32(0.5) - distance, 0, 1)


def signed_distance(kind: str, x: np.ndarray, y: np.ndarray, radius: np.float32) -> np.ndarray:
    """Distance of the points (x, y) from the rim of an upright shape around the origin: negative inside.

    Beyond a corner it is the distance from the nearer side's line, which is less than the true one; a pixel wide rim
    does not show the difference.
    """
    distance: np.ndarray
    if kind == "circle":
        distance = np.hypot(x, y) - radius
    elif kind == "square":
        distance = bar_distance(x, y, radius * np.float32(0.5**0.5), radius * np.float32(0.5**0.5))
    elif kind == "triangle":  # equilateral, a corner at the top; each side is radius / 2 from the centre
        slanted = np.abs(x) * np.float32(0.75**0.5) - y * np.float32(0.5)
        distance = np.maximum(slanted, y) - radius / np.float32(2)
    elif kind == "cross":  # two bars, three times as long as wide
        length, breadth = radius * np.float32(0.9**0.5), radius * np.float32(0.1**0.5)
        distance = np.minimum(bar_distance(x, y, length, breadth), bar_distance(x, y, breadth, length))
    else:
        raise ValueError(f"kind must be circle, square, triangle or cross, got {kind!r}")
    return distance


def bar_distance(x: np.ndarray, y: np.ndarray, half_width: np.float32, half_height: np.float32) -> np.ndarray:
    """Signed distance of the points (x, y) from the rim of an upright rectangle around the origin."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
