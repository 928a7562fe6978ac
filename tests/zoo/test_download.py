"""Published files: fetched whole or not at all, whatever the server, the line or the user does meanwhile."""

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
DEADLINE = 10  # seconds that nothing here should come near


# ---------------------------------------------------------------------- the server


class Server(ThreadingHTTPServer):
    """Serves `content`, at any address. `answers` are given to the next requests instead."""

    daemon_threads = False  # so that one can wait for them

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_port}/models/"
        self.content = CONTENT
        self.answers = []
        self.asked = []  # the Range of each request, None without one
        self.sent = []  # bytes of the file in each answer
        self.done = threading.Event()  # the test is over

    def finish(self):
        """Returns when all answers have been given."""
        self.done.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may go at any time
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.headers["Range"])
        answer = self.server.answers.pop(0) if self.server.answers else rest()
        answer(self)
        self.close_connection = True

    def send(self, status, body=b"", headers=None, reason=None):
        """One answer; where `headers` do not say otherwise, its length is announced as it is."""
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
    """An answer: what is asked for. `cut`: no more than so many bytes, then the line breaks, or stalls."""

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
    """An answer that does not look at the request."""
    return lambda handler: handler.send(status, body, headers, reason)


def chunked(*chunks, end=b"0\r\n\r\n"):
    """An answer that does not announce its length, but the length of each piece."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
    return say(200, body, {"Content-Length": None, "Transfer-Encoding": "chunked"})


def no_http(handler):
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(download.FILES, "small", FILE)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.finish()
        thread.join()


@pytest.fixture
def target(tmp_path):
    """Where the file belongs; its folder is there."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / FILE


@pytest.fixture
def part(target):
    """Where it is before it is whole."""
    return target.with_name(f"{FILE}.part")


def get(server, timeout=DEADLINE, progress=False):
    return fetch("small", base=server.base, timeout=timeout, progress=progress)


def fails(server, message, target, **arguments):
    """Fetches in vain: the error says why, from where and where to, and nothing that is not the file has its name."""
    with pytest.raises(DownloadError, match=message) as caught:
        get(server, **arguments)
    assert str(target) in str(caught.value) and server.base + FILE in str(caught.value)
    assert not target.exists()
    return str(caught.value)


# ---------------------------------------------------------------------- all is well


def test_a_file_is_fetched_once(server, tmp_path):
    path = get(server)
    assert path == tmp_path / "cache" / FILE
    assert path.read_bytes() == CONTENT
    assert get(server) == path
    assert server.asked == [None]
    assert {entry.name for entry in path.parent.iterdir()} == {FILE, f"{FILE}.lock"}


@pytest.mark.parametrize(
    "answer",
    [
        say(200, CONTENT, {"Content-Length": None}),
        say(200, CONTENT, {"Content-Length": "many"}),
        chunked(CONTENT[:1000], CONTENT[1000:]),
    ],
)
def test_the_length_need_not_be_announced(server, answer):
    server.answers = [answer]
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_bar_shows_how_far_it_is(server, part, capsys):
    part.write_bytes(CONTENT[:100_000])
    get(server, progress=True)
    shown = capsys.readouterr().err
    assert FILE in shown and "97.7k/293k" in shown and "293k/293k" in shown


def test_without_progress_nothing_is_shown(server, capsys):
    get(server)
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------- the line breaks


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
def test_a_broken_line_is_taken_up_where_it_broke(server, target, answer, timeout):
    server.answers = [answer]
    assert get(server, timeout).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]
    assert server.sent[1] == len(CONTENT) - 1000


def test_a_line_that_keeps_breaking_leaves_what_has_come(server, target, part):
    server.answers = [rest(cut=1000)] * 5
    message = fails(server, "the line broke after 5000 of 300000 bytes; what has come is kept", target)
    assert part.read_bytes() == CONTENT[:5000], message
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={start}-" for start in (1000, 2000, 3000, 4000, 5000))]
    assert not part.exists()


@pytest.mark.parametrize(
    "answer, message",
    [
        (rest(cut=0), "the line broke after 0 of 300000 bytes"),
        (rest(cut=0, stall=True), "nothing came for 0.2 seconds"),
        (lambda handler: handler.server.done.wait(DEADLINE), "nothing came for 0.2 seconds"),
        (lambda handler: None, "the line broke .*closed connection without response"),
        (no_http, "the line broke .*220 mail.example.org"),
    ],
    ids=["nothing sent", "header alone", "no answer", "hung up", "not a web server"],
)
def test_what_brings_nothing_is_not_tried_again(server, target, answer, message):
    server.answers = [answer]
    assert "kept" not in fails(server, message, target, timeout=0.2)
    assert server.asked == [None]


def test_an_interrupted_download_goes_on_from_there(server, target, part, monkeypatch):
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
    assert server.asked == [None, f"bytes={len(kept)}-"]
    assert server.sent[1] == len(CONTENT) - len(kept)


def run(server, *statements):
    """Another process that fetches the file."""
    lines = [
        "import os",
        "from rcnn.zoo import download",
        f"download.FILES['small'] = {FILE!r}",
        *statements,
        f"download.fetch('small', base={server.base!r}, progress=False)",
    ]
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)])


def test_a_process_that_dies_leaves_no_lock(server, target):
    server.answers = [rest(cut=200_000, stall=True)]
    process = run(server, "download.tqdm.update = lambda bar, n: os._exit(9)")
    assert process.wait(60) == 9
    assert not target.exists()
    assert get(server).read_bytes() == CONTENT


# ---------------------------------------------------------------------- resuming that does not work out


@pytest.mark.parametrize(
    "before, answers, asked",
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
        "no ranges here",
        "whole already",
        "whole already, no server",
        "too long",
        "of another file",
        "another range",
        "an unnamed range",
        "of another file, broken line",
    ],
)
def test_what_was_there_before_does_no_harm(server, part, before, answers, asked):
    part.write_bytes(before)
    server.answers = answers
    assert get(server).read_bytes() == CONTENT
    assert server.asked == asked


@pytest.mark.parametrize("before, asked", [(b"", [None]), (CONTENT[:1000], ["bytes=1000-", None])])
def test_a_wrong_hash_leaves_nothing(server, target, part, before, asked):
    part.write_bytes(before)
    server.content = OTHER
    found, wanted = hashlib.sha256(OTHER).hexdigest(), FILE[6:14]
    message = fails(server, f"the SHA-256 of what comes is {found}, and should begin with {wanted}", target)
    assert "kept" not in message
    assert server.asked == asked
    assert not part.exists()


@pytest.mark.parametrize(
    "answers, message",
    [
        ([say(200, CONTENT, {"Content-Length": 299_999})], "the SHA-256"),
        ([say(200, CONTENT[:-1], {"Content-Length": None})], "the SHA-256"),
        ([say(204)], "the SHA-256"),
        ([say(416)], "the server answers 416"),
        ([say(206, CONTENT[1000:], {"Content-Range": "bytes 1000-299999/300000"})], "the server sends a part"),
        ([say(200, CONTENT, {"Content-Length": 10**12})], "announces 1000000000000 bytes"),
        ([say(200, CONTENT, {"Content-Length": "9" * 4000})], "announces"),
    ],
    ids=[
        "length too short",
        "truncated, no length",
        "no content",
        "no range asked",
        "a range unasked",
        "huge",
        "absurd",
    ],
)
def test_a_length_that_is_wrong_makes_no_file(server, target, part, answers, message):
    server.answers = answers
    fails(server, message, target)
    assert server.asked == [None]
    assert not part.exists()


def test_a_length_that_is_too_long_spoils_nothing(server):
    server.answers = [say(200, CONTENT, {"Content-Length": 300_001})]
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [None]


def test_an_answer_without_end_is_cut_off(server, target, part, monkeypatch):
    hung_up = []

    def pour(handler):  # much more than fits between the two
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


# ---------------------------------------------------------------------- the server will not


@pytest.mark.parametrize(
    "answer, message",
    [
        (say(404), "the server answers 404 Not Found"),
        (say(403, b"<html>"), "the server answers 403 Forbidden"),
        (say(500), "the server answers 500 Internal Server Error"),
        (say(503), "the server answers 503 Service Unavailable"),
        (say(404, reason="No\x1b[31m"), r"the server answers 404 No \[31m"),
    ],
)
@pytest.mark.parametrize("before", [b"", CONTENT[:1000]])
def test_an_error_of_the_server_is_told(server, target, part, answer, message, before):
    part.write_bytes(before)
    server.answers = [answer]
    fails(server, message, target)
    assert part.read_bytes() == before
    assert len(server.asked) == 1


def test_without_a_network_the_error_says_which_file_to_put_where(server, target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        base = f"http://127.0.0.1:{free.getsockname()[1]}/models/"
        with pytest.raises(OSError) as caught:
            fetch("small", base=base, progress=False)
    assert isinstance(caught.value, DownloadError)
    text = str(caught.value)
    assert text.startswith(f"cannot fetch {base}{FILE}: no connection (")
    assert text.endswith(f"a copy from elsewhere will do: put it at {target}")
    target.write_bytes(CONTENT)
    assert fetch("small", base=base) == target


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_followed_and_the_range_with_it(server, part, status):
    part.write_bytes(CONTENT[:1000])
    server.answers = [say(status, headers={"Location": "/mirror/file"})]
    assert get(server).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"] * 2
    assert server.sent == [0, len(CONTENT) - 1000]


@pytest.mark.parametrize(
    "location, message",
    [
        ("here", "would lead to an infinite loop"),
        ("file:///etc/hostname", "Redirection to url 'file:///etc/hostname' is not allowed"),
        ("ftp://127.0.0.1/file", "Redirection to url 'ftp://127.0.0.1/file' is not allowed"),
        ("data:,content", "Redirection to url 'data:,content' is not allowed"),
        ("http://[", "the line broke"),
        ("http://127.0.0.1:port/", "the line broke"),
        ("http://127.0.0.1:99999999999999999999/", "the line broke"),
        ("http://a..b/", "the line broke|no connection"),
        (None, "the server answers 302 Found"),
    ],
)
def test_a_redirect_to_nowhere_is_refused(server, target, location, message):
    server.answers = [say(302, headers={"Location": location})] * 99
    fails(server, message, target)
    assert len(server.asked) <= 10


def test_a_redirect_does_not_leave_https():
    handler, secure = download._Redirects(), Request("https://example.org/a")
    arguments = (None, 302, "Found", {})
    assert handler.redirect_request(secure, *arguments, "https://example.org/b").full_url == "https://example.org/b"
    with pytest.raises(HTTPError, match="'http://example.org/b' is not allowed"):
        handler.redirect_request(secure, *arguments, "http://example.org/b")


# ---------------------------------------------------------------------- the cache


def test_a_damaged_file_is_fetched_anew(server, target):
    target.write_bytes(CONTENT[:-1])
    with pytest.warns(UserWarning, match=f"{FILE} is damaged") as warned:
        assert get(server).read_bytes() == CONTENT
    assert warned[0].filename == __file__  # the caller's


def test_a_damaged_file_stays_where_there_is_no_better_one(server, target):
    target.write_bytes(CONTENT[:-1])
    server.answers = [say(404)]
    with pytest.warns(UserWarning, match=f"{FILE} is damaged"), pytest.raises(DownloadError, match="404"):
        get(server)
    assert target.read_bytes() == CONTENT[:-1]


@pytest.mark.parametrize("cache", ["file", "file/cache"])
def test_a_cache_that_is_a_file_is_refused(server, tmp_path, monkeypatch, cache):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RCNN_CACHE", str(tmp_path / cache))
    fails(server, "cannot keep .*RCNN_CACHE may name another folder", tmp_path / cache / FILE)
    assert server.asked == []


@pytest.mark.parametrize(
    "where, step, code",
    [
        (os, "mkdir", errno.EACCES),
        (os, "fsync", errno.ENOSPC),
        (os, "replace", errno.EROFS),
        (download, "_try_lock", errno.ENOLCK),
    ],
)
def test_a_cache_that_cannot_be_written_is_told(server, tmp_path, monkeypatch, where, step, code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(where, step, fail)
    message = fails(server, "cannot keep .*RCNN_CACHE may name another folder", tmp_path / "cache" / FILE)
    assert os.strerror(code) in message


def test_a_folder_in_place_of_the_file_is_told(server, target):
    target.mkdir()
    with pytest.raises(DownloadError, match=f"cannot keep .*{FILE}"):
        get(server)


def test_a_complete_cache_need_not_be_writable(server, target, monkeypatch):
    target.write_bytes(CONTENT)
    monkeypatch.setattr(Path, "mkdir", None)
    monkeypatch.setattr(download, "_locked", None)
    assert get(server) == target
    assert server.asked == []


@pytest.mark.parametrize(
    "platform, variables, folder",
    [
        ("linux", {}, "home/.cache/rcnn"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/rcnn"),
        ("linux", {"XDG_CACHE_HOME": ""}, "home/.cache/rcnn"),
        ("linux", {"XDG_CACHE_HOME": "/caches", "RCNN_CACHE": "/mine"}, "/mine"),
        ("linux", {"RCNN_CACHE": "~/mine"}, "home/mine"),
        ("darwin", {}, "home/Library/Caches/rcnn"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/rcnn"),
        ("win32", {}, "home/AppData/Local/rcnn"),
        ("win32", {"LOCALAPPDATA": "/local", "RCNN_CACHE": "/mine"}, "/mine"),
    ],
)
def test_the_cache_is_where_the_system_keeps_caches(tmp_path, monkeypatch, platform, variables, folder):
    for name in ("RCNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", platform)
    assert download.cache_folder() == tmp_path / folder


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.setenv("RCNN_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(DownloadError, match="RCNN_CACHE"):
        download.cache_folder()


# ---------------------------------------------------------------------- two at once


@pytest.mark.parametrize("progress", [True, False])
def test_of_several_threads_one_fetches_and_the_others_wait(server, monkeypatch, capsys, progress):
    waiting, try_lock = threading.Barrier(5), download._try_lock
    known = threading.local()

    def tell(file):
        free = try_lock(file)
        if not free and not hasattr(known, "told"):
            known.told = True
            waiting.wait(DEADLINE)
        return free

    def answer(handler):  # not before all others wait
        waiting.wait(DEADLINE)
        rest()(handler)

    monkeypatch.setattr(download, "_try_lock", tell)
    monkeypatch.setattr(download, "POLL", 0.001)
    server.answers = [answer]
    with ThreadPoolExecutor(5) as pool:
        paths = list(pool.map(lambda _: get(server, progress=progress), range(5)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT
    assert server.asked == [None]
    assert capsys.readouterr().err.count(f"waiting for another process that fetches {FILE}") == 4 * progress


def test_of_several_processes_one_fetches(server, target):
    processes = [run(server) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]


# ---------------------------------------------------------------------- names, hashes and arguments


def test_a_file_is_known_by_its_hash_alone(tmp_path, monkeypatch):
    path = tmp_path / "renamed.bin"
    path.write_bytes(b"abc")
    assert download.digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    monkeypatch.setitem(download.FILES, "coco", "detector-ba7816bf.pth")
    assert download.is_coco(path) and download.is_published(str(path), "coco")
    assert not download.is_published(path, "resnet18")
    assert not download.is_coco(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        download.is_coco(tmp_path)


@pytest.mark.parametrize("name", download.FILES)
def test_every_published_name_holds_its_hash(name):
    assert len(download._hash_in_name(name)) == 8
    assert int(download._hash_in_name(name), 16) > 0


@pytest.mark.proof
def test_the_published_files_are_those_of_torchvision():
    from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, ResNet101_Weights
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    theirs = {"coco": FasterRCNN_ResNet50_FPN_Weights.COCO_V1}
    for layers, weights in (
        (18, ResNet18_Weights),
        (34, ResNet34_Weights),
        (50, ResNet50_Weights),
        (101, ResNet101_Weights),
    ):
        theirs[f"resnet{layers}"] = weights.IMAGENET1K_V1
    assert {name: download.BASE + file for name, file in download.FILES.items()} == {
        name: weights.url for name, weights in theirs.items()
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "imagenet"}, "no published weights 'imagenet'; there are: coco, resnet18, resnet34"),
        ({"base": "file:///models/"}, "base must be an http or https address, not 'file:///models/'"),
        ({"base": "models"}, "base must be"),
        ({"timeout": 0}, "timeout must be above 0 seconds, not 0"),
        ({"timeout": float("nan")}, "timeout must be"),
    ],
)
def test_unfit_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch(**{"name": "coco", **arguments})
