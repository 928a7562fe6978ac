"""Options of `rcnn detect` and `rcnn eval` that change suppression, or that detect objects in several views."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcnn._validate import FRACTION
from rcnn.config import FasterRCNNConfig
from rcnn.model import FasterRCNN
from rcnn.trace import Detections
from rcnn.views import check_scales, detect_in_tiles, tile_boxes

OVERLAP = 0.2  # of a tile
ARGUMENTS = ("nms_thresh", "class_agnostic", "soft_nms", "flip", "scales")  # options that `predict` takes as arguments
OPTIONS = (*ARGUMENTS, "tiles", "overlap")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command that detects objects."""
    group = parser.add_argument_group(
        "suppression and views", "All of these are off by default. docs/accuracy.md shows the effect of each."
    )
    add_suppression(group)
    group.add_argument(
        "--soft-nms",
        choices=("linear", "gaussian"),
        help="lower the scores of overlapping detections, instead of dropping these detections",
    )
    group.add_argument("--flip", action="store_true", help="also detect objects in the mirrored image")
    group.add_argument(
        "--scales",
        type=_scales,
        metavar="S,S,...",
        help="resize the image by each of these factors, such as 0.75,1,1.5, and merge the detections",
    )
    group.add_argument(
        "--tiles",
        type=int,
        metavar="SIZE",
        help="detect small objects in large images: cut each image into overlapping tiles of SIZE x SIZE pixels, and "
        "merge the detections of all tiles and of the whole image",
    )
    group.add_argument(
        "--overlap",
        type=float,
        metavar="O",
        help="overlap of neighbouring tiles, as a fraction of their size (below 1) or in pixels; it should be as large "
        f"as the small objects (default: {OVERLAP})",
    )


def add_suppression(parser: argparse._ActionsContainer) -> None:
    """Add the options of non-maximum suppression to a command or to a group of options."""
    parser.add_argument(
        "--nms-thresh",
        type=float,
        metavar="T",
        help="maximum overlap (IoU) of two detections of the same class, between 0 and 1 (default: the model's own, "
        "usually 0.5)",
    )
    parser.add_argument(
        "--class-agnostic",
        action="store_true",
        help="detections of different classes suppress each other, too: each object gets one class",
    )


def with_options(model: FasterRCNN, options: argparse.Namespace) -> Any:
    """Return a detector that predicts with the options of the command; without options, the model itself."""
    overlap = OVERLAP if options.overlap is None else options.overlap
    if options.tiles is not None:
        tile_boxes((1, 1), options.tiles, overlap)  # raises ValueError before any image is read
    elif options.overlap is not None:
        raise ValueError("--overlap requires --tiles")
    if options.nms_thresh is not None:
        FRACTION.check("--nms-thresh", options.nms_thresh)
    keywords = {name: value for name in ARGUMENTS if (value := getattr(options, name)) not in (None, False)}
    if not keywords and options.tiles is None:
        return model
    return _Predictor(model, keywords, options.tiles, overlap, getattr(options, "batch", 1))


@dataclass(frozen=True)
class _Predictor:
    """A detector with options.

    Attributes
    ----------
    model : FasterRCNN
        The detector.
    keywords : dict
        Arguments of its `predict`.
    tile : int, optional
        The side of a tile; if it is None, images are not cut into tiles.
    overlap : float
        The overlap of neighbouring tiles.
    batch_size : int
        The largest number of tiles that are processed at a time.
    """

    model: FasterRCNN
    keywords: dict[str, Any]
    tile: int | None
    overlap: float
    batch_size: int

    @property
    def config(self) -> FasterRCNNConfig:
        return self.model.config

    def predict(self, images: Sequence[np.ndarray], score_thresh: float | None = None) -> list[Detections]:
        """Return the detections in each image."""

        def predict(views: Sequence[np.ndarray]) -> list[Detections]:
            return self.model.predict(views, score_thresh=score_thresh, **self.keywords)

        if self.tile is None:
            return predict(images)
        nms_thresh = self.keywords.get("nms_thresh", self.config.box_nms_thresh)
        return [
            detect_in_tiles(
                predict,
                image,
                self.tile,
                self.overlap,
                batch_size=self.batch_size,
                nms_thresh=nms_thresh,
                class_agnostic=self.keywords.get("class_agnostic", False),
                progress=True,
            )
            for image in images
        ]


def _scales(text: str) -> tuple[float, ...]:
    """Return the numbers of a list such as "0.75,1,1.5"."""
    try:
        return tuple(check_scales([float(number) for number in text.split(",")]))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be positive numbers such as 0.75,1,1.5, got {text!r}") from None
