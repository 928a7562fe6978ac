"""The wheel for browsers, in Node: it gives the detections of this build, and it trains.

The tests need node and npm, and what `.ci/wasm-wheel` needs. The second one also needs a wheel of NumPy for Pyodide
0.29, such as numpy-2.2.5-cp313-cp313-pyodide_2025_0_wasm32.whl, whose path is in RCNN_PYODIDE_NUMPY. If
RCNN_WASM_WHEEL is set, it is the path of a wheel that `.ci/wasm-wheel` has built already.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rcnn import data

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "wasm"
PYODIDE = "pyodide@0.29.4"
PURE = ("lazy_loader", "packaging", "threadpoolctl", "tqdm", "defusedxml", "tomli-w")  # what `import rcnn` requires
MISSING = ("PIL", "matplotlib", "safetensors", "fcntl", "ssl")  # not installed here, so nothing may need them


def run(*command, cwd, **environment):
    """Run a command, and return its output; a failure shows all of it."""
    variables = {**os.environ, **environment}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Return the wheel of rcnn, and those of the pure packages that it requires."""
    folder = tmp_path_factory.mktemp("wheels")
    if "RCNN_WASM_WHEEL" in os.environ:
        shutil.copy(os.environ["RCNN_WASM_WHEEL"], folder)
    else:
        run(sys.executable, ROOT / ".ci" / "wasm-wheel", folder, cwd=ROOT)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *PURE, cwd=folder)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def in_node(tmp_path_factory):
    """Return in_node(program, folder, wheels), which runs a program of tests/wasm in Pyodide and returns its output."""
    npm = tmp_path_factory.mktemp("npm")
    (npm / "package.json").write_text("{}")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", PYODIDE, cwd=npm)

    def in_node(program, folder, wheels):
        command = ("node", PROGRAMS / "run.mjs", npm / "node_modules" / "pyodide", PROGRAMS / program, folder, *wheels)
        return run(*command, cwd=folder)

    return in_node


def test_every_kernel_loads(wheels, in_node, tmp_path):
    (wheel,) = (path for path in wheels if path.name.startswith("rcnn-"))
    assert wheel.name.endswith("-cp311-abi3-pyemscripten_2025_0_wasm32.whl")
    with zipfile.ZipFile(wheel) as archive:
        modules = [archive.read(name) for name in archive.namelist() if name.endswith(".abi3.so")]
        assert not [name for name in archive.namelist() if name.endswith((".c", ".pyc")) or "linux" in name]
    assert all(module.startswith(b"\0asm\1\0\0\0\0") and b"dylink.0" in module[:24] for module in modules)
    printed = in_node("kernels.py", tmp_path, wheels)
    assert "kernels of clang" in printed and "levels ['baseline']; iou 0.5" in printed


def test_it_predicts_as_this_build_does_and_trains(wheels, in_node, tmp_path):
    numpy = Path(os.environ["RCNN_PYODIDE_NUMPY"])
    here, node = tmp_path / "here", tmp_path / "node"
    pages = [data.Digits(split="val")[index] for index in range(16)]
    count = max(len(target["labels"]) for _, target in pages)
    arrays = {
        "images": np.array([image for image, _ in pages]),
        "boxes": np.array(
            [np.pad(target["boxes"], ((0, count - len(target["boxes"])), (0, 0))) for _, target in pages]
        ),
        "labels": np.array([np.pad(target["labels"], (0, count - len(target["labels"]))) for _, target in pages]),
    }
    for folder in (here, node):
        folder.mkdir()
        np.savez(folder / "pages.npz", **arrays)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run(sys.executable, PROGRAMS / "predict_and_train.py", cwd=here, PYTHONPATH=path)
    in_node("predict_and_train.py", node, [numpy, *wheels])
    with np.load(here / "predictions.npz") as expected, np.load(node / "predictions.npz") as found:
        assert expected.files == found.files
        for name in found.files:
            if name.startswith("boxes"):
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4, err_msg=name)
            elif name.startswith("labels"):
                np.testing.assert_array_equal(found[name], expected[name], name)
            elif name.startswith("scores"):
                np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
        assert len(found["boxes0"]) and found["reads_back"]
        largest = max(
            np.abs(found[name] - expected[name]).max(initial=0) for name in found.files if name[:5] == "boxes"
        )
        losses = found["losses"]
        np.testing.assert_allclose(losses[0], expected["losses"][0], rtol=1e-4)
    assert len(losses) == 20 and np.isfinite(losses).all() and losses[-5:].mean() < 0.8 * losses[:5].mean(), losses
    facts = [json.loads((folder / "facts.json").read_text()) for folder in (here, node)]
    assert facts[1]["info"]["backend"] == "cython" and "wasm32" in facts[1]["info"]["platform"]
    assert not set(MISSING) & set(facts[1]["modules"])
    print(f"largest difference of a box: {largest:.1e} pixels; losses {losses.round(2)}")
    for name, fact in zip(("this build", "in Node"), facts, strict=True):
        print(f"{name}: " + ", ".join(f"{part} {1e3 * seconds:.0f} ms" for part, seconds in fact["times"].items()))
