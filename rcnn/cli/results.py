"""The outputs of `rcnn detect`. They are written while the command works, or at its end; only counts stay in memory."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnn._files import exists, is_stream, open_regular, write_whole
from rcnn.cli.annotations import FOLDERS, Entry, Folder, csv_rows, name_of
from rcnn.cli.shared import STANDARD_OUTPUT

FIRST_KEY = b'{"file": "'  # the start of each JSON line
AT_THE_END = ("json", "csv", *FOLDERS)  # options for outputs that a run cannot continue


class Results:
    """The outputs of a command.

    Parameters
    ----------
    options : Namespace
        The options of the command. The files that they name were checked.
    class_names : sequence of str
        The names of the classes, starting with the background.
    """

    def __init__(self, options: argparse.Namespace, class_names: Sequence[str]) -> None:
        self.json, self.csv = options.json, options.csv
        self.folders = [Folder(path, kind, class_names) for kind in FOLDERS if (path := getattr(options, kind))]
        self.lines = Lines(options.jsonl, options.resume) if options.jsonl else None
        # The entries for --json and --csv, which are written at the end: one line of JSON for each.
        self._entries: IO[str] | None = (
            tempfile.TemporaryFile("w+", encoding="ascii") if options.json or options.csv else None  # noqa: SIM115
        )
        self._has_frames = False
        self.count = self._with_any = 0  # images or frames, and those with at least one detection
        self._objects, self._images = Counter[str](), Counter[str]()  # for each class

    @property
    def finished(self) -> frozenset[str]:
        """The files whose results an earlier run has written."""
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
    path : str
        The file, or "-" for standard output.
    resume : bool
        If True, continue the file of an earlier run, if there is one.

    Raises
    ------
    FileExistsError
        If the file exists and `resume` is False.
    ValueError
        If the file is not one of an earlier run.
    """

    def __init__(self, path: str, resume: bool) -> None:
        self.finished: frozenset[str] = frozenset()
        self._file: IO[Any] = sys.stdout
        self._path = path
        if path == STANDARD_OUTPUT:
            return
        end = None
        if exists(path) and not is_stream(path) and os.path.getsize(path):
            if not resume:
                raise FileExistsError(f"--jsonl {path} exists; continue it with --resume, or choose another file")
            self.finished, end = _read_lines(path)
        self._file = open(path, "a", encoding="ascii")  # noqa: SIM115
        if end is not None:
            self._file.truncate(end)

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


def _read_lines(path: str) -> tuple[frozenset[str], int]:
    """Return the files in the JSON lines of an earlier run, and where its last complete line ends, in bytes."""
    files, end = set(), 0
    with open_regular(path) as lines:
        for number, line in enumerate(lines, start=1):
            start = line.rstrip(b"\0")[: len(FIRST_KEY)]  # zeros remain where a computer lost power
            if not line.endswith(b"\n") and FIRST_KEY.startswith(start):
                break  # the process was killed while it wrote this line
            try:
                file = json.loads(line)["file"]
                if not isinstance(file, str):
                    raise TypeError
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a line of rcnn detect --jsonl; if this line is damaged, delete it"
                ) from error
            files.add(file)
            end += len(line)
    return frozenset(files), end
