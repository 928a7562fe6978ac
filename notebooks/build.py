"""Build the notebooks of the course: solved, executed, with their outputs.

    python notebooks/build.py           all notebooks
    python notebooks/build.py 04 09     notebooks 04 and 09

Each notebook is built from its source in notebooks/src; edit only the source. The script prints the time of each
notebook next to the time that its source allows.
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
WIDGET = "application/vnd.jupyter.widget-view+json"  # a stored widget does not work; its static plot is kept
CELL_SECONDS = 600  # a cell that hangs is an error


def execute(notebook, allow_errors=False):
    """Execute a notebook in its own temporary folder, storing the outputs in it; return the seconds that it took.

    That is the elapsed time or the CPU time, whichever is smaller, because a notebook has to wait on a busy machine.
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
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        client.execute()
        elapsed = time.perf_counter() - start
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    return min(elapsed, _cpu_seconds() - cpu_start)


def _cpu_seconds():
    """Return the CPU seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def built(source):
    """Return the executed notebook of a source, and the seconds that it took."""
    notebook = sources.read(source)
    return notebook, execute(notebook)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="two digits (default: all)")
    numbers = parser.parse_args().numbers
    chosen = [path for path in sources.paths() if not numbers or path.name[:2] in numbers]
    if missing := set(numbers) - {path.name[:2] for path in chosen}:
        parser.error(f"no source for {', '.join(sorted(missing))} in notebooks/src")
    within_limits = True
    for path in chosen:
        notebook, seconds = built(path)
        content = sources.as_json(notebook)
        (HERE / f"{path.stem}.ipynb").write_bytes(content)
        allowed = notebook.metadata.rcnn.seconds
        print(f"{path.stem:<40} {seconds:6.1f} s of {allowed:3d}   {len(content) / 1e6:.2f} MB of 1", flush=True)
        within_limits &= seconds <= allowed and len(content) <= MOST_BYTES
    return 0 if within_limits else 1


if __name__ == "__main__":
    sys.exit(main())
