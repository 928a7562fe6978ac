"""The example of grading gives points for what is right, and nothing for what does not end, stops or is missing."""

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
    """{"ada": [2, 3, 6, 6]}: the points of each, their sum, and what there is."""
    return {line.split()[0]: [int(n) for n in re.findall(r"\d+", line)] for line in printed.splitlines()[1:]}


def test_the_submissions_that_come_with_it(tmp_path):
    done = run(FOLDER / "submissions", "--check", "iou=2", "nms=3", "encode=1", "--timeout", 4, "--feedback", tmp_path)
    assert done.returncode == 0, done.stderr
    assert points(done.stdout) == {"ada": [2, 3, 1, 6, 6], "blaise": [0, 0, 0, 0, 6]}
    assert (tmp_path / "ada.txt").read_text() == "iou: right\n\nnms: right\n\nencode: right\n"
    words = (tmp_path / "blaise.txt").read_text()
    assert "how wide is an intersection whose right edge is left of its left edge?" in words
    assert "nms was still running after 4 s" in words and "no function 'encode' in blaise.py" in words


@pytest.mark.parametrize(
    "code, words",
    [
        ("import sys; sys.exit(0)", "iou: it stopped by itself, with status 0"),
        ("import os; os._exit(7)", "iou: it stopped by itself, with status 7"),
        ("def iou(a, b) return 1", "iou: SyntaxError"),
        ("1 / 0", "iou: ZeroDivisionError: division by zero"),
        ("iou = 3", "iou: TypeError: checks.iou takes a function, not int"),
    ],
)
def test_a_submission_that_is_no_program_gets_nothing_and_is_told_why(tmp_path, code, words):
    (tmp_path / "carla.py").write_text(code)
    done = run(tmp_path, "--check", "iou=2", "--feedback", tmp_path / "words")
    assert points(done.stdout) == {"carla": [0, 0, 2]}
    assert words in (tmp_path / "words" / "carla.txt").read_text()


def test_what_a_submission_prints_does_not_matter(tmp_path):
    right = (FOLDER / "submissions" / "ada.py").read_text()
    (tmp_path / "dora.py").write_text(right + "\nprint('hello')\n")
    assert points(run(tmp_path, "--check", "iou=2").stdout) == {"dora": [2, 2, 2]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--check", "io=2"], "the name of a check, not 'io=2'"),
        (["--check", "iou"], "not 'iou'"),
        (["--check", "CheckFailed=1"], "not 'CheckFailed=1'"),
        (["--check", "iou=1"], "no submissions in"),
    ],
)
def test_a_mistake_of_the_grader_is_told(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == 1 and message in done.stderr
