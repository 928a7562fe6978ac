"""A training in small chunks, between which the engine answers other questions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

import rcnn
from rcnn import boxes, data, evaluate, nn, train
from rcnn.train.loader import Loader
from rcnn.train.order import Order
from tab_engine.stages import Settings

STEPS = 1300  # of a whole run, as in `rcnn.train.RECIPES`
MOST_STEPS = 3000
PAGES = 800  # different training pages; each is drawn once, and then kept
VAL_PAGES, VAL_EVERY = 40, 100  # pages for the AP, and steps between two measurements
FIXED_PAGE = 49  # the page of the previews; it has six objects of all four classes
VAL_BATCH = 4  # pages that are measured in place of a step
PREVIEW_EVERY = 10  # steps between two previews
SHOWN = 20  # proposals of a preview
FOUND = 0.5  # IoU at which a proposal finds an object
LOSSES = ("rpn_cls_loss", "rpn_reg_loss", "roi_cls_loss", "roi_reg_loss", "total_loss")


class Kept:
    """A data set that keeps every page, because drawing a page takes longer than reading it.

    Parameters
    ----------
    pages : Dataset
        The data set.
    """

    def __init__(self, pages: data.Dataset) -> None:
        self.pages, self.classes = pages, pages.classes
        self._kept: dict[int, tuple[np.ndarray, dict[str, np.ndarray]]] = {}

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if index not in self._kept:
            self._kept[index] = self.pages[index]
        return self._kept[index]


PAGES_TO_LEARN, PAGES_TO_MEASURE = Kept(data.Shapes(PAGES)), Kept(data.Shapes(FIXED_PAGE + 1, split="val"))


class Training:
    """A detector of shapes, trained from random weights.

    Parameters
    ----------
    seed : int
        Seed for the weights, the order of the pages and the sampling.
    steps : int
        Number of steps of the whole run.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, seed: int, steps: int = STEPS) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"steps must be in 1 .. {MOST_STEPS}, got {steps}")
        self.recipe = replace(train.RECIPES["shapes"], steps=steps, seed=seed)
        rcnn.seed(seed)
        self.model = rcnn.faster_rcnn_small(PAGES_TO_LEARN.classes)
        self.optimizer = self.recipe.make_optimizer(self.model)
        self.order = Order(len(PAGES_TO_LEARN), self.recipe.batch_size, seed)
        self.loader = Loader(PAGES_TO_LEARN, self.model.make_batch)
        self.page, self.target = PAGES_TO_MEASURE[FIXED_PAGE]
        self.step = 0
        self._detections: list[dict[str, np.ndarray]] | None = None  # of a measurement that is not complete
        self._measured = -1  # the step of the last AP

    def start(self) -> dict[str, Any]:
        """Return the `TrainingStart` of protocol.ts.

        Returns
        -------
        dict
            The message.
        """
        return {
            "steps": self.recipe.steps,
            "batchSize": self.recipe.batch_size,
            "lossNames": list(LOSSES),
            "page": {"image": self.page, **self.target},
            "preview": self.preview(),
        }

    def run(self, count: int) -> dict[str, Any]:
        """Train for some steps, or measure the AP in their place, and return the `TrainingChunk` of protocol.ts.

        Parameters
        ----------
        count : int
            The number of steps.

        Returns
        -------
        dict
            The message.
        """
        start = time.perf_counter()
        losses, rates = [], []
        score = preview = None
        for _ in range(count):
            if self._is_measuring():
                score = self._measure() or score
            elif self.step < self.recipe.steps:
                losses.append(self._learn())
                rates.append(self.recipe.lr_at(self.step - 1))
                if self.step % PREVIEW_EVERY == 0 or self.step == self.recipe.steps:
                    preview = self.preview()
        return {
            "step": self.step,
            "done": self.step == self.recipe.steps and self._measured == self.step,
            "losses": np.array(losses).reshape(-1, len(LOSSES)),
            "learningRates": np.array(rates),
            "ap": score,
            "preview": preview,
            "milliseconds": 1e3 * (time.perf_counter() - start),
        }

    def _learn(self) -> list[float]:
        """Run one training step, and return its losses."""
        batch = self.loader.load(self.order.batch(self.step), self.recipe, self.step)
        losses, _ = train.train_step(self.model, self.optimizer, [batch], self.recipe, self.step)
        self.step += 1
        return [losses[name] for name in LOSSES]

    def _is_measuring(self) -> bool:
        due = self.step and (self.step % VAL_EVERY == 0 or self.step == self.recipe.steps)
        return bool(due) and self._measured != self.step

    def _measure(self) -> dict[str, Any] | None:
        """Detect the objects of a few pages. Return the AP after the last page."""
        found = self._detections = self._detections or []
        images = [PAGES_TO_MEASURE[i][0] for i in range(len(found), min(len(found) + VAL_BATCH, VAL_PAGES))]
        with nn.no_grad():
            found += self.model.predict(images)
        if len(found) < VAL_PAGES:
            return None
        targets = [PAGES_TO_MEASURE[i][1] for i in range(VAL_PAGES)]
        self._detections, self._measured = None, self.step
        score = evaluate.evaluate_detections(found, targets, len(PAGES_TO_MEASURE.classes)).mean_ap
        return {"step": self.step, "ap50": float(score)}

    def preview(self) -> dict[str, Any]:
        """Return the `Preview` of protocol.ts.

        Returns
        -------
        dict
            The message.
        """
        trace = self.model.trace([self.page])
        best, found = trace.proposals[0][:SHOWN], trace.outputs[0]
        overlap = boxes.iou(trace.proposals[0], self.target["boxes"])  # (P, G)
        return {
            "step": self.step,
            "proposals": best,
            "proposalScores": trace.proposal_scores[0][:SHOWN],
            **found,
            "recall": float((overlap.max(axis=0, initial=0) >= FOUND).mean()),
        }

    def settings(self) -> Settings:
        """Return the settings of the detector.

        Returns
        -------
        Settings
            The settings.
        """
        return Settings.of(self.model)
