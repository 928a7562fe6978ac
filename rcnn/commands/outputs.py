"""The files that commands write."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rcnn.files import write_whole

STANDARD_OUTPUT = "-"


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
