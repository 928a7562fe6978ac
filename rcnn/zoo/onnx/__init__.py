"""Export of detectors to ONNX, so that they run without rcnn, for example in ONNX Runtime or OpenVINO.

A file contains the whole detector: its input is an image of any size, and its outputs are the detections. The opset is
17.
"""

from __future__ import annotations

import os

import numpy as np

from rcnn._files import write_whole
from rcnn._validate import FLAG, FRACTION, MOST_BOXES, integer
from rcnn.model import FasterRCNN

__all__ = ["OPSET", "check_installed", "export"]

OPSET = 17  # the version of the operators, of 2022
MOST_BYTES = 2_000_000_000  # of weights; the limit of the format is 2^31 bytes for the whole file


def export(
    model: FasterRCNN,
    path: str | os.PathLike[str],
    *,
    score_thresh: float | None = None,
    nms_thresh: float | None = None,
    top_k: int | None = None,
    class_agnostic: bool = False,
) -> None:
    """Write a detector to an ONNX file, either completely or not at all.

    The file answers as `predict` does for one image. Its input is `image`, a uint8 array (H, W, 3) in RGB; every size
    is allowed. Its outputs are `boxes` (D, 4), `scores` (D,) and `labels` (D,) of D detections, in descending order of
    score. The boxes are in pixel coordinates of the image.

    The metadata of the file contains `class_names` and `settings`, as JSON, and `opset`. The producer is rcnn.

    Parameters
    ----------
    model : FasterRCNN
        The detector, in float32. A backbone of your own is exported if its operations are those of `rcnn.nn`.
    path : path
        The file to write.
    score_thresh, nms_thresh, top_k, class_agnostic
        See `FasterRCNN.predict`. The values become part of the file.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    ValueError
        If the detector cannot be exported, or if an argument is out of range. The message says why.
    OSError
        If the file cannot be written.
    """
    if not isinstance(model, FasterRCNN):
        raise TypeError(f"model must be a FasterRCNN, got {type(model).__name__}")
    c = model.config
    rules = {
        "score_thresh": FRACTION.check("score_thresh", c.box_score_thresh if score_thresh is None else score_thresh),
        "nms_thresh": FRACTION.check("nms_thresh", c.box_nms_thresh if nms_thresh is None else nms_thresh),
        "top_k": integer(1, MOST_BOXES).check("top_k", c.box_detections_per_img if top_k is None else top_k),
        "class_agnostic": FLAG.check("class_agnostic", class_agnostic),
    }
    if model.dtype != np.float32:
        raise ValueError("model must be in float32 to be exported, got float64; use model.astype(np.float32)")
    weights = sum(array.nbytes for array in model.state_dict().values())
    if weights > MOST_BYTES:
        raise ValueError(f"the weights have {weights:,} bytes, but an ONNX file can have at most {MOST_BYTES:,}")
    check_installed()
    from rcnn.zoo.onnx.detector import build  # imports onnx

    write_whole(path, build(model, rules).SerializeToString())


def check_installed() -> None:
    """Raise ImportError, with the command that installs it, if the package onnx is missing."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export requires the package onnx, which is not installed; run: pip install 'rcnn[onnx]'"
        ) from error
