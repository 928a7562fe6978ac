"""Detectors with a planted fault, and what the doctor says about them."""

from __future__ import annotations

from typing import Any

import numpy as np

SEED = 13  # of the pages and of the variants of the faults
SHOWN = 2  # index of the page that is shown
CONFIDENT = 0.5  # least score of a detection that is shown
SOUND = "sound"
DESCRIPTIONS = {  # of the faults in `rcnn.checks.diagnosis`
    SOUND: "The detector has no fault.",
    "swapped axes": "The annotated boxes are stored as y1, x1, y2, x2.",
    "shuffled boxes": "Each page has the boxes and labels of another page.",
    "labels from 0": "The labels start at 0, which is the label of the background.",
    "large anchors": "The anchors are four times as large as in training.",
    "wrong normalisation": "The mean or the standard deviation of the pixels belongs to another range.",
    "untrained head": "The second stage has random weights and is frozen.",
}


def faults() -> list[dict[str, str]]:
    """Return the `Fault` messages of protocol.ts.

    Returns
    -------
    list of dict
        The messages, with the detector without a fault first.
    """
    return [{"name": name, "description": description} for name, description in DESCRIPTIONS.items()]


def diagnose(name: str) -> dict[str, Any]:
    """Plant a fault, ask the doctor, and return the `Diagnosis` of protocol.ts.

    Parameters
    ----------
    name : str
        Name of the fault.

    Returns
    -------
    dict
        The message.

    Raises
    ------
    ValueError
        If there is no fault of this name.
    """
    if name not in DESCRIPTIONS:
        raise ValueError(f"fault must be one of {', '.join(DESCRIPTIONS)}, got {name!r}")
    from rcnn import doctor  # not at the top: the page is ready sooner
    from rcnn.checks import diagnosis

    model, pages = diagnosis.PLANTED[name](np.random.default_rng(SEED))
    verdicts = doctor.examine(model, pages, progress=False)
    return {
        "fault": {"name": name, "description": DESCRIPTIONS[name]},
        "verdicts": [
            {"stage": one.stage, "number": one.number, "trouble": one.trouble, "remedy": one.remedy} for one in verdicts
        ],
        "text": doctor.report(verdicts),
        **_shown(model, pages),
        "sound": _shown(*diagnosis.PLANTED[SOUND](np.random.default_rng(SEED))),
    }


def _shown(model: Any, pages: Any) -> dict[str, Any]:
    """Return the page that is shown, and the confident detections on it."""
    image, target = pages[SHOWN]
    found = model.predict([image], score_thresh=CONFIDENT)[0]
    return {"page": {"image": image, **target}, **found}
