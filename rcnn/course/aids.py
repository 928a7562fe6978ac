"""Functions for the notebooks that show the library's source code and measure the speed of its kernels."""

from __future__ import annotations

import ast
import html
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rcnn._ext import backend

CLOSE = 1e-4  # float32 tolerance between the two backends, relative to the largest value
# The colours have a contrast of at least 4.5 to the page, in light and in dark. The class names are those of Pygments.
# The three attributes are set by JupyterLab, the book and VS Code in the dark.
STYLE = """
.rcnn-source { --keyword: #7928a1; --text: #1b6b1b; --comment: #595959; --number: #8a4600; --name: #0b5fa5; }
:is([data-jp-theme-light="false"], [data-theme="dark"], .vscode-dark) .rcnn-source {
  --keyword: #dcc6e0; --text: #abe338; --comment: #b8b8b8; --number: #f5ab35; --name: #6ec1ff; }
.rcnn-source pre { font-size: 0.83em; line-height: 1.4; white-space: pre; overflow-x: auto; margin: 0; padding: 0.6em;
  color: inherit; background: transparent; border: 1px solid #8a8a8a; border-radius: 4px; }
.rcnn-source pre:focus-visible { outline: 3px solid #2f81d8; }
.rcnn-source pre [class^="k"], .rcnn-source pre .ow { color: var(--keyword); }
.rcnn-source pre [class^="s"] { color: var(--text); }
.rcnn-source pre [class^="c"] { color: var(--comment); }
.rcnn-source pre [class^="m"] { color: var(--number); }
.rcnn-source pre :is(.nf, .nc, .nb) { color: var(--name); }
"""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


class Source:
    """Source code that a notebook shows with syntax highlighting.

    Parameters
    ----------
    text : str
        Code to show.
    name : str, optional
        What the code is, for screen readers.
    """

    def __init__(self, text: str, name: str = "Source code") -> None:
        self.text, self.name = text, name

    def _repr_html_(self) -> str:
        """Return the code as HTML with its own style, which follows the light and dark themes of the page."""
        from pygments import highlight  # installed with Jupyter
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        code = highlight(self.text, PythonLexer(), HtmlFormatter(nowrap=True))
        # A wide box scrolls, also with the keyboard.
        opening = f'<pre tabindex="0" role="group" aria-label="{html.escape(self.name)}">'
        return f'<div class="rcnn-source"><style>{STYLE}</style>{opening}{code}</pre></div>'

    def __repr__(self) -> str:
        return self.text


def source(*functions: Callable[..., Any] | type) -> Source:
    """Return the source code of functions or classes of the library.

    Parameters
    ----------
    *functions : function or class
        Functions or classes to show. The code of a function starts at its `def` line, without decorators. Of each
        docstring, only the first line is shown.

    Returns
    -------
    Source
        Source code from the installed files.
    """
    names = ", ".join(function.__name__ for function in functions)
    return Source("\n\n\n".join(map(_text, functions)), f"Source code of {names}")


def _text(function: Callable[..., Any] | type) -> str:
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    return _with_short_docstrings(text if isinstance(function, type) else text[text.index("def ") :])


def _with_short_docstrings(code: str) -> str:
    """Return code with only the first line of each docstring."""
    lines = code.split("\n")
    for node in sorted(ast.walk(ast.parse(code)), key=lambda node: -getattr(node, "lineno", 0)):  # from the last line
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno or 0
            if last > first + 1:
                lines[first:last] = [f'{lines[first].rstrip()}"""']
    return "\n".join(lines)


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
