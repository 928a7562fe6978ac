"""The detector that --weights names."""

from __future__ import annotations

from pathlib import Path

from rcnn.factories import load_detector
from rcnn.model import FasterRCNN
from rcnn.runs import BEST, WEIGHTS


def load(source: str) -> FasterRCNN:
    """The detector of a file of weights, of "coco", or of a run's folder: its best weights, or else its last.

    Raises FileNotFoundError for a folder without either, and what `load_detector` raises.
    """
    folder = Path(source)
    if source == "coco" or not folder.is_dir():
        return load_detector(source)
    for name in (BEST, WEIGHTS):
        if (folder / name).is_file():
            return load_detector(folder / name)
    raise FileNotFoundError(f"{folder} is no folder of a run: there is neither {BEST} nor {WEIGHTS} in it")
