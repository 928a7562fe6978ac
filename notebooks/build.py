"""Build the notebooks of the course with solutions, run them, and store their outputs.

    python notebooks/build.py           all notebooks
    python notebooks/build.py 04 09     notebooks 04 and 09

Each notebook is built from its source in rcnn/course/src. Edit only the source. For each notebook, the script prints
the running time and the time limit in the source. If a notebook is too slow, its file is too large, or one of its
images has no alternative text, the exit status is 1.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import nbclient

from rcnn.course import figures, sources

HERE = Path(__file__).parent
MOST_BYTES = 1_000_000
WIDGET = "application/vnd.jupyter.widget-view+json"  # removed: a stored widget does not work, but its still plot does
CELL_SECONDS = 600  # a cell that runs longer is an error


def execute(notebook, allow_errors=False):
    """Run a notebook in a temporary folder, store the outputs in the notebook, and return the seconds that it took.

    The result is the elapsed time or the CPU time, whichever is smaller, because a busy machine makes a notebook wait.
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
    notebook.metadata.language_info = {"name": "python"}  # without the Python version
    return min(elapsed, _cpu_seconds() - cpu_start)


def _cpu_seconds():
    """Return the CPU time of all finished child processes, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def built(source):
    """Return the notebook of a source after running it, and the seconds that it took."""
    notebook = sources.read(source)
    return notebook, execute(notebook)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="number of a notebook, two digits (default: all)")
    numbers = parser.parse_args().numbers
    chosen = [path for path in sources.paths() if not numbers or path.name[:2] in numbers]
    if missing := set(numbers) - {path.name[:2] for path in chosen}:
        parser.error(f"no source found in rcnn/course/src for {', '.join(sorted(missing))}")
    within_limits = True
    for path in chosen:
        notebook, seconds = built(path)
        content = sources.as_json(notebook)
        (HERE / f"{path.stem}.ipynb").write_bytes(content)
        allowed = notebook.metadata.rcnn.seconds
        print(f"{path.stem:<40} {seconds:6.1f} s of {allowed:3d}   {len(content) / 1e6:.2f} MB of 1", flush=True)
        within_limits &= seconds <= allowed and len(content) <= MOST_BYTES
        if missing := figures.images_without_text(notebook):
            print(
                f"    no alternative text for {len(missing)} images, in the cells {', '.join(dict.fromkeys(missing))}"
            )
            within_limits = False
    return 0 if within_limits else 1


if __name__ == "__main__":
    sys.exit(main())
