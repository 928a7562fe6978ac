"""Search for the files that annotations name.

Programs write the name of the same file in different ways: as the path on the annotator's computer, as a web address,
without a suffix, in capital letters, or with accents as separate characters. Only files inside the searched folders are
found.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from rcnn.data.reading import inside, matching
from rcnn.images import SUFFIXES

WEB = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*")  # the scheme and the host of a web address
LOCAL_FILE = "/data/local-files/?d="  # Label Studio writes this in front of the path of a file


class Search:
    """Search for files in folders; each folder is listed only once.

    Parameters
    ----------
    folders : sequence of Path
        Folders to search, in this order.
    suffixes : tuple of str
        Suffixes in lower case. Files with these suffixes are also found by a name without a suffix or with the suffix
        of an image.
    """

    def __init__(self, folders: Sequence[Path], suffixes: tuple[str, ...] = SUFFIXES) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self._suffixes = suffixes
        self._listed: dict[Path, dict[str, list[str]]] = {}
        self._claims: dict[Path, list[str]] = {}

    def find(self, name: object) -> Path | None:
        """Return the file that an annotation names.

        If there is no such path, the first folders of the path are ignored, one after the other. For example, the file
        of "C:/photos/train/a.jpg" is train/a.jpg or, if this does not exist, a.jpg.

        Parameters
        ----------
        name : object
            A path from an annotation.

        Returns
        -------
        Path or None
            The file; None if it is not found, or if `name` is not a string.

        Raises
        ------
        ValueError
            If several files match, if an earlier call found the same file for a name with other folders, or if the file
            is a link to a file outside the folder.
        """
        parts = path_parts(name) if isinstance(name, str) else []
        for start in range(len(parts)):
            for folder in self.folders:
                found = self._below(folder, parts[start:])
                if found is not None:
                    above = self._claims.setdefault(found, parts[:-1])
                    if above != parts[:-1]:
                        raise ValueError(
                            f"{name!r} and {'/'.join([*above, parts[-1]])!r} lead to the same file, {found}"
                        )
                    return found
        return None

    def _below(self, folder: Path, parts: Sequence[str]) -> Path | None:
        """Return the file with the path `parts` in a folder, or None."""
        below: list[str] = []
        for number, part in enumerate(parts, start=1):
            names = self._names(folder.joinpath(*below))
            matches = _matches(names, part, self._suffixes if number == len(parts) else ())
            if not matches:
                return None
            if len(matches) > 1:
                raise ValueError(f"several images match: {', '.join(matches)}")
            below += matches
        path = inside(folder, "/".join(below))
        return None if path.is_dir() else path

    def _names(self, folder: Path) -> dict[str, list[str]]:
        """Return a dict from names in lower case to entries of a folder; a.jpg also has the key "a/"."""
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                names.setdefault(_plain(name), []).append(name)
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in self._suffixes:
                    names.setdefault(f"{_plain(stem)}/", []).append(name)
            self._listed[folder] = names
        return self._listed[folder]


def _matches(names: dict[str, list[str]], name: str, suffixes: Sequence[str]) -> list[str]:
    """Return the entries with this name or, if there are none, those with the same name but another suffix."""
    plain = _plain(name)
    found = names.get(plain, [])
    if not found and suffixes:
        stem, suffix = os.path.splitext(plain)
        found = names.get(f"{plain}/", [])
        if not found and suffix in (*SUFFIXES, *suffixes):
            found = names.get(f"{stem}/", [])
    exact = [entry for entry in found if entry == name]
    return exact or found


def path_parts(name: str) -> list[str]:
    """Return the parts of a path or of a web address.

    Parameters
    ----------
    name : str
        A path from an annotation. A backslash counts as a slash.

    Returns
    -------
    list of str
        The parts, without a drive, ".", ".." and empty parts.

    Examples
    --------
    >>> path_parts("../train/images/a.jpg"), path_parts("https://example.org/u/7/a.jpg?size=large")
    (['train', 'images', 'a.jpg'], ['u', '7', 'a.jpg'])
    """
    plain = name.strip().replace("\\", "/")
    if plain.startswith(LOCAL_FILE):
        plain = unquote(plain.removeprefix(LOCAL_FILE))
    elif WEB.match(plain):
        plain = unquote(WEB.sub("", plain).partition("?")[0])
    parts = re.sub("^[A-Za-z]:", "", plain).split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _plain(name: str) -> str:
    """Return a name in lower case, with composed Unicode characters."""
    return unicodedata.normalize("NFC", name).casefold()


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted by path, without hidden files and folders.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of Path
        The files that have the suffix of an image.
    """
    found = (
        path for path in matching(folder, "[!.]*", deep=True) if path.suffix.lower() in SUFFIXES and not path.is_dir()
    )
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
