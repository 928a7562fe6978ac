"""Functions that all commands share, for messages, exit statuses, output files and loading a detector."""

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

ERROR = 2  # exit status of an error
STANDARD_OUTPUT = "-"
INTERRUPTED = 130  # conventional exit status after Ctrl-C


def say(text: str) -> None:
    """Print a line above the progress bar, and escape characters that the output encoding does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def fail(error: BaseException | str) -> int:
    """Print an error as one line above the progress bar; return the exit status of an error."""
    text = " ".join(_message(error).split()) or type(error).__name__
    tqdm.write(f"rcnn: {text}", file=sys.stderr)
    return ERROR


def _message(error: BaseException | str) -> str:
    """Return the message of an error; for an OSError, only the file and the reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def check_file(option: str, file: str | Path | None) -> None:
    """Raise OSError if the file of an option cannot be written; call this before the long computation."""
    if file is None or file == STANDARD_OUTPUT:
        return
    if Path(file).is_dir():
        raise IsADirectoryError(f"{option} must name a file, got the folder {file}")
    if not Path(file).parent.is_dir():
        raise FileNotFoundError(f"{option} {file}: folder {Path(file).parent} not found")


def write_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure to a PNG file, either completely or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(path, drawn.getvalue())


def load_weights(source: str) -> FasterRCNN:
    """Return the detector from a weights file, from "coco", or from the folder of a run.

    From a run, load the best weights if there are any, otherwise the last weights. Raise FileNotFoundError if the
    folder contains no weights. Also raise the errors of `load_detector`.
    """
    folder = Path(source)
    if source == "coco" or not folder.is_dir():
        return load_detector(source)
    for name in (BEST, WEIGHTS):
        if (folder / name).is_file():
            return load_detector(folder / name)
    raise FileNotFoundError(f"{folder} is not the folder of a run: it contains neither {BEST} nor {WEIGHTS}")
