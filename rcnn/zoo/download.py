"""Published weights by name: torchvision's files, fetched once into the user's cache.

The first eight hex digits of a file's SHA-256 are part of its name. A file is checked against them when it has come and
each time it is asked for, which takes a fraction of the second that reading it takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import textwrap
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from tqdm import tqdm

BASE = "https://download.pytorch.org/models/"
FILES = {
    "coco": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",  # the detector; those below are classifiers of ImageNet, V1
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
}
MAX_SIZE = 1 << 28  # bytes, half as much again as the largest of these files: an endless answer shall not fill the disk
CHUNK = 1 << 20  # bytes
TRIES = 5  # requests in one call of `fetch`, where the line keeps breaking
POLL = 0.1  # seconds between two looks at a lock


class DownloadError(OSError):
    """A published file that could not be fetched; the message says why, and which file to put where by hand."""


def fetch(name: str, *, base: str = BASE, timeout: float = 30.0, progress: bool = True) -> Path:
    """The path of a published file in the user's cache; what is not there yet, or is damaged, is downloaded first.

    Until it is whole and checked, the file is called NAME.part. Where the line broke or Ctrl-C came between, the next
    call goes on from there. Of several processes that want one file, one fetches it and the others wait.

    Args:
        name: "coco" is the detector, "resnet18", "resnet34", "resnet50" and "resnet101" are ImageNet's classifiers.
        base: the address that the file's name is appended to.
        timeout: seconds without a byte after which the line counts as broken.
        progress: whether to show a bar.

    Raises ValueError for an unknown name or an unfit argument, and DownloadError for everything that goes wrong on the
    way: no network, an answer such as 404, a file whose hash is wrong, a cache that cannot be written.
    """
    if name not in FILES:
        raise ValueError(f"there are no published weights {name!r}; there are: {', '.join(FILES)}")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ValueError(f"base must be an http or https address, not {base!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
    url = f"{base.rstrip('/')}/{FILES[name]}"
    target = cache_folder() / FILES[name]
    part = target.with_name(f"{target.name}.part")
    try:
        if not is_published(target, name):  # a cache that is complete need not be writable
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.with_name(f"{target.name}.lock"), progress):
                _put(target, part, name, url, timeout, progress)
    except _LineError as error:
        kept = "what has come is kept, and the next try goes on from there; " if _size(part) else ""
        raise DownloadError(
            f"cannot fetch {url}: {error}; {kept}a copy from elsewhere will do: put it at {target}"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot keep {url} as {target}: {error}; the environment variable RCNN_CACHE may name another folder"
        ) from error
    return target


def is_published(path: str | os.PathLike[str], name: str) -> bool:
    """Whether the file at `path`, whatever it is called, is the published one: whether its hash is. False without one.

    Raises OSError where it cannot be read.
    """
    try:
        return digest(path).startswith(_hash_in_name(name))
    except FileNotFoundError:
        return False


def is_coco(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the published detector "coco", which has something about it that the file does not say."""
    return is_published(path, "coco")


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as 64 hex digits. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """The folder for published files: $RCNN_CACHE, or `rcnn` in $XDG_CACHE_HOME or in the system's place for caches.

    It need not exist. Raises DownloadError where the user has no home and no variable names a folder.
    """
    try:
        if own := os.environ.get("RCNN_CACHE"):
            return Path(own).expanduser()
        if caches := os.environ.get("XDG_CACHE_HOME"):
            return Path(caches).expanduser() / "rcnn"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "rcnn"
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "rcnn"
    except RuntimeError as error:  # a user without a home, as in many containers
        raise DownloadError(
            f"there is no folder for downloads: {error} The environment variable RCNN_CACHE may name one"
        ) from error


# ---------------------------------------------------------------------- one file


class _LineError(Exception):
    """What went wrong between us and the server, in words; `status` is that of an answer which is an error."""

    def __init__(self, text: str, status: int | None = None) -> None:
        printable = "".join(letter if letter.isprintable() else " " for letter in text)  # some of it is the server's
        super().__init__(textwrap.shorten(printable, 300))
        self.status = status


def _put(target: Path, part: Path, name: str, url: str, timeout: float, progress: bool) -> None:
    """Downloads `target` by way of `part`, unless another process has done so while this one waited for the lock."""
    if is_published(target, name):
        return
    if target.exists():
        warnings.warn(f"{target} is damaged, for its hash is not the one in its name: fetching it anew", stacklevel=3)
    _complete(part, name, url, timeout, progress)
    os.replace(part, target)


def _complete(part: Path, name: str, url: str, timeout: float, progress: bool) -> None:
    """Makes `part` the published file, with as many requests as a breaking line takes. Raises _LineError.

    It goes on while that helps: after a try that brought something, and once from the beginning where an earlier piece
    may be what spoiled the hash. A part that cannot become the file is removed, any other is left for the next time.
    """
    for left in reversed(range(TRIES)):
        start, problem = _size(part), None
        try:
            _receive(part, start, url, timeout, progress)
        except _LineError as error:
            problem = error
        if is_published(part, name):  # even after a problem: a length may have been announced that is too long
            return
        if problem:
            helped = _size(part) > start
        else:
            problem = _LineError(
                f"the SHA-256 of what comes is {digest(part)}, and should begin with {_hash_in_name(name)}"
            )
            part.unlink()
            helped = start > 0
        if not (helped and left):
            raise problem


def _receive(part: Path, start: int, url: str, timeout: float, progress: bool) -> None:
    """Appends to `part`, which has `start` bytes, the rest of the file; replaces it where the server sends all.

    It returns when the server has no more to give. Raises _LineError where the line broke or the answer is an error;
    what came before is in `part`.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "rcnn"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with _line_errors(timeout):
            response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except _LineError as error:
        if start and error.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the file ends where `part` does, or before
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            if start:
                return  # then without ranges
            raise _LineError("the server sends a part of the file, where all of it was asked for")
        size = None if response.length is None else response.length + (start if resumed else 0)
        if size is not None and size > MAX_SIZE:
            raise _LineError(f"the server announces {size} bytes, and no published file has so many")
        with open(part, "ab" if resumed else "wb") as file:
            _copy(response, file, size, timeout, progress)
            file.flush()
            os.fsync(file.fileno())


def _copy(response: Any, file: IO[bytes], size: int | None, timeout: float, progress: bool) -> None:
    """Writes the body of the response to the end of `file`, which then shall have `size` bytes. Raises _LineError."""
    done = file.tell()
    with tqdm(
        desc=Path(file.name).stem,
        total=size,
        initial=done,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None if progress else True,
        dynamic_ncols=True,
    ) as bar:
        while done <= MAX_SIZE:  # what is longer ends here, and fails by its hash
            with _line_errors(timeout):
                piece = response.read1(CHUNK)  # what has come; read() would lose it when the line breaks
            if not piece:
                break
            file.write(piece)
            done += len(piece)
            bar.update(len(piece))
    if size is not None and done < size:
        raise _LineError(f"the line broke after {done} of {size} bytes")


def _size(path: Path) -> int:
    """The file's length in bytes, 0 where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _hash_in_name(name: str) -> str:
    """The first hex digits of the SHA-256 of a published file."""
    return Path(FILES[name]).stem.rpartition("-")[2]


# ---------------------------------------------------------------------- the network


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the same kind of address or to https. urllib by itself would go from https to http, or to ftp."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in (req.type, "https"):
            raise HTTPError(newurl, code, f"{msg} - Redirection to url {newurl!r} is not allowed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _line_errors(timeout: float) -> Iterator[None]:
    """Turns whatever the network raises within it into a _LineError that says what happened."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _LineError(f"the server answers {error.code} {error.reason}", error.code) from error
    except URLError as error:
        raise _LineError(f"no connection ({error.reason})") from error
    except TimeoutError as error:
        raise _LineError(f"nothing came for {timeout:g} seconds") from error
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        # ValueError and OverflowError: a redirect to what is no address, or to port 99999999999999999999
        raise _LineError(f"the line broke ({error or type(error).__name__})") from error


# ---------------------------------------------------------------------- one at a time


@contextlib.contextmanager
def _locked(path: Path, progress: bool) -> Iterator[None]:
    """Lets one process or thread in at a time. The system frees the lock of one that dies.

    The empty file stays: were it removed, one could lock the old file and another a new one of the same name.
    """
    with open(path, "ab") as file:
        if not _try_lock(file):
            if progress:
                print(f"waiting for another process that fetches {path.stem}", file=sys.stderr)
            while not _try_lock(file):
                time.sleep(POLL)
        yield  # closing the file frees the lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        """Whether the lock is ours now."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        """Whether the lock is ours now."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
