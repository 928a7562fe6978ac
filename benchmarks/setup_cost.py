"""Measure the cost of the two set-ups at the top of the README: the time, and the size of the downloads.

    python benchmarks/setup_cost.py                  print the results
    python benchmarks/setup_cost.py --results        also write the section "setup" of docs/results.json

Each set-up starts from a clone of the last commit, in a new environment, and without pip's cache. The time includes the
downloads, so it depends on the network. The script requires git and a network connection.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from speed import machine, record

ROOT = Path(__file__).parents[1]
SETUPS = {"demo": (".", ("rcnn", "demo")), "tests": (".[all]", ("pytest", "-q", "-p", "no:cacheprovider"))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the set-ups; return the exit status: 0, or 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETUPS, nargs="+", default=list(SETUPS), help="measure only these set-ups")
    parser.add_argument("--add", nargs="*", default=[], metavar="PACKAGE", help="packages to install before the run")
    parser.add_argument("--results", action="store_true", help="write the results to docs/results.json")
    options = parser.parse_args(arguments)
    entries: dict[str, record.Entry] = {}
    failed = False
    for name in options.only:
        target, command = SETUPS[name]
        with tempfile.TemporaryDirectory() as folder:
            install, megabytes = install_in(Path(folder), target, options.add)
            seconds, status = timed([str(Path(folder, "venv/bin", command[0])), *command[1:]], Path(folder, "rcnn"))
        failed = failed or status != 0
        text = f"pip install -e {shlex.quote(target)}"
        entries[f"{name}_install"] = record.entry(round(install), "s", text)
        entries[f"{name}_download"] = record.entry(round(megabytes), "MB", text)
        entries[f"{name}_run"] = record.entry(round(seconds), "s", " ".join(command[:2]))
        print(f"{name}: {install:.0f} s to install, {megabytes:.0f} MB, {seconds:.0f} s to run, exit status {status}")
    if options.results and not failed:
        record.update("setup", entries, machine.line())
    return int(failed)


def install_in(folder: Path, target: str, packages: Sequence[str]) -> tuple[float, float]:
    """Clone the last commit, create an environment and install `target`; return (seconds, megabytes)."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "rcnn")], check=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--editable", target], cwd=folder / "rcnn", check=True, env=without_rcnn())
    seconds = time.perf_counter() - start
    files = folder / "files"
    subprocess.run([*pip, "download", "--dest", str(files), *requirements(target)], check=True)
    if packages:
        subprocess.run([*pip, "install", *packages], check=True)
    return seconds, sum(file.stat().st_size for file in files.iterdir()) / 1e6


def requirements(target: str) -> list[str]:
    """Return the requirements of `target`, for building and for running, as listed in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    found, extras = [*settings["build-system"]["requires"], *project["dependencies"]], extras_of(target)
    while extras:
        for requirement in project["optional-dependencies"][extras.pop()]:
            if requirement.startswith("rcnn["):
                extras += extras_of(requirement)
            else:
                found.append(requirement)
    return found


def extras_of(requirement: str) -> list[str]:
    """Return the extras of a requirement, for example ["a", "b"] for "rcnn[a,b]"."""
    found = re.search(r"\[(.*)\]", requirement)
    return found[1].split(",") if found else []


def timed(command: Sequence[str], folder: Path) -> tuple[float, int]:
    """Run a command and return (seconds, exit status)."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=without_rcnn(), stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, done.returncode


def without_rcnn() -> dict[str, str]:
    """Return the environment variables, without those that could select another copy of the package."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


if __name__ == "__main__":
    sys.exit(main())
