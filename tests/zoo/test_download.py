"""Downloads of published files: each one is complete or an error, whatever the server, the network or the user does."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import numpy as np
import pytest

from rcnn.zoo import download
from rcnn.zoo.download import DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(len(CONTENT))
FILE = f"small-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
DEADLINE = 10  # seconds; every test is much faster


# ---------------------------------------------------------------------- the server


class Server(ThreadingHTTPServer):
    """Server of `content` at any address; the next requests get `answers` instead."""

    daemon_threads = False  # so that `finish` can wait for them

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_port}/models/"
        self.content = CONTENT
        self.answers = []
        self.requested = []  # the Range of each request, None without one
        self.sent = []  # bytes of the file in each answer
        self.done = threading.Event()  # the test is over

    def finish(self):
        """Stop the server, and return when all answers have been sent."""
        self.done.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may disconnect at any time
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requested.append(self.headers["Range"])
        answer = self.server.answers.pop(0) if self.server.answers else rest()
        answer(self)
        self.close_connection = True

    def send(self, status, body=b"", headers=None, reason=None):
        """Send an answer; it announces its true length unless `headers` override that."""
        self.server.sent.append(len(body))
        self.send_response(status, reason)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments):
        pass


def rest(cut=None, stall=False):
    """Return an answer with the requested range; after `cut` bytes the connection breaks, or stalls."""

    def answer(handler):
        content = handler.server.content
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        if start >= len(content):
            handler.send(416, headers={"Content-Range": f"bytes */{len(content)}"})
            return
        part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        stop = None if cut is None else start + cut
        handler.send(206 if start else 200, content[start:stop], {"Content-Length": len(content) - start, **part})
        if stall:
            handler.server.done.wait(DEADLINE)

    return answer


def say(status, body=b"", headers=None, reason=None):
    """Return a fixed answer."""
    return lambda handler: handler.send(status, body, headers, reason)


def chunked(*chunks, end=b"0\r\n\r\n"):
    """Return an answer that announces the length of each chunk instead of the total length."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
    return say(200, body, {"Content-Length": None, "Transfer-Encoding": "chunked"})


def no_http(handler):
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(download.FILES, "small", FILE)
    monkeypatch.setitem(download.HASHES, "small", hashlib.sha256(CONTENT).hexdigest())
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.finish()
        thread.join()


@pytest.fixture
def target(tmp_path):
    """Path of the file in the cache; its folder exists."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / FILE


@pytest.fixture
def part(target):
    """Path of the incomplete file."""
    return target.with_name(f"{FILE}.part")


def get(server, timeout=DEADLINE, progress=False):
    return fetch("small", base=server.base, timeout=timeout, progress=progress)


def fails(server, message, target, **arguments):
    """Check that fetching fails with an error that names reason, address and target, and creates no target."""
    with pytest.raises(DownloadError, match=message) as caught:
        get(server, **arguments)
    assert str(target) in str(caught.value) and server.base + FILE in str(caught.value)
    assert not target.exists()
    return str(caught.value)


# ---------------------------------------------------------------------- successful downloads


def test_file_is_downloaded_once(server, tmp_path):
    path = get(server)
    assert path == tmp_path / "cache" / FILE
    assert path.read_bytes() == CONTENT
    assert get(server) == path
    assert server.requested == [None]
    assert {entry.name for entry in path.parent.iterdir()} == {FILE, f"{FILE}.lock"}


@pytest.mark.parametrize(
    "answer",
    [
        say(200, CONTENT, {"Content-Length": None}),
        say(200, CONTENT, {"Content-Length": "many"}),
        chunked(CONTENT[:1000], CONTENT[1000:]),
    ],
)
def test_length_need_not_be_announced(server, answer):
    server.answers = [answer]
    assert get(server).read_bytes() == CONTENT
    assert server.requested == [None]


def test_progress_bar_counts_resumed_bytes(server, part, capsys, monkeypatch):
    part.write_bytes(CONTENT[:100_000])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(server, progress=True)
    shown = capsys.readouterr().err
    assert FILE in shown and "97.7k/293k" in shown and "293k/293k" in shown


def test_without_progress_nothing_is_shown(server, capsys):
    get(server)
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------- broken connections


@pytest.mark.parametrize(
    "answer, timeout",
    [
        (rest(cut=1000), DEADLINE),
        (chunked(CONTENT[:1000], end=b""), DEADLINE),
        (chunked(CONTENT[:1000], end=b"not a length\r\n"), DEADLINE),
        (rest(cut=1000, stall=True), 0.2),
    ],
    ids=["truncated", "truncated chunks", "no chunks", "stalled"],
)
def test_broken_connection_is_resumed(server, target, answer, timeout):
    server.answers = [answer]
    assert get(server, timeout).read_bytes() == CONTENT
    assert server.requested == [None, "bytes=1000-"]
    assert server.sent[1] == len(CONTENT) - 1000


def test_connection_that_keeps_breaking_keeps_the_partial_file(server, target, part):
    server.answers = [rest(cut=1000)] * 5
    message = fails(server, "the connection broke after 5000 of 300000 bytes; the partial file is kept", target)
    assert part.read_bytes() == CONTENT[:5000], message
    assert get(server).read_bytes() == CONTENT
    assert server.requested == [None, *(f"bytes={start}-" for start in (1000, 2000, 3000, 4000, 5000))]
    assert not part.exists()


@pytest.mark.parametrize(
    "answer, message",
    [
        (rest(cut=0), "the connection broke after 0 of 300000 bytes"),
        (rest(cut=0, stall=True), "no data for 0.2 seconds"),
        (lambda handler: handler.server.done.wait(DEADLINE), "no data for 0.2 seconds"),
        (lambda handler: None, "the connection broke .*closed connection without response"),
        (no_http, "the connection broke .*220 mail.example.org"),
    ],
    ids=["nothing sent", "header alone", "no answer", "hung up", "not a web server"],
)
def test_attempt_without_data_is_not_repeated(server, target, answer, message):
    server.answers = [answer]
    assert "kept" not in fails(server, message, target, timeout=0.2)
    assert server.requested == [None]


def test_interrupted_download_is_resumed(server, target, part, monkeypatch):
    def interrupt(bar, n):
        raise KeyboardInterrupt

    server.answers = [rest(cut=200_000, stall=True)]
    with monkeypatch.context() as patch:
        patch.setattr(download.tqdm, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(server)
    assert not target.exists()
    kept = part.read_bytes()
    assert 0 < len(kept) <= 200_000 and CONTENT.startswith(kept)
    assert get(server).read_bytes() == CONTENT
    assert server.requested == [None, f"bytes={len(kept)}-"]
    assert server.sent[1] == len(CONTENT) - len(kept)


def run(server, *statements):
    """Start another process that fetches the file."""
    lines = [
        "import os",
        "from rcnn.zoo import download",
        f"download.FILES['small'] = {FILE!r}",
        f"download.HASHES['small'] = {hashlib.sha256(CONTENT).hexdigest()!r}",
        *statements,
        f"download.fetch('small', base={server.base!r}, progress=False)",
    ]
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)])


def test_dead_process_leaves_no_lock(server, target):
    server.answers = [rest(cut=200_000, stall=True)]
    process = run(server, "download.tqdm.update = lambda bar, n: os._exit(9)")
    assert process.wait(60) == 9
    assert not target.exists()
    assert get(server).read_bytes() == CONTENT


# ---------------------------------------------------------------------- resuming that fails


@pytest.mark.parametrize(
    "before, answers, ranges",
    [
        (CONTENT[:1000], [say(200, CONTENT)], ["bytes=1000-"]),
        (CONTENT, [], ["bytes=300000-"]),
        (CONTENT, [no_http], ["bytes=300000-"]),
        (CONTENT + b"more", [], ["bytes=300004-", None]),
        (OTHER[:1000], [], ["bytes=1000-", None]),
        (
            CONTENT[:1000],
            [say(206, CONTENT[999:], {"Content-Range": "bytes 999-299999/300000"})],
            ["bytes=1000-", None],
        ),
        (CONTENT[:1000], [say(206, CONTENT[1000:])], ["bytes=1000-", None]),
        (OTHER[:1000], [rest(cut=1000)], ["bytes=1000-", "bytes=2000-", None]),
    ],
    ids=[
        "server without ranges",
        "complete",
        "complete, no server",
        "too long",
        "of another file",
        "another range",
        "an unnamed range",
        "of another file, broken connection",
    ],
)
def test_any_existing_partial_file_is_handled(server, part, before, answers, ranges):
    part.write_bytes(before)
    server.answers = answers
    assert get(server).read_bytes() == CONTENT
    assert server.requested == ranges


@pytest.mark.parametrize("before, ranges", [(b"", [None]), (CONTENT[:1000], ["bytes=1000-", None])])
def test_wrong_hash_leaves_no_file(server, target, part, before, ranges):
    part.write_bytes(before)
    server.content = OTHER
    found, expected = (hashlib.sha256(content).hexdigest() for content in (OTHER, CONTENT))
    message = fails(server, f"the SHA-256 of the received file must be {expected}, got {found}", target)
    assert "kept" not in message
    assert server.requested == ranges
    assert not part.exists()


@pytest.mark.parametrize(
    "answers, message",
    [
        ([say(200, CONTENT, {"Content-Length": 299_999})], "the SHA-256"),
        ([say(200, CONTENT[:-1], {"Content-Length": None})], "the SHA-256"),
        ([say(204)], "the SHA-256"),
        ([say(416)], "the server responded 416"),
        ([say(206, CONTENT[1000:], {"Content-Range": "bytes 1000-299999/300000"})], "the server sent only a part"),
        ([say(200, CONTENT, {"Content-Length": 10**12})], "announced 1000000000000 bytes"),
        ([say(200, CONTENT, {"Content-Length": "9" * 4000})], "announced"),
    ],
    ids=[
        "length too short",
        "truncated, no length",
        "no content",
        "no range requested",
        "an unrequested range",
        "huge",
        "absurd",
    ],
)
def test_wrong_length_leaves_no_file(server, target, part, answers, message):
    server.answers = answers
    fails(server, message, target)
    assert server.requested == [None]
    assert not part.exists()


def test_announced_length_may_be_too_long(server):
    server.answers = [say(200, CONTENT, {"Content-Length": 300_001})]
    assert get(server).read_bytes() == CONTENT
    assert server.requested == [None]


def test_endless_answer_is_cut_off(server, target, part, monkeypatch):
    hung_up = []

    def pour(handler):  # much more than the network buffers hold
        handler.send(200, headers={"Content-Length": None})
        try:
            for _ in range(100):
                handler.wfile.write(OTHER)
        except ConnectionError:
            hung_up.append(True)

    monkeypatch.setattr(download, "MAX_SIZE", 10_000)
    server.answers = [pour]
    fails(server, "the SHA-256", target)
    assert not part.exists()
    server.finish()
    assert hung_up


# ---------------------------------------------------------------------- errors of the server


@pytest.mark.parametrize(
    "answer, message",
    [
        (say(404), "the server responded 404 Not Found"),
        (say(403, b"<html>"), "the server responded 403 Forbidden"),
        (say(500), "the server responded 500 Internal Server Error"),
        (say(503), "the server responded 503 Service Unavailable"),
        (say(404, reason="No\x1b[31m"), r"the server responded 404 No \[31m"),
    ],
)
@pytest.mark.parametrize("before", [b"", CONTENT[:1000]])
def test_error_of_the_server_is_reported(server, target, part, answer, message, before):
    part.write_bytes(before)
    server.answers = [answer]
    fails(server, message, target)
    assert part.read_bytes() == before
    assert len(server.requested) == 1


def test_error_without_a_network_names_the_address_and_the_target(server, target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        base = f"http://127.0.0.1:{free.getsockname()[1]}/models/"
        with pytest.raises(OSError) as caught:
            fetch("small", base=base, progress=False)
    assert isinstance(caught.value, DownloadError)
    text = str(caught.value)
    assert text.startswith(f"cannot download {base}{FILE}: no connection (")
    assert text.endswith(f"to install the file by hand, save it as {target}")
    target.write_bytes(CONTENT)
    assert fetch("small", base=base) == target


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_followed_with_the_same_range(server, part, status):
    part.write_bytes(CONTENT[:1000])
    server.answers = [say(status, headers={"Location": "/mirror/file"})]
    assert get(server).read_bytes() == CONTENT
    assert server.requested == ["bytes=1000-"] * 2
    assert server.sent == [0, len(CONTENT) - 1000]


@pytest.mark.parametrize(
    "location, message",
    [
        ("here", "would lead to an infinite loop"),
        ("file:///etc/hostname", "Redirection to url 'file:///etc/hostname' is not allowed"),
        ("ftp://127.0.0.1/file", "Redirection to url 'ftp://127.0.0.1/file' is not allowed"),
        ("data:,content", "Redirection to url 'data:,content' is not allowed"),
        ("http://[", "the connection broke"),
        ("http://127.0.0.1:port/", "the connection broke"),
        ("http://127.0.0.1:99999999999999999999/", "the connection broke"),
        ("http://a..b/", "the connection broke|no connection"),
        (None, "the server responded 302 Found"),
    ],
)
def test_invalid_redirect_is_refused(server, target, location, message):
    server.answers = [say(302, headers={"Location": location})] * 99
    fails(server, message, target)
    assert len(server.requested) <= 10


def test_redirect_does_not_leave_https():
    handler, secure = download._Redirects(), Request("https://example.org/a")
    arguments = (None, 302, "Found", {})
    assert handler.redirect_request(secure, *arguments, "https://example.org/b").full_url == "https://example.org/b"
    with pytest.raises(HTTPError, match="'http://example.org/b' is not allowed"):
        handler.redirect_request(secure, *arguments, "http://example.org/b")


# ---------------------------------------------------------------------- the cache


def test_damaged_file_is_downloaded_again(server, target):
    target.write_bytes(CONTENT[:-1])
    with pytest.warns(UserWarning, match=f"{FILE} is damaged") as warned:
        assert get(server).read_bytes() == CONTENT
    assert warned[0].filename == __file__  # the caller's


def test_damaged_file_is_kept_if_the_download_fails(server, target):
    target.write_bytes(CONTENT[:-1])
    server.answers = [say(404)]
    with pytest.warns(UserWarning, match=f"{FILE} is damaged"), pytest.raises(DownloadError, match="404"):
        get(server)
    assert target.read_bytes() == CONTENT[:-1]


@pytest.mark.parametrize("cache", ["file", "file/cache"])
def test_cache_that_is_a_file_is_refused(server, tmp_path, monkeypatch, cache):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RCNN_CACHE", str(tmp_path / cache))
    fails(server, "cannot save .*RCNN_CACHE to use another folder", tmp_path / cache / FILE)
    assert server.requested == []


@pytest.mark.parametrize(
    "where, step, code",
    [
        (os, "mkdir", errno.EACCES),
        (os, "fsync", errno.ENOSPC),
        (os, "replace", errno.EROFS),
        (download, "_try_lock", errno.ENOLCK),
    ],
)
def test_unwritable_cache_is_reported(server, tmp_path, monkeypatch, where, step, code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(where, step, fail)
    message = fails(server, "cannot save .*RCNN_CACHE to use another folder", tmp_path / "cache" / FILE)
    assert os.strerror(code) in message


def test_folder_in_place_of_the_file_is_reported(server, target):
    target.mkdir()
    with pytest.raises(DownloadError, match=f"cannot save .*{FILE}"):
        get(server)


@pytest.mark.parametrize("suffix", ["", ".part", ".lock"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_special_files_in_the_cache_are_refused(server, target, tmp_path, suffix, kind):
    """Another user of a shared cache could make this user overwrite, or believe, any file."""
    special, other = target.with_name(f"{FILE}{suffix}"), tmp_path / "other"
    if kind == "link":
        other.write_bytes(CONTENT)
    if kind.startswith("link"):
        special.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(special)
    else:
        special.mkdir()
    with pytest.raises(DownloadError, match=f"{special.name} is not a regular file; remove it"):
        get(server)
    assert server.requested == []
    assert other.exists() == (kind == "link") and (kind != "link" or other.read_bytes() == CONTENT)


def test_complete_cache_may_be_read_only(server, target, monkeypatch):
    target.write_bytes(CONTENT)
    monkeypatch.setattr(Path, "mkdir", None)
    monkeypatch.setattr(download, "_locked", None)
    assert get(server) == target
    assert server.requested == []


@pytest.mark.parametrize(
    "platform, variables, folder",
    [
        ("linux", {}, "home/.cache/rcnn"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/rcnn"),
        ("linux", {"XDG_CACHE_HOME": ""}, "home/.cache/rcnn"),
        ("linux", {"XDG_CACHE_HOME": "/caches", "RCNN_CACHE": "/chosen"}, "/chosen"),
        ("linux", {"RCNN_CACHE": "~/chosen"}, "home/chosen"),
        ("darwin", {}, "home/Library/Caches/rcnn"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/rcnn"),
        ("win32", {}, "home/AppData/Local/rcnn"),
        ("win32", {"LOCALAPPDATA": "/local", "RCNN_CACHE": "/chosen"}, "/chosen"),
    ],
)
def test_cache_folder_of_each_system(tmp_path, monkeypatch, platform, variables, folder):
    for name in ("RCNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", platform)
    assert download.cache_folder() == tmp_path / folder


def test_error_without_a_home_folder_names_the_variable(monkeypatch):
    monkeypatch.setenv("RCNN_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(DownloadError, match="RCNN_CACHE"):
        download.cache_folder()


# ---------------------------------------------------------------------- simultaneous downloads


@pytest.mark.parametrize("progress", [True, False])
def test_one_thread_downloads_while_the_others_wait(server, monkeypatch, capsys, progress):
    waiting, try_lock = threading.Barrier(5), download._try_lock
    thread = threading.local()

    def counted_try_lock(file):
        locked = try_lock(file)
        if not locked and not hasattr(thread, "counted"):
            thread.counted = True
            waiting.wait(DEADLINE)
        return locked

    def answer(handler):  # not before all others wait
        waiting.wait(DEADLINE)
        rest()(handler)

    monkeypatch.setattr(download, "_try_lock", counted_try_lock)
    monkeypatch.setattr(download, "POLL", 0.001)
    server.answers = [answer]
    with ThreadPoolExecutor(5) as pool:
        paths = list(pool.map(lambda _: get(server, progress=progress), range(5)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT
    assert server.requested == [None]
    assert capsys.readouterr().err.count(f"waiting for another process that is downloading {FILE}") == 4 * progress


def test_one_of_several_processes_downloads(server, target):
    processes = [run(server) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert server.requested == [None]


# ---------------------------------------------------------------------- names, hashes and arguments


def test_published_file_is_recognised_by_its_hash(tmp_path, monkeypatch):
    path = tmp_path / "renamed.bin"
    path.write_bytes(b"abc")
    assert download.digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    monkeypatch.setitem(download.HASHES, "coco", download.digest(path))
    assert download.is_published(str(path), "coco") and not download.is_published(path, "resnet18")
    assert not download.is_published(tmp_path / "absent", "coco")
    with pytest.raises(IsADirectoryError):
        download.is_published(tmp_path, "coco")
    assert not download.is_copy(path, "coco")  # too small
    monkeypatch.setitem(download.SIZES, "coco", 3 / 2**20)
    assert download.is_copy(path, "coco") and not download.is_copy(tmp_path / "absent", "coco")


def test_file_that_agrees_in_part_of_the_hash_is_not_the_published_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    almost = download.digest(path)[:63] + "e"
    monkeypatch.setitem(download.HASHES, "coco", almost)
    assert not download.is_published(path, "coco")


def test_every_name_has_a_whole_hash_that_starts_like_the_name():
    assert download.FILES.keys() == download.HASHES.keys() > download.DETECTORS.keys()
    for name, file in download.FILES.items():
        assert len(bytes.fromhex(download.HASHES[name])) == 32
        assert download.HASHES[name].startswith(Path(file).stem.rpartition("-")[2])


@pytest.mark.proof
def test_published_files_are_those_of_torchvision():
    from torchvision import models
    from torchvision.models import detection

    published = {
        "coco": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
        "resnet50_fpn_v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        "mobilenet_v3_large_fpn": detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
        "mobilenet_v3_large_320_fpn": detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        "mobilenet_v2": models.MobileNet_V2_Weights.IMAGENET1K_V1,
        "mobilenet_v3_large": models.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
    }
    for layers in (18, 34, 50, 101):
        published[f"resnet{layers}"] = getattr(models, f"ResNet{layers}_Weights").IMAGENET1K_V1
    assert {name: download.BASE + file for name, file in download.FILES.items()} == {
        name: weights.url for name, weights in published.items()
    }
    assert {name: published[name].meta["_file_size"] for name in download.SIZES} == download.SIZES


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "imagenet"}, "must be one of coco, .*, resnet18, .*, got 'imagenet'"),
        ({"base": "file:///models/"}, "base must be an http or https address, got 'file:///models/'"),
        ({"base": "models"}, "base must be"),
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"timeout": float("nan")}, "timeout must be"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch(**{"name": "coco", **arguments})
