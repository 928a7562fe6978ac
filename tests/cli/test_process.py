"""The process of the command: its streams, signals, warnings, messages and exit status."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rcnn import cli
from rcnn.cli import info, process
from rcnn.plot.style import MISSING_CHARACTERS

# A command of a few lines that replaces the real commands, because their import takes a second.
PROCESS = """
import atexit, os, signal, sys, threading, time, types, warnings
sys.modules["rcnn.cli.parser"] = types.ModuleType("parser")
from rcnn import cli
def command():
{body}
cli.main = command
from rcnn.__main__ import main
sys.exit(main())
"""


def run(body: str, shell: str = 'exec "$0" "$@"', **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the given function body; `shell` is the shell command that starts it."""
    code = PROCESS.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.run(
        ["sh", "-c", shell, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def assert_ends(done: subprocess.CompletedProcess[str], status: int, error: str) -> None:
    assert (done.returncode, done.stderr) == (status, error)


# ---------------------------------------------------------------------- streams


@pytest.mark.parametrize("status", [0, 1])
def test_a_pipe_without_a_reader_changes_nothing(status):
    body = f"""
    for i in range(20000):
        print("line", i)
        print("error", i, file=sys.stderr)
    return {status}
    """
    for reader in ("head -n 1", "true"):
        done = run(body, f'{{ {{ "$0" "$@" 2>&1; echo "status $?" >&3; }} | {reader} >/dev/null; }} 3>&1')
        assert (done.stdout, done.stderr) == (f"status {status}\n", "")


def test_buffered_output_meets_a_closed_pipe_at_the_end():
    done = run("print('late'); return 1", '{ { "$0" "$@"; echo "status $?" >&3; } | true; } 3>&1')
    assert (done.stdout, done.stderr) == ("status 1\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(tmp_path: Path, closed: str):
    body = f"""
    file = open({str(tmp_path / "file")!r}, "w")
    print("output")
    print("error", file=sys.stderr)
    os.write(1, b"raw")
    file.write("content")
    return 1
    """
    assert run(body, f'exec "$0" "$@" {closed}').returncode == 1
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_a_full_disk_is_an_error_of_standard_output_alone():
    message = f"rcnn: standard output: {os.strerror(errno.ENOSPC)}\n"
    for unbuffered in ("", "1"):
        assert_ends(run("print('x'); return 0", 'exec "$0" "$@" >/dev/full', PYTHONUNBUFFERED=unbuffered), 2, message)
    assert run("print('x', file=sys.stderr); return 1", 'exec "$0" "$@" 2>/dev/full').returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "latin-1"])
def test_every_character_can_be_printed(encoding: str):
    done = run("print('\\u676f \\udce9'); raise ValueError('\\u676f \\udce9')", PYTHONIOENCODING=encoding)
    cup = "\u676f" if encoding.startswith("utf") else "\\u676f"
    assert (done.stdout, done.stderr, done.returncode) == (f"{cup} \\udce9\n", f"rcnn: {cup} \\udce9\n", 2)


# ---------------------------------------------------------------------- errors and warnings


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("a\n  b"), "a b"),
        (ValueError(), "ValueError"),
        (ValueError("\x1b[31m \ud800 \x00"), r"\x1b[31m \ud800 \x00"),
        (OSError(errno.ENOSPC, "No space left on device", "a.json"), "a.json: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory: Unable to allocate 9 GiB"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (OverflowError("too large"), "too large"),
        (KeyError("boxes"), "internal error, please report it: KeyError in test_process.py, line "),
        (AssertionError(), "internal error, please report it: AssertionError in test_process.py, line "),
    ],
)
def test_every_error_is_one_line(error, line, capsys, monkeypatch):
    def fails(options):
        raise error

    monkeypatch.setattr(info, "run", fails)
    assert cli.main(["info"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"rcnn: {line}") and told.count("\n") == 1 and told.endswith("\n")


def test_a_failed_import_is_one_line():
    assert_ends(run("return 0", RCNN_BACKEND="torch"), 0, "")  # the short command imports nothing
    done = subprocess.run(
        [sys.executable, "-m", "rcnn", "info"],
        capture_output=True,
        text=True,
        env={**os.environ, "RCNN_BACKEND": "torch"},
        check=False,
    )
    assert_ends(done, 2, "rcnn: RCNN_BACKEND must be one of cython, numpy, got 'torch'\n")


def test_a_deleted_folder_is_named(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    body = f"os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); open('a.json', 'w')"
    assert_ends(run(body), 2, "rcnn: the current folder was deleted; change to another folder\n")


def test_warnings_and_errors_of_threads_are_single_lines():
    body = """
    for glyph in (26479, 23376):
        warnings.warn(f"Glyph {glyph} (cup) missing from font(s) DejaVu Sans.")
    for i in range(2):
        warnings.warn("two\\n lines", stacklevel=2)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    class Ill:
        def __del__(self):
            raise ValueError("ignored")
    Ill()
    import logging
    logging.getLogger("matplotlib").warning("a remark")
    return 0
    """
    assert_ends(
        run(body), 0, f"rcnn: warning: {MISSING_CHARACTERS}\nrcnn: warning: two lines\nrcnn: division by zero\n"
    )


def test_a_wrong_backend_of_matplotlib_is_not_used():
    body = "from matplotlib.figure import Figure; Figure().savefig(os.devnull, format='png'); return 0"
    assert_ends(run(body, MPLBACKEND="wrong"), 0, "")


# ---------------------------------------------------------------------- signals

STOP = "os.kill(os.getpid(), signal.{name})"


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_command_in_one_line_after_its_cleanup(name: str, status: int):
    body = f"try:\n    {STOP.format(name=name)}\n    time.sleep(9)\nfinally:\n    print('saved')\nreturn 0"
    done = run(body)
    assert_ends(done, status, "rcnn: interrupted\n")
    assert done.stdout == "saved\n"


def test_a_second_signal_ends_the_process_at_once():
    body = "try:\n    os.kill(os.getpid(), 2)\nfinally:\n    os.kill(os.getpid(), 2)\n    time.sleep(9)"
    assert_ends(run(body), 130, "rcnn: interrupted\n")


def test_sigterm_does_what_the_command_does_at_ctrl_c():
    body = """
    asked = []
    signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    print("saved", len(asked))
    return 130
    """
    done = run(body)
    assert_ends(done, 143, "")
    assert done.stdout == "saved 1\n"


def test_ctrl_c_in_a_finalizer_is_not_lost():
    body = """
    class Slow:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    Slow()
    time.sleep(9)
    """
    assert_ends(run(body), 130, "rcnn: interrupted\n")


def test_ctrl_c_before_and_after_the_command():
    before = "import rcnn.cli.process as p, os; p.main = lambda end: os.kill(os.getpid(), 2)\n"
    code = before + "from rcnn.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert_ends(done, 130, "rcnn: interrupted\n")
    assert_ends(run("atexit.register(os.kill, os.getpid(), 2); return 1"), 1, "")


def test_ctrl_c_does_not_interrupt_the_preparation_of_progress_bars():
    body = """
    import tqdm
    assert tqdm.tqdm._lock is not None  # created before a signal can interrupt this
    return 0
    """
    assert_ends(run(body), 0, "")


def test_a_wrong_setting_of_progress_bars_is_named():
    done = run("return 0", TQDM_MININTERVAL="abc")
    expected = "rcnn: one of the environment variables TQDM_MININTERVAL is invalid: could not convert string to float"
    assert done.returncode == 2 and done.stderr.startswith(expected) and done.stderr.count("\n") == 1


def test_ctrl_c_that_the_shell_ignores_stays_ignored():
    assert_ends(run("os.kill(os.getpid(), 2); return 1", """trap '' INT; exec "$0" "$@" """), 1, "")


def test_the_entry_point_imports_nothing_that_takes_time():
    """Until `main` handles Ctrl-C, an interrupt is a traceback of Python's."""
    code = "import sys; before = set(sys.modules); import rcnn.__main__; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) <= {"rcnn", "rcnn.__main__"}, done.stderr


# ---------------------------------------------------------------------- another user


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["check", "convert", "train", "detect", "eval"])
def test_a_folder_that_belongs_to_somebody_else(tmp_path: Path, name: str):
    weights = Path(cli.__file__).parents[1] / "zoo" / "weights" / "digits.safetensors"
    commands = {
        "check": ["check", "coco:locked"],
        "convert": ["convert", "shapes", "csv:out", "--train", "1", "--val", "0"],
        "train": ["train", "shapes", "--steps", "1"],
        "detect": ["detect", "a.png", "--weights", str(weights)],
        "eval": ["eval", "voc:locked", "--weights", str(weights)],
    }
    (tmp_path / "locked").mkdir(mode=0o700)
    os.chmod(tmp_path, 0o755)
    code = (
        "import os, sys; from rcnn import cli, plot; from rcnn.cli import parser\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from rcnn.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *commands[name]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("rcnn: ") and done.stderr.count("\n") == 1
    assert os.strerror(errno.EACCES) in done.stderr


def test_the_exit_statuses():
    assert (process.ERROR, process.INTERRUPTED) == (2, 128 + signal.SIGINT)
