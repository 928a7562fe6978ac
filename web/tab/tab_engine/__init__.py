"""The engine of the tab: it answers the questions of the page, as web/tab/protocol.ts defines them.

    engine = Engine()
    text, arrays = engine.call("page", "[0]")

An answer is a text in JSON and a list of arrays. In the text, an array is {"$array": index, "shape": [...]}. The worker
puts the arrays in their places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import rcnn
from rcnn import data
from tab_engine import arithmetic, faults
from tab_engine.stages import Detection, Settings
from tab_engine.training import STEPS, Training

NUM_PAGES = 100
MOST_CHUNK = 20  # steps in a chunk
ARRAY = "$array"


class Engine:
    """The state of the tab: the detectors, the last detection and the training."""

    def __init__(self) -> None:
        self.digits = rcnn.load_digits()
        self.pages = data.Digits(NUM_PAGES, split="val")
        self.training: Training | None = None
        self.detection: Detection | None = None
        self.commands: dict[str, Callable[..., Any]] = {
            "ready": self.ready,
            "page": self.page,
            "detect": self.detect,
            "cell": self._about(arithmetic.cell),
            "anchor": self._about(arithmetic.anchor),
            "roi": self._about(arithmetic.roi),
            "bin": self._about(arithmetic.bin_of),
            "score": self._about(arithmetic.score),
            "path": self._about(arithmetic.path),
            "startTraining": self.start_training,
            "trainSteps": self.train_steps,
            "breakIt": faults.diagnose,
        }

    def call(self, command: str, args: str, arrays: Sequence[Any] = ()) -> tuple[str, list[np.ndarray]]:
        """Answer a question.

        Parameters
        ----------
        command : str
            Name of the command.
        args : str
            Its arguments, a list in JSON.
        arrays : sequence of buffers
            The bytes of the arrays in the arguments.

        Returns
        -------
        str
            The answer in JSON.
        list of array
            The arrays of the answer: contiguous, of float32, int32 or uint8.

        Raises
        ------
        ValueError
            If the question has no answer. The message is one line.
        """
        if command not in self.commands:
            raise ValueError(f"command must be one of {', '.join(self.commands)}, got {command!r}")
        answer = self.commands[command](*unpack(json.loads(args), arrays))
        packed: list[np.ndarray] = []
        return json.dumps(pack(answer, packed), allow_nan=False, separators=(",", ":")), packed

    def _about(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that asks about the last detection."""

        def ask(*args: Any) -> Any:
            if self.detection is None:
                raise ValueError("there is no detection yet; call detect first")
            return function(self.detection, *args)

        return ask

    # ------------------------------------------------------------------ commands

    def ready(self) -> dict[str, Any]:
        """Return the facts about the engine that do not change, and warm up.

        Returns
        -------
        dict
            The `Ready` of protocol.ts, without the fields that the worker knows.
        """
        settings = Settings.of(self.digits)
        Detection(self.digits, self.pages[0][0], settings).overview()  # the first pass is slower
        return {
            "version": rcnn.__version__,
            "classes": {"digits": list(self.pages.classes), "trained": list(data.Shapes.classes)},
            "pages": len(self.pages),
            "pageSize": list(self.pages.size),
            "defaults": settings.as_message(),
            "faults": faults.faults(),
        }

    def page(self, index: int) -> dict[str, Any]:
        """Return a page of digits.

        Parameters
        ----------
        index : int
            Index of the page.

        Returns
        -------
        dict
            The `Page` of protocol.ts.
        """
        arithmetic.check("page", index, len(self.pages))
        image, target = self.pages[index]
        return {"image": image, **target}

    def detect(self, image: np.ndarray, settings: dict[str, Any], detector: str = "digits") -> dict[str, Any]:
        """Run all stages on an image.

        Parameters
        ----------
        image : (H, W, 3) or (H, W) uint8 array
            The image.
        settings : dict
            The `Settings` of protocol.ts.
        detector : {"digits", "trained"}
            The detector.

        Returns
        -------
        dict
            The `Overview` of protocol.ts.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError("the image must be an array (H, W, 3) or (H, W) of bytes")
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        side = self.digits.config.min_size
        if image.shape != (side, side, 3):
            raise ValueError(f"the image must have shape ({side}, {side}, 3), got {image.shape}")
        model = {"digits": self.digits, "trained": self.training and self.training.model}.get(detector)
        if model is None:
            raise ValueError('the detector must be "digits", or "trained" after startTraining')
        detection = Detection(model, image, Settings.from_message(settings))
        answer = detection.overview()
        self.detection = detection
        return answer

    def start_training(self, seed: int, steps: int = STEPS) -> dict[str, Any]:
        """Start to train a detector of shapes.

        Parameters
        ----------
        seed : int
            The seed.
        steps : int
            The number of steps of the whole run.

        Returns
        -------
        dict
            The `TrainingStart` of protocol.ts.
        """
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer in 0 .. 2^32 - 1, got {seed!r}")
        self.training = Training(seed, steps)
        return self.training.start()

    def train_steps(self, count: int) -> dict[str, Any]:
        """Train for some steps.

        Parameters
        ----------
        count : int
            The number of steps.

        Returns
        -------
        dict
            The `TrainingChunk` of protocol.ts.
        """
        if self.training is None:
            raise ValueError("there is no training yet; call startTraining first")
        if not isinstance(count, int) or not 1 <= count <= MOST_CHUNK:
            raise ValueError(f"count must be an integer in 1 .. {MOST_CHUNK}, got {count!r}")
        return self.training.run(count)


# ---------------------------------------------------------------------- messages


def pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value in which every array is replaced by its place in a list, which receives the array.

    Parameters
    ----------
    value : object
        An answer: dicts, lists, numbers, text and arrays.
    arrays : list of array
        The list that receives the arrays.

    Returns
    -------
    object
        The same value without arrays.
    """
    if isinstance(value, dict):
        return {name: pack(one, arrays) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(one, arrays) for one in value]
    if not isinstance(value, np.ndarray):
        return value
    kind = np.float32 if value.dtype.kind == "f" else np.uint8 if value.dtype == np.uint8 else np.int32
    arrays.append(np.ascontiguousarray(value, kind).reshape(-1))
    return {ARRAY: len(arrays) - 1, "shape": list(value.shape)}


def unpack(value: Any, arrays: Sequence[Any]) -> Any:
    """Return a value in which every place of an array is replaced by the array.

    Parameters
    ----------
    value : object
        The value, from JSON.
    arrays : sequence of buffers
        The bytes of the arrays.

    Returns
    -------
    object
        The value with arrays of bytes.
    """
    if isinstance(value, list):
        return [unpack(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if ARRAY not in value:
        return {name: unpack(one, arrays) for name, one in value.items()}
    flat = np.frombuffer(arrays[value[ARRAY]], np.uint8)
    shape = value["shape"]
    if not all(isinstance(side, int) and side >= 0 for side in shape) or int(np.prod(shape)) != flat.size:
        raise ValueError(f"an array of {flat.size} bytes cannot have the shape {shape}")
    return flat.reshape(shape).copy()
