"""Reading of regular files and writing of whole files, even if a path is a pipe, a device, a link or a folder."""

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from rcnn import _files
from rcnn._files import check_writable, read_text, read_whole, remove_temporary, write_whole


def special(folder: Path, kind: str) -> Path:
    """Create a special file of this kind."""
    path = folder / "special"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # the path of a socket must be short
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to itself":
        path.symlink_to(path)
    return path


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "link to itself", "missing"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path, kind)
    with pytest.raises(OSError, match="special"):
        read_whole(path, 10)


def test_pipe_that_replaces_a_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "check_regular", lambda path: None)  # at that time, it was a file
    with pytest.raises(OSError, match="special is a pipe, but a regular file is required"):
        read_whole(special(tmp_path, "pipe"), 10)


def test_links_to_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_whole(tmp_path / "link", 7) == b"content"


def test_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="sparse has 1,099,511,627,776 bytes, but the limit is 1,000 bytes"):
        read_whole(tmp_path / "sparse", 1_000)


def test_text_is_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffa\r\nä".encode())
    assert read_text(path, 100) == "a\r\nä"
    path.write_bytes("ä".encode("latin-1"))
    with pytest.raises(ValueError, match="text is not UTF-8 text"):
        read_text(path, 100)


# ---------------------------------------------------------------------- writing


@pytest.mark.parametrize("kind", ["folder", "socket", "link to itself"])
def test_special_files_are_not_replaced(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path, kind)
    before = os.lstat(path)
    with pytest.raises(OSError) as caught:
        write_whole(path, b"content")
    assert caught.value.filename == str(path)
    assert os.lstat(path) == before and os.listdir(tmp_path) == [path.name]


def test_pipe_without_a_reader_is_refused(tmp_path: Path) -> None:
    path = special(tmp_path, "pipe")
    with pytest.raises(OSError, match="no process reads from this pipe") as caught:
        write_whole(path, b"content")
    assert caught.value.filename == str(path) and stat.S_ISFIFO(os.lstat(path).st_mode)


def test_what_cannot_be_written_is_noticed_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    check_writable("/dev/null")
    assert os.listdir(tmp_path) == []
    for path in (special(tmp_path, "pipe"), Path("/proc/new"), tmp_path / ("x" * 256), tmp_path / "no-folder" / "x"):
        with pytest.raises(OSError) as caught:
            check_writable(path)
        assert caught.value.filename == str(path)


def test_reader_of_a_checked_pipe_waits(tmp_path: Path) -> None:
    path = special(tmp_path, "pipe")
    program = "import sys; from rcnn._files import *; check_writable(sys.argv[1]); write_whole(sys.argv[1], b'content')"
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as reader:
        for _ in range(100):  # until cat has opened the pipe
            process = subprocess.run([sys.executable, "-c", program, path], check=False, stderr=subprocess.DEVNULL)
            if process.returncode == 0:
                break
        assert reader.communicate(timeout=10)[0] == b"content"


def test_pipe_with_a_reader_gets_everything(tmp_path: Path) -> None:
    path, content, received = special(tmp_path, "pipe"), os.urandom(1 << 20), []
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)  # until it is closed, the reader waits for more
    os.set_blocking(reader, True)

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            received.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    write_whole(path, content)
    os.close(writer)
    thread.join()
    assert received == [content] and os.listdir(tmp_path) == [path.name]


def test_devices_are_written_to() -> None:
    write_whole("/dev/null", b"content")
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)
    with pytest.raises(OSError) as caught:
        write_whole("/dev/full", b"content")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "link"])
def test_redirected_standard_output_is_not_replaced(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = f"import sys; from rcnn._files import write_whole; write_whole({path!r}, b'one '); print('two')"
    with open(tmp_path / "out", "ab") as out:
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"one two\n"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs /dev/shm")
def test_regular_files_below_dev_are_replaced() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path, link = Path(folder, "file"), Path(folder, "link")
        link.symlink_to("file")
        for target, content in ((path, b"old"), (path, b"new"), (link, b"newer")):
            write_whole(target, content)
            assert path.read_bytes() == content
        assert link.is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_link_remains_and_its_file_is_replaced(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "file", tmp_path / "link"
    if exists:
        real.write_bytes(b"old")
    link.symlink_to("folder/file")
    write_whole(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new" and os.listdir(real.parent) == ["file"]


def test_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "x"])
def test_names_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"content")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["no-such-folder/x.json", "x" * 256])
def test_error_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as caught:
        write_whole(name, b"")
    assert caught.value.filename == name and "tmp" not in str(caught.value)


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from rcnn import _files; os.replace = lambda *paths: os._exit(9); "
        "_files.write_whole(sys.argv[1], b'content')"
    )
    for name in ("model.safetensors", "other"):
        subprocess.run([sys.executable, "-c", program, tmp_path / name], check=False)
    kept = (".model.safetensors.backup", "model.safetensors", ".model.safetensors.12345678.tmp2")
    for name in kept:
        (tmp_path / name).touch()
    assert len(os.listdir(tmp_path)) == 5
    remove_temporary(tmp_path, ["model.safetensors"])
    left = set(os.listdir(tmp_path)) - set(kept)
    assert len(left) == 1 and left.pop().startswith(".other.")


@pytest.mark.parametrize("function", [read_whole, write_whole], ids=["read", "write"])
@pytest.mark.parametrize(
    "path", [None, True, -1, 2**100, 10**5000, 0.5, [], b"a.png"], ids=lambda path: str(type(path))
)
def test_only_strings_and_path_objects_are_paths(function, path: object) -> None:
    """An integer would be read as the number of an open file."""
    with pytest.raises(TypeError, match=r"^path must be a path, got .{1,80}$"):
        function(path, b"" if function is write_whole else 9)


@pytest.mark.parametrize("path", ["a\0b", "a\nb" * 2000])
def test_impossible_paths_are_refused_in_a_short_line(path: str) -> None:
    with pytest.raises(ValueError, match=r"^path must have at most 4,096 characters and no null .{1,120}$"):
        read_whole(path, 9)
