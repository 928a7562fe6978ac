"""Grade a folder of Python files with rcnn.checks: points and a feedback file for each student.

    python notebooks/grading/grade.py notebooks/grading/submissions --check iou=2 nms=3 encode=1 --feedback feedback

A submission is a file `name.py` that defines functions with the names of the checks. All submissions get the same test
inputs, drawn from --seed. Each function runs in its own process, which is stopped after --timeout seconds, so an
endless loop or an `exit()` affects no other submission. This script is not a sandbox: a submission runs with your
rights, and malicious code can deceive the grader. Grade untrusted submissions in a container, and read them.
"""

import argparse
import runpy
import subprocess
import sys
from pathlib import Path

from rcnn import checks

PASSED, REJECTED, MISSING = 10, 11, 12  # exit statuses; any other one, also 0, comes from the submission
ATTEMPT = "import sys; sys.path.insert(0, sys.argv[1]); import grade; sys.exit(grade.attempt(*sys.argv[2:]))"


def attempt(submission, name, seed):
    """Check one function of one submission in this process; print the error, and return the exit status."""
    function = runpy.run_path(submission).get(name)
    if function is None:
        print(f"function {name!r} not found in {Path(submission).name}")
        return MISSING
    try:
        getattr(checks, name)(function, seed=int(seed))
    except checks.CheckFailed as failed:
        print(failed)
        return REJECTED
    return PASSED


def grade(submission, name, seed, timeout):
    """Check one function of one submission in a new process; return whether it passes, and the feedback."""
    command = [sys.executable, "-c", ATTEMPT, str(Path(__file__).parent), str(submission), name, str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return False, f"{name} did not finish within {timeout:g} s"
    if done.returncode == PASSED:
        return True, ""
    if done.returncode in (REJECTED, MISSING):
        return False, done.stdout.strip()
    last_line = done.stderr.strip().splitlines()[-1:] or [f"the program exited with status {done.returncode}"]
    return False, f"{name}: {last_line[0]}"


def parse_points(texts):
    """Return {"iou": 2, ...} for ["iou=2", ...]; raise SystemExit for a name that is not a check."""
    points = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in checks.__all__ or name in ("CheckFailed", "hint") or not number.isdigit():
            raise SystemExit(f"--check takes NAME=POINTS with the name of a check, got {text!r}")
        points[name] = int(number)
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the submissions, one file NAME.py each")
    parser.add_argument("--check", nargs="+", required=True, metavar="NAME=POINTS", help="checks and their points")
    parser.add_argument("--feedback", type=Path, help="folder for one feedback file per student")
    parser.add_argument("--seed", type=int, default=0, help="seed of the test inputs (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds per function (default: %(default)s)")
    options = parser.parse_args()
    points = parse_points(options.check)
    submissions = sorted(options.folder.glob("*.py"))
    if not submissions:
        raise SystemExit(f"no submissions in {options.folder}")

    width = max(len(path.stem) for path in submissions) + 2
    print("".ljust(width) + "".join(f"{name:>{len(name) + 2}}" for name in points) + "  total")
    for path in submissions:
        results = {name: grade(path, name, options.seed, options.timeout) for name in points}
        earned = {name: points[name] * passed for name, (passed, _) in results.items()}
        cells = "".join(f"{earned[name]:>{len(name) + 2}}" for name in points)
        print(f"{path.stem:<{width}}{cells}  {sum(earned.values()):>3} of {sum(points.values())}", flush=True)
        if options.feedback:
            options.feedback.mkdir(parents=True, exist_ok=True)
            texts = [text or f"{name}: correct" for name, (_, text) in results.items()]
            (options.feedback / f"{path.stem}.txt").write_text("\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
