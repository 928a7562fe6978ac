"""The grading script: points for correct functions; none for endless, crashing or missing ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks" / "grading"


def run(*arguments):
    command = [sys.executable, str(FOLDER / "grade.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def points(printed):
    """Return the numbers of each row: {"ada": [2, 3, 5, 5]}, points per check, their sum and the maximum."""
    return {line.split()[0]: [int(n) for n in re.findall(r"\d+", line)] for line in printed.splitlines()[1:]}


def test_example_submissions(tmp_path):
    done = run(FOLDER / "submissions", "--check", "iou=2", "nms=3", "encode=1", "--timeout", 4, "--feedback", tmp_path)
    assert done.returncode == 0, done.stderr
    assert points(done.stdout) == {"ada": [2, 3, 1, 6, 6], "blaise": [0, 0, 0, 0, 6]}
    assert (tmp_path / "ada.txt").read_text() == "iou: correct\n\nnms: correct\n\nencode: correct\n"
    feedback = (tmp_path / "blaise.txt").read_text()
    assert feedback.startswith("iou: ") and "boxes1 = [[" in feedback and "nms did not finish within 4 s" in feedback
    assert "function 'encode' not found in blaise.py" in feedback


@pytest.mark.parametrize(
    "code, message",
    [
        ("import sys; sys.exit(0)", "iou: the program exited with status 0"),
        ("import os; os._exit(7)", "iou: the program exited with status 7"),
        ("def iou(a, b) return 1", "iou: SyntaxError"),
        ("1 / 0", "iou: ZeroDivisionError: division by zero"),
        ("iou = 3", "iou: TypeError: "),
    ],
)
def test_broken_submission_gets_no_points_and_a_reason(tmp_path, code, message):
    (tmp_path / "carla.py").write_text(code)
    done = run(tmp_path, "--check", "iou=2", "--feedback", tmp_path / "feedback")
    assert points(done.stdout) == {"carla": [0, 0, 2]}
    assert message in (tmp_path / "feedback" / "carla.txt").read_text()


def test_output_of_a_submission_is_ignored(tmp_path):
    correct = (FOLDER / "submissions" / "ada.py").read_text()
    (tmp_path / "dora.py").write_text(correct + "\nprint('hello')\n")
    assert points(run(tmp_path, "--check", "iou=2").stdout) == {"dora": [2, 2, 2]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--check", "io=2"], "the name of a check, got 'io=2'"),
        (["--check", "iou"], "got 'iou'"),
        (["--check", "CheckFailed=1"], "got 'CheckFailed=1'"),
        (["--check", "iou=1"], "no submissions in"),
    ],
)
def test_invalid_arguments_are_errors(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == 1 and message in done.stderr
