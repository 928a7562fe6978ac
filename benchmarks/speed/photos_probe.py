"""Detect objects in all photos of a folder, draw them, and print the time.

    python -m speed.photos_probe WHO PHOTOS WEIGHTS OUT THREADS CLOCK

WHO is a key of `LOOPS`. Only the modules that WHO needs are imported. WEIGHTS is the .safetensors file of the detector.
The drawings are written to the folder OUT, and the detections to OUT/found.json. CLOCK is perf_counter or process_time.
The script prints {"seconds": ...}: the time from reading the weights to the last drawing, without the time to start
Python and to import modules.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

PEER = "fasterrcnn_mobilenet_v3_large_320_fpn"
NUM_CLASSES = 91
SCORE = 0.5  # detections above this score are drawn
FOUND = "found.json"
Loop = Callable[[], None]


def with_rcnn(photos: Path, weights: Path, out: Path, threads: int) -> Loop:
    import rcnn
    from rcnn import cli, plot
    from rcnn.cli import parser

    parser.make, plot.annotate  # noqa: B018 (imports their modules)
    rcnn.set_num_threads(threads)
    options = ["--score", str(SCORE), "--out", str(out), "--json", str(out / FOUND), "--quiet"]

    def loop() -> None:
        status = cli.main(["detect", str(photos), "--weights", str(weights), *options])
        if status != 0:
            raise RuntimeError(f"rcnn detect ended with the exit status {status}")

    return loop


def with_torchvision(photos: Path, weights: Path, out: Path, threads: int) -> Loop:
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes

    from speed import torch_peer

    torch.set_num_threads(threads)

    def loop() -> None:
        found = []
        net = torch_peer.empty_detector(PEER, NUM_CLASSES)
        net.load_state_dict(load_file(weights))
        for file in sorted(photos.iterdir()):
            photo = pil_to_tensor(Image.open(file).convert("RGB"))  # (3, H, W)
            with torch.inference_mode():
                (detected,) = net([photo / 255])
            shown = {name: values[detected["scores"] > SCORE] for name, values in detected.items()}
            tags = [
                f"{label} {score:.2f}"
                for label, score in zip(shown["labels"].tolist(), shown["scores"].tolist(), strict=True)
            ]
            drawing = draw_bounding_boxes(photo, shown["boxes"], tags, width=3)
            to_pil_image(drawing).save(out / f"{file.stem}.png")
            found.append({name: values.tolist() for name, values in shown.items()})
        (out / FOUND).write_text(json.dumps(found))

    return loop


LOOPS: dict[str, Callable[[Path, Path, Path, int], Loop]] = {"rcnn": with_rcnn, "torchvision": with_torchvision}


def main(*arguments: str) -> None:
    who, photos, weights, out, threads, name = arguments
    loop, clock = LOOPS[who](Path(photos), Path(weights), Path(out), int(threads)), getattr(time, name)
    start = clock()
    loop()
    print(json.dumps({"seconds": clock() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
