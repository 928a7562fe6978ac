"""Load the detector, run it on an image, and print the peak memory of this process.

    python -m speed.memory_probe WHO FILE THREADS

WHO is a key of `LOADERS`. Only the modules that WHO needs are imported. FILE contains the detector: .safetensors for
rcnn, .pth for torchvision, .onnx for the other two. The script prints {"process": bytes, "beyond": bytes}:

process    the peak resident memory of the process, which Linux calls VmHWM
beyond     the peak during the forward passes, minus the resident memory after loading the detector

VmHWM is reset after the detector is loaded, so that the forward passes can be measured separately.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speed import inputs

RESET = Path("/proc/self/clear_refs")  # writing "5" to this file resets VmHWM to the current resident memory
STATUS = Path("/proc/self/status")
LOOKS = 2  # the number of passes; memory kept after the first one adds to the peak of the second one
Look = Callable[[], object]


def with_rcnn(path: Path, image: np.ndarray, threads: int) -> Look:
    import rcnn

    rcnn.set_num_threads(threads)
    model = rcnn.load(path)
    return lambda: model.predict([image])


def with_torchvision(path: Path, image: np.ndarray, threads: int) -> Look:
    import torch

    from speed import torch_peer

    torch.set_num_threads(threads)
    sizes = {"min_size": min(image.shape[:2]), "max_size": max(image.shape[:2])}
    net = torch_peer.empty_detector("fasterrcnn_resnet50_fpn", inputs.NUM_CLASSES, **sizes)
    net.load_state_dict(torch.load(path, weights_only=True))
    contestant = torch_peer.detecting("torchvision", net, [image])
    return lambda: contestant.call(None)


def with_onnxruntime(path: Path, image: np.ndarray, threads: int) -> Look:
    from speed import onnx_peer

    contestant = onnx_peer.with_onnxruntime(path, image, threads)
    return lambda: contestant.call(None)


def with_openvino(path: Path, image: np.ndarray, threads: int) -> Look:
    from speed import onnx_peer

    contestant = onnx_peer.with_openvino(path, image, threads)
    return lambda: contestant.call(None)


LOADERS = {
    "rcnn": with_rcnn,
    "torchvision": with_torchvision,
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
}


def status(field: str) -> int:
    """Return "VmHWM" (peak) or "VmRSS" (current), the resident memory of this process in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main(who: str, path: str, threads: str) -> None:
    look = LOADERS[who](Path(path), inputs.textured_image(*inputs.IMAGE), int(threads))
    loading, loaded = status("VmHWM"), status("VmRSS")
    RESET.write_text("5")
    for _ in range(LOOKS):
        look()
    looking = status("VmHWM")
    print(json.dumps({"process": max(loading, looking), "beyond": looking - loaded}))


if __name__ == "__main__":
    main(*sys.argv[1:])
