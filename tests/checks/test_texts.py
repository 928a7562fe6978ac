"""The checks accept the right answers in tests/mutants/texts, and reject the wrong ones.

The authors of these answers had read only the exercises, and not the checks.
"""

from pathlib import Path

import mutants
import pytest

from rcnn import checks
from rcnn.checks import CheckFailed, diagnosis

OTHERS = {"diagnosis": diagnosis.check, "recalls": diagnosis.check_recalls}
ANSWERS = list(mutants.texts())


def check_of(answer):
    return OTHERS.get(answer.check) or getattr(checks, answer.check)


def named(right):
    return [
        pytest.param(answer, id=f"{answer.check}-{answer.description}") for answer in ANSWERS if answer.right == right
    ]


def test_teaching_md_quotes_the_number_of_wrong_texts():
    page = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert f"Another {len(named(right=False))} wrong answers" in page


def test_every_check_has_texts():
    assert {answer.check for answer in ANSWERS} == {*OTHERS, *checks.__all__} - {"CheckFailed", "hint"}


@pytest.mark.parametrize("answer", named(right=True))
def test_a_right_text_passes(answer):
    assert check_of(answer)(answer.function(), seed=0) is None


@pytest.mark.parametrize("answer", named(right=False))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_text_is_rejected(answer):
    with pytest.raises(CheckFailed) as failed:
        check_of(answer)(answer.function(), seed=0)
    assert answer.hint in str(failed.value)
