"""The peers ONNX Runtime and OpenVINO, which run the detector of torchvision from an ONNX file.

The export stores some sizes as constants, so each image size needs its own file.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speed.timing import Contestant

if TYPE_CHECKING:  # not imported at run time, because torch would add to the measured memory
    import torch

OPSET = 17


def export(net: torch.nn.Module, size: tuple[int, int], path: Path) -> Path:
    """Write the detector for images of `size` (height, width) to `path` and return `path`."""
    import torch

    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # 100 warnings about values that become constants, as intended
        torch.onnx.export(net, ([image],), str(path), opset_version=OPSET, dynamo=False)
    return path


def planar(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) as a contiguous array (3, H, W), which the file requires."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def with_onnxruntime(path: Path, image: np.ndarray, threads: int) -> Contestant:
    """Return a contestant that runs the detector from the file on one image in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: planar(image)}
    return Contestant("ONNX Runtime", lambda _: session.run(None, given), read=_as_detections)


def with_openvino(path: Path, image: np.ndarray, threads: int) -> Contestant:
    """Return a contestant that runs the detector from the file on one image in OpenVINO, in float32.

    On processors with bfloat16 instructions (AMX, AVX512_BF16), OpenVINO uses bfloat16 by default, which has about
    three significant digits. INFERENCE_PRECISION_HINT selects float32, which all other contestants use.
    """
    import openvino

    compiled = openvino.Core().compile_model(
        str(path),
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"},
    )
    request, given = compiled.create_infer_request(), {0: planar(image)}

    def call(_: None) -> list[np.ndarray]:
        answer: Any = request.infer(given)
        return [answer[output] for output in compiled.outputs]

    return Contestant("OpenVINO", call, read=_as_detections)


def _as_detections(answer: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    boxes, *others = answer  # the order of labels and scores depends on the detector
    scores, labels = sorted(others, key=lambda array: array.dtype.kind)  # "f", then "i"
    return [{"boxes": boxes, "labels": labels, "scores": scores}]
