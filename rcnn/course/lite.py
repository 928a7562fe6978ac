"""Export of the course as a web site, in which the notebooks run in the browser of the learner.

The site contains JupyterLite, whose kernel is Pyodide (Python for browsers), the notebooks for students, and the wheels
that the notebooks need. Any web server can serve the folder, because nothing runs on the server. A browser fetches only
Pyodide and its own packages, such as NumPy and matplotlib, from another server (`PYODIDE_URL`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

import rcnn
from rcnn import _files
from rcnn.course import contents, sources, variants

PYODIDE_URL = "https://cdn.jsdelivr.net/pyodide/v0.29.4/full/pyodide.js"
PLATFORM = "pyemscripten_2025_0_wasm32"  # of wheels for Pyodide 0.29
PYTHON = "3.13"  # the Python of Pyodide 0.29
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
EXTENSIONS = {  # extensions of JupyterLite, and the packages that contain them
    "@jupyterlite/pyodide-kernel-extension": "jupyterlite-pyodide-kernel",
    "@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets",
}
PACKED = ("comm", "defusedxml", "ipywidgets", "jupyterlab_widgets")  # pure Python, and not part of Pyodide
NEEDED = {  # packages that a notebook needs besides rcnn, by a pattern of its code
    r"\bwidgets\.": ("ipywidgets",),
    r"\bsklearn\b": ("scikit-learn",),
    r"\bphotos\.[a-zA-Z]+\(": ("scikit-image", "scikit-learn"),
}
WHEEL = re.compile(r"rcnn-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
MOST_MINUTES = 10  # that the tool of JupyterLite and pip may take

INSTALL_CELL = """# Install rcnn in this browser. Run this cell first, and after every restart of the kernel.
import sys

if sys.platform == "emscripten":  # in a browser
    import piplite

    await piplite.install({packages})"""
ABOUT = """

The code runs in this browser, and nothing leaves your computer. The first code cell of each notebook installs rcnn. The
browser keeps your changes. To move them to another computer, download the notebooks (menu *File*), and put them into
one folder. There, `rcnn course progress` shows which checks have passed."""
INDEX = "index.md"  # a notebook would start a kernel
SETTINGS = {
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},  # light or dark, like the system
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
TITLE = "The course of rcnn"
START = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="0; url={url}">
<title>{title}</title>
<script id="jupyter-config-data" type="application/json" data-jupyter-lite-root=".">{{}}</script>
</head>
<body>
<p><a href="{url}">Open the course</a></p>
</body>
</html>
"""


def export_lite(
    folder: str | os.PathLike[str], wheel: str | os.PathLike[str] | None = None, *, seed: str | None = None
) -> list[Path]:
    """Write the course into a new or empty folder as a web site with JupyterLite.

    A web server must serve the folder, because browsers do not run JupyterLite from a file. The notebooks are those for
    students, with a cell that installs rcnn in the browser.

    Parameters
    ----------
    folder : str or path
        Folder to write to; created if missing.
    wheel : str or path, optional
        Wheel of rcnn for Pyodide 0.29. By default, pip downloads the wheel of this version from the package index.
    seed : str, optional
        Seed of the variants of the exercises; see `export`.

    Returns
    -------
    list of Path
        Paths of the notebooks in `folder`, in the order of the course, without the index.

    Raises
    ------
    OSError
        If the folder is not empty or cannot be written, or if the wheel cannot be read.
    TypeError, ValueError
        If the seed is invalid, or if the wheel is not a wheel of this version of rcnn for browsers.
    ImportError
        If JupyterLite or jupytext is not installed.
    RuntimeError
        If the package index has no wheel, or if JupyterLite cannot be built.
    """
    root = Path(folder).expanduser()
    if seed is not None:
        variants.check_seed(seed)
    _files.check_free(root)
    extensions = [_extension(name, package) for name, package in EXTENSIONS.items()]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        wheels = scratch / "wheels"
        wheels.mkdir()
        if wheel is None:
            _download(wheels)
        else:
            shutil.copy(check_wheel(wheel), wheels)
        for package in PACKED:
            _pack(package, wheels)
        stems = _write_notebooks(scratch / "notebooks", seed)
        site = _build(scratch, wheels, extensions)
        shutil.copytree(site, root, dirs_exist_ok=True)
    return [root / "files" / f"{stem}.ipynb" for stem in stems]


def check_wheel(wheel: str | os.PathLike[str]) -> Path:
    """Return the path of a wheel. Raise an error unless it is a wheel of this version of rcnn for browsers.

    Parameters
    ----------
    wheel : str or path
        Path of the wheel.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is not a wheel of rcnn, if it has another version, or if it is for another platform.
    """
    path = Path(_files.check_path(wheel, "wheel")).expanduser()
    _files.check_regular(path)
    parts = WHEEL.fullmatch(path.name)
    if parts is None or not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a wheel of rcnn")
    if parts["version"] != rcnn.__version__:
        raise ValueError(
            f"{path}: the wheel must have the version of the course, {rcnn.__version__}, got {parts['version']}"
        )
    if PLATFORM not in parts["platform"].split("."):
        raise ValueError(f"{path}: not a wheel for browsers; its platform must be {PLATFORM}, got {parts['platform']}")
    return path


def _extension(name: str, package: str) -> Path:
    """Return the folder of an installed extension of JupyterLite."""
    try:
        if package.startswith("jupyterlite"):
            metadata.distribution("jupyterlite-core")
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        raise ImportError("the export needs JupyterLite; run pip install 'rcnn[lite]'") from None
    for file in files:
        if file.as_posix().endswith(f"labextensions/{name}/package.json"):
            return Path(str(file.locate())).resolve().parent
    raise ImportError(f"{package} has no extension {name}; run pip install --force-reinstall {package}")


def _download(folder: Path) -> None:
    """Download the wheel of this version of rcnn for browsers."""
    requirement = f"rcnn=={rcnn.__version__}"
    target = ("--platform", PLATFORM, "--python-version", PYTHON, "--implementation", "cp", "--abi", "abi3")
    done = _run("pip", "download", "--no-deps", "--only-binary", ":all:", *target, "--dest", folder, requirement)
    if done.returncode != 0:
        raise RuntimeError(
            f"pip cannot download a wheel of rcnn {rcnn.__version__} for browsers; build it with .ci/wasm-wheel in a "
            f"clone of rcnn, and pass its path as the wheel ({_last_line(done)})"
        )


def _pack(package: str, folder: Path) -> None:
    """Write an installed package of pure Python as a wheel. Files outside of the folder of packages are left out."""
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise ImportError(f"the export needs {package}; run pip install 'rcnn[lite]'") from None
    tags = HeaderParser().parsestr(found.read_text("WHEEL") or "").get_all("Tag") or []
    if not any(tag.startswith("py3-none-any") for tag in tags):
        raise RuntimeError(f"{package} is not pure Python, so a browser cannot use the installed files")
    name = re.sub(r"[-_.]+", "_", package).lower()
    path = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for file in found.files or []:
            inside = ".." not in file.parts and "__pycache__" not in file.parts
            if inside and file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                archive.write(str(file.locate()), file.as_posix())
        info = next(file.parts[0] for file in found.files or [] if file.name == "METADATA")
        archive.writestr(f"{info}/RECORD", "".join(f"{entry},,\n" for entry in [*archive.namelist(), f"{info}/RECORD"]))


def _write_notebooks(folder: Path, seed: str | None) -> list[str]:
    """Write the notebooks for students and the index, and return the names of the notebooks without suffix."""
    folder.mkdir()
    stems = []
    for source in sources.paths():
        stems.append(source.stem)
        notebook = sources.student(sources.read(source, seed))
        _files.write_whole(folder / f"{source.stem}.ipynb", sources.as_json(with_install_cell(notebook)), flush=False)
    opening, entries = (cell.source for cell in contents.index(seed).cells if cell.cell_type == "markdown")
    opening = opening.partition("\n\nThe table shows")[0]  # without the cell of the table
    _files.write_text(folder / INDEX, f"{opening}{ABOUT}\n\n{entries}\n")
    return stems


def with_install_cell(notebook: Any) -> Any:
    """Return a copy of a notebook whose first code cell installs what the notebook needs in a browser.

    Parameters
    ----------
    notebook : NotebookNode
        Notebook for students.

    Returns
    -------
    NotebookNode
        The copy.
    """
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    needed = {package for pattern, packages in NEEDED.items() if re.search(pattern, code) for package in packages}
    install = INSTALL_CELL.format(packages=json.dumps(["rcnn", *sorted(needed)]))
    new = sources.new_notebook([("code", "install", install)], {})
    new.cells[0].metadata.update(editable=False, deletable=False)
    first = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    copy = type(notebook)(notebook)
    copy.cells = [*notebook.cells[:first], *new.cells, *notebook.cells[first:]]
    return copy


def _build(scratch: Path, wheels: Path, extensions: list[Path]) -> Path:
    """Build JupyterLite in the folder `scratch`; return the folder of the site."""
    site = scratch / "site"
    kernel = {"pyodideUrl": PYODIDE_URL, "disablePyPIFallback": True}
    config = {"appName": TITLE, "litePluginSettings": {KERNEL: kernel}}
    build = {
        "LiteBuildConfig": {
            "apps": ["lab"],
            "contents": ["notebooks"],
            "output_dir": str(site),
            "cache_dir": str(scratch / "cache"),
            "ignore_sys_prefix": True,  # other installed extensions would become part of the site
            "federated_extensions": [str(path) for path in extensions],
            "no_sourcemaps": True,
            "no_unused_shared_packages": True,
        },
        "PipliteAddon": {"piplite_urls": sorted(str(path) for path in wheels.glob("*.whl"))},
    }
    for name, settings in (
        ("jupyter_lite_config.json", build),
        ("jupyter-lite.json", {"jupyter-lite-schema-version": 0, "jupyter-config-data": config}),
        ("overrides.json", SETTINGS),
    ):
        _files.write_text(scratch / name, json.dumps(settings))
    done = _run("jupyterlite_core", "build", cwd=scratch)
    if done.returncode != 0 or not (site / "api" / "contents" / "all.json").is_file():
        raise RuntimeError(f"JupyterLite cannot be built: {_last_line(done)}")
    _files.write_text(site / "index.html", START.format(title=TITLE, url=f"lab/index.html?path={INDEX}"))
    return site


def _run(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=60 * MOST_MINUTES, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{module} {arguments[0]} did not end in {MOST_MINUTES} minutes") from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip().removeprefix("ERROR: ") if lines else f"status {done.returncode}"
