"""Functions that all commands share, for output files and for loading a detector."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from rcnn import data
from rcnn._files import check_free, check_writable, is_stream, write_whole
from rcnn.cli.process import tell
from rcnn.model import FasterRCNN
from rcnn.train.run_folder import BEST, WEIGHTS
from rcnn.zoo.detectors import load_detector
from rcnn.zoo.download import DETECTORS

STANDARD_OUTPUT = "-"
NAMED = f"the name of a detector that torchvision trained on COCO: {', '.join(DETECTORS)}"
WRITERS: dict[str, Callable[[data.Dataset, Path, str], None]] = {
    "voc": data.write_voc,
    "coco": data.write_coco,
    "yolo": data.write_yolo,
    "csv": data.write_csv,
}
REPLACED_FLAGS = {  # for each format, the flags of objects that it cannot store
    "voc": {"crowd": "written as difficult"},
    "yolo": {"difficult": "written as ordinary objects", "crowd": "written as ordinary objects"},
}


def known_format(source: str) -> str:
    """Return the name of a data set with its format, such as "voc:photos" for the path "photos"; print the format."""
    path = Path(source).expanduser()
    has_format = ":" in source and source.partition(":")[0] in data.READERS  # a folder can have the name of a format
    if source in data.DRAWN or has_format or source.endswith(".toml") or not path.exists():
        return source
    found = data.find_formats(path)
    others = f"; it also has annotations in other formats: {', '.join(found[1:])}" if len(found) > 1 else ""
    tell(f"{source} is read as {found[0]}:{source}{others}")
    return f"{found[0]}:{source}"


def check_target(target: str) -> tuple[str, Path]:
    """Return the format and the absolute path in a target such as "voc:PATH"; the folder must be new or empty."""
    kind, _, path = target.partition(":")
    if kind not in WRITERS or not path:
        raise ValueError(f"TARGET must be one of {', '.join(f'{kind}:PATH' for kind in WRITERS)}, got {target!r}")
    folder = Path(os.path.abspath(Path(path).expanduser()))
    check_free(folder)
    return kind, folder


def write_datasets(datasets: Mapping[str, data.Dataset], kind: str, folder: Path) -> None:
    """Write the data set of each split to a folder in one format; if this fails, no files remain.

    At the end, print how many objects lose a flag because the format cannot store it.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for split, dataset in datasets.items():
            WRITERS[kind](dataset, partial, split)
        if folder.exists():
            folder.rmdir()  # the folder is empty; on some systems, os.replace cannot replace even an empty folder
        os.replace(partial, folder)
    except OSError as error:  # name the folder that the user named
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for flag, instead in REPLACED_FLAGS.get(kind, {}).items():
        records = [record for dataset in datasets.values() for record in getattr(dataset, "records", ())]
        count = sum(int(getattr(record, flag).sum()) for record in records)
        if count:
            tell(f"{kind} cannot mark objects as {flag}; {instead}: {count}")


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """Add the option --max-pixels to a command that reads images."""
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help=f"read images of up to N pixels (default: {Image.MAX_IMAGE_PIXELS:,}; a larger image may be a malicious "
        "file that fills the memory)",
    )


@contextlib.contextmanager
def pixel_limit(options: argparse.Namespace) -> Iterator[None]:
    """Within the `with` block, read images of up to --max-pixels pixels, if the command has this option."""
    limit, before = getattr(options, "max_pixels", None), Image.MAX_IMAGE_PIXELS
    if limit is not None and limit < 1:
        raise ValueError(f"--max-pixels must be at least 1, got {limit}")
    Image.MAX_IMAGE_PIXELS = before if limit is None else limit
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def check_file(option: str, file: str | Path | None, *endings: str) -> None:
    """Raise OSError or ValueError if the file of an option must not be written; call this before the long computation.

    The name of a file must have one of `endings`, so that a typing error does not replace an image or the weights.
    Pipes and devices may have any name.
    """
    if file is None or file == STANDARD_OUTPUT:
        return
    if Path(file).is_dir():
        raise IsADirectoryError(f"{option} must name a file, got the folder {file}")
    if Path(file).suffix.lower() not in endings and not is_stream(file):
        raise ValueError(f"{option} must name a file that ends in {endings[0]}, got {file}")
    if not Path(file).parent.is_dir():
        raise FileNotFoundError(f"{option} {file}: folder {Path(file).parent} not found")
    check_writable(file)


def check_not_in_dataset(option: str, file: str | Path | None, spec: str, dataset: Any) -> None:
    """Raise FileExistsError if the file of an option is an image or an annotation of a data set."""
    if file is None or not os.path.isfile(file):
        return
    root, path = Path(os.path.realpath(Path(spec.partition(":")[2]).expanduser())), Path(os.path.realpath(file))
    is_annotation = path == root or (path.suffix.lower() == ".json" and path.is_relative_to(root))
    if is_annotation or any(os.path.realpath(record.image) == str(path) for record in getattr(dataset, "records", ())):
        raise FileExistsError(f"{option} {file} would replace a file of the data set {spec}; choose another file")


def check_outside(option: str, path: str | Path | None, folders: Iterable[Path]) -> None:
    """Raise OSError or ValueError unless `folders` are new and the path of an option is in none of them.

    Otherwise, files could replace each other.
    """
    for folder in folders:
        check_free(folder)
        if path is None or path == STANDARD_OUTPUT:
            continue
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise ValueError(f"{option} must be outside the new folder {folder}, got {path}")


def write_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure to a PNG file, either completely or not at all."""
    from rcnn.plot import style  # imports matplotlib, which is slow

    style.use_installed_fonts(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(path, drawn.getvalue())


def load_weights(source: str) -> FasterRCNN:
    """Return the detector from a weights file, from a name such as "coco", or from the folder of a run.

    From a run, load the best weights if there are any, otherwise the last weights. Raise FileNotFoundError if the
    folder contains no weights. Also raise the errors of `load_detector`.
    """
    folder = Path(source)
    if source in DETECTORS or not folder.is_dir():
        return load_detector(source)
    for name in (BEST, WEIGHTS):
        if (folder / name).is_file():
            return load_detector(folder / name)
    if (folder / "data.pkl").is_file():
        raise FileNotFoundError(f"{folder} is an unpacked .pth file; pack it: zip -0 -r weights.pth {folder.name}")
    raise FileNotFoundError(f"{folder} is not the folder of a run: it contains neither {BEST} nor {WEIGHTS}")
