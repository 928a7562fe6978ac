"""The explorers of the book: elements of HTML that need no Python, with data from rcnn's digit detector."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import rcnn
from rcnn import data, evaluate
from rcnn.course.widgets.pool_compare import hills

WEB = Path(__file__).parents[2] / "web"
SHOWN = 8  # pages whose pictures are stored
START, FIRST = 31, 28  # sheet that notebook 12 shows, and first sheet whose picture is stored
QUALITY = 60  # of these pictures


def install(folder: Path) -> None:
    """Compile the explorers with npm's esbuild, in the version of the lock file, and write them to a folder.

    Parameters
    ----------
    folder : Path
        Folder for the script and the style sheet; created if missing.
    """
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=WEB, check=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "run", "--silent", "build", "--", f"--outfile={folder.resolve() / 'explorers.js'}"]
    subprocess.run([*command, "--log-level=warning"], cwd=WEB, check=True)
    shutil.copy(WEB / "src" / "explorers.css", folder)


def element(name: str, still: str = "") -> str:
    """Return the element of an explorer with its data.

    Parameters
    ----------
    name : str
        Name of the explorer in `rcnn.course.widgets`, such as "box_iou".
    still : str, optional
        HTML to show if the browser runs no scripts; the script of the explorer replaces it.

    Returns
    -------
    str
        HTML.
    """
    tag = f"rcnn-{name.replace('_', '-')}"
    content = json.dumps(DATA[name](), separators=(",", ":")).replace("</", "<\\/")
    return f'<{tag}>\n<script type="application/json">{content}</script>\n{still}\n</{tag}>'


def box_iou() -> dict[str, Any]:
    """Return the data of the explorer of IoU."""
    return {"side": 20}


def anchor_painter() -> dict[str, Any]:
    """Return the data of the explorer of anchors: the objects of 80 pages, and the pictures of some."""
    pages = data.Digits(80, seed=4)
    items = [pages[i] for i in range(len(pages))]
    return {
        "size": items[0][0].shape[:2],
        "pages": [rounded(target["boxes"]) for _, target in items],
        "images": [picture(image) for image, _ in items[:SHOWN]],
        "first": 3,
    }


def nms_stepper() -> dict[str, Any]:
    """Return the data of the explorer of NMS: twelve candidates of a page."""
    image, _ = data.Digits(split="val")[4]
    trace = rcnn.load_digits().trace([image])
    few = np.argsort(-trace.candidate_scores[0], kind="stable")[:60:5]  # (12,)
    return {
        "boxes": rounded(trace.candidates[0][few]),
        "scores": rounded(trace.candidate_scores[0][few], 5),
        "threshold": 0.5,
        "image": picture(image),
        "size": image.shape[:2],
    }


def pool() -> dict[str, Any]:
    """Return the data of the explorer of pooling: a feature map."""
    return {"map": rounded(hills(), 4)}


def score_threshold() -> dict[str, Any]:
    """Return the data of the explorer of the score threshold: all detections of one digit on 40 sheets."""
    pages = data.Digits(40, split="val")
    items = [sheet(pages, i) for i in range(len(pages))]
    targets = [target for _, target in items]
    shown = slice(FIRST, FIRST + SHOWN)
    label = pages.classes.index("8")
    detections = rcnn.load_digits().predict([image for image, _ in items])
    result = evaluate.evaluate_detections(detections, targets, len(pages.classes))
    found = [
        (float(score), page, box)
        for page, one in enumerate(detections)
        for box, score, of in zip(one["boxes"], one["scores"], one["labels"], strict=True)
        if of == label
    ]
    found.sort(key=lambda each: -each[0])
    correct = np.diff(result.recall[label], prepend=0) > 0
    return {
        "name": "8",
        "size": items[0][0].shape[:2],
        "first": FIRST,
        "start": START,
        "images": [picture(image) for image, _ in items[shown]],
        "objects": [rounded(target["boxes"][target["labels"] == label]) for target in targets[shown]],
        "total": int(sum((target["labels"] == label).sum() for target in targets)),
        "ranked": [
            {"page": page, "box": rounded(box), "score": round(score, 4), "correct": bool(right)}
            for (score, page, box), right in zip(found, correct, strict=True)
        ],
    }


def sheet(pages: data.Dataset, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return two pages at once, as notebook 12 does: each pixel is the darker one of the two."""
    (one, first), (other, second) = pages[i], pages[(i + 1) % len(pages)]
    return np.minimum(one, other), {key: np.concatenate([first[key], second[key]]) for key in first}


DATA: dict[str, Callable[[], dict[str, Any]]] = {
    "box_iou": box_iou,
    "anchor_painter": anchor_painter,
    "nms_stepper": nms_stepper,
    "pool_compare": pool,
    "score_threshold": score_threshold,
}


def rounded(values: np.ndarray, digits: int = 2) -> Any:
    """Return an array as lists of numbers with few decimals."""
    return np.round(np.asarray(values, float), digits).tolist()


def picture(image: np.ndarray) -> str:
    """Return an image (H, W, 3) as an address that contains the picture."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
