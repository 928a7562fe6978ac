"""Functions for the notebooks that show the library's source code and measure the speed of its kernels."""

from __future__ import annotations

import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rcnn._ext import backend

CLOSE = 1e-4  # float32 tolerance between the two backends, relative to the largest value
# Small enough for 120 columns on a web page, and on white also in a dark notebook, because the colours need it.
LOOK = "font-size: 0.83em; white-space: pre; overflow-x: auto; padding: 0.6em; background: #fff; color: #1a1a1a"
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


class Source:
    """Source code that a notebook shows with syntax highlighting.

    Parameters
    ----------
    text : str
        Code to show.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        """Return the code as HTML with inline colours, because a web page has no style sheet for the code."""
        from pygments import highlight  # installed with Jupyter
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        look = HtmlFormatter(noclasses=True, nobackground=True, wrapcode=True, prestyles=LOOK)
        return str(highlight(self.text, PythonLexer(), look))

    def __repr__(self) -> str:
        return self.text


def source(*functions: Callable[..., Any] | type) -> Source:
    """Return the source code of functions or classes of the library.

    Parameters
    ----------
    *functions : function or class
        Functions or classes to show. The code of a function starts at its `def` line, without decorators.

    Returns
    -------
    Source
        Source code from the installed files.
    """
    return Source("\n\n\n".join(map(_text, functions)))


def _text(function: Callable[..., Any] | type) -> str:
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    return text if isinstance(function, type) else text[text.index("def ") :]


def compare(function: Callable[..., Any], *arguments: Any, repeat: int = 15, **options: Any) -> None:
    """Print the running times of a function with NumPy and with the compiled kernels, and the ratio of the two.

    First, the function runs once with each backend, without timing. Then it runs `repeat` times with each backend,
    alternately. The printed times are medians. If the kernels are not compiled, only the time with NumPy is printed.

    Parameters
    ----------
    function : function
        Function of the library that both backends can run.
    *arguments : object
        Positional arguments of `function`.
    repeat : int, optional
        Number of timed runs with each backend.
    **options : object
        Keyword arguments of `function`.

    Raises
    ------
    AssertionError
        If the backends return different results.
    """
    names = ("numpy", "cython") if backend.info()["kernels"] else ("numpy",)
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeat + 1):
        for name in names:
            with backend.use_backend(name):
                start = time.perf_counter()
                results[name] = function(*arguments, **options)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    print(f"NumPy reference  {_duration(medians['numpy']):>9}")
    if "cython" not in names:
        print("Cython kernel    not compiled on this machine")
        return
    _check_same(function.__name__, results["numpy"], results["cython"])
    threads = backend.get_num_threads()
    print(f"Cython kernel    {_duration(medians['cython']):>9}   at most {threads} thread{'s' * (threads != 1)}")
    print(f"ratio            {medians['numpy'] / medians['cython']:>9.1f}")


def _check_same(name: str, one: Any, other: Any) -> None:
    parts = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    for expected, computed in parts:
        largest = float(np.max(np.abs(expected), initial=0))
        np.testing.assert_allclose(
            computed,
            expected,
            rtol=CLOSE,
            atol=CLOSE * largest,
            err_msg=f"{name}: the two backends return different results",
        )


def _duration(seconds: float) -> str:
    """Return a time as text with three digits and a unit, such as "1.23 ms"."""
    size, unit = next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
