"""Copy measured numbers from docs/results.json, and the usage of each command, into README.md and docs/*.md.

    python benchmarks/pages.py             write the pages
    python benchmarks/pages.py --check     change nothing; print the pages that are out of date; exit with 1 if any are

This script writes only the text between two comments in a page:

    <!-- results: speed -->
    (the table)
    <!-- /results -->

or, inside a sentence, `<!-- results: value course.all -->193<!-- /results -->`. The word after "results:" is the name
of a function in `BLOCKS`, and the words after it are its arguments. With the option --results, these scripts write
docs/results.json: run.py, detectors.py, photos.py, roofline.py, tricks.py, torchvision_stages.py, coco_measure.py,
accuracy.py, prediction.py, scaling.py, jobs.py and setup_cost.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

from speed import record
from speed.record import Entry
from speed.report import number, table

from rcnn import cli

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- results: ([^>]+?) -->)(.*?)(<!-- /results -->)", re.DOTALL)
LEVELS = {"baseline": "baseline", "v3": "AVX2", "v4": "AVX-512"}  # the levels of kernels, in words for readers
LIBRARIES = ("rcnn", "ONNX Runtime", "torchvision")  # in the table and the picture of the detectors
SETUPS = ("demo", "tests")  # the keys in the section "setup" start with these names
COSTS = {"download": "the download size", "install": "the set-up time", "run": "the running time"}
Results = Mapping[str, Mapping[str, Entry]]


def pages() -> list[Path]:
    """Return the paths of the pages that may contain results."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def render(text: str, results: Results) -> str:
    """Return the text of a page with every marked block replaced by current results."""

    def block(match: re.Match[str]) -> str:
        begin, words, _, end = match.groups()
        name, *arguments = shlex.split(words)
        new = BLOCKS[name](results, *arguments)
        starts_a_line = match.start() == 0 or text[match.start() - 1] == "\n"
        return f"{begin}\n{new}\n{end}" if starts_a_line else f"{begin}{new}{end}"

    return BLOCK.sub(block, text)


# ---------------------------------------------------------------- blocks


def value(results: Results, path: str) -> str:
    """Return one number: the value of an entry ("course.all") or of a key inside it ("coco.seconds.value.0")."""
    section, name, *keys = path.split(".")
    found = results[section][name]
    for key in keys:
        found = found[int(key)] if isinstance(found, list) else found[key]
    return figure(found["value"] if isinstance(found, dict) else found)


def rows(results: Results, section: str, name: str, *chosen: str) -> str:
    """Return a recorded table: all rows, or only the rows that begin with one of `chosen`."""
    found = results[section][name]
    for start in chosen:
        if not any(row[0].startswith(start) for row in found["rows"]):
            raise ValueError(f"no row of {section}.{name} begins with {start!r}")
    body = [row for row in found["rows"] if not chosen or row[0].startswith(chosen)]
    return table([found["columns"], *body], right=found["right"])


def speed(results: Results, section: str = "speed") -> str:
    """Return the table of times in one section, with a line for each piece of work and each other library."""
    lines = [["work", "threads", "rcnn, ms", "other library", "its time, ms", "ratio", "agreement of the results"]]
    for one in results[section].values():
        work = one["work"] + (f", {one['gflops']} GFLOP/s" if "gflops" in one else "")
        first = [work, str(one["threads"]), number(one["value"])]
        for name, peer in one["peers"].items():
            lines.append([*first, name, number(peer["value"]), f"{peer['ratio']:.2f}", peer.get("answers", "")])
            first = [""] * 3
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    return table(lines, right=(1, 2, 4, 5))


def detectors(results: Results) -> str:
    """Return the table of detectors with public weights, in ascending order of their average precision."""
    lines = [["detector", "stages", "AP", *(f"{library}, ms" for library in LIBRARIES)]]
    for name, one in sorted(results["detectors"].items(), key=lambda item: item[1]["ap"]):
        times = [number(one["times"][library]) if library in one["times"] else "" for library in LIBRARIES]
        lines.append([name, one["stages"], f"{one['ap']:.1f}", *times])
    return table(lines, right=(2, 3, 4, 5))


def memory(results: Results) -> str:
    """Return the table of peak memory, with a line for each other library."""
    lines = [["memory", "rcnn, MiB", "other library", "its memory, MiB", "ratio"]]
    for one in results["memory"].values():
        first = [one["work"], f"{one['value']:.0f}"]
        for name, peer in one["peers"].items():
            lines.append([*first, name, f"{peer['value']:.0f}", f"{peer['ratio']:.2f}"])
            first = [""] * 2
    return table(lines, right=(1, 3, 4))


def comparison(results: Results) -> str:
    """Return the table in the README, which shows the agreement of the libraries, then their time and memory."""
    peers = ["torchvision", "ONNX Runtime", "OpenVINO"]
    detector, training = results["speed"]["detector"], results["speed"]["train-resnet"]
    found = [agreement(detector["peers"][name]["answers"]) for name in peers]
    lines = [["Faster R-CNN with ResNet-50-FPN, float32", "rcnn", *peers]]
    lines.append(["detections that match those of rcnn", "", *(count for count, _ in found)])
    lines.append(["largest difference in box coordinates, pixels", "", *(pixels for _, pixels in found)])
    for work, one, unit in (
        (f"detection, 800 x 1216 pixels, {detector['threads']} threads", detector, "ms"),
        (f"training step, 512 x 512 pixels, {training['threads']} threads", training, "ms"),
        ("peak process memory during detection", results["memory"]["memory-process"], "MiB"),
    ):
        measured = [one, *(one["peers"].get(name) for name in peers)]
        lines.append([work, *(f"{figure(each['value'])} {unit}" if each else "" for each in measured)])
    return table(lines, right=range(1, 5))


def agreement(text: str) -> tuple[str, str]:
    """Return ("1 of 2", "0.0002") from "1 of 2 detections, boxes within 2e-04 pixels, scores within 5e-06"."""
    found = re.fullmatch(r"(\d+ of \d+) detections, boxes within (\S+) pixels, scores within \S+", text)
    if found is None:
        raise ValueError(f'must be "N of M detections, boxes within X pixels, scores within Y", got {text!r}')
    return found[1], f"{float(found[2]):g}"


def setup(results: Results) -> str:
    """Return the table in the README that shows the cost of its two set-ups."""
    lines = [["command", "download", "set-up", "run"]]
    for name in SETUPS:
        units = {"download": "{} MB".format, "install": duration, "run": duration}
        measured = {key: results["setup"].get(f"{name}_{key}") for key in units}
        found = [units[key](one["value"]) if one else "not measured" for key, one in measured.items()]
        lines.append([f"the {name}", *found])
    return table(lines, right=(1, 2, 3))


def setup_machines(results: Results) -> str:
    """Return sentences that state on which machine each set-up was measured."""
    found: dict[str, list[str]] = {}
    for name in SETUPS:
        entries = {key: results["setup"][f"{name}_{key}"] for key in COSTS if f"{name}_{key}" in results["setup"]}
        if entries:
            part = "" if len(entries) == len(COSTS) else " and ".join(COSTS[key] for key in entries) + " of "
            found.setdefault(machine({"setup": entries}, "setup"), []).append(f"{part}the {name}")
    return _measured_on({text: " and ".join(subjects) for text, subjects in found.items()})


def accuracy_machines(results: Results) -> str:
    """Return sentences that state on which machine each row of the table of `accuracy` was measured."""
    found: dict[str, list[int]] = {}
    for row, (name, one) in enumerate(results["accuracy"].items(), start=1):
        found.setdefault(machine({"accuracy": {name: one}}, "accuracy"), []).append(row)
    return _measured_on({text: _rows_text(numbers) for text, numbers in found.items()})


def _rows_text(numbers: Sequence[int]) -> str:
    """Return "row 1", "rows 1 and 3", "rows 1 to 3" or "rows 1 to 3 and 5"; the numbers are in ascending order."""
    runs: list[list[int]] = []
    for row in numbers:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    parts = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"row{'s' * (len(numbers) > 1)} {text}"


def _measured_on(subjects: Mapping[str, str]) -> str:
    """Return one sentence for each machine; `subjects` maps a machine to what was measured on it, such as "row 4"."""
    sentences = []
    for text, subject in subjects.items():
        verb = "were" if " and " in subject or subject.startswith("rows ") else "was"
        which = "another" if sentences else "this"
        sentences.append(f"{subject[0].upper()}{subject[1:]} {verb} measured on {which} machine: {text}.")
    return " ".join(sentences)


def accuracy(results: Results) -> str:
    """Return the table of the average precision of trained detectors."""
    titles = {
        "digits_shipped": "digits, weights from the package",
        "digits": "digits, trained from random weights",
        "shapes": "shapes, trained from random weights",
        "folder": "a folder of 800 digit pages, trained from random weights",
        "bccd": "BCCD, 205 photographs of blood cells, trained from random weights",
        "bccd_mobilenet": "BCCD, a MobileNetV2 trained from ImageNet's weights",
        "bccd_resnet18": "BCCD, a ResNet-18 trained from random weights",
    }
    lines = [["detector", "AP at an IoU of 0.5", "training time", "command"]]
    for name, one in results["accuracy"].items():
        points = one["value"] if isinstance(one["value"], list) else [one["value"]]
        seconds = " to ".join(dict.fromkeys(map(figure, one["seconds"]))) + " s" if "seconds" in one else ""
        command = one["command"] if one["command"].startswith("the ") else f"`{one['command']}`"
        lines.append([titles[name], ", ".join(f"{point:.3f}" for point in points), seconds, command])
    return table(lines)


def machine(results: Results, section: str) -> str:
    """Return the machine on which a section was measured, or all machines if its entries differ, in plain words."""
    text = "; ".join(dict.fromkeys(one["machine"] for one in results[section].values()))
    for level, name in LEVELS.items():
        text = text.replace(f"kernels of level {level}", f"{name} kernels")
    return text


def command(results: Results, section: str) -> str:
    """Return the commands that measured a section."""
    return "; ".join(dict.fromkeys(one["command"] for one in results[section].values()))


def usage(results: Results, *words: str) -> str:
    """Return the usage of a command as printed by its option --help."""
    del results
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}),
    ):
        cli.main([*words, "--help"])
    return f"```text\n{printed.getvalue().split(chr(10) * 2)[0]}\n```"


BLOCKS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        value,
        rows,
        speed,
        detectors,
        memory,
        comparison,
        setup,
        setup_machines,
        accuracy,
        accuracy_machines,
        machine,
        command,
        usage,
    )
}


def figure(number: float) -> str:
    """Return a number formatted for a sentence, such as 1,297 or 0.985 or 2e-16."""
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def duration(seconds: float) -> str:
    """Return a duration as text, in seconds up to 90 s and in minutes above."""
    return f"{seconds:.0f} s" if seconds <= 90 else f"{seconds / 60:.0f} min"


# ---------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; return the exit status: 1 if --check finds a page that is out of date, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is out of date")
    options = parser.parse_args(arguments)
    results = record.read()
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = render(text, results)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if not options.check:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'differs from docs/results.json' if options.check else 'written'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
