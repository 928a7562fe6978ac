"""Functions that find the images for `rcnn detect`: an argument is a file, a folder, a pattern or a list of paths."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rcnn._files import read_text
from rcnn.cli.process import message, tell
from rcnn.images import SUFFIXES

STANDARD_INPUT = "-"
HEIC_SUFFIXES = (".heic", ".heif")  # photos from phones, which Pillow cannot read
OTHER_SUFFIXES = (  # other files that contain images
    *(".jxl", ".svg", ".psd", ".xcf", ".eps", ".exr", ".hdr", ".dds", ".tga", ".ico", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),  # raw files of cameras
)
LIST_SUFFIX = ".txt"
ANY_FOLDERS = "**"  # in a pattern
MAX_LIST = 1 << 26  # bytes of a list of paths


def find_images(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files that the arguments name, without repetitions, and a message for each argument without files."""
    files: dict[str, Path] = {}
    problems = []
    for argument in arguments:
        try:
            for file in _expand(argument):
                files.setdefault(os.path.realpath(file), file)
        except (OSError, ValueError) as error:
            problems.append(message(error))
    return list(files.values()), problems


def _expand(argument: str) -> list[Path]:
    """Return the files that an argument names; raise OSError or ValueError if there are none."""
    path = Path(argument)
    if argument == STANDARD_INPUT:
        content = sys.stdin.buffer.read(MAX_LIST + 1)
        if len(content) > MAX_LIST:
            raise ValueError(f"standard input must have at most {MAX_LIST:,} bytes")
        return _listed(content.decode("utf-8", "surrogateescape"), Path(), "standard input")
    if path.is_dir():
        return _images_in(path)
    if not path.exists() and glob.has_magic(argument):
        found = sorted({file for file in _matching(path.parts) if file.is_file()})
        if not found:
            raise FileNotFoundError(f"{argument}: no file matches this pattern")
        return found
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        return _listed(read_text(path, MAX_LIST), path.parent, str(path))
    return [path]  # if it is missing, the error is reported when it is read


def _matching(parts: Sequence[str]) -> Iterator[Path]:
    """Yield the paths that match the parts of a pattern, some of them repeatedly; a part "**" stands for any folders.

    Unlike glob.glob, this function ends if a folder contains links to itself.
    """
    if ANY_FOLDERS not in parts:
        yield from map(Path, glob.glob(os.path.join(*parts)))
        return
    position = parts.index(ANY_FOLDERS)
    rest = parts[position + 1 :] or ("*",)
    for base in _matching(parts[:position]) if position else [Path()]:
        for folder in _folders_below(base):
            yield from _matching((glob.escape(folder), *rest))


def _folders_below(folder: Path) -> Iterator[str]:
    """Yield a folder and all folders below it without hidden ones. Links are followed, but each folder occurs once."""
    seen = {os.path.realpath(folder)}

    def is_new(path: str) -> bool:
        before = len(seen)
        seen.add(os.path.realpath(path))
        return len(seen) > before

    for above, names, _ in os.walk(folder, followlinks=True):
        yield above
        shown = sorted(name for name in names if not name.startswith("."))
        names[:] = [name for name in shown if is_new(os.path.join(above, name))]


def _images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted by name, without hidden files.

    HEIC photos are included, because reading them reports an error, unless there is an image with the same stem. Other
    files that contain images, such as raw files of cameras, are counted in a warning under the same condition.
    """
    entries = [
        entry
        for entry in sorted(folder.iterdir())
        if entry.suffix.lower() in (*SUFFIXES, *HEIC_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    ]
    stems = {entry.stem for entry in entries if entry.suffix.lower() in SUFFIXES}
    found = [entry for entry in entries if entry.suffix.lower() in SUFFIXES or entry.stem not in stems]
    others = [
        entry.suffix.lower()
        for entry in folder.iterdir()
        if entry.suffix.lower() in OTHER_SUFFIXES and not entry.name.startswith(".") and entry.stem not in stems
    ]
    if others:
        count = f"{len(others)} file{'s were' if len(others) > 1 else ' was'} ignored"
        endings = ", ".join(sorted(set(others)))
        tell(f"warning: {folder}: {count}, because rcnn cannot read {endings}; convert to PNG or JPEG")
    if not found:
        raise ValueError(f"{folder} contains no images; for images in subfolders, use a pattern such as 'DIR/**/*.jpg'")
    return found


def _listed(text: str, folder: Path, source: str) -> list[Path]:
    """Return the paths in `text`, relative to `folder` or, if not found there, to the current folder.

    If the text contains zeros, as the output of find -print0 does, each zero ends a path, which may contain any
    character. Otherwise, there is one path on each line.
    """
    names = text.split("\0") if "\0" in text else [line.strip(" \t\r") for line in text.split("\n")]
    found = [path if (path := folder / name).exists() else Path(name) for name in names if name.strip()]
    if not found:
        raise ValueError(f"{source} contains no paths of images")
    return found
