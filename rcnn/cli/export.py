"""The command `rcnn export`, which writes a detector as an ONNX file."""

from __future__ import annotations

import argparse
import os

from rcnn._validate import FRACTION, optional
from rcnn.cli.prediction import add_suppression
from rcnn.cli.process import say
from rcnn.cli.shared import NAMED, check_file, load_weights
from rcnn.zoo import onnx


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn export` to the commands."""
    parser = commands.add_parser(
        "export",
        help="write a detector as an ONNX file, which runs without rcnn",
        description="Write a detector as an ONNX file, which runs without rcnn, for example in ONNX Runtime. The file "
        "contains the whole detector, from the image to the detections. Its input is an image of any size.",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a weights file of rcnn (.safetensors) or torchvision (.pth); the folder of a run, to use its best "
        f"weights; or {NAMED}",
    )
    parser.add_argument("out", metavar="OUT", help="the file to write, which ends in .onnx")
    parser.add_argument(
        "--score",
        type=float,
        metavar="S",
        help="return only detections above this score (default: the model's own threshold, usually 0.05)",
    )
    add_suppression(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file, and print its name and its opset; return 0."""
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be between 0 and 1, got {options.score}")
    optional(FRACTION).check("--nms-thresh", options.nms_thresh)
    check_file("OUT", options.out, ".onnx")
    if os.path.realpath(options.out) == os.path.realpath(options.weights):
        raise FileExistsError(f"OUT {options.out} would replace WEIGHTS; choose another file")
    onnx.check_installed()
    model = load_weights(options.weights)
    onnx.export(
        model,
        options.out,
        score_thresh=options.score,
        nms_thresh=options.nms_thresh,
        class_agnostic=options.class_agnostic,
    )
    say(f"{options.out}: ONNX, opset {onnx.OPSET}")
    return 0
