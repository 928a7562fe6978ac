"""Measure the time of detectors with public weights, and draw their average precision (AP) against it.

    python benchmarks/detectors.py                                          print the table; takes some minutes
    python benchmarks/detectors.py --results --plot docs/detectors.png      also write the results and the picture
    python benchmarks/detectors.py --threads 1 --quick                      one thread, few repetitions
    python benchmarks/detectors.py --threads 1 --cpu-time                   on a machine that does other work

The detectors are the four Faster R-CNNs that rcnn reads, in rcnn and in torchvision, and two small one-stage detectors
of torchvision, in torchvision and in ONNX Runtime. Each detects objects in a photo of the usual size of COCO, with its
default settings. The AP is the published one; the weights are random, because the time does not depend on their values.
For each detector, the script compares the detections of the libraries, and then times the libraries in turn. It
requires torch and torchvision, and for one-stage detectors in ONNX Runtime also onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pages
from matplotlib.figure import Figure
from speed import detector, inputs, machine, record, rows, sweeps, timing
from speed.agreement import same_detections
from speed.processors import processors
from speed.rows import Contest, Row, Settings
from speed.timing import Contestant, summary

import rcnn
from rcnn.plot import style

ROOM = 0.35  # fraction of the x axis that is free on the right side of the picture, where the names are
BUDGET, ROUNDS = 20.0, 5  # seconds and rounds for each detector
TWO_STAGES, ONE_STAGE = "two", "one"
PEERS = ("torch", "torchvision", "onnxruntime")


@dataclass(frozen=True)
class Detector:
    """A detector with public weights.

    name: its name in the table. ap: its published AP on COCO's validation images, in percent. stages: `TWO_STAGES` or
    `ONE_STAGE`. contest: makes its contest; the first contestant is the library that is compared with the others.
    """

    name: str
    ap: float
    stages: str
    contest: Callable[[Settings], Contest]


def two_stages(settings: Settings, network: detector.Network) -> Contest:
    """Return the contest of rcnn and torchvision on a photo, with the same weights."""
    photo = inputs.textured_image(*inputs.PHOTO)
    return rows.by_answer(detector.batch_contestants(settings, network, network.image, [photo])[:2], same_detections)


def one_stage(settings: Settings, name: str) -> Contest:
    """Return the contest of ONNX Runtime, if it takes part, and torchvision on a photo, with the same weights."""
    from speed import torch_peer

    photo = inputs.textured_image(*inputs.PHOTO)
    net = torch_peer.one_stage_detector(name, photo, inputs.NUM_CLASSES)
    contestants: list[Contestant] = [torch_peer.detecting("torchvision", net, [photo])]
    if "onnxruntime" in settings.peers:
        from speed import onnx_peer

        path = onnx_peer.export(net, inputs.PHOTO, settings.folder / f"{name}.onnx")
        contestants.insert(0, onnx_peer.with_onnxruntime(path, photo, settings.threads))
    return rows.by_answer(contestants, same_detections)


MOBILENET = dataclasses.replace(
    detector.MOBILENET,
    build=rcnn.faster_rcnn_mobilenet_v3_large_fpn,
    peer="fasterrcnn_mobilenet_v3_large_fpn",
)
ON_PHOTO = {"image": inputs.PHOTO, "resizes": True}
NETWORKS = {
    "mobilenet_v3_large_320_fpn": (22.8, detector.MOBILENET),
    "mobilenet_v3_large_fpn": (32.8, MOBILENET),
    "resnet50_fpn": (37.0, dataclasses.replace(detector.RESNET, **ON_PHOTO)),
    "resnet50_fpn_v2": (46.7, dataclasses.replace(detector.RESNET_V2, **ON_PHOTO)),
}
SINGLE = {"ssdlite320_mobilenet_v3_large": 21.3, "ssd300_vgg16": 25.1}
DETECTORS = [
    *(
        Detector(f"Faster R-CNN {name}", ap, TWO_STAGES, functools.partial(two_stages, network=network))
        for name, (ap, network) in NETWORKS.items()
    ),
    *(Detector(name, ap, ONE_STAGE, functools.partial(one_stage, name=name)) for name, ap in SINGLE.items()),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the detectors; print, write and draw the results; return 1 if some detections do not agree, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=processors(), help="for each library (default: all CPUs)")
    parser.add_argument("--quick", action="store_true", help="measure a rough result with few repetitions")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time instead of time; for one thread")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the results into this file")
    options = parser.parse_args(arguments)
    if "torchvision" not in rows.installed():
        parser.error("this script requires torch and torchvision: pip install -e '.[peers]'")
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time requires --threads 1")
    clock = "process_time" if options.cpu_time else timing.CLOCK
    with tempfile.TemporaryDirectory() as folder:
        budget, rounds = (0.0, 1) if options.quick else (BUDGET, ROUNDS)
        settings = Settings(frozenset(rows.installed()), options.threads, budget, rounds, Path(folder), clock)
        entries, holds = measure(settings)
    for one in entries.values():
        one["command"] += " --quick" * options.quick + " --cpu-time" * options.cpu_time
    print(pages.detectors({"detectors": entries}))
    if options.results and holds:
        record.update("detectors", entries, machine.line(PEERS))
    if options.plot:
        draw(entries).savefig(options.plot)
    return 0 if holds else 1


def measure(settings: Settings) -> tuple[dict[str, record.Entry], bool]:
    """Return the entries of all detectors for docs/results.json, and whether the libraries agree on each detector."""
    entries, holds = {}, True
    for one in DETECTORS:
        result = rows.run(Row(one.name, one.name, one.contest), settings)
        for answers in result.agreements.values():
            print(f"{one.name}: {answers.text}{'' if answers.holds else ' (!)'}", file=sys.stderr, flush=True)
        entries[one.name] = entry(one, result)
        holds = holds and result.holds
    return entries, holds


def entry(one: Detector, result: rows.Result) -> record.Entry:
    """Return the entry for docs/results.json. Its value is the time in the first library."""
    first, *_ = times = {name: float(f"{1000 * summary(found).median:.3g}") for name, found in result.samples.items()}
    command = f"python benchmarks/detectors.py --threads {result.threads}"
    more = {"ap": one.ap, "stages": one.stages, "library": first, "threads": result.threads, "times": times}
    return record.entry(times[first], "ms", command, **more)


def draw(entries: Mapping[str, record.Entry]) -> Figure:
    """Draw the AP of each detector against its time in each library, and a line between the times of a detector."""
    figure = style.figure(8.5, 5)
    ax = figure.subplots()
    for name, one in entries.items():
        slowest = max(one["times"].values())
        ax.plot([one["value"], slowest], [one["ap"]] * 2, color=style.FAINT, linewidth=style.LINE_WIDTH, zorder=1)
        ax.annotate(
            name,
            (slowest, one["ap"]),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.TEXT_SIZE + 1,
            color=style.INK,
        )
    for library in pages.LIBRARIES:
        points = [(one["times"][library], one["ap"]) for one in entries.values() if library in one["times"]]
        if points:
            color, marker, _ = sweeps.LOOKS[library]
            ax.scatter(*zip(*points, strict=True), color=color, marker=marker, s=40, label=library, zorder=2)
    every = [time for one in entries.values() for time in one["times"].values()]
    marks = sweeps.ticks(min(every), max(every))
    threads = next(iter(entries.values()))["threads"]
    unit = f"milliseconds for a photo of 480 x 640 pixels, {threads} thread{'s' * (threads > 1)}"
    style.graph(ax, unit, "AP on COCO")
    ax.set_xscale("log")
    ax.set_xticks(marks, [f"{mark:,g}" for mark in marks])
    ax.minorticks_off()
    ax.set_xlim(marks[0], marks[-1] * (marks[-1] / marks[0]) ** ROOM)
    ax.set_ylim(15, 50)
    ax.legend(loc="upper left", frameon=False, fontsize=style.TEXT_SIZE + 1, labelcolor=style.INK)
    style.title(ax, "Accuracy and time of detectors")
    return figure


if __name__ == "__main__":
    sys.exit(main())
