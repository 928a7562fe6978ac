"""Shared by the commands: messages, exit statuses, output files and the loading of a detector."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rcnn._files import write_whole
from rcnn.model import FasterRCNN
from rcnn.train.run_folder import BEST, WEIGHTS
from rcnn.zoo.detectors import load_detector

ERROR = 2  # the exit status of what a user did wrong
STANDARD_OUTPUT = "-"
INTERRUPTED = 130  # that of a command that Ctrl-C ended, by convention


def say(text: str) -> None:
    """Prints a line, above a progress bar, with escapes for what the output cannot show, as names of files may have."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def fail(error: BaseException | str) -> int:
    """Says what is wrong in one line; gives the exit status of an error."""
    text = " ".join(_words(error).split()) or type(error).__name__
    tqdm.write(f"rcnn: {text}", file=sys.stderr)  # above a progress bar
    return ERROR


def _words(error: BaseException | str) -> str:
    """Return the text of an error; for an OSError the file and the reason, without the number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def check_file(option: str, file: str | Path | None) -> None:
    """Nothing, or, before any work is done, an OSError that names the option whose file cannot be written."""
    if file is None or file == STANDARD_OUTPUT:
        return
    if Path(file).is_dir():
        raise IsADirectoryError(f"{option} must name a file; {file} is a folder")
    if not Path(file).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {Path(file).parent} for {option} to write to")


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure as a PNG file, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(path, drawn.getvalue())


def load_weights(source: str) -> FasterRCNN:
    """The detector of a file of weights, of "coco", or of a run's folder: its best weights, or else its last.

    Raises FileNotFoundError for a folder without either, and what `load_detector` raises.
    """
    folder = Path(source)
    if source == "coco" or not folder.is_dir():
        return load_detector(source)
    for name in (BEST, WEIGHTS):
        if (folder / name).is_file():
            return load_detector(folder / name)
    raise FileNotFoundError(f"{folder} is no folder of a run: there is neither {BEST} nor {WEIGHTS} in it")
