"""The command `rcnn detect`, which finds objects in image files and keeps only a few images in memory at a time.

Two threads detect in different images, with half of the processors each, because Python's part of the work is then
done at the same time. Other threads read the next images and draw the detections in the previous ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rcnn import images
from rcnn._ext import backend
from rcnn._files import write_whole
from rcnn.cli import video
from rcnn.cli.annotations import FOLDERS, Entry, Folder, can_name, csv_table, describe, name_of
from rcnn.cli.inputs import find_images
from rcnn.cli.prediction import add_options, with_options
from rcnn.cli.process import ERROR, fail, message, say, tell
from rcnn.cli.shared import NAMED, add_max_pixels, check_file, check_outside, load_weights
from rcnn.data.items import DARK
from rcnn.data.report import KINDS
from rcnn.model import FasterRCNN
from rcnn.train.loader import prefetch

FEW_IMAGES = 3  # if there are more images, the command shows a progress bar
MIN_SCORE = 0.5  # detections above this score are drawn and counted
UNFIT = "annotations cannot contain this name; rename the file without special characters and without spaces around it"
WORKERS = 2  # threads that draw; one more reads
DETECTORS = 2  # threads that detect in different images; each uses its share of the processors
Outcome = tuple[Entry, list[Entry]] | str  # the entry and the detections of an image, or an error message
ERRORS = (OSError, ValueError, MemoryError)  # errors of one image; the command still processes the others


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
    add_max_pixels(parser)
    add_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("rcnn-detections"),
        metavar="DIR",
        help="folder for the drawings: PNG files, and MP4 files for videos (default: %(default)s)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write the detections to this .json file (- for standard output)"
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
    if options.score is not None and not 0 <= options.score <= 1:
        raise ValueError(f"--score must be between 0 and 1, got {options.score}")
    for name in ("batch", "every"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    check_file("--json", options.json, ".json")
    check_file("--csv", options.csv, ".csv")
    new = [path for kind in FOLDERS if (path := getattr(options, kind))]
    for name in ("out", "json", "csv"):
        check_outside(f"--{name}", getattr(options, name), new)
    if any(
        os.path.isdir(given) and os.path.realpath(given) == os.path.realpath(options.out) for given in options.images
    ):
        raise ValueError(
            f"--out {options.out} is a folder of images, and the next run would read the drawings as images; choose "
            "another folder"
        )
    files, problems = find_images(options.images)
    if options.csv or new:
        problems += [f"{file}: {UNFIT}" for file in files if not can_name(file)]
        files = [file for file in files if can_name(file)]
    photos, films = ([file for file in files if video.is_video(file) == wanted] for wanted in (False, True))
    model = with_options(load_weights(options.weights), options)
    options.out.mkdir(parents=True, exist_ok=True)
    check_file("--out", options.out / "drawing.png", ".png")
    names = model.config.class_names or ()
    folders = [Folder(path, kind, names) for kind in FOLDERS if (path := getattr(options, kind))]
    for problem in problems:
        fail(problem)
    done: list[tuple[Entry, list[Entry]]] = []
    status = ERROR if problems else 0
    taken = {_identity(file) for file in files}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # about unusual metadata, in the thread that reads
            outcomes = detect_files(
                model,
                photos,
                options.out,
                options.score,
                options.batch,
                taken,
                WORKERS if backend.get_num_threads() > 1 else 0,
            )
            for file, outcome in tqdm(
                outcomes,
                unit="image",
                total=len(photos),
                disable=None if len(photos) > FEW_IMAGES else True,
                dynamic_ncols=True,
            ):
                if isinstance(outcome, str):
                    status = fail(outcome)
                    continue
                done.append(outcome)
                entry, detections = outcome
                for folder in folders:
                    folder.add(entry, detections)
                if options.json != "-":
                    say(f"{file}: {len(detections)} detected, drawing: {entry['drawing']}")
        for film in films:
            status = max(status, _detect_film(model, film, options, folders, taken, done))
    finally:  # also write the detections after Ctrl-C
        if options.json == "-":
            sys.stdout.write(as_json([entry for entry, _ in done]))
        elif options.json:
            write_whole(options.json, as_json([entry for entry, _ in done]).encode())
        if options.csv:
            write_whole(options.csv, csv_table(done, options.csv).encode(errors="backslashreplace"))
    if options.json != "-" and done:
        unit = "frames" if films and not photos else "images"
        score = MIN_SCORE if options.score is None else options.score
        say(_count([detections for _, detections in done], score, unit))
    return status


def _detect_film(
    model: FasterRCNN,
    file: Path,
    options: argparse.Namespace,
    folders: Sequence[Folder],
    taken: set[str],
    done: list[tuple[Entry, list[Entry]]],
) -> int:
    """Detect objects in a video, draw them to a new video, and add each frame to `done`; return the exit status."""
    target = _free_name(options.out, file.stem, taken, ".mp4")
    before = len(done)
    try:
        with video.Reader(file) as film, video.Writer(target, film.rate / options.every) as drawn:
            total = None if film.count is None else -(-film.count // options.every)
            frames = iter(tqdm(film.frames(options.every), unit="frame", total=total, disable=None, dynamic_ncols=True))
            while group := list(islice(frames, options.batch)):
                found = model.predict([frame.image for frame in group], score_thresh=options.score)
                for frame, one in zip(group, found, strict=True):
                    drawing, entry, shown = _draw(model, frame.image, one, options.score)
                    drawn.add(drawing)
                    entry = {
                        "file": str(file),
                        "drawing": str(target),
                        "frame": frame.number,
                        "time": frame.time,
                        **entry,
                    }
                    done.append((entry, shown))
                    for folder in folders:
                        folder.add(entry, shown, frame.image)
    except (*ERRORS, ImportError) as error:
        return fail(_reason(file, error))
    finally:
        if options.json != "-" and len(done) > before:
            objects, count = sum(len(shown) for _, shown in done[before:]), len(done) - before
            say(f"{file}: {objects} detected in {count} frame{'s' * (count > 1)}, video: {target}")
    taken.add(_identity(target))
    return fail(film.problem) if film.problem else 0


def detect_files(
    model: FasterRCNN,
    files: Sequence[Path],
    folder: Path,
    score: float | None = None,
    batch: int = 1,
    taken: set[str] | None = None,
    workers: int = 0,
) -> Iterator[tuple[Path, Outcome]]:
    """Yield each file with its entry for the JSON file and its detections above `score`, or with an error message.

    The keys of an entry are "file", "drawing" (the path of the PNG in `folder`), "size" ("width" and "height" of the
    image after its EXIF rotation) and "detections". The keys of a detection are "box" (x1, y1, x2, y2 in pixel
    coordinates of this image), "score", "label" and, if the model has class names, "name". Without `score`, the entry
    has all detections of the model, and those above `MIN_SCORE` are drawn and yielded.

    `batch` images are processed at a time. With `workers`, this many threads draw, one more reads, and up to
    `DETECTORS` detect in different batches; otherwise, there is only one batch in memory. If two files have the same
    name, their drawings have different names. A drawing never overwrites one of `files`, or a file in `taken`, to
    which the drawings are added.
    """
    taken = set() if taken is None else taken
    taken.update(map(_identity, files))
    groups = [files[start : start + batch] for start in range(0, len(files), batch)]
    detecting = min(workers, DETECTORS, len(groups) - 1)
    detect = partial(_detect, model, score, max(1, backend.get_num_threads() // max(1, detecting)))
    with ExitStack() as stack:
        batches = stack.enter_context(closing(prefetch(_read, groups, min(workers, 1))))
        detected = stack.enter_context(closing(prefetch(detect, batches, max(0, detecting))))
        named = _name(detected, folder, taken)
        yield from stack.enter_context(closing(prefetch(partial(_finish, model, score), named, workers)))


def as_json(entries: Sequence[Entry]) -> str:
    """Return the content of the JSON file as text."""
    return json.dumps(entries, indent=1) + "\n"


@dataclass
class _Batch:
    """Images that were read, and the errors and warnings about the files of a batch."""

    images: dict[Path, np.ndarray] = field(default_factory=dict)
    errors: dict[Path, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """A file with the detections in its image and the path of its drawing, or with an error."""

    file: Path
    error: str = ""
    image: np.ndarray | None = None
    detections: Mapping[str, np.ndarray] = field(default_factory=dict)
    target: Path = Path()


def _read(files: Sequence[Path]) -> _Batch:
    """Read the images of a batch."""
    batch = _Batch()
    for file in files:
        try:
            image = images.read(file)  # (H, W, 3)
            if image.max() <= DARK and images.header(file).sixteen_bit:
                batch.warnings.append(f"{file}: {KINDS['dark-image'].sentence}; {KINDS['dark-image'].remedy}")
        except ERRORS as error:
            batch.errors[file] = _reason(file, error)
        else:
            batch.images[file] = image
    return batch


def _detect(model: FasterRCNN, score: float | None, threads: int, batch: _Batch) -> tuple[list[str], list[_Found]]:
    """Detect in the images of a batch on this many threads; return its warnings, and the result for each file."""
    with backend.set_num_threads(threads):
        predicted = _predict(model, batch.images, score)
    results = [_Found(file, error) for file, error in batch.errors.items()]
    for file, found in predicted:
        if isinstance(found, Exception):
            results.append(_Found(file, _reason(file, found)))
        else:
            results.append(_Found(file, "", batch.images[file], found))
    return batch.warnings, results


def _name(detected: Iterable[tuple[list[str], list[_Found]]], folder: Path, taken: set[str]) -> Iterator[_Found]:
    """Print the warnings, and yield the detections in each image with a path for the drawing.

    The paths are not in `taken`, to which they are added.
    """
    for warnings_, found in detected:
        for warning in warnings_:
            tell(f"warning: {warning}")
        found.reverse()
        while found:  # an image that was yielded is not kept in memory
            yield _with_target(found.pop(), folder, taken)


def _with_target(found: _Found, folder: Path, taken: set[str]) -> _Found:
    """Return the detections in an image with the path of a new drawing, or an error as it is."""
    if found.image is None:
        return found
    target = _free_name(folder, found.file.stem, taken)
    taken.add(_identity(target))
    return replace(found, target=target)


def _finish(model: FasterRCNN, score: float | None, found: _Found) -> tuple[Path, Outcome]:
    """Draw the detections above `score` to a file; return the entry of the image and these detections, or an error."""
    if found.image is None:
        return found.file, found.error
    try:
        drawing, entry, shown = _draw(model, found.image, found.detections, score)
        write_whole(found.target, images.as_png(drawing), flush=False)
    except ERRORS as error:
        return found.file, _reason(found.file, error)
    return found.file, ({"file": str(found.file), "drawing": str(found.target), **entry}, shown)


def _predict(
    model: FasterRCNN, read: Mapping[Path, np.ndarray], score: float | None
) -> list[tuple[Path, dict[str, np.ndarray] | Exception]]:
    """Return the detections in each image; after an error in a batch, process its images one by one."""
    if not read:
        return []
    try:
        return list(zip(read, model.predict(list(read.values()), score_thresh=score), strict=True))
    except ERRORS as error:
        if len(read) == 1:
            return [(file, error) for file in read]
    return [result for file, image in read.items() for result in _predict(model, {file: image}, score)]


def _draw(
    model: FasterRCNN, image: np.ndarray, found: Mapping[str, np.ndarray], score: float | None
) -> tuple[np.ndarray, Entry, list[Entry]]:
    """Return an image with its detections above `score`, the size and all detections, and those above `score`."""
    from rcnn import plot  # imports matplotlib, which is slow

    names = model.config.class_names
    shown = found["scores"] > (MIN_SCORE if score is None else score)  # (D,)
    drawing = plot.annotate(image, found["boxes"][shown], found["scores"][shown], found["labels"][shown], names)
    height, width = image.shape[:2]
    detections = describe(found, names)
    entry = {"size": {"width": width, "height": height}, "detections": detections}
    return drawing, entry, [detection for detection, above in zip(detections, shown, strict=True) if above]


def _count(detections: Sequence[Sequence[Entry]], min_score: float, unit: str) -> str:
    """Return a table with two numbers for each class: its detections, and the images or frames with at least one."""
    objects = Counter(name_of(found) for image in detections for found in image)
    images_with = Counter(name for image in detections for name in {name_of(found) for found in image})
    width = max(12, *map(len, objects)) if objects else 12
    lines = [f"detections above a score of {min_score:g}:", f"{'class':<{width}} {'detections':>10} {unit:>7}"]
    lines += [f"{name:<{width}} {count:>10} {images_with[name]:>7}" for name, count in objects.most_common()]
    with_any = sum(bool(image) for image in detections)
    return "\n".join([*lines, f"{'all':<{width}} {objects.total():>10} {with_any:>7} of {len(detections)}"])


def _free_name(folder: Path, stem: str, taken: set[str], suffix: str = ".png") -> Path:
    """Return the path `folder`/`stem` with the suffix; if this path is taken, add a number after `stem`."""
    number, path = 1, folder / f"{stem}{suffix}"
    while _identity(path) in taken:
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _identity(path: Path) -> str:
    """Return a string that is equal for all paths of a file, even if the file system does not distinguish A from a."""
    return os.path.realpath(path).casefold()


def _reason(file: Path, error: Exception) -> str:
    """Return the message of an error; it starts with the path of the file, as in the errors of `images.read`."""
    text = message(error)
    return text if text.startswith((f"{file} ", f"{file}:")) else f"{file}: {text}"
