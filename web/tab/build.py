"""Build the detector that runs in a tab: a folder of static files, which any web server can serve.

    python web/tab/build.py --out DIR                        builds rcnn's wheel for browsers, and records the walk
    python web/tab/build.py --out DIR --wheel PATH           uses a wheel that .ci/wasm-wheel has built
    python web/tab/build.py --out DIR --numpy PATH           copies this wheel of NumPy for Pyodide
    python web/tab/build.py --out DIR --recording PATH       copies a recording that record.py has made

It requires npm, which installs Pyodide in the version of the lock file, and pip, which downloads the packages that rcnn
requires. Without --numpy, browsers load NumPy from the address that belongs to Pyodide, and check its hash. With
--without-python, the folder contains the recorded walk only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WEB, ROOT = HERE.parent, HERE.parents[1]
CACHE = ROOT / "build" / "tab"  # recordings and wheels of earlier builds
PYODIDE = WEB / "node_modules" / "pyodide"
RUNTIME = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/{file}"
PURE = (  # what `import rcnn` requires besides NumPy
    "lazy_loader==0.6",
    "packaging==26.4",
    "threadpoolctl==3.8.0",
    "tqdm==4.70.1",
    "defusedxml==0.7.1",
    "tomli-w==1.2.0",
)
BUNDLES = (("tab/worker.ts", "worker.js", "esm"), ("tab/ui/main.ts", "tab.js", "iife"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the folder, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it is replaced")
    parser.add_argument("--wheel", type=Path, help="rcnn's wheel for browsers")
    parser.add_argument("--numpy", type=Path, help="NumPy's wheel for Pyodide")
    parser.add_argument("--recording", type=Path, help="the recorded walk")
    parser.add_argument("--without-python", action="store_true", help="build the recorded walk only")
    options = parser.parse_args(arguments)
    for path in (options.wheel, options.numpy, options.recording):
        if path is not None and not path.is_file():
            parser.error(f"{path}: file not found")
    if options.out.exists() and any(options.out.iterdir()) and not (options.out / "recording.bin").is_file():
        parser.error(f"{options.out} is neither empty nor an earlier build; choose another folder")
    build(options.out, options.wheel, options.numpy, options.recording, not options.without_python)
    print(
        f"{options.out}: {sum(path.stat().st_size for path in options.out.rglob('*') if path.is_file()) / 1e6:.1f} MB"
    )
    return 0


def build(
    out: Path,
    wheel: Path | None = None,
    numpy: Path | None = None,
    recording: Path | None = None,
    with_python: bool = True,
) -> None:
    """Write the folder.

    Parameters
    ----------
    out : Path
        The folder, which is replaced.
    wheel, numpy, recording : Path, optional
        Files that are copied. By default, the wheel and the recording are made, and browsers load NumPy from Pyodide's
        server.
    with_python : bool
        If False, only the recorded walk is built.
    """
    npm("ci", "--silent", "--no-audit", "--no-fund")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for source, target, kind in BUNDLES:
        flags = ("--bundle", "--minify", "--target=es2022", "--loader:.css=text", "--log-level=warning")
        npm("exec", "--", "esbuild", source, *flags, f"--format={kind}", f"--outfile={out.resolve() / target}")
    shutil.copy(HERE / "ui" / "index.html", out)
    shutil.copy(recording or cached_recording(), out / "recording.bin")
    if with_python:
        write_python(out, wheel or cached_wheel(), numpy)


def write_python(out: Path, wheel: Path, numpy: Path | None) -> None:
    """Write Pyodide, the packages and the manifest.

    Parameters
    ----------
    out : Path
        The folder.
    wheel : Path
        The wheel of rcnn.
    numpy : Path, optional
        The wheel of NumPy; by default, the manifest names its address on Pyodide's server.
    """
    runtime, packages = out / "pyodide", out / "packages"
    for folder in (runtime, packages):
        folder.mkdir()
    for name in RUNTIME:
        shutil.copy(PYODIDE / name, runtime)
    download = ("-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(packages))
    subprocess.run([sys.executable, *download, *PURE], check=True)
    shutil.copy(wheel, packages)
    with zipfile.ZipFile(packages / "tab_engine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((HERE / "tab_engine").glob("*.py")):
            archive.write(path, f"tab_engine/{path.name}")
    manifest = {
        "pyodide": {"folder": "pyodide/", "size": sum((runtime / name).stat().st_size for name in RUNTIME[2:])},
        "packages": [entry(path, out) for path in sorted(packages.iterdir())],
        "numpy": entry(Path(shutil.copy(numpy, out)), out) if numpy else on_server(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def on_server() -> dict[str, Any]:
    """Return the entry of NumPy's wheel on the server that Pyodide's lock file belongs to.

    Returns
    -------
    dict
        The `File` of files.ts. The size is an estimate, because the lock file does not contain it.
    """
    numpy = json.loads((PYODIDE / "pyodide-lock.json").read_text())["packages"]["numpy"]
    version = json.loads((PYODIDE / "package.json").read_text())["version"]
    return {"url": CDN.format(version=version, file=numpy["file_name"]), "size": 3_600_000, "sha256": numpy["sha256"]}


def entry(path: Path, out: Path) -> dict[str, Any]:
    """Return the entry of a file of the site.

    Parameters
    ----------
    path, out : Path
        The file, and the folder of the manifest.

    Returns
    -------
    dict
        The `File` of files.ts.
    """
    return {"url": path.relative_to(out).as_posix(), "size": path.stat().st_size, "sha256": None}


# ---------------------------------------------------------------------- what takes long is kept


def cached_recording() -> Path:
    """Return the recording for the present state of rcnn and of the engine; make it if there is none.

    Returns
    -------
    Path
        The file.
    """
    path = CACHE / f"recording-{state_of(rcnn_sources(), engine_sources())}.bin"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        subprocess.run([sys.executable, str(HERE / "record.py"), str(path)], check=True, env=variables)
    return path


def cached_wheel() -> Path:
    """Return rcnn's wheel for browsers in its present state; build it if there is none.

    Returns
    -------
    Path
        The wheel.
    """
    folder = CACHE / f"wheel-{state_of(rcnn_sources())}"
    if not list(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as made:  # so that an interrupted build leaves no wheel
            subprocess.run([sys.executable, str(ROOT / ".ci" / "wasm-wheel"), made], check=True, cwd=ROOT)
            for path in Path(made).glob("*.whl"):
                shutil.copy(path, folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def rcnn_sources() -> Iterator[Path]:
    """Yield the files of rcnn that its wheel contains or is compiled from.

    Yields
    ------
    Path
        The files.
    """
    yield ROOT / "pyproject.toml"
    for pattern in ("*.py", "*.pyx", "*.pxd", "*.h", "*.npz", "*.safetensors"):
        yield from sorted((ROOT / "rcnn").rglob(pattern))


def engine_sources() -> Iterator[Path]:
    """Yield the files of the engine and of the recorder.

    Yields
    ------
    Path
        The files.
    """
    yield HERE / "record.py"
    yield from sorted((HERE / "tab_engine").glob("*.py"))


def state_of(*groups: Iterator[Path]) -> str:
    """Return a short hash of the names and contents of files.

    Parameters
    ----------
    *groups : iterators of Path
        The files.

    Returns
    -------
    str
        The hash.
    """
    digest = hashlib.sha256()
    for path in (path for group in groups for path in group):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def npm(*arguments: str) -> None:
    """Run npm in the folder of the web components.

    Parameters
    ----------
    *arguments : str
        The arguments.
    """
    subprocess.run(["npm", *arguments], cwd=WEB, check=True)


if __name__ == "__main__":
    sys.exit(main())
