"""Templates of HTML files, and the escaping of what is written into them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")  # such as {{title}}
_CLOSING = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}  # so that no text in JSON can end its <script> element


def fill(template: str, parts: Mapping[str, str]) -> bytes:
    """Return the content of an HTML file.

    Parameters
    ----------
    template : str
        Name of a template in the folder `files`. The placeholder {{style}} stands for `style.css`.
    parts : mapping from str to str
        HTML for each other placeholder. Text must have been escaped with `text` or `as_json`.

    Returns
    -------
    bytes
        ASCII; other characters are written as references such as &#233;.
    """
    values = {"style": read_file("style.css"), **parts}
    filled = _PLACEHOLDER.sub(lambda found: values[found[1]], read_file(template))  # not again inside the values
    return filled.encode("ascii", "xmlcharrefreplace")


def read_file(name: str) -> str:
    """Return the text of a file in the folder `files`.

    Parameters
    ----------
    name : str
        Name of the file.

    Returns
    -------
    str
        The text.
    """
    return (resources.files("rcnn.cli.html") / "files" / name).read_text("utf-8")


def text(value: object) -> str:
    r"""Escape a text for HTML, also inside a quoted attribute.

    Parameters
    ----------
    value : object
        The text, or another object that `str` converts. A lone surrogate, which stands for an undecodable byte of a
        file name, becomes visible as an escape.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> text('<b>"\udcff"')
    '&lt;b&gt;&quot;\\udcff&quot;'
    """
    return html.escape(readable(str(value)))


def readable(value: str) -> str:
    """Replace lone surrogates by escapes.

    Parameters
    ----------
    value : str
        Any text.

    Returns
    -------
    str
        A text that can be encoded.
    """
    return value.encode("utf-8", "backslashreplace").decode()


def as_json(value: Any) -> str:
    r"""Return a value as JSON for a <script> element.

    Parameters
    ----------
    value : object
        Lists, dicts, strings, numbers and None.

    Returns
    -------
    str
        ASCII text without angle brackets and ampersands.

    Examples
    --------
    >>> as_json(["</script>"])
    '["\\u003c/script\\u003e"]'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_CLOSING)


def as_uri(content: bytes, kind: str) -> str:
    """Return a URI that contains an image.

    Parameters
    ----------
    content : bytes
        Content of an image file.
    kind : str
        "jpeg" or "png".

    Returns
    -------
    str
        A data URI.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
