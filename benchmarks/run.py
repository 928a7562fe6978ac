"""Compare rcnn with its peers: same work, weights and inputs, in turn in one process; medians and their ratios.

    python benchmarks/run.py                                  everything but the sweeps
    python benchmarks/run.py --only detector nms              rows whose names start so; --list prints the names
    python benchmarks/run.py --sweeps --plot docs/benchmark.png
    python benchmarks/run.py --results                        also write the medians to docs/results.json

A peer runs if it is installed, for example with `pip install -e '.[peers]'`. ONNX Runtime and OpenVINO also require
torch, torchvision and onnx, which write the file that they run. Every row, except those of memory, compares the answers
before it measures the time. If some answers disagree, the exit status is 1; a missed goal only shows in the table.
speed/timing.py explains the timing method. Ctrl-C ends the run early and prints the table of the finished rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from speed import convolutions, detector, kernels, machine, memory, record, report, rows, sweeps, training
from speed.processors import processors
from speed.rows import PEERS, Result, Row, Settings
from speed.timing import CALM

USUAL = [*detector.ROWS, *memory.ROWS, *kernels.ROWS, *convolutions.ROWS, *training.ROWS, *convolutions.SHAPE_ROWS]
BUDGET, QUICK_BUDGET = 10.0, 1.0  # seconds for a row
ROUNDS, QUICK_ROUNDS = 5, 2  # at least; a row may exceed its budget for them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the selected rows and return the exit status: 0, or 1 if answers disagree."""
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
        parser.error("--plot draws sweeps: add --sweeps, or name some after --only")
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
    facts["rows that others disturbed"] = ", ".join(result.name for result in results if result.others > CALM) or "none"
    if options.json:
        report.write_json(options.json, report.as_data(facts, results))
    if options.results:
        packages = dict.fromkeys(package for peer in settings.peers for package in PEERS[peer])
        for section, entries in report.entries(results, options.results).items():
            record.update(section, entries, machine.line(packages))
    print(report.markdown(facts, results))
    if options.plot and any(result.table in sweeps.TITLES for result in results):  # none after an early Ctrl-C
        sweeps.draw(results, f"{facts['processor']}; {facts['date']}").savefig(options.plot)
    return 0 if all(result.holds for result in results) else 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rows whose names begin so")
    parser.add_argument("--sweeps", action="store_true", help="also how cost grows with the work")
    parser.add_argument("--list", action="store_true", help="name the rows, and end")
    parser.add_argument("--threads", type=count, default=processors(), help="of everyone; all processors")
    parser.add_argument("--peers", nargs="*", default=rows.installed(), choices=list(PEERS), help="those installed")
    parser.add_argument("--quick", action="store_true", help="few repeats: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, medians and quartiles")
    parser.add_argument(
        "--results",
        nargs="?",
        const="speed",
        metavar="SECTION",
        help="write the medians to this section of docs/results.json (default: speed)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the sweeps")
    return parser


def count(text: str) -> int:
    """Return a number of at least 1, or raise an error that argparse shows."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def wanted_rows(only: Sequence[str], with_sweeps: bool) -> list[Row]:
    """Return the rows to run; `only` selects among all of them. Raise ValueError for an unknown name."""
    if only:
        return rows.chosen([*USUAL, *sweeps.ROWS], only)
    return [*USUAL, *sweeps.ROWS] if with_sweeps else USUAL


def measure(wanted: Sequence[Row], settings: Settings) -> list[Result]:
    """Return the results of the rows finished before Ctrl-C; print the progress to standard error."""
    results: list[Result] = []
    for number, row in enumerate(wanted, 1):
        say(f"{number:3d} of {len(wanted)}  {row.name}: {row.work}", end="")
        clock = time.perf_counter()
        try:
            results.append(rows.run(row, settings))
        except KeyboardInterrupt:
            say("; stopped, this is what there is")
            break
        say(f"; {time.perf_counter() - clock:.0f} s, others had {results[-1].others:.0%} of the processors")
    return results


def say(text: str, end: str = "\n") -> None:
    """Print progress to standard error."""
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
