"""Makes the notebooks of the course that people read: solved, run, with their outputs.

    python notebooks/build.py           all of them
    python notebooks/build.py 04 09     these two

Each is made from its source in notebooks/src, which is the only one of the two that anybody edits. What it took is
printed beside what its source allows.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import nbclient

from rcnn.course import sources

HERE = Path(__file__).parent
MOST_BYTES = 1_000_000
WIDGET = "application/vnd.jupyter.widget-view+json"  # nothing moves in a file; the still plot beside it stays
CELL_SECONDS = 600  # so that a cell that hangs is an error


def execute(notebook, allow_errors=False):
    """Runs a notebook in a folder of its own, outputs in place; gives the seconds that it took.

    These are the seconds that passed, or, if those are fewer, the processor's seconds: on a busy machine a notebook
    waits, which is not its fault.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            allow_errors=allow_errors,
            record_timing=False,
            coalesce_streams=True,
            store_widget_state=False,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        begun, busy = time.perf_counter(), _busy()
        client.execute()
        passed = time.perf_counter() - begun
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}  # without the version that happened to run it
    return min(passed, _busy() - busy)


def _busy():
    """Processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def built(source):
    """The notebook that people read, and the seconds that it took."""
    notebook = sources.read(source)
    return notebook, execute(notebook)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="two digits (default: all)")
    wanted = parser.parse_args().numbers
    chosen = [path for path in sources.paths() if not wanted or path.name[:2] in wanted]
    if missing := set(wanted) - {path.name[:2] for path in chosen}:
        parser.error(f"no source for {', '.join(sorted(missing))}")
    good = True
    for path in chosen:
        notebook, seconds = built(path)
        content = sources.as_json(notebook)
        (HERE / f"{path.stem}.ipynb").write_bytes(content)
        allowed = notebook.metadata.rcnn.seconds
        print(f"{path.stem:<40} {seconds:6.1f} s of {allowed:3d}   {len(content) / 1e6:.2f} MB of 1", flush=True)
        good &= seconds <= allowed and len(content) <= MOST_BYTES
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
