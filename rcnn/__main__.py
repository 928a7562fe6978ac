"""Entry point of the command `rcnn` (or `python -m rcnn`); it handles Ctrl-C while the other modules are imported."""

import _signal  # type: ignore[import-not-found]  # `signal` takes longer to import
import os
import sys


def main() -> int:
    """Run the command, and return its exit status; see `rcnn.cli.process.main`.

    Importing the other modules takes some time, and a user may press Ctrl-C during this time. The handler of Ctrl-C is
    therefore installed first.
    """
    if (
        _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    ):  # a shell may have told the command to ignore Ctrl-C
        _signal.signal(_signal.SIGINT, _end)
    from rcnn.cli import process

    return process.main(_end)


def _end(number: int, frame: object) -> None:
    """Handle a signal: print one line and end the process at once."""
    try:
        os.write(2, b"rcnn: interrupted\n")
    finally:  # even if nobody reads the output
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
