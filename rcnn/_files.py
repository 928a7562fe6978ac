"""Functions that write a file atomically and check that a folder is empty."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes, flush: bool = True) -> None:
    """Write `content` to a temporary file, flush it to the disk, and rename the file to `path`.

    Without `flush`, the operating system decides when to write the file to the disk. This is faster for thousands of
    files. If writing fails, `path` is unchanged, and the message of the OSError names `path`.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp creates a file that only its owner can read
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):  # the error names the temporary file; if the disk is full, it names none
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def check_free(folder: Path) -> None:
    """Raise OSError unless `folder` is missing or empty."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but a folder is required")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose a new folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
