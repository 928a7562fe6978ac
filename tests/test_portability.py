"""With arrays as input, rcnn runs in a process that has no threads, no ssl, no fcntl, and few other packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BROWSER = """
import sys
import threading


def start(thread):
    raise RuntimeError("can't start new thread")


for name in ("PIL", "PIL.Image", "matplotlib", "safetensors", "fcntl", "msvcrt", "ssl", "_ssl"):
    sys.modules[name] = None  # so that importing it fails
if sys.platform == "win32":
    del sys.modules["msvcrt"]  # which is always there
threading.Thread.start = start
"""

DETECT_AND_TRAIN = """
import numpy as np
import rcnn
from rcnn import train
from rcnn._ext import backend

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)
boxes = np.array([[8, 8, 40, 40], [50, 50, 80, 90]], np.float32)


class Pages:
    classes = ("background", "square")

    def __len__(self):
        return len(images)

    def __getitem__(self, index):
        return images[index], {"boxes": boxes, "labels": np.array([1, 1])}


assert rcnn.load_digits().predict(list(images[:2]))[1]["boxes"].shape[1] == 4
model = rcnn.faster_rcnn_small(Pages.classes, hidden_dim=16)
run = train.fit(model, Pages(), train.Recipe(steps=2, batch_size=2), "run", val=Pages(), workers=2, progress=False)
assert run.steps == 2 and np.isfinite(run.history["total_loss"]).all()
assert rcnn.load("run/model.safetensors").config.class_names == Pages.classes
print("threads", backend.get_num_threads(), backend.info()["blas"])
"""

DOWNLOAD = """
from rcnn.zoo import download

try:
    download.fetch("coco", base="https://localhost:9/", timeout=1, progress=False)
except download.DownloadError as error:
    print(error)
"""

FILE = """
from pathlib import Path
from rcnn import images

Path("a.png").write_bytes(b"")
try:
    images.read("a.png")
except ModuleNotFoundError as error:
    print(error)
"""


def in_a_browser(program, folder):
    """Return the output of a program that runs as in a browser, with `folder` as its working directory."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error,ignore:tqdm", "HOME": str(folder)}
    command = [sys.executable, "-c", BROWSER + program]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_arrays_are_detected_and_learned(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("RCNN_BACKEND", backend)
    assert in_a_browser(DETECT_AND_TRAIN, tmp_path).startswith("threads")


def test_download_without_ssl_is_an_error_of_one_line(tmp_path):
    assert "no connection (unknown url type: https)" in in_a_browser(DOWNLOAD, tmp_path)


def test_reading_a_file_without_pillow_names_pillow(tmp_path):
    assert "PIL" in in_a_browser(FILE, tmp_path)
