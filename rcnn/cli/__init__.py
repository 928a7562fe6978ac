"""The command `rcnn`. Each subcommand is a module that defines its arguments (`add_parser`) and its action (`run`).

If the user makes a mistake, the command prints a one-line message and exits with status 2. It imports matplotlib
only when it draws a figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from rcnn.cli.process import INTERRUPTED, fail, tell, verbosity


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 if check or doctor finds a problem, 2 for an error, 130 after Ctrl-C."""
    from rcnn.cli import parser, shared  # imports the whole library; the entry point handles Ctrl-C before this import

    parsed = parser.parse(arguments)
    token = verbosity.set(parsed.verbosity)
    try:
        with shared.pixel_limit(parsed):
            status: int = parsed.run(parsed)
        return status
    except Exception as error:
        return fail(error)
    except KeyboardInterrupt:
        tell("interrupted")
        return INTERRUPTED
    finally:
        verbosity.reset(token)
