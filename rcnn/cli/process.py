"""The process of the command `rcnn`: its streams, signals, warnings, messages and exit status.

This module imports little, so it is ready after a few milliseconds. From then on, Ctrl-C does not print a traceback.
"""

from __future__ import annotations

import _thread
import atexit
import contextvars
import errno
import io
import logging
import os
import re
import select
import signal
import sys
import threading
import traceback
import unicodedata
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

ERROR = 2  # exit status after an error
INTERRUPTED = 130  # conventional exit status after Ctrl-C: 128 plus the number of the signal

# Errors that the user can correct. Any other error is a bug in rcnn, so its message contains the line of code.
EXPECTED = (OSError, ValueError, TypeError, ImportError, ArithmeticError, RuntimeError)

# How much the command prints. QUIET: only warnings and errors. VERBOSE: messages also show whole lists of names,
# instead of only the first names.
QUIET, NORMAL, VERBOSE = -1, 0, 1
verbosity = contextvars.ContextVar("verbosity", default=NORMAL)

_MISSING_GLYPH = re.compile(r"Glyph \d+ .*missing from")


def main(end: Callable[[int, object], None]) -> int:
    """Run the command as the only task of this process; return the exit status.

    The user never sees a traceback: an error is one line on standard error, and the status is 2. Ctrl-C and a request
    to terminate (SIGTERM, SIGHUP) interrupt the command, which saves its results so far. The status is then 128 plus
    the number of the signal. A second signal ends the process at once. If nobody reads the output, because a stream is
    closed or a pipe has no reader, the output is discarded, and the status does not change. If the output cannot be
    written, for example to a full disk, the command finishes its work, and the status is 2. `end` is a signal handler
    that ends the process at once.
    """
    stops = _Stops(end)
    output = _open_streams()
    os.environ["MPLBACKEND"] = "agg"  # the command opens no window; another backend could fail
    _show_messages_in_one_line(stops)
    try:
        status = _run(stops)
        sys.stdout.flush()
        if output.error is not None:
            status = fail(f"standard output: {output.error.strerror}")
        stops.finish(status)
    except KeyboardInterrupt:
        tell("interrupted")
        status = INTERRUPTED
        stops.finish(status)
    return stops.status(status)


def _run(stops: _Stops) -> int:
    """Import and run the command; return the exit status."""
    try:
        _prepare_bars()
        from rcnn import cli
        from rcnn.cli import parser  # imports the whole library  # noqa: F401

        stops.interrupt_command()
        return cli.main()
    except SystemExit as end:  # wrong usage, or --help
        return end.code if isinstance(end.code, int) else ERROR
    except Exception as error:
        return fail(error)


def _prepare_bars() -> None:
    """Import tqdm, which reads environment variables, and create its lock before signals can interrupt this."""
    try:
        from tqdm import tqdm
    except (TypeError, ValueError) as error:
        names = sorted(name for name in os.environ if name.startswith("TQDM_"))
        raise ValueError(f"one of the environment variables {', '.join(names)} is invalid: {error}") from error
    tqdm.get_lock()


# ---------------------------------------------------------------------- messages


def fail(error: BaseException | str) -> int:
    """Print an error as one line above the progress bar; return the exit status that reports a failure."""
    try:
        tell(message(error))
        if verbosity.get() == VERBOSE:
            for line in getattr(error, "details", ()):
                tell(line)
    except MemoryError:
        os.write(2, b"rcnn: not enough memory\n")
    return ERROR


def tell(text: str) -> None:
    """Print a line on standard error, above the progress bar."""
    _print(f"rcnn: {printable(text)}", sys.stderr)


def say(text: str) -> None:
    """Print text on standard output, above the progress bar, with control characters escaped; be silent if QUIET."""
    if verbosity.get() == QUIET:
        return
    _print("\n".join(map(_escaped, text.split("\n"))), sys.stdout)


def printable(text: str) -> str:
    """Return the text in one line, with control characters and lone surrogates escaped."""
    return _escaped(re.sub(r"\s*[\r\n]+\s*", " ", text).strip())


def _escaped(text: str) -> str:
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else ascii(c)[1:-1] for c in text)


def _print(text: str, file: Any) -> None:
    encoding = getattr(file, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)  # not yet imported if an import fails
    if bars is None:
        print(text, file=file)
    else:
        bars.write(text, file=file)


def message(error: BaseException | str) -> str:
    """Return the message of an error; for an OSError, only the file and the reason."""
    if isinstance(error, FileNotFoundError) and _folder_was_deleted():
        return "the current folder was deleted; change to another folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory{f': {error}' if str(error) else ''}"
    if isinstance(error, BaseException) and not isinstance(error, EXPECTED):
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(last.filename)}, line {last.lineno}"
        return f"internal error, please report it: {type(error).__name__} in {place}: {error}"
    return str(error) or type(error).__name__


def _folder_was_deleted() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _show_messages_in_one_line(stops: _Stops) -> None:
    """Show each warning, and each error in a thread, as one line; do not show errors that Python ignores."""
    shown = set()

    def show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
        del place, more
        text = str(message)
        if _MISSING_GLYPH.match(text):  # matplotlib warns once for each character
            from rcnn.plot.style import MISSING_CHARACTERS  # imports matplotlib, which is already loaded then

            text = MISSING_CHARACTERS
        if text not in shown:
            shown.add(text)
            tell(f"warning: {text}")

    def show_thread_error(failed: Any) -> None:
        if failed.exc_value is not None:
            fail(failed.exc_value)

    warnings.showwarning = show_warning
    logging.disable(logging.WARNING)  # for example, matplotlib's messages about its cache
    threading.excepthook = show_thread_error
    sys.unraisablehook = stops.ignored


# ---------------------------------------------------------------------- signals


class _Stops:
    """Handlers for the signals that ask the process to stop.

    Before the command starts and after it has ended, such a signal ends the process at once. While the command runs,
    the first signal raises KeyboardInterrupt, or calls the command's own handler for Ctrl-C if there is one. The second
    signal ends the process at once.
    """

    def __init__(self, end: Callable[[int, object], None]) -> None:
        self.end = end
        self.first = 0  # number of the first signal
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        numbers = [getattr(signal, name) for name in names]
        self.numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        self._handle(self.end)

    def interrupt_command(self) -> None:
        """Let the next signal interrupt the command."""
        self._handle(self._interrupt)

    def finish(self, status: int) -> None:
        """Make any signal that arrives after the command has ended exit the process with `status`."""
        self._handle(lambda number, frame: os._exit(self.status(status)))
        atexit.register(self._handle, signal.SIG_IGN)  # Python removes handlers before the process ends

    def status(self, status: int) -> int:
        """Return the exit status: after an interruption, 128 plus the number of the signal; otherwise `status`."""
        return 128 + self.first if status == INTERRUPTED and self.first else status

    def ignored(self, failed: Any) -> None:
        """Interrupt the command again if Python ignored its KeyboardInterrupt, as it does in a finalizer."""
        if isinstance(failed.exc_value, KeyboardInterrupt):
            self.interrupt_command()
            again = threading.Timer(0.01, _thread.interrupt_main)  # starts after this function has returned
            again.daemon = True
            again.start()

    def _handle(self, action: Any) -> None:
        for number in self.numbers:
            signal.signal(number, action)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        at_ctrl_c = signal.getsignal(signal.SIGINT)  # the handler of train, for example, lets the current step finish
        if number != signal.SIGINT and callable(at_ctrl_c) and at_ctrl_c != self._interrupt:
            at_ctrl_c(signal.SIGINT, frame)
            return
        self._handle(self.end)
        raise KeyboardInterrupt


# ---------------------------------------------------------------------- streams


class _Output(io.RawIOBase):
    """A raw output stream whose writes always succeed: after an error, it discards everything.

    Parameters
    ----------
    stream : TextIOWrapper
        The Python stream to replace, such as sys.stdout.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream  # without a reference, it would be closed
        self.raw = getattr(stream.buffer, "raw", stream.buffer)  # an unbuffered stream has no attribute `raw`
        self.error: OSError | None = None  # the error because of which output was lost; None if nobody reads the output

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.raw.fileno())

    def isatty(self) -> bool:
        return verbosity.get() != QUIET and bool(self.raw.isatty())  # bars appear only on a terminal

    def write(self, data: Any) -> int:
        try:
            while (count := self.raw.write(data)) is None:  # a non-blocking stream is full
                select.select([], [self.raw], [])
            return int(count)
        except OSError as error:
            # Windows reports a broken pipe as EINVAL.
            nobody_reads = isinstance(error, ConnectionError) or error.errno in (errno.EINVAL, errno.EIO)
            if not nobody_reads:
                self.error = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes


def _open_streams() -> _Output:
    """Replace the output streams: the new ones escape unencodable characters and discard output that nobody reads.

    Each closed stream is connected to the null device. Otherwise, the next opened file would get the number of the
    closed stream, and would receive its output. Return the raw standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    output = _Output(sys.stdout)
    sys.stdout, sys.stderr = _text_stream(output), _text_stream(_Output(sys.stderr))
    return output


def _text_stream(output: _Output) -> io.TextIOWrapper:
    lines = output.stream.line_buffering or output.stream.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(output), output.stream.encoding, errors="backslashreplace", line_buffering=lines
    )
