"""The viewer: an HTML file to leaf through the images of a data set, with its objects, detections and errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from rcnn._files import write_whole
from rcnn.cli.html.entries import MIN_SCORE, Box, Entry, FirstImages, above, make_entries
from rcnn.cli.html.report import measure
from rcnn.cli.html.template import as_json, as_uri, fill, read_file, readable, text
from rcnn.data import Dataset
from rcnn.evaluate import KINDS, error_kinds
from rcnn.model import FasterRCNN

MAX_EMBEDDED = 50  # images inside the HTML file; if there are more, all of them are files in a folder beside it
NUMBERED = re.compile(r"\d{6}\.jpg")


def write_viewer(
    path: Path,
    title: str,
    datasets: Mapping[str, Dataset],
    model: FasterRCNN | None = None,
    weights: str = "",
    min_score: float = MIN_SCORE,
    max_images: int | None = None,
    notes: Sequence[str] = (),
    progress: bool = True,
) -> Path | None:
    """Write the viewer of a data set.

    Images are reduced to a longest side of 800 pixels. Up to 50 images are part of the HTML file. More images are
    written to a folder beside it: for view.html, to view_files.

    Parameters
    ----------
    path : Path
        The HTML file to write; an existing file is replaced.
    title : str
        Title of the page.
    datasets : mapping from str to Dataset
        The splits of the data set, by name. They must have the same classes.
    model : FasterRCNN, optional
        A detector whose detections and errors the viewer shows.
    weights : str
        Name of the detector.
    min_score : float
        Only detections above this score are shown, and compared with the objects.
    max_images : int, optional
        The viewer shows at most this many images of each split, from its start.
    notes : sequence of str
        Sentences to show below the images.
    progress : bool
        If True, show progress bars.

    Returns
    -------
    Path or None
        The folder of the images, or None if they are part of the HTML file.

    Raises
    ------
    OSError, ValueError
        If an image or an annotation is invalid, if the detector does not know a class of the data set, or if a file
        cannot be written.
    """
    classes = next(iter(datasets.values())).classes
    counts = {split: min(len(dataset), max_images or len(dataset)) for split, dataset in datasets.items()}
    folder = path.with_name(f"{path.stem}_files") if sum(counts.values()) > MAX_EMBEDDED else None
    if folder is not None:
        folder.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    scores = {}
    for split, dataset in datasets.items():
        part = FirstImages(dataset, counts[split])
        detections, errors = None, None
        if model is not None:
            measured = measure(model, part, split, progress, batch_size=1)
            scores[split] = measured.result.mean_ap
            detections = [above(detected, min_score) for detected in measured.detections]
            errors = error_kinds(detections, measured.targets, len(classes))
        entries = make_entries(part, range(len(part)), detections, errors)
        for entry in tqdm(
            entries, desc="write", unit="image", total=len(part), disable=None if progress else True, dynamic_ncols=True
        ):
            images.append(_describe(entry, split, _store(entry, len(images), folder)))
    if folder is not None:
        _remove_old(folder, len(images))
    content = {
        "classes": [readable(name) for name in classes],
        "kinds": list(KINDS[1:]) if model is not None else [],
        "splits": list(datasets),
        "images": images,
    }
    page = fill(
        "viewer.html",
        {
            "title": text(title),
            "summary": text(_summary(datasets, counts, scores, weights, min_score)),
            "notes": "".join(f"<li>{text(note)}</li>" for note in notes),
            "data": as_json(content),
            "script": read_file("viewer.js"),
        },
    )
    write_whole(path, page)
    return folder


def _store(entry: Entry, number: int, folder: Path | None) -> str:
    """Return the address of an image: its whole content, or that of a new file in the folder."""
    if folder is None:
        return as_uri(entry.jpeg, "jpeg")
    name = f"{number:06}.jpg"
    write_whole(folder / name, entry.jpeg, flush=False)
    return f"{quote(folder.name, errors='surrogateescape')}/{name}"


def _remove_old(folder: Path, count: int) -> None:
    """Remove the images of an earlier, longer viewer from the folder."""
    for path in folder.iterdir():
        if NUMBERED.fullmatch(path.name) and int(path.stem) >= count and not path.is_symlink():
            path.unlink()


def _describe(entry: Entry, split: str, address: str) -> dict[str, Any]:
    """Return an image as the script reads it."""
    height, width = entry.size
    return {
        "name": readable(entry.name),
        "split": split,
        "address": address,
        "width": width,
        "height": height,
        "errors": entry.errors,
        "objects": [_describe_box(box) for box in entry.objects],
        "detections": [_describe_box(box) for box in entry.detections],
    }


def _describe_box(box: Box) -> dict[str, Any]:
    score = {} if box.score is None else {"score": box.score}
    return {"corners": box.corners, "label": box.label, "kind": box.kind, "wrong": box.wrong, **score}


def _summary(
    datasets: Mapping[str, Dataset],
    counts: Mapping[str, int],
    scores: Mapping[str, float],
    weights: str,
    min_score: float,
) -> str:
    """Return the number of images and the average precision of each split, in words."""
    parts = []
    for split, dataset in datasets.items():
        total = f"{counts[split]:,}" if counts[split] == len(dataset) else f"{counts[split]:,} of {len(dataset):,}"
        precision = f", AP50 {scores[split]:.3f}" if split in scores else ""
        parts.append(f"{split}: {total} image{'s' * (len(dataset) != 1)}{precision}")
    return "; ".join(parts + [f"detections of {weights} above a score of {min_score:g}"] * bool(scores))
