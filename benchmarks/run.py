"""Compare the time and memory of rcnn with those of other libraries, its *peers*.

    python benchmarks/run.py                                       all rows except the sweeps and "busy"
    python benchmarks/run.py --only detector nms                   rows whose names start with "detector" or "nms"
    python benchmarks/run.py --list                                print the names of the rows
    python benchmarks/run.py --sweeps --plot docs/benchmark.png    also run and plot the sweeps
    python benchmarks/run.py --only busy                           with other work on the machine (20 minutes)
    python benchmarks/run.py --results                             also write the medians to docs/results.json

All libraries do the same work with the same weights and inputs. They run alternately in one process, and the tables
show their median times and the ratios of these times. speed/timing.py explains the method.

A peer takes part if it is installed, for example with `pip install -e '.[peers]'`. ONNX Runtime and OpenVINO also
require torch, torchvision and onnx, which write the ONNX file. Except for memory, every row compares the results of the
libraries before it measures the time. If some results do not agree, the exit status is 1. A missed goal is shown in the
table, but does not change the exit status. Press Ctrl-C to stop early and print the tables of the finished rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from speed import busy, convolutions, detector, kernels, machine, memory, record, report, rows, sweeps, training
from speed.processors import processors
from speed.rows import PEERS, Result, Row, Settings
from speed.timing import CALM

USUAL = [*detector.ROWS, *memory.ROWS, *kernels.ROWS, *convolutions.ROWS, *training.ROWS, *convolutions.SHAPE_ROWS]
BUDGET, QUICK_BUDGET = 10.0, 1.0  # seconds for each row
ROUNDS, QUICK_ROUNDS = 5, 2  # the minimum number of rounds, even if a row then exceeds its budget


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the selected rows; return the exit status: 0, or 1 if some results do not agree."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        wanted = wanted_rows(options.only, options.sweeps)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print("\n".join(f"{row.name:24s} {row.work}" for row in wanted))
        return 0
    if options.plot and not any(row.table in sweeps.TITLES for row in wanted):
        parser.error("--plot draws sweeps, but none is selected: add --sweeps, or select some with --only")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            frozenset(options.peers),
            options.threads,
            QUICK_BUDGET if options.quick else BUDGET,
            QUICK_ROUNDS if options.quick else ROUNDS,
            Path(folder),
        )
        facts = machine.facts(settings)
        results = measure(wanted, settings)
    facts["rows disturbed by other processes"] = (
        ", ".join(result.name for result in results if result.others > CALM) or "none"
    )
    if options.json:
        report.write_json(options.json, report.as_data(facts, results))
    if options.results:
        packages = dict.fromkeys(package for peer in settings.peers for package in PEERS[peer])
        for section, entries in report.entries(results, options.results).items():
            record.update(section, entries, machine.line(packages))
    print(report.markdown(facts, results))
    if options.plot and any(result.table in sweeps.TITLES for result in results):  # there may be none after Ctrl-C
        sweeps.draw(results, f"{facts['processor']}; {facts['date']}").savefig(options.plot)
    return 0 if all(result.holds for result in results) else 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="run only rows whose names start with NAME"
    )
    parser.add_argument("--sweeps", action="store_true", help="also measure how the time grows with the amount of work")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and exit")
    parser.add_argument("--threads", type=count, default=processors(), help="for each library (default: all CPUs)")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=rows.installed(),
        choices=list(PEERS),
        help="other libraries (default: those that are installed)",
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions, for a rough result")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all samples, medians and quartiles to this file"
    )
    parser.add_argument(
        "--results",
        nargs="?",
        const="speed",
        metavar="SECTION",
        help="write the medians to this section of docs/results.json (default: speed)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the sweeps into this file")
    return parser


def count(text: str) -> int:
    """Convert an argument to an integer; raise an error that argparse prints unless it is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def wanted_rows(only: Sequence[str], with_sweeps: bool) -> list[Row]:
    """Return the rows to run: those whose names start with an element of `only`, or all usual rows if it is empty.

    `with_sweeps` adds the sweeps to the usual rows. Raise ValueError if an element of `only` matches no row.
    """
    if only:
        return rows.chosen([*USUAL, *sweeps.ROWS, *busy.ROWS], only)
    return [*USUAL, *sweeps.ROWS] if with_sweeps else USUAL


def measure(wanted: Sequence[Row], settings: Settings) -> list[Result]:
    """Run the rows and return their results, also after Ctrl-C; print the progress to standard error."""
    results: list[Result] = []
    for number, row in enumerate(wanted, 1):
        say(f"{number:3d} of {len(wanted)}  {row.name}: {row.work}", end="")
        clock = time.perf_counter()
        try:
            results.append(rows.run(row, settings))
        except KeyboardInterrupt:
            say("; stopped: the tables contain the finished rows")
            break
        say(f"; {time.perf_counter() - clock:.0f} s, other processes used {results[-1].others:.0%} of the CPU")
    return results


def say(text: str, end: str = "\n") -> None:
    """Print a message to standard error."""
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
