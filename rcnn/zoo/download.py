"""Download of published weights: torchvision's files, stored once in the user's cache.

The whole SHA-256 hash of a file is checked after the download, and again each time the file is requested. This check is
much faster than reading the weights. Several users may share the cache folder. One of them could put a link to another
file there, so links in the folder are not followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import stat
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

from rcnn._files import open_regular

BASE = "https://download.pytorch.org/models/"
DETECTORS = {  # trained on COCO; for each, the function in `rcnn` that builds it
    "coco": "faster_rcnn_resnet_50_fpn",
    "resnet50_fpn_v2": "faster_rcnn_resnet_50_fpn_v2",
    "mobilenet_v3_large_fpn": "faster_rcnn_mobilenet_v3_large_fpn",
    "mobilenet_v3_large_320_fpn": "faster_rcnn_mobilenet_v3_large_320_fpn",
}
FILES = {  # of these detectors, and of ImageNet classifiers (V1)
    "coco": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
    "mobilenet_v3_large_fpn": "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
    "mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
}
# SHA-256 of these files. PyTorch publishes only the first eight digits, in the names of the files. The other digits are
# from independent projects, which publish them for their copies of the files.
HASHES = {
    "coco": "258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
    "resnet50_fpn_v2": "dd69338a24b8d7381807e247652bdc356325bcbaf1cd3e092e00e0a1a58706bf",
    "mobilenet_v3_large_fpn": "fb6a3cc702b1df54c18a44b26708cd083614211062d0c36d2ca7bf9270df3533",
    "mobilenet_v3_large_320_fpn": "907ea3f91ff92242bc1baea8049276a3e76bca48ce7560bd268cc029f37977b5",
    "mobilenet_v2": "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    "mobilenet_v3_large": "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
    "resnet18": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34": "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "resnet50": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
}
# Sizes in MiB, as torchvision states them. These detectors have settings that their files do not contain, so the files
# must be recognised. A file of another size is not hashed.
SIZES = {"coco": 159.743, "mobilenet_v3_large_320_fpn": 74.239}
MAX_SIZE = 1 << 28  # bytes, 1.5 times the largest of these files; the limit stops an endless response
CHUNK = 1 << 20  # bytes
TRIES = 5  # maximum number of requests in one call of `fetch`, if the connection keeps breaking
POLL = 0.1  # seconds between two attempts to take a lock


class DownloadError(OSError):
    """Failed download; the message gives the reason and what the user can do."""


def fetch(name: str, *, base: str = BASE, timeout: float = 30.0, progress: bool = True) -> Path:
    """Return the path of a published file in the user's cache; download it if it is missing or damaged.

    While the file is incomplete, its name ends with .part. If the connection breaks or the user presses Ctrl-C, the
    next call continues the download. If several processes request the same file, one process downloads it and the other
    processes wait. The cache folder may itself be a link, but the files in it must be regular files.

    Parameters
    ----------
    name : str
        The name of a detector (one of `DETECTORS`), or of an ImageNet classifier: "resnet18", "resnet34", "resnet50",
        "resnet101", "mobilenet_v2" or "mobilenet_v3_large".
    base : str
        Web address of the folder that contains the file.
    timeout : float
        Number of seconds without data after which the connection counts as broken.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the name is unknown, or the address or the timeout is invalid.
    DownloadError
        If the download fails, for example because there is no network, the server responds with an error such as 404,
        the hash is wrong, a file in the cache is a link or another special file, or the cache folder cannot be written
        to.
    """
    if name not in FILES:
        raise ValueError(f"name of published weights must be one of {', '.join(FILES)}, got {name!r}")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ValueError(f"base must be an http or https address, got {base!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
    url = f"{base.rstrip('/')}/{FILES[name]}"
    target = cache_folder() / FILES[name]
    part = target.with_name(f"{target.name}.part")
    try:
        _check_no_link(target)
        if not is_published(target, name):  # a complete file needs no lock, so the cache may be read-only
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.with_name(f"{target.name}.lock"), progress):
                _put(target, part, name, url, timeout, progress)
    except _NetworkError as error:
        kept = "the partial file is kept, and the next attempt continues it; " if _size(part) else ""
        raise DownloadError(
            f"cannot download {url}: {error}; {kept}to install the file by hand, save it as {target}"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot save {url} as {target}: {error}; set the environment variable RCNN_CACHE to use another folder"
        ) from error
    return target


def is_published(path: str | os.PathLike[str], name: str) -> bool:
    """Return True if a file has the SHA-256 hash of a published file; the name of the file does not matter.

    Parameters
    ----------
    path : path
        The file.
    name : str
        Name of the published weights, as in `fetch`.

    Returns
    -------
    bool
        True if the hash is the same; False if it differs or the file does not exist.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    """
    try:
        return digest(path) == HASHES[name]
    except FileNotFoundError:
        return False


def is_cached(name: str) -> bool:
    """Return True if a published file is in the user's cache.

    Parameters
    ----------
    name : str
        Name of the published weights, as in `fetch`.

    Returns
    -------
    bool
        True if `fetch` would return the file without a download.
    """
    try:
        target = cache_folder() / FILES[name]
        _check_no_link(target)
        return is_published(target, name)
    except OSError:
        return False


def is_copy(path: str | os.PathLike[str], name: str) -> bool:
    """Return True if a file is a copy of a published file that must be recognised; see `SIZES`.

    Parameters
    ----------
    path : path
        The file.
    name : str
        Name of the published weights, one of `SIZES`.

    Returns
    -------
    bool
        True if the size and the hash are the same.
    """
    size = _size(Path(path)) / (1 << 20)  # MiB
    return abs(size - SIZES[name]) < 1e-3 and is_published(path, name)


def digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 hash of a file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    str
        The hash, as 64 hex digits.

    Raises
    ------
    OSError
        If the file is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder in which downloaded files are cached.

    If the environment variable RCNN_CACHE is set, its value is the folder. Otherwise, the folder is `rcnn` in
    $XDG_CACHE_HOME or, if this variable is not set either, `rcnn` in the system's cache folder.

    Returns
    -------
    Path
        The folder; it may not exist yet.

    Raises
    ------
    DownloadError
        If the user has no home folder and neither variable is set.
    """
    try:
        if own := os.environ.get("RCNN_CACHE"):
            return Path(own).expanduser()
        if caches := os.environ.get("XDG_CACHE_HOME"):
            return Path(caches).expanduser() / "rcnn"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "rcnn"
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "rcnn"
    except RuntimeError as error:  # a user without a home folder, as in many containers
        raise DownloadError(
            f"no folder for downloads: {error} Set the environment variable RCNN_CACHE to a folder"
        ) from error


# ---------------------------------------------------------------------- one file


class _NetworkError(Exception):
    """Network error with a short message; `status` is the HTTP status of an error response."""

    def __init__(self, text: str, status: int | None = None) -> None:
        printable = "".join(letter if letter.isprintable() else " " for letter in text)  # the server wrote a part of it
        super().__init__(textwrap.shorten(printable, 300))
        self.status = status


def _put(target: Path, part: Path, name: str, url: str, timeout: float, progress: bool) -> None:
    """Download `part` and rename it to `target`, unless another process did so while this one waited for the lock."""
    _check_no_link(target)
    _check_no_link(part)
    if is_published(target, name):
        return
    if target.exists():
        warnings.warn(f"{target} is damaged: its hash is wrong; downloading it again", stacklevel=3)
    _complete(part, name, url, timeout, progress)
    os.replace(part, target)


def _complete(part: Path, name: str, url: str, timeout: float, progress: bool) -> None:
    """Complete `part` with at most TRIES requests; raise _NetworkError if that fails.

    If a request fails after it received some data, another request continues the download. If the complete file has a
    wrong hash, the file is removed. If a part of this file came from earlier requests, the download then starts again
    from the beginning. An incomplete file is kept for the next call.
    """
    for left in reversed(range(TRIES)):
        start, problem = _size(part), None
        try:
            _receive(part, start, url, timeout, progress)
        except _NetworkError as error:
            problem = error
        if is_published(part, name):  # true even after an error if the server announced too many bytes
            return
        if problem:
            helped = _size(part) > start
        else:
            problem = _NetworkError(f"the SHA-256 of the received file must be {HASHES[name]}, got {digest(part)}")
            part.unlink()
            helped = start > 0
        if not (helped and left):
            raise problem


def _receive(part: Path, start: int, url: str, timeout: float, progress: bool) -> None:
    """Append the rest of the file to `part`, which has `start` bytes; replace `part` if the whole file is sent.

    Raise _NetworkError if the connection breaks or the server responds with an error. `part` keeps the data that was
    received before the error.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "rcnn"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with _network_errors(timeout):
            response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except _NetworkError as error:
        if start and error.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # `part` is already as long as the file, or longer
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            if start:
                return  # the hash of `part` is then wrong, so the next request asks for the whole file
            raise _NetworkError("the server sent only a part of the file, but the whole file was requested")
        size = None if response.length is None else response.length + (start if resumed else 0)
        if size is not None and size > MAX_SIZE:
            raise _NetworkError(f"the server announced {size} bytes, but no published file is larger than {MAX_SIZE}")
        with open(part, "ab" if resumed else "wb", opener=_open_without_links) as file:
            _copy(response, file, size, timeout, progress)
            file.flush()
            os.fsync(file.fileno())


def _copy(response: Any, file: IO[bytes], size: int | None, timeout: float, progress: bool) -> None:
    """Append the body of the response to `file`; raise _NetworkError if the file then has fewer than `size` bytes."""
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
        while done <= MAX_SIZE:  # a longer response is cut here and fails the hash check
            with _network_errors(timeout):
                piece = response.read1(CHUNK)  # read() would lose received data if the connection breaks
            if not piece:
                break
            file.write(piece)
            done += len(piece)
            bar.update(len(piece))
    if size is not None and done < size:
        raise _NetworkError(f"the connection broke after {done} of {size} bytes")


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _check_no_link(path: Path) -> None:
    """Raise OSError if there is a link, a folder or a special file at `path`; another user may have put it there."""
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(f"{path} is not a regular file; remove it")


def _open_without_links(path: str, flags: int) -> int:
    """Open a file of the cache; raise OSError if it is a link. If it is a pipe, do not wait for its other end."""
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file; remove it")
    return descriptor


# ---------------------------------------------------------------------- the network


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Handler that refuses redirects from https to http or ftp, which urllib would follow."""

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
def _network_errors(timeout: float) -> Iterator[None]:
    """Convert every network error in this block into a _NetworkError."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _NetworkError(f"the server responded {error.code} {error.reason}", error.code) from error
    except URLError as error:
        raise _NetworkError(f"no connection ({error.reason})") from error
    except TimeoutError as error:
        raise _NetworkError(f"no data for {timeout:g} seconds") from error
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        # A redirect to an invalid address raises ValueError; port 99999999999999999999 raises OverflowError.
        raise _NetworkError(f"the connection broke ({error or type(error).__name__})") from error


# ---------------------------------------------------------------------- one at a time


@contextlib.contextmanager
def _locked(path: Path, progress: bool) -> Iterator[None]:
    """Hold a lock that excludes other processes and threads; the system frees it if the process dies.

    The empty lock file is never removed. Otherwise one process could lock the removed file while another process locks
    a new file with the same name.
    """
    _check_no_link(path)
    with open(path, "ab", opener=_open_without_links) as file:
        if not _try_lock(file):
            if progress:
                print(f"waiting for another process that is downloading {path.stem}", file=sys.stderr)
            while not _try_lock(file):
                time.sleep(POLL)
        yield  # closing the file frees the lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        """Try to take the lock; return True on success."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    try:
        import fcntl
    except ImportError:  # in a browser, which has one process
        fcntl = None  # type: ignore[assignment]

    def _try_lock(file: IO[bytes]) -> bool:
        """Try to take the lock; return True on success."""
        if fcntl is None:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
