"""Functions that read regular files, write files atomically, and check that a folder is empty."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Collection, Iterable
from io import BufferedReader
from pathlib import Path

from rcnn._validate import shown

MOST_CHARACTERS = 4096  # of a path; this is the limit on Linux, and other systems have lower limits
_NAME_LENGTH = 40  # the name of a temporary file repeats at most this many characters
_OPEN_FILES = re.compile(r"/dev/fd|/proc/\d+/(task/\d+/)?fd")  # folders with an entry for each open file of a process


def check_path(path: object, name: str = "path") -> str:
    """Return a path as a string. Raise TypeError if it is not a path, and ValueError if no system allows such a path.

    `name` is the name of the argument. An integer is refused, because Python would use it as the number of an open
    file.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, got {shown(path)}")
    if len(text) > MOST_CHARACTERS or "\0" in text:
        raise ValueError(
            f"{name} must have at most {MOST_CHARACTERS:,} characters and no null character, got {shown(path)}"
        )
    return text


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is a file, a folder or a link. A broken link also counts.

    Unlike os.path.lexists, this function raises PermissionError if the folder of the path cannot be searched.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Reading a pipe or a device may take forever, and even opening a device can have an effect. Therefore, the type is
    checked before the file is opened. It is checked again afterwards, because the file may have been replaced. For any
    other type of file, raises OSError with `path` in the message.
    """
    check_regular(path)
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _check_type(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe may have taken the place of the file


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless `path` is a regular file or a link to one. The message contains `path`.

    Also raises the errors of `check_path`.
    """
    check_path(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: file not found") from None
    _check_type(found, path)


def _check_type(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a folder, but a file is required")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is {_type(found)}, but a regular file is required")


def _type(found: os.stat_result) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a disk"}
    return kinds.get(stat.S_IFMT(found.st_mode), "a special file")


def read_whole(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises the errors of `open_regular`, and ValueError if the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path} has {size:,} bytes, but the limit is {most:,} bytes")
        content = file.read(size + 1)
    if len(content) > size:  # /proc contains such files
        raise ValueError(f"{path} contains more bytes than the system reports ({size:,})")
    return content


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """Return the text of a regular file of at most `most` bytes, without a byte order mark.

    The encoding is UTF-8, or UTF-16 with a byte order mark. Line breaks are not converted. Raises the errors of
    `read_whole`, and ValueError, with `path` in the message, if the file has another encoding.
    """
    return decode_text(read_whole(path, most), path)


def decode_text(content: bytes, path: str | os.PathLike[str]) -> str:
    """Return the text of a file, given its content; see `read_text`. `path` is only used in the message of an error."""
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; save the file as UTF-8") from error


def write_whole(path: str | os.PathLike[str], content: bytes | Iterable[bytes], flush: bool = True) -> None:
    """Write `content`, in one or several parts, to a temporary file, flush it to the disk, and rename it to `path`.

    Only a regular file is replaced. If `path` is a link, the file that it points to is replaced, and the link remains.
    If `path` is a pipe or a character device such as /dev/null, `content` is written to it. Another process must read
    from the pipe. If `path` stands for an open file, such as /dev/stdout, `content` is appended to this file. A folder,
    a socket or a disk is refused.

    Without `flush`, the operating system decides when to write the file to the disk. This is faster for thousands of
    files. If writing fails, an existing file at `path` is unchanged. Raises OSError with `path` in the message, and the
    errors of `check_path`.
    """
    check_path(path)
    parts = [content] if isinstance(content, bytes) else content
    try:
        stream = _stream_status(path)
        if stream is None:
            _replace(Path(os.path.realpath(path)), parts, flush)
        else:
            _write_through(path, parts, stream)
    except OSError as error:  # its message may contain the temporary file, or no file if the disk is full
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError, with `path` in the message, if `write_whole` cannot write to `path`.

    A pipe stays open until this process ends, because its reader would stop at the first closing.
    """
    try:
        stream = _stream_status(path)
        if stream is None:
            with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
                pass
        else:
            descriptor = _open_stream(path, stream)
            if not stat.S_ISFIFO(stream.st_mode):
                os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, like `write_whole`. Raise ValueError if it contains a name that is not UTF-8."""
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        line = text.split("\n")[text.count("\n", 0, error.start)]
        raise ValueError(
            f"{path} must be UTF-8 text, but got the line {shown(line)}; rename the file or folder"
        ) from error
    write_whole(path, content)


def _replace(target: Path, parts: Iterable[bytes], flush: bool) -> None:
    temporary = target.with_name(f"{_prefix(target.name)}{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)  # the system subtracts the umask
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):  # a new file
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is a pipe or a device, or stands for an open file; if so, writing replaces no file."""
    found = _stream_status(path)
    return found is not None and not stat.S_ISDIR(found.st_mode)


def _stream_status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the status of `path`, or None if it is missing or a regular file, which `write_whole` replaces."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(found.st_mode) and not _is_open_file(path) else found


def _is_open_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path such as /dev/stdout, or a link to it, stands for an open file, which must not be replaced.

    Such a path leads to an entry of the folder of open files, which is a link itself, for example to a regular file.
    """
    step = os.path.abspath(path)
    while True:
        folder = os.path.realpath(os.path.dirname(step))
        if _OPEN_FILES.fullmatch(folder):
            return True
        step = os.path.join(folder, os.path.basename(step))
        if not os.path.islink(step):
            return False
        step = os.path.join(folder, os.readlink(step))


def _open_stream(path: str | os.PathLike[str], found: os.stat_result) -> int:
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISREG(mode)):
        raise OSError(errno.EINVAL, f"cannot write to {_type(found)}")
    try:  # without O_NONBLOCK, opening a pipe would wait until somebody reads from it
        return os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "no process reads from this pipe") from error
        raise


def _write_through(path: str | os.PathLike[str], parts: Iterable[bytes], found: os.stat_result) -> None:
    with os.fdopen(_open_stream(path, found), "wb") as file:
        os.set_blocking(file.fileno(), True)
        file.writelines(parts)


def _prefix(name: str) -> str:
    return f".{name[:_NAME_LENGTH]}."


def remove_temporary(folder: Path, names: Collection[str]) -> None:
    """Remove temporary files from `folder`: those of processes that were killed while they wrote a file in `names`."""
    prefixes = "|".join(re.escape(_prefix(name)) for name in names)
    for entry in os.listdir(folder):
        if re.fullmatch(rf"(?:{prefixes})[0-9a-f]{{8}}\.tmp", entry):
            (folder / entry).unlink(missing_ok=True)


def remove_regular(path: Path) -> None:
    """Remove a regular file if there is one. Raise OSError if `path` is of another type, such as a link or a pipe."""
    if os.path.lexists(path):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(f"{path} was not removed, because it is not a regular file")
        path.unlink()


def check_free(folder: Path) -> None:
    """Raise OSError unless `folder` is missing or empty."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, but a folder is required")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose a new folder")
