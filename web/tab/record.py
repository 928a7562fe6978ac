"""Record answers of the engine for a page that plays them back, in a browser that cannot run the engine.

    python web/tab/record.py OUT

The file contains one page of digits with some settings, a training of shapes and all faults. It is compressed with
gzip. Its content begins with the length of a text in JSON (4 bytes, little endian), then come the text and the arrays.
In the text, "questions" maps each question to an index in "answers". An array in an answer is
{"$array": index, "shape": [...]}. Entry `index` of "arrays" has the kind of the array, its offset behind the text and
its number of elements:

    "u1"   bytes
    "i2"   16-bit integers
    "i4"   32-bit integers
    "f4"   32-bit floats
    "q2"   floats that are stored as low + step * k, where k is a 16-bit unsigned integer

Bytes of equal significance stand together (all first bytes, then all second bytes, and so on), which compresses better.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tab_engine import ARRAY, Engine, pack  # not installed: Python finds it beside this script

PAGE = 0
STEPS = 600  # of the recorded training
SEED = 0
CHUNK = 10  # steps between two previews of the engine
LARGE, LARGEST = 256, 1024  # arrays of floats with more elements are stored with 2^16 and with 2^12 different values
MOST_BYTES = 1_500_000


class Recorder:
    """Questions to an engine, and its answers."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.questions: dict[str, int] = {}
        self.answers: dict[str, int] = {}  # in JSON; the values are their indices
        self.entries: list[dict[str, Any]] = []
        self.data = bytearray()
        self._known: dict[bytes, int] = {}

    def ask(self, command: str, *args: Any, key: str | None = None) -> tuple[Any, list[np.ndarray]]:
        """Ask the engine, and record the answer if there is a key. Return the answer and its arrays.

        Parameters
        ----------
        command : str
            Name of the command.
        *args : object
            Its arguments.
        key : str, optional
            The question in the file.

        Returns
        -------
        object, list of array
            The answer, with places of arrays, and the arrays.
        """
        given: list[np.ndarray] = []
        text, arrays = self.engine.call(command, json.dumps(pack(list(args), given)), given)
        answer = json.loads(text)
        if key is not None:
            self.record(key, answer, arrays)
        return answer, arrays

    def record(self, key: str, answer: Any, arrays: Sequence[np.ndarray]) -> None:
        """Record an answer.

        Parameters
        ----------
        key : str
            The question.
        answer : object
            The answer, with places of arrays.
        arrays : sequence of array
            The arrays.
        """
        answer = self._moved(answer, arrays)
        self.questions[key] = self.answers.setdefault(json.dumps(answer, separators=(",", ":")), len(self.answers))

    def _moved(self, answer: Any, arrays: Sequence[np.ndarray]) -> Any:
        """Return an answer whose arrays are stored in the file."""
        if isinstance(answer, list):
            return [self._moved(one, arrays) for one in answer]
        if not isinstance(answer, dict):
            return answer
        if ARRAY in answer:
            return {**answer, ARRAY: self._store(arrays[answer[ARRAY]])}
        return {name: self._moved(one, arrays) for name, one in answer.items()}

    def _store(self, array: np.ndarray) -> int:
        """Return the index of an array in the file. Equal arrays are stored once."""
        entry, values = _encode(array)
        code = json.dumps(entry).encode() + values.tobytes()
        if code not in self._known:
            self._known[code] = len(self.entries)
            self.entries.append({**entry, "offset": len(self.data), "length": array.size})
            self.data += values.reshape(-1, 1).view(np.uint8).T.tobytes()
        return self._known[code]

    def content(self) -> bytes:
        """Return the content of the file.

        Returns
        -------
        bytes
            The content, compressed.
        """
        parts = {"questions": self.questions, "arrays": self.entries}
        listed = f'{json.dumps(parts, separators=(",", ":"))[:-1]},"answers":[{",".join(self.answers)}]}}'
        text = listed.encode()
        return gzip.compress(struct.pack("<I", len(text)) + text + bytes(self.data), 9, mtime=0)


def _encode(array: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Return the entry of an array without its place, and its values as they are stored."""
    if array.dtype == np.uint8:
        return {"kind": "u1"}, array
    if array.size and np.abs(array).max() < 2**15 and (array == np.rint(array)).all():
        return {"kind": "i2", "float": array.dtype.kind == "f"}, array.astype("<i2")
    if array.dtype.kind == "i":
        return {"kind": "i4"}, array.astype("<i4")
    if array.size <= LARGE:
        return {"kind": "f4"}, array.astype("<f4")
    low, high = float(array.min()), float(array.max())
    step = (high - low) / ((2**16 if array.size <= LARGEST else 2**12) - 1)
    return {"kind": "q2", "low": low, "step": step}, np.rint((array - low) / step).astype("<u2")


def variants(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings to record: the given ones, and others that differ from them in one knob.

    Parameters
    ----------
    settings : dict
        The `Settings` of protocol.ts.

    Returns
    -------
    list of dict
        The settings.
    """
    changes: list[tuple[str, list[Any]]] = [
        ("scoreThreshold", [0.3, 0.5, 0.7, 0.9]),
        ("nmsThreshold", [0.1, 0.3, 0.7, 0.9]),
        ("proposalNmsThreshold", [0.3, 0.5, 0.9]),
        ("proposals", [5, 10, 20, 50, 200]),
        ("pooling", ["pool"]),
        ("anchorSizes", [[size * factor for size in settings["anchorSizes"]] for factor in (0.5, 2)]),
        ("anchorRatios", [[1, 1], [0.6, 1]]),
    ]
    return [settings, *({**settings, name: value} for name, values in changes for value in values)]


def record(report: Callable[[str], None] = lambda line: None) -> bytes:
    """Return the content of the file.

    Parameters
    ----------
    report : callable
        Function that is called with a line of text after each part.

    Returns
    -------
    bytes
        The content, compressed.
    """
    recorder = Recorder()
    ready, _ = recorder.ask("ready")
    settings = variants(ready["defaults"])
    facts = {"recorded": True, "recordedSettings": settings, "recordedPages": [PAGE], "milliseconds": 0}
    recorder.record("load", {**ready, **facts}, ())
    _, arrays = recorder.ask("page", PAGE, key=f"page [{PAGE}]")
    image = arrays[0].reshape(*ready["pageSize"], 3)
    for index, one in enumerate(settings):
        overview, arrays = recorder.ask("detect", image, one)
        found = overview["detectionRois"]["shape"][0]
        if index == 0:
            _record_details(recorder, overview, arrays)
        else:
            _keep_rois(overview, arrays, max(found, 1))
        recorder.record(f"detect [{PAGE},{index}]", overview, arrays)
        for detection in range(found):
            answer, of_path = recorder.ask("path", detection)
            del answer["pixels"]  # the player takes them from the page
            recorder.record(f"path [{PAGE},{index},{detection}]", answer, of_path)
    report("recorded the detections")
    _record_training(recorder)
    report("recorded the training")
    for fault in ready["faults"]:
        recorder.ask("breakIt", fault["name"], key=f"breakIt {json.dumps([fault['name']], separators=(',', ':'))}")
    return recorder.content()


def _keep_rois(overview: dict[str, Any], arrays: list[np.ndarray], count: int) -> None:
    """Keep the sample points and pooled features of the first RoIs only: those of the detections."""
    for name in ("shown", "samples", "pooled"):
        place = overview[name]
        place["shape"][0] = count
        arrays[place[ARRAY]] = arrays[place[ARRAY]][: int(np.prod(place["shape"]))]


def _record_details(recorder: Recorder, overview: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """Record the RoIs of the first settings, and the anchors, cells, bins and scores from which they are made."""

    def ask(command: str, *args: int) -> tuple[Any, list[np.ndarray]]:
        where = ",".join(map(str, (PAGE, 0, *args)))
        return recorder.ask(command, *args, key=f"{command} [{where}]")

    origins = arrays[overview["proposalAnchors"][ARRAY]].tolist()
    cells = set()
    for index, anchor in enumerate(origins):
        answer, _ = ask("anchor", anchor)
        cells.add((answer["level"], answer["row"], answer["column"]))
        ask("roi", index)
    for cell in sorted(cells):
        answer, of_cell = ask("cell", *cell)
        for anchor in of_cell[answer["anchors"][ARRAY]].tolist():
            ask("anchor", anchor)
    shown = arrays[overview["shown"][ARRAY]].tolist()
    pooled = arrays[overview["pooled"][ARRAY]].reshape(overview["pooled"]["shape"])  # (R, C, ph, pw)
    found = overview["detectionRois"]["shape"][0]  # their RoIs come first
    for index, (roi, features) in enumerate(zip(shown, pooled, strict=True)):
        channel = int(features.max(axis=(1, 2)).argmax())
        for row, column in np.ndindex(features.shape[1:]) if index < found else ():
            ask("bin", roi, row, column, channel)
        for label in range(overview["classScores"]["shape"][1]):
            ask("score", roi, label)


def _record_training(recorder: Recorder) -> None:
    """Record a training: its start, the losses of all steps, the previews and the scores."""
    recorder.ask("startTraining", SEED, STEPS, key="startTraining")
    losses, rates, scores, previews = [], [], [], 0
    is_done = False
    while not is_done:
        chunk, arrays = recorder.ask("trainSteps", CHUNK)
        is_done = chunk["done"]
        losses.append(arrays[chunk["losses"][ARRAY]].reshape(chunk["losses"]["shape"]))
        rates.append(arrays[chunk["learningRates"][ARRAY]])
        if chunk["ap"] is not None:
            scores.append(chunk["ap"])
        if chunk["preview"] is not None:
            recorder.record(f"preview {previews}", chunk["preview"], arrays)
            previews += 1
    given: list[np.ndarray] = []
    history = {"losses": np.concatenate(losses), "learningRates": np.concatenate(rates), "scores": scores}
    recorder.record("training", {**pack(history, given), "previews": previews}, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    content = record(lambda line: print(line, file=sys.stderr))
    if len(content) > MOST_BYTES:
        print(f"the recording has {len(content)} bytes, more than {MOST_BYTES}", file=sys.stderr)
        return 1
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
