"""The command `rcnn detect`, which finds objects in image files and keeps only a few images in memory at a time.

In one process, two threads detect in different images, with half of the processors each: while one thread runs Python
code, the other runs kernels. More threads read the next images and draw the detections in the previous ones. With
--jobs or --dask, other processes do all of this.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rcnn._ext import backend
from rcnn._files import is_stream
from rcnn.cli import video
from rcnn.cli.annotations import FOLDERS, can_name
from rcnn.cli.inputs import find_images
from rcnn.cli.jobs import Pool, add_jobs, make_pool
from rcnn.cli.photos import (
    ERRORS,
    MIN_SCORE,
    WORKERS,
    Names,
    Photo,
    Result,
    detect_groups,
    detect_in_pool,
    draw,
    error_text,
    summarize,
)
from rcnn.cli.prediction import add_options, with_options
from rcnn.cli.process import ERROR, fail, say, tell
from rcnn.cli.results import AT_THE_END, Results
from rcnn.cli.shared import NAMED, STANDARD_OUTPUT, add_max_pixels, check_file, check_outside, load_weights

FEW_IMAGES = 3  # if there are more images, the command shows a progress bar
BAD_NAME = (
    "annotations cannot contain this name; rename the file without special characters and without spaces around it"
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn detect` to the commands."""
    parser = commands.add_parser(
        "detect",
        help="find objects in images and videos",
        description="Find objects in images (JPEG, PNG, WebP, TIFF, GIF, BMP and others) and videos, draw their boxes, "
        "and count the objects of each class. Unreadable files are reported and skipped; the exit status is then 2. "
        "Boxes are x1, y1, x2, y2, in pixel coordinates of the image after its EXIF rotation.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image or video file; a folder of images; a pattern such as 'photos/**/*.jpg'; a text file (.txt) with "
        "one path on each line; or - to read such a list from standard input",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="PATH|RUN|NAME",
        help="a weights file of rcnn (.safetensors) or torchvision (.pth); the folder of a run, to use its best "
        f"weights; or {NAMED}",
    )
    parser.add_argument(
        "--score",
        type=float,
        metavar="S",
        help=f"use only detections above this score (default: {MIN_SCORE}, except for --json, whose default is "
        "the model's own threshold, usually 0.05, because average precision requires detections with low scores)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="number of images, or of tiles, to process at a time; more images need more memory (default: %(default)s)",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="use only every Nth frame of a video (default: every frame)",
    )
    add_jobs(parser)
    add_max_pixels(parser)
    add_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-detections"),
        metavar="DIR",
        help="folder for the drawings: PNG files, and MP4 files for videos (default: %(default)s)",
    )
    parser.add_argument("--no-drawings", action="store_true", help="draw no images, which is faster; draw only videos")
    parser.add_argument(
        "--json", metavar="FILE", help="also write the detections to this .json file (- for standard output)"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="also write the detections to this .jsonl file, one line for each image, as soon as they are made (- for "
        "standard output)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the --jsonl file of an earlier run with the same weights and options: images that have a result "
        "in it are skipped, and images that could not be read are tried again",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the detections to this .csv file")
    for kind, name in (("voc", "VOC"), ("yolo", "YOLO"), ("labelme", "labelme's")):
        parser.add_argument(
            f"--{kind}",
            type=Path,
            metavar="DIR",
            help=f"also write the detections as annotations to this new folder, in {name} format, with copies of the "
            "images",
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Detect objects, draw, count and write the detections; return 0, or 2 if a file cannot be read."""
    _check(options)
    files, problems = find_images(options.images)
    if options.csv or any(getattr(options, kind) for kind in FOLDERS):
        problems += [f"{file}: {BAD_NAME}" for file in files if not can_name(file)]
        files = [file for file in files if can_name(file)]
    photos, films = ([file for file in files if video.is_video(file) == wanted] for wanted in (False, True))
    if films and options.resume:
        raise ValueError(f"--resume requires images, got the video {films[0]}")
    with ExitStack() as stack:
        pool = make_pool(options)
        if pool is not None:
            stack.enter_context(pool)
        model = load_weights(options.weights)
        detector = with_options(model, options)
        if films or not options.no_drawings:
            options.out.mkdir(parents=True, exist_ok=True)
            check_file("--out", options.out / "drawing.png", ".png")
        results = Results(options, model, photos)
        for problem in problems:
            fail(problem)
        status = ERROR if problems else 0
        try:
            names = Names(options.out, files)
            status = max(status, _detect_photos(detector, pool, photos, options, names, results))
            for film in films:
                status = max(status, _detect_film(detector, film, options, names, results))
        finally:  # also write the detections after Ctrl-C
            results.finish()
    if _may_say(options) and results.count:
        unit = "frames" if films and not photos else "images"
        say(results.table(MIN_SCORE if options.score is None else options.score, unit))
    return status


def _check(options: argparse.Namespace) -> None:
    """Before any work, raise ValueError or OSError if an option is invalid, or if an output cannot be written."""
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be between 0 and 1, got {options.score}")
    for name in ("batch", "every"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.resume and not options.jsonl:
        raise ValueError("--resume requires --jsonl, the file of the earlier run")
    for name in AT_THE_END:
        if options.resume and getattr(options, name):
            raise ValueError(f"--{name} cannot be combined with --resume, because it would contain only the new images")
    if options.json == options.jsonl == STANDARD_OUTPUT:
        raise ValueError("only one of --json and --jsonl can be written to standard output")
    for name in ("json", "jsonl", "csv"):
        check_file(f"--{name}", getattr(options, name), f".{name}")
    new = [path for kind in FOLDERS if (path := getattr(options, kind))]
    for name in ("out", "json", "jsonl", "csv"):
        check_outside(f"--{name}", getattr(options, name), new)
    if any(
        os.path.isdir(given) and os.path.realpath(given) == os.path.realpath(options.out) for given in options.images
    ):
        raise ValueError(
            f"--out {options.out} is a folder of images, and the next run would read the drawings as images; choose "
            "another folder"
        )


def _may_say(options: argparse.Namespace) -> bool:
    """Return whether messages may go to standard output, because no result does."""
    return not any(map(_is_standard_output, (options.json, options.jsonl)))


def _is_standard_output(path: str | None) -> bool:
    """Return whether a path is "-" or, like /dev/stdout, the same file as standard output."""
    if path is None or path == STANDARD_OUTPUT:
        return path is not None
    try:
        return is_stream(path) and os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # a missing file; a standard output without a number, as in a notebook
        return False


def _detect_photos(
    model: Any, pool: Pool | None, files: Sequence[Path], options: argparse.Namespace, names: Names, results: Results
) -> int:
    """Detect objects in images and add them to `results`; return the exit status."""
    if not files:
        return 0
    status = 0
    finished = results.finished
    left = len(files) - len(finished)
    if finished:
        tell(f"{options.jsonl} contains results of {len(finished):,} of {len(files):,} images; images left: {left:,}")
    groups = _groups(files, options, names, finished)
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", module="PIL")  # about unusual metadata, in the thread that reads
        if pool is None:
            workers = WORKERS if backend.get_num_threads() > 1 and left > options.batch else 0
            found = stack.enter_context(closing(detect_groups(model, groups, options.score, workers)))
        else:
            found = stack.enter_context(closing(detect_in_pool(pool, options, groups)))
        hidden = None if left > FEW_IMAGES else True
        bar = stack.enter_context(tqdm(unit="image", total=left, disable=hidden, dynamic_ncols=True))
        for result in found:
            status = max(status, _add(result, results, _may_say(options)))
            bar.update(len(result.outcomes))
    return status


def _groups(
    files: Sequence[Path], options: argparse.Namespace, names: Names, finished: frozenset[Path]
) -> Iterator[list[Photo]]:
    """Yield the files in groups of `options.batch`, each with the path of its drawing; leave out finished files.

    Finished files are left out last, so that a drawing has the same name as in an uninterrupted run.
    """
    photos = (Photo(file, None if options.no_drawings else names.new(file.stem)) for file in files)
    for group in iter(lambda: list(islice(photos, options.batch)), []):
        if left := [photo for photo in group if photo.file not in finished]:
            yield left


def _add(result: Result, results: Results, may_say: bool) -> int:
    """Add the result for a group of files to all results, and print a line for each; return the exit status."""
    status = 0
    for warning in result.warnings:
        tell(f"warning: {warning}")
    for file, outcome in result.outcomes:
        if isinstance(outcome, str):
            status = fail(outcome)
            results.add_error(file, outcome)
            continue
        entry, shown = outcome
        results.add(entry, shown)
        if may_say:
            say(f"{file}: {len(shown)} detected" + (f", drawing: {entry['drawing']}" if "drawing" in entry else ""))
    return status


def _detect_film(model: Any, file: Path, options: argparse.Namespace, names: Names, results: Results) -> int:
    """Detect objects in a video, draw them to a new video, and add each frame to `results`; return the exit status."""
    target = names.new(file.stem, ".mp4")
    count = objects = 0
    try:
        with video.Reader(file) as film, video.Writer(target, film.rate / options.every) as drawn:
            total = None if film.count is None else -(-film.count // options.every)
            frames = iter(tqdm(film.frames(options.every), unit="frame", total=total, disable=None, dynamic_ncols=True))
            while group := list(islice(frames, options.batch)):
                found = model.predict([frame.image for frame in group], score_thresh=options.score)
                for frame, one in zip(group, found, strict=True):
                    drawn.add(draw(model, frame.image, one, options.score))
                    entry, shown = summarize(model, frame.image, one, options.score)
                    place = {"file": str(file), "drawing": str(target), "frame": frame.number, "time": frame.time}
                    results.add({**place, **entry}, shown, frame.image)
                    count, objects = count + 1, objects + len(shown)
    except (*ERRORS, ImportError) as error:
        text = error_text(file, error)
        results.add_error(file, text)
        return fail(text)
    finally:
        if _may_say(options) and count:
            say(f"{file}: {objects} detected in {count} frame{'s' * (count > 1)}, video: {target}")
    return fail(film.problem) if film.problem else 0
