"""Bounded reading of untrusted files: never past the end, and never with more memory than allowed."""

from __future__ import annotations

from typing import BinaryIO

# Memory that one read may leave behind. An empty list or dict, the largest object that a pickle creates from one byte,
# takes about 70 bytes with its entry on the stack. With these costs a file of 10,000 tensors stays within 100 MB.
READ_COST = 90
BYTE_COST = 5  # a byte of a text may become a character of 4 bytes, and both exist for a moment

LONGEST_ITEM = 1 << 20  # bytes; the longest items of a state dict are names, which are shorter
LONGEST_LINE = 256  # bytes; only names of modules and functions are lines


class CheckpointError(ValueError):
    """Invalid checkpoint, or a checkpoint of another model; the message names the reason."""


class Budget:
    """Memory that may still be allocated for a file.

    Parameters
    ----------
    left : int
        Bytes.
    """

    def __init__(self, left: int):
        self.left = left

    def spend(self, size: int, on: str) -> None:
        """Subtract `size` bytes.

        Parameters
        ----------
        size : int
            Bytes to allocate.
        on : str
            Purpose of the bytes, for the message.

        Raises
        ------
        CheckpointError
            If fewer bytes are left.
        """
        self.left -= size
        if self.left < 0:
            raise CheckpointError(f"{on} would take more memory than allowed for a file of this size")


class Stream:
    """Part of a file; reads never pass its end, and count against a budget.

    Parameters
    ----------
    file : binary file
        The file.
    start, end : int
        First byte of the part, and the byte after its last.
    budget : Budget
        Memory that reads may allocate.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, budget: Budget):
        self._file, self.at, self.end, self._budget = file, start, end, budget
        file.seek(start)

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        Parameters
        ----------
        size : int
            Number of bytes.

        Returns
        -------
        bytes
            Exactly `size` bytes.

        Raises
        ------
        CheckpointError
            If fewer bytes are left, or `size` exceeds LONGEST_ITEM.
        """
        if size > min(self.end - self.at, LONGEST_ITEM):
            raise CheckpointError(
                f"byte {self.at}: an item of {size:,} bytes, but only {self.end - self.at:,} are left "
                f"(an item may have at most {LONGEST_ITEM:,})"
            )
        self._budget.spend(READ_COST + BYTE_COST * size, "its pickle or its table of contents")
        data = self._file.read(size)
        if len(data) != size:
            raise CheckpointError("the file shrank while it was read")
        self.at += size
        return data

    def readline(self) -> bytes:
        """Return the next line.

        Returns
        -------
        bytes
            The line with its line break.

        Raises
        ------
        CheckpointError
            If the line is longer than LONGEST_LINE or does not end.
        """
        self._budget.spend(READ_COST + BYTE_COST * LONGEST_LINE, "its pickle")
        line = self._file.readline(min(self.end - self.at, LONGEST_LINE))
        self.at += len(line)
        if not line.endswith(b"\n"):
            raise CheckpointError(f"byte {self.at}: a line of its pickle has no end")
        return line

    def skip(self, size: int) -> int:
        """Skip the next bytes.

        Parameters
        ----------
        size : int
            Number of bytes.

        Returns
        -------
        int
            Position of the first skipped byte in the file.

        Raises
        ------
        CheckpointError
            If fewer bytes are left.
        """
        if size > self.end - self.at:
            raise CheckpointError(
                f"it is truncated at byte {self.at}: {size:,} bytes expected, {self.end - self.at:,} left"
            )
        start = self.at
        self.at += size
        self._file.seek(self.at)
        return start


def quote(text: str) -> str:
    """Return a text from a file in a form for messages: escaped, and at most 100 characters long.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The quoted text.
    """
    return repr(text if len(text) <= 100 else text[:100] + "...")
