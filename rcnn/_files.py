"""Writing files atomically, and checking that a folder is empty."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes, flush: bool = True) -> None:
    """Write a file next to its target, flush it to the disk and rename it over the target.

    Without `flush`, the system decides when the disk gets the file, which is faster for thousands of files. Raises
    OSError that names the target; the target is then unchanged.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes the file private
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):  # it names the temporary file, or no file if the disk is full
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def check_free(folder: Path) -> None:
    """Raise OSError unless `folder` is missing or empty."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder is expected")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
