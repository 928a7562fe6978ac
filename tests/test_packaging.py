"""Builds of the checkout: the sdist, the wheel built from it, and installation without a working compiler."""

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from rcnn._ext.table import GAINS, KERNELS

ROOT = Path(__file__).parent.parent
DATA = {"variants.toml", "py.typed", "digits.npz"}
SOURCES = {".py", ".pyx", ".pxd", ".pyi", ".h", ".html", ".css", ".js"}

pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    """Return the output of the command; a failure shows all of it."""
    variables = {**os.environ, **environment}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def package_files():
    """Return every source and data file of the package, relative to the root."""
    files = [path for path in (ROOT / "rcnn").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    shipped = [path for path in files if path.suffix in SOURCES or path.name in DATA or "weights" in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in shipped}


def expected_kernels():
    """Return the names of the modules that are compiled on this machine: one for each source and each level."""
    has_levels = platform.machine() in ("x86_64", "AMD64") and os.name == "posix"
    levels = {f"{kernel}_{level}" for kernel, gains in GAINS.items() for level in gains if has_levels}
    return {"_build", "_cython", "_threads", *KERNELS} | levels


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the checkout to build in, including stale kernels."""
    copy = tmp_path_factory.mktemp("checkout") / "rcnn"
    skip = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis", "runs")
    shutil.copytree(ROOT, copy, ignore=skip)
    (copy / "rcnn" / "_ext" / "_boxes.c").write_text("left over\n")
    return copy


@pytest.fixture(scope="module")
def built(checkout):
    """Return the sdist, and the wheel that was built from it."""
    run(sys.executable, "-m", "build", "--no-isolation", cwd=checkout, RCNN_REQUIRE_EXT="1")
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    (wheel,) = (checkout / "dist").glob("*.whl")
    return sdist, wheel


def test_the_sdist_contains_only_sources(built):
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert package_files() <= names
    assert {"README.md", "LICENSE", "CONTRIBUTING.md", "pyproject.toml", "setup.py", "tests/conftest.py"} <= names
    assert {"tests/golden/boxes.npz", "tests/golden/roi.npz", "tests/golden/layers.npz"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc"))]
    assert not [name for name in names if name.startswith("rcnn/") and name.endswith(".c")]
    assert "tests/_ext/pool_stress.c" in names


def test_the_wheel_contains_only_the_package(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
    kernels = {name for name in names if name.endswith((".so", ".pyd"))}
    assert {Path(name).name.split(".")[0] for name in kernels} == expected_kernels()
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed - kernels == package_files()
    assert len([name for name in installed if name.startswith("rcnn/course/src/")]) == 16
    assert "License-Expression: MIT" in metadata


def test_one_wheel_serves_every_python_from_3_11(built):
    assert "-cp311-abi3-" in built[1].name
    with zipfile.ZipFile(built[1]) as archive:
        kernels = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
    assert os.name != "posix" or {name.partition(".")[2] for name in kernels} == {"abi3.so"}
    assert built[1].stat().st_size < 5e6


PROBE = """
import rcnn, rcnn.boxes, rcnn.nms, rcnn.roi
from rcnn._ext import backend
from rcnn.course import sources
facts, iou = backend.info(), rcnn.boxes.iou([[0, 0, 2, 2]], [[0, 0, 2, 1]])[0, 0]
print(rcnn.__file__)
print(sources.paths()[0])
print("kernels", facts["kernels"], "backend", facts["backend"], "iou", float(iou))
"""


def install(sdist, folder, **environment):
    """Install into folder/site, without dependencies, and return the output of a program that imports it from there."""
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", folder / "site")
    run(*pip, sdist, cwd=folder, **environment)
    clean = {"PYTHONPATH": str(folder / "site"), "RCNN_REQUIRE_EXT": "0", "RCNN_BACKEND": "", "RCNN_SIMD": ""}
    said = run(sys.executable, "-c", PROBE, cwd=folder, **clean)
    assert str(folder / "site" / "rcnn" / "__init__.py") in said
    assert str(folder / "site" / "rcnn" / "course" / "src" / "00_one_image_end_to_end.py") in said
    return said


@pytest.mark.parametrize("how", [{"CC": "/bin/false"}, {"RCNN_NO_EXT": "1"}])
def test_an_install_that_compiles_nothing_runs_on_numpy(built, tmp_path, how):
    said = install(built[0], tmp_path, RCNN_REQUIRE_EXT="0", **how)
    assert "kernels False backend numpy iou 0.5" in said
    assert said.count("RuntimeWarning: rcnn runs on NumPy alone") == 1


def test_a_kernel_that_must_compile_stops_the_install(built, tmp_path):
    with pytest.raises(AssertionError, match="/bin/false"):
        install(built[0], tmp_path, RCNN_REQUIRE_EXT="1", CC="/bin/false")


def test_a_platform_without_threads_has_serial_kernels(built, tmp_path):
    said = install(built[0], tmp_path, RCNN_REQUIRE_EXT="1", CFLAGS="-DRCNN_NO_THREADS")
    assert "kernels True backend cython iou 0.5" in said
