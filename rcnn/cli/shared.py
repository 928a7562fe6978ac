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

ERROR = 2  # exit status of an error
STANDARD_OUTPUT = "-"
INTERRUPTED = 130  # conventional exit status after Ctrl-C


def say(text: str) -> None:
    """Print a line above the progress bar; characters that the output cannot show are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def fail(error: BaseException | str) -> int:
    """Print an error as one line above the progress bar; return the exit status of an error."""
    text = " ".join(_message(error).split()) or type(error).__name__
    tqdm.write(f"rcnn: {text}", file=sys.stderr)
    return ERROR


def _message(error: BaseException | str) -> str:
    """Return the message of an error; for an OSError the file and the reason, without the error number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def check_file(option: str, file: str | Path | None) -> None:
    """Raise OSError if the file of an option cannot be written, so that the error comes before the work."""
    if file is None or file == STANDARD_OUTPUT:
        return
    if Path(file).is_dir():
        raise IsADirectoryError(f"{option} must name a file, got the folder {file}")
    if not Path(file).parent.is_dir():
        raise FileNotFoundError(f"{option} {file}: folder {Path(file).parent} not found")


def write_figure(path: Path, figure: Any) -> None:
    """Write a matplotlib figure as a PNG file, atomically."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(path, drawn.getvalue())


def load_weights(source: str) -> FasterRCNN:
    """Return the detector of a file, of "coco", or of a run's folder (its best weights, otherwise its last).

    Raise FileNotFoundError for a folder with neither, and the errors of `load_detector`.
    """
    folder = Path(source)
    if source == "coco" or not folder.is_dir():
        return load_detector(source)
    for name in (BEST, WEIGHTS):
        if (folder / name).is_file():
            return load_detector(folder / name)
    raise FileNotFoundError(f"{folder} is not the folder of a run: neither {BEST} nor {WEIGHTS} found")
