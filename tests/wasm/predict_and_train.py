"""A program that runs with Python and in Pyodide: it predicts pages of digits, and trains a small detector.

It reads pages.npz, and writes predictions.npz and times.json, in the working directory.
"""

import json
import sys
import time

import numpy as np

start = time.perf_counter()
import rcnn  # noqa: E402
from rcnn import data, nn, train  # noqa: E402
from rcnn._ext import backend  # noqa: E402

PREDICTED, STEPS = 8, 20


class Pages:
    """The pages of the file, as a data set."""

    classes = data.Digits.classes

    def __init__(self):
        with np.load("pages.npz") as file:
            self.images, self.boxes, self.labels = (file[name] for name in ("images", "boxes", "labels"))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        real = self.labels[index] > 0  # the other rows only fill the array
        return self.images[index], {"boxes": self.boxes[index][real], "labels": self.labels[index][real]}


pages, digits = Pages(), rcnn.load_digits()
times = {"import": time.perf_counter() - start}
digits.predict([pages.images[0]])  # the first call is slower
start = time.perf_counter()
found = [digits.predict([image])[0] for image in pages.images[:PREDICTED]]
times["predict"] = (time.perf_counter() - start) / PREDICTED

rcnn.seed(0)
model = rcnn.faster_rcnn_small(pages.classes)
start = time.perf_counter()
run = train.fit(model, pages, train.Recipe(steps=STEPS, batch_size=4, lr=0.01, warmup_steps=1), progress=False)
times["step"] = (time.perf_counter() - start) / STEPS
rcnn.save("trained.safetensors", model)
with nn.no_grad():
    reloaded = rcnn.load("trained.safetensors").predict([pages.images[0]])[0]
again = model.predict([pages.images[0]])[0]

arrays = {f"{name}{i}": array for i, one in enumerate(found) for name, array in one.items()}
reads_back = all(np.array_equal(reloaded[name], again[name]) for name in again)
np.savez("predictions.npz", losses=run.history["total_loss"], reads_back=reads_back, **arrays)
facts = {"times": times, "info": backend.info(), "modules": sorted(sys.modules)}
with open("facts.json", "w", encoding="utf-8") as file:
    json.dump(facts, file)
