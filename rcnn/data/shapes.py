"""Pages of drawn shapes: they are easy to learn, and their boxes are exact by construction."""

import numpy as np

from rcnn.data.pages import DrawnPages, blend, clouds, extent, grain

RADII = (10.0, 28.0)  # pixels, from a shape's centre to its farthest point
MIN_VISIBLE = 0.75  # minimum fraction of each object's area that later objects do not hide
MIN_CONTRAST = 90.0  # Euclidean distance in RGB between the colours of a shape and of the page
POSITIONS_TRIED = 10


class Shapes(DrawnPages):
    """Pages of 1 to 7 overlapping shapes (sometimes none) on a textured background.

    A box encloses the whole shape, including hidden parts. At least 0.75 of the area of each shape is visible.

    Parameters
    ----------
    n, seed, split, size : int, int, str, (int, int)
        See `DrawnPages`.

    Examples
    --------
    >>> image, target = Shapes(1)[0]
    >>> image.shape, sorted(target)
    ((128, 128, 3), ['boxes', 'labels'])
    """

    classes = ("background", "circle", "square", "triangle", "cross")

    def __init__(
        self, n: int | None = None, seed: int = 0, split: str = "train", size: tuple[int, int] = (128, 128)
    ) -> None:
        super().__init__(n, split, seed, size)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw one page.

        Parameters
        ----------
        rng : Generator
            Random generator for everything on the page.

        Returns
        -------
        tuple of array
            The image, the coverage and the labels, as in `DrawnPages.draw`.
        """
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
    """Choose at random how many shapes a page has.

    Parameters
    ----------
    rng : Generator
        Random generator.

    Returns
    -------
    int
        0 with probability 0.03, and otherwise 1 to 7 with equal probabilities.
    """
    return 0 if rng.uniform() < 0.03 else int(rng.integers(1, 8))


def draw_texture(rng: np.random.Generator, size: tuple[int, ...], colour: np.ndarray) -> np.ndarray:
    """Draw a cloudy, grainy surface.

    Parameters
    ----------
    rng : Generator
        Random generator.
    size : (int, int)
        (height, width) in pixels.
    colour : (3,) array
        Mean colour.

    Returns
    -------
    (H, W, 3) float32 array
        Colours, approximately from 0 to 255.
    """
    shade = clouds(rng, size, cells=int(rng.integers(3, 12))) * rng.uniform(0, 25)  # (H, W)
    surface: np.ndarray = colour + shade[:, :, None] + grain(rng, size, rng.uniform(1, 8))  # (H, W, 3)
    return surface.astype(np.float32)


def contrasting_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Choose a random colour that differs from the background by at least `MIN_CONTRAST`.

    Parameters
    ----------
    rng : Generator
        Random generator.
    ground : (3,) array
        Colour of the background.

    Returns
    -------
    (3,) array
        Colour, with values from 0 to 255.
    """
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - ground) >= MIN_CONTRAST:
            return colour


def find_place(rng: np.random.Generator, kind: str, layers: np.ndarray) -> np.ndarray | None:
    """Draw a shape at a random position, so that at least the fraction `MIN_VISIBLE` of every shape stays visible.

    Parameters
    ----------
    rng : Generator
        Random generator.
    kind : str
        Kind of shape; see `shape_coverage`.
    layers : (G, H, W) array
        Coverage of the G shapes on the page.

    Returns
    -------
    (H, W) float32 array or None
        Coverage of the new shape; None if none of `POSITIONS_TRIED` positions is suitable.
    """
    height, width = layers.shape[1:]
    for _ in range(POSITIONS_TRIED):
        radius = np.exp(rng.uniform(*np.log(RADII)))
        centre = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        layer = shape_coverage(kind, centre, radius, rng.uniform(-0.35, 0.35), (height, width))
        if (visible_shares(np.concatenate([layers, layer[None]])) >= MIN_VISIBLE).all():
            return layer
    return None


def visible_shares(layers: np.ndarray) -> np.ndarray:
    """Return the fraction of each object's area that no later object covers.

    Parameters
    ----------
    layers : (G, H, W) array
        Coverage of each of G objects. A pixel belongs to an object if the coverage is above 0.5.

    Returns
    -------
    (G,) array
        Fractions from 0 to 1.
    """
    masks = layers > 0.5
    covered = np.zeros(layers.shape[1:], np.bool_)  # (H, W), by later objects
    shares = np.ones(len(layers))
    for index in range(len(layers) - 1, -1, -1):
        shares[index] -= np.count_nonzero(masks[index] & covered) / max(int(np.count_nonzero(masks[index])), 1)
        covered |= masks[index]
    return shares


def shape_coverage(
    kind: str, centre: tuple[float, float], radius: float, angle: float, size: tuple[int, int]
) -> np.ndarray:
    """Return the fraction of each pixel that a shape covers.

    Parameters
    ----------
    kind : {"circle", "square", "triangle", "cross"}
        Kind of shape.
    centre : (float, float)
        (x, y) in pixels, continuous.
    radius : float
        Distance from the centre to the farthest point of the shape, in pixels.
    angle : float
        Rotation in radians, clockwise on the screen.
    size : (int, int)
        (height, width) of the page, in pixels.

    Returns
    -------
    (H, W) float32 array
        1 inside the shape, 0 outside, and values between 0 and 1 along the edge.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    dx = np.arange(size[1], dtype=np.float32) + np.float32(0.5 - centre[0])  # (W,) from the middle of each pixel
    dy = (np.arange(size[0], dtype=np.float32) + np.float32(0.5 - centre[1]))[:, None]  # (H, 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = signed_distance(kind, cos * dx + sin * dy, cos * dy - sin * dx, np.float32(radius))  # (H, W)
    return np.clip(np.float32(0.5) - distance, 0, 1)


def signed_distance(kind: str, x: np.ndarray, y: np.ndarray, radius: np.float32) -> np.ndarray:
    """Return the signed distance of points from the edge of an unrotated shape centred at the origin.

    Near a corner, outside the shape, the result is the distance from the line through the nearer side. This is less
    than the true distance, but the difference is not visible on an edge that is one pixel wide.

    Parameters
    ----------
    kind : {"circle", "square", "triangle", "cross"}
        Kind of shape.
    x, y : array
        Coordinates of the points, in pixels.
    radius : float32
        Distance from the origin to the farthest point of the shape, in pixels.

    Returns
    -------
    array
        Distances in pixels, negative inside.

    Raises
    ------
    ValueError
        If `kind` is unknown.
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
    """Return the signed distance of points from the edge of an unrotated rectangle centred at the origin.

    Parameters
    ----------
    x, y : array
        Coordinates of the points, in pixels.
    half_width, half_height : float32
        Half of each side of the rectangle, in pixels.

    Returns
    -------
    array
        max(|x| - half_width, |y| - half_height), negative inside.
    """
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
