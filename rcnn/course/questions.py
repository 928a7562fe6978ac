"""Questions at the end of a notebook, with instant feedback. They work without a kernel and without scripts."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass

CHOICE = re.compile(r"\[( |x)\] +(\S.*)")
LETTERS = "ABCDEFGH"  # at most eight choices
EMPHASIS = re.compile(r"(?<![\w*])\*(\w[^*]*)\*(?![\w*])")

# The colours have a contrast of at least 3 to white and to black. The words of the feedback repeat their meaning.
STYLE = """
.rcnn-quiz { max-width: 48em; line-height: 1.45; }
.rcnn-quiz .question { margin: 1.2em 0 0.4em; }
.rcnn-quiz details { margin: 0.3em 0; border: 1px solid #8a8a8a; border-radius: 4px; }
.rcnn-quiz summary { padding: 0.4em 0.8em; cursor: pointer; overflow-wrap: anywhere; }
.rcnn-quiz summary:focus-visible { outline: 3px solid #2f81d8; outline-offset: 1px; }
.rcnn-quiz .feedback { margin: 0; padding: 0.1em 0.8em 0.6em; }
.rcnn-quiz details.right[open] { border-left: 6px solid #2e9e6b; }
.rcnn-quiz details.wrong[open] { border-left: 6px solid #c8741f; }
"""


@dataclass(frozen=True)
class Choice:
    """A possible answer to a question.

    Attributes
    ----------
    text : str
        The answer.
    right : bool
        Whether it is the right answer.
    explanation : str
        Sentence that says why the answer is right or wrong.
    """

    text: str
    right: bool
    explanation: str


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    Attributes
    ----------
    text : str
        The question.
    choices : tuple of Choice
        Two to eight possible answers.
    """

    text: str
    choices: tuple[Choice, ...]


class Quiz:
    """Questions that a notebook displays; a click on an answer unfolds its feedback.

    Parameters
    ----------
    questions : tuple of Question
        Questions, in order.
    """

    def __init__(self, questions: tuple[Question, ...]) -> None:
        self.questions = questions

    def _repr_html_(self) -> str:
        parts = [_question_html(number, question) for number, question in enumerate(self.questions, start=1)]
        return f'<div class="rcnn-quiz"><style>{STYLE}</style>\n' + "\n".join(parts) + "\n</div>"

    def __repr__(self) -> str:
        """Return the questions and the choices without the answers, as plain text."""
        blocks = []
        for number, question in enumerate(self.questions, start=1):
            choices = [f"   {letter}. {choice.text}" for letter, choice in _lettered(question)]
            blocks.append("\n".join([f"{number}. {question.text}", *choices]))
        return "\n\n".join(blocks)


def quiz(text: str) -> Quiz:
    """Return questions for the last line of a notebook cell.

    Each answer can be unfolded with the mouse or the keyboard, and then shows whether it is right, and why. This needs
    no kernel and no scripts, so it also works in a saved notebook and on a web page.

    Parameters
    ----------
    text : str
        The questions, separated by blank lines. The lines of a question come first. Each answer follows on a line of
        its own, after "[x]" if it is right or "[ ]" if it is wrong. Every question has exactly one right answer. The
        indented lines below an answer explain why it is right or wrong. Text between backquotes is shown as code, and
        text between asterisks is emphasised. Formulas are not supported.

    Returns
    -------
    Quiz
        The questions. Jupyter displays them.

    Raises
    ------
    ValueError
        If a question has no text, fewer than two or more than eight answers, not exactly one right answer, or an answer
        without an explanation.

    Examples
    --------
    >>> quiz('''
    ...     Which box does NMS keep first?
    ...     [ ] The largest box.
    ...         NMS compares scores and IoUs. The size of a box does not matter.
    ...     [x] The box with the highest score.
    ...         NMS visits the boxes by descending score, so no other box can remove this box.
    ... ''')
    1. Which box does NMS keep first?
       A. The largest box.
       B. The box with the highest score.
    """
    blocks = [block for block in re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n")) if block.strip()]
    if not blocks:
        raise ValueError("text must have at least one question, got none")
    return Quiz(tuple(_parsed(number, block) for number, block in enumerate(blocks, start=1)))


def _parsed(number: int, block: str) -> Question:
    """Return the question in a block of lines."""
    question: list[str] = []
    choices: list[tuple[str, bool, list[str]]] = []
    for line in block.splitlines():
        if choice := CHOICE.match(line):
            choices.append((choice[2].strip(), choice[1] == "x", []))
        elif not choices:
            question.append(line.strip())
        elif line.startswith(" "):
            choices[-1][2].append(line.strip())
        else:
            raise _error(number, question, f"expected '[x] ...', '[ ] ...' or an indented explanation, got {line!r}")
    if not question:
        raise _error(number, question, "the text of the question must come before its answers")
    if not 2 <= len(choices) <= len(LETTERS):
        raise _error(number, question, f"must have 2 to {len(LETTERS)} answers, got {len(choices)}")
    if (right := sum(is_right for _, is_right, _ in choices)) != 1:
        raise _error(number, question, f"must have exactly one right answer, marked with [x], got {right}")
    for text, _, lines in choices:
        if not lines:
            raise _error(number, question, f"the answer {text!r} has no explanation; add an indented line below it")
    return Question(" ".join(question), tuple(Choice(text, right, " ".join(why)) for text, right, why in choices))


def _error(number: int, question: list[str], problem: str) -> ValueError:
    return ValueError(f"question {number} ({' '.join(question)[:40]!r}): {problem}")


def _lettered(question: Question) -> zip[tuple[str, Choice]]:
    return zip(LETTERS, question.choices, strict=False)


def _question_html(number: int, question: Question) -> str:
    choices = [
        f'<details class="{"right" if choice.right else "wrong"}"><summary>{letter}. {_inline(choice.text)}</summary>'
        f'<p class="feedback"><strong>{"✓ Right." if choice.right else "✗ Wrong."}</strong> '
        f"{_inline(choice.explanation)}</p></details>"
        for letter, choice in _lettered(question)
    ]
    heading = f'<p class="question"><strong>{number}.</strong> {_inline(question.text)}</p>'
    return "\n".join([f'<div role="group" aria-label="Question {number}">', heading, *choices, "</div>"])


def _inline(text: str) -> str:
    """Return text as HTML, with code between backquotes and emphasis between asterisks."""
    parts = re.split(r"(`[^`]+`)", html.escape(text, quote=False))
    return "".join(
        f"<code>{part[1:-1]}</code>" if part.startswith("`") else EMPHASIS.sub(r"<em>\1</em>", part) for part in parts
    )
