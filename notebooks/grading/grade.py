"""Grades a folder of Python files with rcnn.checks: points for each student, and a file of words for each.

    python notebooks/grading/grade.py notebooks/grading/submissions --check iou=2 nms=3 encode=1 --feedback feedback

A submission is a file `name.py` that defines functions by the names of the checks. All submissions are asked the same
questions, drawn from --seed. Each function is tried in a process of its own that is stopped after --timeout seconds, so
an endless loop or an `exit()` costs its author the points and nobody else anything. It is not a sandbox: a submission
runs with the rights of whoever grades, and one that sets out to deceive the grader can. Grade strangers in a container,
and look into what you grade.
"""

import argparse
import runpy
import subprocess
import sys
from pathlib import Path

from rcnn import checks

PASSED, REJECTED, MISSING = 10, 11, 12  # exit statuses; any other, 0 included, is the submission's own doing
TRY = "import sys; sys.path.insert(0, sys.argv[1]); import grade; sys.exit(grade.attempt(*sys.argv[2:]))"


def attempt(submission, name, seed):
    """Tries one function of one submission, in this process; gives the exit status and prints what is wrong."""
    function = runpy.run_path(submission).get(name)
    if function is None:
        print(f"there is no function {name!r} in {Path(submission).name}")
        return MISSING
    try:
        getattr(checks, name)(function, seed=int(seed))
    except checks.CheckFailed as failed:
        print(failed)
        return REJECTED
    return PASSED


def grade(submission, name, seed, timeout):
    """True and no words where a submission's function passes its check; False and what its author should read."""
    command = [sys.executable, "-c", TRY, str(Path(__file__).parent), str(submission), name, str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return False, f"{name} was still running after {timeout:g} s"
    if done.returncode == PASSED:
        return True, ""
    if done.returncode in (REJECTED, MISSING):
        return False, done.stdout.strip()
    last_words = done.stderr.strip().splitlines()[-1:] or [f"it stopped by itself, with status {done.returncode}"]
    return False, f"{name}: {last_words[0]}"


def parse_points(texts):
    """{"iou": 2, ...} of "iou=2" and so on; SystemExit for what is no check."""
    points = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in checks.__all__ or name == "CheckFailed" or not number.isdigit():
            raise SystemExit(f"--check wants NAME=POINTS with the name of a check, not {text!r}")
        points[name] = int(number)
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="holds the submissions, a file NAME.py each")
    parser.add_argument("--check", nargs="+", required=True, metavar="NAME=POINTS")
    parser.add_argument("--feedback", type=Path, help="a folder for what each student should read")
    parser.add_argument("--seed", type=int, default=0, help="of the questions; the same for all")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one function")
    options = parser.parse_args()
    points = parse_points(options.check)
    submissions = sorted(options.folder.glob("*.py"))
    if not submissions:
        raise SystemExit(f"no submissions in {options.folder}")

    width = max(len(path.stem) for path in submissions) + 2
    print("".ljust(width) + "".join(f"{name:>{len(name) + 2}}" for name in points) + "  total")
    for path in submissions:
        results = {name: grade(path, name, options.seed, options.timeout) for name in points}
        got = {name: points[name] * passed for name, (passed, _) in results.items()}
        cells = "".join(f"{got[name]:>{len(name) + 2}}" for name in points)
        print(f"{path.stem:<{width}}{cells}  {sum(got.values()):>3} of {sum(points.values())}", flush=True)
        if options.feedback:
            options.feedback.mkdir(parents=True, exist_ok=True)
            words = [words or f"{name}: right" for name, (_, words) in results.items()]
            (options.feedback / f"{path.stem}.txt").write_text("\n\n".join(words) + "\n")


if __name__ == "__main__":
    main()
