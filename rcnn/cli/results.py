"""The outputs of `rcnn detect`, which are written while the command works or at its end; only counts stay in memory.

The file of --jsonl has one line for each image. Beside it, the command writes the settings that determine the
detections, so that --resume can refuse to continue the file with other weights or options.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnn._files import exists, is_stream, open_regular, read_whole, write_whole
from rcnn.cli.annotations import FOLDERS, Entry, Folder, csv_rows, name_of
from rcnn.cli.photos import DETECTION_OPTIONS
from rcnn.cli.shared import STANDARD_OUTPUT
from rcnn.model import FasterRCNN

FIRST_KEY = b'{"file": "'  # the start of each JSON line
AT_THE_END = ("json", "csv", *FOLDERS)  # options for outputs that a run cannot continue
SETTINGS = ".settings.json"  # added to the name of the file of --jsonl
MOST_SETTINGS = 1 << 16  # bytes of this file


class Results:
    """The outputs of a command.

    Parameters
    ----------
    options : Namespace
        The options of the command. The files that they name were checked.
    model : FasterRCNN
        The detector.
    files : iterable of Path
        The images.
    """

    def __init__(self, options: argparse.Namespace, model: FasterRCNN, files: Iterable[Path]) -> None:
        self.json, self.csv = options.json, options.csv
        class_names = model.config.class_names or ()
        self.folders = [Folder(path, kind, class_names) for kind in FOLDERS if (path := getattr(options, kind))]
        self.lines = Lines(options, model, files) if options.jsonl else None
        # The entries for --json and --csv, which are written at the end: one line of JSON for each.
        self._entries: IO[str] | None = (
            tempfile.TemporaryFile("w+", encoding="ascii") if options.json or options.csv else None  # noqa: SIM115
        )
        self._has_frames = False
        self.count = self._with_any = 0  # images or frames, and those with at least one detection
        self._objects, self._images = Counter[str](), Counter[str]()  # for each class

    @property
    def finished(self) -> frozenset[Path]:
        """The images whose results an earlier run has written."""
        return frozenset() if self.lines is None else self.lines.finished

    def add(self, entry: Entry, shown: Sequence[Entry], frame: np.ndarray | None = None) -> None:
        """Add the entry of an image or of a frame (H, W, 3), and its detections above the minimum score."""
        for folder in self.folders:
            folder.add(entry, shown, frame)
        if self.lines is not None:
            self.lines.add(entry)
        if self._entries is not None:
            self._entries.write(json.dumps([entry, shown]) + "\n")
        self._has_frames |= "frame" in entry
        self.count += 1
        self._with_any += bool(shown)
        names = [name_of(found) for found in shown]
        self._objects.update(names)
        self._images.update(set(names))

    def add_error(self, file: Path, message: str) -> None:
        """Add a file that has no result to the JSON lines."""
        if self.lines is not None:
            self.lines.add({"file": str(file), "error": message})

    def finish(self) -> None:
        """Write the files that are complete only at the end."""
        if self.json == STANDARD_OUTPUT:
            sys.stdout.writelines(self._as_json())
        elif self.json:
            write_whole(self.json, (part.encode() for part in self._as_json()))
        if self.csv:
            rows = csv_rows(self._stored(), self.csv, self._has_frames)
            write_whole(self.csv, (row.encode(errors="backslashreplace") for row in rows))
        if self.lines is not None:
            self.lines.close()

    def table(self, min_score: float, unit: str) -> str:
        """Return a table with two numbers for each class: its detections, and the images or frames with any."""
        width = max(12, *map(len, self._objects)) if self._objects else 12
        lines = [f"detections above a score of {min_score:g}:", f"{'class':<{width}} {'detections':>10} {unit:>7}"]
        lines += [f"{name:<{width}} {count:>10} {self._images[name]:>7}" for name, count in self._objects.most_common()]
        total = self._objects.total()
        return "\n".join([*lines, f"{'all':<{width}} {total:>10} {self._with_any:>7} of {self.count}"])

    def _stored(self) -> Iterator[tuple[Entry, list[Entry]]]:
        """Yield each entry with its detections above the minimum score."""
        assert self._entries is not None  # finish() calls this for --json and --csv alone
        self._entries.seek(0)
        for line in self._entries:
            entry, shown = json.loads(line)
            yield entry, shown

    def _as_json(self) -> Iterator[str]:
        """Yield the parts of a JSON list with all entries."""
        separator = "[\n"
        for entry, _ in self._stored():
            text = json.dumps([entry], indent=1)
            yield separator + text.removeprefix("[\n").removesuffix("\n]")
            separator = ",\n"
        yield "[]\n" if separator == "[\n" else "\n]\n"


class Lines:
    """A file of JSON lines, to which each result is added at once.

    Parameters
    ----------
    options : Namespace
        The options of the command: `jsonl` is the path of the file, or "-" for standard output. With `resume`, the file
        of an earlier run is continued, if there is one.
    model : FasterRCNN
        The detector.
    files : iterable of Path
        The images.

    Attributes
    ----------
    finished : frozenset of Path
        The images that have a result in the file of an earlier run.

    Raises
    ------
    FileExistsError
        If the file exists and the command does not resume it.
    FileNotFoundError
        If the settings of the earlier run are missing.
    ValueError
        If the file is not one of an earlier run, or if this run had other weights or options.
    """

    def __init__(self, options: argparse.Namespace, model: FasterRCNN, files: Iterable[Path]) -> None:
        self.finished: frozenset[Path] = frozenset()
        self._file: IO[Any] = sys.stdout
        self._path = path = options.jsonl
        if path == STANDARD_OUTPUT:
            return
        if not is_stream(path):
            settings = _settings(options, model)
            if not exists(path) or not os.path.getsize(path):
                write_whole(path + SETTINGS, json.dumps(settings, indent=1).encode() + b"\n")
            elif options.resume:
                _check_settings(path, settings)
                self.finished = _continue(path, files)
            else:
                raise FileExistsError(f"--jsonl {path} exists; continue it with --resume, or choose another file")
        self._file = open(path, "a", encoding="ascii")  # noqa: SIM115

    def add(self, entry: Entry) -> None:
        """Write a line, so that it is in the file even if the process is killed afterwards."""
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # closing writes the rest of the line, which fails again
                self.close()
            raise OSError(error.errno, error.strerror, self._path) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not sys.stdout:
            self._file.close()


# ---------------------------------------------------------------------- resuming


def _settings(options: argparse.Namespace, model: FasterRCNN) -> dict[str, Any]:
    """Return the settings that determine the detections: the weights, as a name and as a digest, and the options."""
    chosen = {name: getattr(options, name) for name in DETECTION_OPTIONS}
    settings = {"weights": options.weights, "sha256": _digest(model), "options": chosen}
    as_read: dict[str, Any] = json.loads(json.dumps(settings))  # a tuple becomes a list
    return as_read


def _digest(model: FasterRCNN) -> str:
    """Return a digest of the weights and the settings of a detector."""
    digest = hashlib.sha256(json.dumps(model.config.settings()).encode())
    for name, array in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError if the run that wrote a file of JSON lines had other settings than this run."""
    file = path + SETTINGS
    if not exists(file):
        raise FileNotFoundError(
            f"{file}: file not found; rcnn detect --jsonl writes it, and without it, --resume cannot continue {path}"
        )
    try:
        saved = json.loads(read_whole(file, MOST_SETTINGS))
        weights, digest, options = saved["weights"], saved["sha256"], dict(saved["options"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{file} was not written by rcnn detect --jsonl; choose another file for --jsonl") from error
    changed = []
    if digest != settings["sha256"]:
        now = settings["weights"]
        changed.append(f"--weights {weights} has changed" if weights == now else f"--weights was {weights}, now {now}")
    for name, value in settings["options"].items():
        if options.get(name) != value:
            changed.append(f"--{name.replace('_', '-')} was {_shown(options.get(name))}, now {_shown(value)}")
    if changed:
        raise ValueError(
            f"cannot continue {path} with other settings: {', '.join(changed)}; use the same settings, or choose "
            "another file for --jsonl"
        )


def _shown(value: Any) -> str:
    """Return the value of an option for a message."""
    if value is None or isinstance(value, bool):
        return "set" if value else "not set"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _continue(path: str, files: Iterable[Path]) -> frozenset[Path]:
    """Prepare a file of JSON lines for more lines; return the images in `files` that have a result in it.

    Images without a result are tried again, so the lines with their errors are removed. An incomplete last line is
    removed, too.
    """
    images = {os.path.realpath(file): file for file in files}
    finished, removed = set[Path](), set[int]()
    for number, file, has_error in _read_lines(path):
        image = None if file is None else images.get(os.path.realpath(file))
        if file is None or (image is not None and has_error):
            removed.add(number)
        elif image is not None:
            finished.add(image)
    if removed:
        write_whole(path, _other_lines(path, removed))
    return frozenset(finished)


def _read_lines(path: str) -> Iterator[tuple[int, str | None, bool]]:
    """Yield the number of each JSON line, its file (None for an incomplete last line), and whether it has an error."""
    with open_regular(path) as lines:
        for number, line in enumerate(lines, start=1):
            start = line.rstrip(b"\0")[: len(FIRST_KEY)]  # zeros remain where a computer lost power
            if not line.endswith(b"\n") and FIRST_KEY.startswith(start):
                yield number, None, False  # the process was killed while it wrote this line
                return
            try:
                entry = json.loads(line)
                file = entry["file"]
                if not isinstance(file, str):
                    raise TypeError
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a line of rcnn detect --jsonl; if this line is damaged, delete it"
                ) from error
            yield number, file, "error" in entry


def _other_lines(path: str, removed: Container[int]) -> Iterator[bytes]:
    """Yield the lines of a file except those with the given numbers."""
    with open_regular(path) as lines:
        for number, line in enumerate(lines, start=1):
            if number not in removed:
                yield line
