"""What every command says to the terminal, and the exit status that goes with it."""

from __future__ import annotations

import sys

from tqdm import tqdm

ERROR = 2  # the exit status of what a user did wrong
INTERRUPTED = 130  # that of a command that Ctrl-C ended, by convention


def say(text: str) -> None:
    """Prints a line, above a progress bar, with escapes for what the output cannot show, as names of files may have."""
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))


def fail(error: BaseException | str) -> int:
    """Says what is wrong in one line; gives the exit status of an error."""
    text = " ".join(_words(error).split()) or type(error).__name__
    tqdm.write(f"rcnn: {text}", file=sys.stderr)  # above a progress bar
    return ERROR


def _words(error: BaseException | str) -> str:
    """What an error says; of one of the operating system the file and the reason, without the number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
