"""The command `rcnn`, also `python -m rcnn`, until it can handle signals itself."""

import _signal  # type: ignore[import-not-found]  # `signal` takes longer to import
import os
import sys


def main() -> int:
    """Run the command, and return its exit status; see `rcnn.cli.process.main`.

    Importing the rest of the command takes long enough to be interrupted, so nothing else comes before this.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not ignored, as in the background of a shell
        _signal.signal(_signal.SIGINT, _end)
    from rcnn.cli import process

    return process.main(_end)


def _end(number: int, frame: object) -> None:
    """End the process at once, in one line; a handler of signals."""
    try:
        os.write(2, b"rcnn: interrupted\n")
    finally:  # nobody may read it
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
