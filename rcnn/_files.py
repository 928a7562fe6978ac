"""Files that appear whole or not at all, and folders that hold nothing yet."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes, flush: bool = True) -> None:
    """Writes a file beside its target, flushes it to the disk and renames it over the target.

    Raises OSError that names the target, which is then as it was.

    flush: False leaves it to the system when the disk has it, which is faster where there are thousands of files.
    """
    target = Path(path)
    descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())  # mkstemp makes it private; a new file usually is not
        os.replace(beside, target)
    except BaseException as error:
        Path(beside).unlink(missing_ok=True)
        if isinstance(error, OSError):  # which names the file beside, or, for a full disk, none at all
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def check_free(folder: Path) -> None:
    """Nothing where `folder` is new or empty; else an OSError that says what is in the way."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder is expected")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
