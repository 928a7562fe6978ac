"""What the notebooks use to show the library's own code, and how fast its kernels are."""

from __future__ import annotations

import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rcnn._ext import backend

CLOSE = 1e-4  # of the largest number: what the two backends may differ by in float32
LOOK = "font-size: 0.83em; white-space: pre; overflow-x: auto"  # 120 columns fit on a web page
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


class Source:
    """The text of functions as they stand in the library; a notebook shows it highlighted."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        """With its colours written into it, because a web page brings no style sheet."""
        from pygments import highlight  # comes with every notebook
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        look = HtmlFormatter(noclasses=True, nobackground=True, wrapcode=True, prestyles=LOOK)
        return str(highlight(self.text, PythonLexer(), look))

    def __repr__(self) -> str:
        return self.text


def source(*functions: Callable[..., Any] | type) -> Source:
    """Return the source of functions or classes of the library, from their `def` on, as the running files have it."""
    return Source("\n\n\n".join(map(_text, functions)))


def _text(function: Callable[..., Any] | type) -> str:
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    return text if isinstance(function, type) else text[text.index("def ") :]


def compare(function: Callable[..., Any], *arguments: Any, repeat: int = 15, **options: Any) -> None:
    """Prints how long `function` takes on NumPy and on the kernels, and the ratio of the two.

    They take turns, `repeat` times each after one that does not count; what is printed are medians. Raises
    AssertionError where the two give different answers. Where no kernels were compiled, only NumPy's time is printed.
    """
    names = ("numpy", "cython") if backend.info()["kernels"] else ("numpy",)
    answers: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeat + 1):
        for name in names:
            with backend.use_backend(name):
                begun = time.perf_counter()
                answers[name] = function(*arguments, **options)
                seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"NumPy reference  {_duration(medians['numpy']):>9}")
    if "cython" not in names:
        print("Cython kernel    none was compiled on this machine")
        return
    _check_same(function.__name__, answers["numpy"], answers["cython"])
    threads = backend.get_num_threads()
    print(f"Cython kernel    {_duration(medians['cython']):>9}   at most {threads} thread{'s' * (threads != 1)}")
    print(f"ratio            {medians['numpy'] / medians['cython']:>9.1f}")


def _check_same(name: str, one: Any, other: Any) -> None:
    parts = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    for numpys, kernels in parts:
        largest = float(np.max(np.abs(numpys), initial=0))
        np.testing.assert_allclose(
            kernels,
            numpys,
            rtol=CLOSE,
            atol=CLOSE * largest,
            err_msg=f"the two backends give different answers for {name}",
        )


def _duration(seconds: float) -> str:
    """Three digits and a unit: "1.23 ms"."""
    size, unit = next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
