"""Real photographs with annotated objects, and a small data set of coins.

The photographs are part of scikit-image and scikit-learn, and nothing is downloaded. The boxes were drawn by hand. They
show what the drawn pages lack:

- scale: the photo "chelsea" contains a cat that fills the image, and its eyes;
- clutter: the motorcycle in "motorcycle" stands in a garage, and "rocket" shows towers and lamps;
- occlusion: the motorcycle hides a part of the bench, and a helmet hides a part of the astronaut.

Objects that extend beyond the border of a photo have boxes that end at the border. If an object is partly hidden, its
box contains the visible parts.

For example:

    image, target = photos.load("coffee")
    plot.boxes(plot.image(ax, image), target["boxes"], target["labels"], class_names=photos.CLASSES)

    train, val = photos.Coins(60, "train"), photos.Coins(40, "val")
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from rcnn import images
from rcnn._validate import check_pair, integer, one_of, shown
from rcnn.boxes import area, clip
from rcnn.data.indexing import normalise_index

SKIMAGE, SKLEARN = ("skimage", "scikit-image", "data"), ("sklearn", "scikit-learn", "datasets/images")
FILES = {  # package, name on the package index and folder, and file name
    "astronaut": (SKIMAGE, "astronaut.png"),
    "camera": (SKIMAGE, "camera.png"),
    "chelsea": (SKIMAGE, "chelsea.png"),
    "china": (SKLEARN, "china.jpg"),
    "coffee": (SKIMAGE, "coffee.png"),
    "coins": (SKIMAGE, "coins.png"),
    "flower": (SKLEARN, "flower.jpg"),
    "motorcycle": (SKIMAGE, "motorcycle_left.png"),
    "rocket": (SKIMAGE, "rocket.jpg"),
}
NAMES = tuple(FILES)

Objects = tuple[tuple[str, tuple[int, int, int, int]], ...]  # class name and box (x1, y1, x2, y2) in pixels
COINS = (  # by row
    (22, 35, 67, 74),
    (81, 39, 120, 74),
    (133, 28, 179, 74),
    (192, 30, 240, 73),
    (255, 34, 297, 72),
    (305, 16, 365, 72),
    (25, 104, 67, 145),
    (84, 108, 122, 145),
    (134, 110, 173, 145),
    (186, 105, 226, 144),
    (245, 95, 296, 144),
    (317, 106, 356, 145),
    (26, 177, 63, 217),
    (80, 175, 124, 217),
    (135, 179, 174, 217),
    (189, 170, 237, 217),
    (251, 172, 297, 217),
    (315, 156, 379, 218),
    (18, 233, 75, 288),
    (93, 245, 136, 287),
    (144, 236, 201, 288),
    (220, 240, 269, 288),
    (276, 239, 326, 289),
    (336, 248, 381, 289),
)
OBJECTS: dict[str, Objects] = {
    "astronaut": (
        ("person", (19, 15, 364, 512)),
        ("face", (179, 78, 271, 179)),
        ("helmet", (278, 343, 512, 512)),
        ("rocket", (354, 0, 459, 273)),
    ),
    "camera": (("person", (0, 63, 332, 512)), ("camera", (253, 139, 325, 186)), ("tripod", (231, 186, 406, 512))),
    "chelsea": (("cat", (0, 0, 400, 300)), ("eye", (135, 86, 208, 148)), ("eye", (295, 110, 342, 165))),
    "china": (("pagoda", (63, 29, 372, 400)),),
    "coffee": (("saucer", (76, 70, 480, 391)), ("cup", (172, 17, 409, 309)), ("spoon", (326, 67, 424, 326))),
    "coins": tuple(("coin", box) for box in COINS),
    "flower": (("flower", (168, 85, 446, 360)), ("flower", (287, 374, 470, 427))),
    "motorcycle": (("motorcycle", (92, 15, 683, 452)), ("bench", (41, 105, 281, 309))),
    "rocket": (("rocket", (311, 127, 334, 407)),),
}
CLASSES = ("background", *sorted({name for objects in OBJECTS.values() for name, _ in objects}))

ROWS = {"train": (0, 150), "val": (150, 303)}  # first and last image row: the two upper and the two lower rows of coins
DEFAULT_LENGTHS = {"train": 200, "val": 50}
MAX_LENGTH = 1_000_000
MIN_SIDE, MAX_SIDE = 64, 105  # of the height, in pixels: 150 rows, reduced by the smallest factor, become 105
SCALES = (0.7, 1.4)  # factors of enlargement
GAINS = (0.8, 1.2)  # factors of brightness
VISIBLE = 0.25  # smallest visible fraction of an annotated coin


def load(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return an annotated photograph.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    image : (H, W, 3) uint8 array
        The photograph. Grey photographs have three equal channels.
    target : dict
        "boxes" (G, 4) float32, in pixels, and "labels" (G,) int64, the indices of the class names in `CLASSES`.

    Raises
    ------
    TypeError, ValueError
        If there is no photograph with this name.
    ImportError
        If the package with the photograph is not installed.
    FileNotFoundError
        If the package does not contain the photograph.

    Examples
    --------
    >>> image, target = load("chelsea")
    >>> image.shape, [CLASSES[label] for label in target["labels"]]
    ((300, 451, 3), ['cat', 'eye', 'eye'])
    """
    objects = OBJECTS[one_of(NAMES).check("name", name)]
    boxes = np.array([box for _, box in objects], np.float32)  # (G, 4)
    labels = np.array([CLASSES.index(class_name) for class_name, _ in objects], np.int64)  # (G,)
    return images.read(_path(name)).copy(), {"boxes": boxes, "labels": labels}


class Coins:
    """Random crops of the photograph "coins", enlarged or reduced, mirrored, and made brighter or darker.

    The photograph shows 24 coins in four rows. Training images show coins of the two upper rows, and validation images
    show coins of the two lower rows, so that the two splits have no coin in common. If less than a quarter of a coin is
    in the crop, the coin is not annotated. An image depends only on the seed, the split and its index.

    Parameters
    ----------
    n : int, optional
        Number of images, at most 1,000,000. By default, there are 200 images for training and 50 for validation.
    split : {"train", "val"}, optional
        The two splits show different coins.
    seed : int, optional
        A non-negative integer. Each seed gives a different data set.
    size : (int, int), optional
        (height, width) of every image, in pixels: a height of 64 to 105, and a width from 64 to twice the height.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.
    ImportError
        If scikit-image is not installed.

    Examples
    --------
    >>> coins = Coins(10, "val")
    >>> image, target = coins[0]
    >>> image.shape, coins.classes
    ((96, 128, 3), ('background', 'coin'))
    """

    classes = ("background", "coin")

    def __init__(
        self, n: int | None = None, split: str = "train", seed: int = 0, size: tuple[int, int] = (96, 128)
    ) -> None:
        self.split = one_of(tuple(ROWS)).check("split", split)
        self.n = DEFAULT_LENGTHS[split] if n is None else integer(0, MAX_LENGTH).check("n", n)
        self.seed = integer(0).check("seed", seed)
        height, width = self.size = check_pair(size, "size")
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= 2 * height):
            raise ValueError(
                f"size must be (height, width) with a height of {MIN_SIDE} to {MAX_SIDE} pixels and a width of "
                f"{MIN_SIDE} pixels to twice the height, got {shown(size)}"
            )
        photo, target = load("coins")
        self._photo = Image.fromarray(photo)
        first, last = ROWS[split]
        boxes = target["boxes"]
        self._boxes = boxes[(boxes[:, 1] >= first) & (boxes[:, 3] <= last)]  # (12, 4)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return an image (H, W, 3) uint8 and {"boxes": (G, 4) float32, "labels": (G,) int64} for its G coins."""
        key = (tuple(ROWS).index(self.split), normalise_index(index, self.n, "image"))
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        scale = math.exp(rng.uniform(*np.log(SCALES)))
        height, width = self.size[0] / scale, self.size[1] / scale  # of the crop, in pixels of the photograph
        first, last = ROWS[self.split]
        x, y = rng.uniform(0, self._photo.width - width), rng.uniform(first, last - height)
        crop = (x, y, x + width, y + height)
        reduced = self._photo.resize(self.size[::-1], Image.Resampling.BILINEAR, box=crop)

        moved = (self._boxes - np.array([x, y, x, y], np.float32)) * np.float32(scale)  # (12, 4)
        boxes = clip(moved, self.size)
        boxes = boxes[area(boxes) >= VISIBLE * area(moved)]  # (G, 4)
        image = np.clip(np.asarray(reduced, np.float32) * rng.uniform(*GAINS), 0, 255).round().astype(np.uint8)
        if rng.random() < 0.5:
            image, boxes = image[:, ::-1], boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [self.size[1], 0, self.size[1], 0]
        if rng.random() < 0.5:
            image, boxes = image[::-1], boxes[:, [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, self.size[0], 0, self.size[0]]
        labels = np.ones(len(boxes), np.int64)  # (G,)
        return np.ascontiguousarray(image), {"boxes": boxes.astype(np.float32), "labels": labels}


def _path(name: str) -> Path:
    """Return the path of a photograph. The package that contains it is not imported, because that takes time."""
    (package, distribution, folder), file = FILES[name]
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"the photo {name!r} is part of {distribution}; run pip install {distribution}")
    path = Path(found.submodule_search_locations[0], folder, file)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the installed {distribution} does not contain this photo; "
            "run pip install --upgrade " + distribution
        )
    return path
