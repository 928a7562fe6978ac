"""The `rcnn` command: demo, train, eval, detect, info.

What a user can do wrong ends in one line and exit status 2. matplotlib is imported only where a picture is drawn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

import rcnn
from rcnn import _backend, checkpoint, data, evaluate, train
from rcnn._detect_command import Entry, as_json, detect_files
from rcnn.factories import faster_rcnn_small, load_detector
from rcnn.model import FasterRCNN
from rcnn.trace import Trace

VAL_PAGES = 200
DEMO_PAGE = 7  # of the val split: squared paper with ten digits of every size
FEW_PICTURES = 3  # more of them get a progress bar
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended, by convention


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit status: 0, 2 for an error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("rcnn: interrupted", file=sys.stderr)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all of this command's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help says more\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rcnn", description="A Faster R-CNN to read, to take apart and to use.")
    parser.add_argument("--version", action="version", version=f"rcnn {rcnn.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="detect digits on an unseen page, stage by stage, and evaluate 200 more")
    demo.add_argument("--out", type=Path, default=Path("rcnn-demo"), metavar="DIR",
                      help="folder for the pictures (default: %(default)s)")
    demo.add_argument("--open", action="store_true", help="show the strip of all stages when done")
    demo.set_defaults(run=_demo)

    training = commands.add_parser("train", help="train the small detector from random weights")
    training.add_argument("dataset", metavar="DATASET", help="shapes or digits")
    training.add_argument("--steps", type=int, metavar="N", help="batches of 4 (default: the data set's recipe)")
    training.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    folder = training.add_mutually_exclusive_group()
    folder.add_argument("--out", type=Path, metavar="DIR", help="folder for the weights (default: runs/DATASET)")
    folder.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run that was saved in this folder")
    training.set_defaults(run=_train)

    evaluation = commands.add_parser("eval", help="average precision on the 200 pages of the val split")
    evaluation.add_argument("dataset", metavar="DATASET", help="shapes or digits")
    evaluation.add_argument("--weights", type=Path, required=True, metavar="PATH", help="a model.safetensors")
    evaluation.set_defaults(run=_eval)

    detect = commands.add_parser(
        "detect", help="find objects in pictures",
        description="Finds objects in pictures (JPEG, PNG, WebP, TIFF, GIF, BMP and others), draws them, and goes on "
                    "past files that cannot be read; the exit status is then 2. Boxes are x1, y1, x2, y2 in the pixels "
                    "of the picture as it is seen: turned the way that its EXIF data say.")
    detect.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture file")
    detect.add_argument("--weights", required=True, metavar="coco|PATH",
                        help="torchvision's COCO detector, a model.safetensors, or a .pth of torchvision's")
    detect.add_argument("--score", type=float, metavar="S", help="least score (default: the model's own)")
    detect.add_argument("--out", type=Path, default=Path("rcnn-detections"), metavar="DIR",
                        help="folder for the annotated pictures, as PNG (default: %(default)s)")
    detect.add_argument("--json", metavar="FILE", help="also write the detections to this file (- for standard output)")
    detect.set_defaults(run=_detect)

    info = commands.add_parser("info", help="versions, backend, threads")
    info.set_defaults(run=_info)
    return parser


# ---------------------------------------------------------------------- demo

def _demo(options: argparse.Namespace) -> int:
    from rcnn import plot

    model = checkpoint.load_digits()
    pages = data.load("digits", "val", VAL_PAGES)
    names = model.config.class_names
    picture, _ = pages[DEMO_PAGE]
    model.predict([picture])  # the first pass finds memory and threads; the times below are of the second
    trace = model.trace([picture])
    print(f"An unseen page of handwritten digits, {picture.shape[0]} x {picture.shape[1]} pixels:")
    _print_funnel(trace)
    found = trace.detections[0]
    reading = ", ".join(f"{names[label] if names else label} ({score:.2f})"
                        for label, score in zip(found["labels"], found["scores"], strict=True))
    print(f"found: {reading or 'nothing'}\n")

    options.out.mkdir(parents=True, exist_ok=True)
    for number, (name, figure) in enumerate(plot.stage_pictures(trace, class_names=names), start=1):
        figure.savefig(options.out / f"{number}_{name.lower().replace(' ', '_')}.png")
    strip = options.out / "strip.png"
    plot.trace_strip(trace, class_names=names).savefig(strip)

    result = evaluate.evaluate(model, pages)
    print(f"AP50 on {VAL_PAGES} unseen pages: {result.mean_ap:.3f}")
    print(f"pictures of every stage: {options.out.resolve()}{os.sep}, all on one: {strip.name}")
    if options.open:
        webbrowser.open(strip.resolve().as_uri())
    return 0


def _print_funnel(trace: Trace) -> None:
    """Prints how many boxes each step leaves, and how long each stage takes."""
    for name, count in trace.counts().items():
        print(f"  {name:<20} {count:>6,}")
    times = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in trace.times.items())
    print(f"  milliseconds: {times}; together {1000 * sum(trace.times.values()):.1f}")


# ---------------------------------------------------------------------- train and eval

def _train(options: argparse.Namespace) -> int:
    dataset = data.load(options.dataset, "train")
    if options.resume:
        model, recipe = train.saved_run(options.resume)
        _check_resumed(options, model, recipe, dataset)
    else:
        own = train.RECIPES[options.dataset]
        recipe = own.replace(steps=options.steps, seed=options.seed)
        rcnn.seed(recipe.seed)  # of the first weights
        model = faster_rcnn_small(dataset.classes)
    out = options.resume or options.out or Path("runs") / options.dataset
    started = time.perf_counter()
    run = train.fit(model, dataset, recipe, out, resume=bool(options.resume))
    if run.interrupted:
        print(f"stopped after step {run.steps} of {recipe.steps} and saved; "
              f"to go on: rcnn train {options.dataset} --resume {out}")
        return INTERRUPTED
    print(f"{run.steps} steps, {time.perf_counter() - started:.0f} s; weights: {out / train.WEIGHTS}")
    return 0


def _check_resumed(options: argparse.Namespace, model: FasterRCNN, recipe: train.Recipe, dataset: data.Dataset) -> None:
    """ValueError where the command line asks for something else than the saved run is."""
    for name in ("steps", "seed"):
        asked, saved = getattr(options, name), getattr(recipe, name)
        if asked not in (None, saved):
            raise ValueError(f"the run in {options.resume} has --{name} {saved}; it cannot go on with --{name} {asked}")
    if model.config.class_names != tuple(dataset.classes):
        raise ValueError(f"the run in {options.resume} is not one of {options.dataset}: it learns "
                         f"{', '.join((model.config.class_names or ())[1:])}")


def _eval(options: argparse.Namespace) -> int:
    model = checkpoint.load(options.weights)
    pages = data.load(options.dataset, "val", VAL_PAGES)
    if model.config.num_classes != len(pages.classes):
        raise ValueError(f"{options.weights} tells {model.config.num_classes} classes apart, "
                         f"{options.dataset} has {len(pages.classes)}")
    result = evaluate.evaluate(model, pages)
    print(f"{'class':<12} {'objects':>8} {'found':>8} {'AP50':>7}")
    for label, name in enumerate(pages.classes[1:], start=1):
        print(f"{name:<12} {result.num_objects[label]:>8} {result.num_detections[label]:>8} {result.ap[label]:>7.3f}")
    print(f"{'mean':<12} {result.num_objects[1:].sum():>8} {result.num_detections[1:].sum():>8} {result.mean_ap:>7.3f}")
    return 0


# ---------------------------------------------------------------------- detect

def _detect(options: argparse.Namespace) -> int:
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be in 0 .. 1, not {options.score}")
    if options.json and not Path(options.json).parent.is_dir():  # said before the work is done
        raise FileNotFoundError(f"there is no folder {Path(options.json).parent} for --json to write to")
    if options.json and Path(options.json).is_dir():
        raise IsADirectoryError(f"--json must name a file; {options.json} is a folder")
    model = load_detector(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    status = 0
    bar = len(options.images) > FEW_PICTURES and sys.stderr.isatty()
    try:
        for file, outcome in tqdm(detect_files(model, options.images, options.out, options.score), unit="picture",
                                  total=len(options.images), disable=not bar, dynamic_ncols=True):
            if isinstance(outcome, str):
                status = _fail(outcome)
                continue
            entries.append(outcome)
            if options.json != "-":
                _say(f"{file}: {len(outcome['detections'])} found, drawn in {outcome['picture']}")
    finally:  # after Ctrl-C, too: what was found is not lost
        if options.json == "-":
            sys.stdout.write(as_json(entries))
        elif options.json:
            checkpoint.write_whole(options.json, as_json(entries).encode())
    return status


# ---------------------------------------------------------------------- the rest

def _info(options: argparse.Namespace) -> int:
    del options
    for name, value in _backend.info().items():
        print(f"{name:<10} {value}")
    return 0


def _say(text: str) -> None:
    """Prints a line, above a progress bar, with escapes for what the output cannot show, as names of files may have."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _fail(error: BaseException | str) -> int:
    """Says what is wrong in one line; gives the exit status of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    tqdm.write(f"rcnn: {text}", file=sys.stderr)  # above a progress bar
    return 2


if __name__ == "__main__":
    sys.exit(main())
