"""Tools to read untrusted files within limits of size and memory."""

from __future__ import annotations

from typing import BinaryIO

# Bytes of memory that remain in use after a read. The largest object that a pickle can create from one byte is an empty
# list or dict. Together with its entry on the stack, it takes about 70 bytes. With these costs, reading a file with
# 10,000 tensors takes less than 100 MB.
READ_COST = 90
BYTE_COST = 5  # a byte of text may become a character of 4 bytes, and both exist for a short time

LONGEST_ITEM = 1 << 20  # bytes; the longest items of a state dict are names, which are shorter than this
LONGEST_LINE = 256  # bytes; only names of modules and functions are read as lines
WEIGHTS_ONLY = "save only the weights: torch.save(model.state_dict(), 'weights.pth')"


class CheckpointError(ValueError):
    """Invalid checkpoint, or checkpoint of another model; the message gives the reason.

    Attributes
    ----------
    details : tuple of str
        All names of parameters and buffers that do not match, in one line for each kind of problem. The message shows
        only the first of these names.
    """

    details: tuple[str, ...] = ()


class Budget:
    """Memory that may still be allocated for a file.

    Parameters
    ----------
    left : int
        Number of bytes.
    """

    def __init__(self, left: int):
        self.left = left

    def spend(self, size: int, on: str) -> None:
        """Subtract `size` bytes from the budget.

        Parameters
        ----------
        size : int
            Number of bytes to allocate.
        on : str
            Name of the data that needs the bytes, for the error message, such as "its pickle".

        Raises
        ------
        CheckpointError
            If fewer than `size` bytes are left in the budget.
        """
        self.left -= size
        if self.left < 0:
            raise CheckpointError(f"{on} would take more memory than allowed for a file of this size; {WEIGHTS_ONLY}")


class Stream:
    """Part of a file. No method reads beyond its end, and each method subtracts the memory that it uses from a budget.

    Parameters
    ----------
    file : binary file
        The file.
    start, end : int
        Position of the first byte of the part, and of the byte after its last byte.
    budget : Budget
        The number of bytes that the methods may still allocate.
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
            If fewer bytes are left in the part, or `size` exceeds LONGEST_ITEM.
        """
        if size > min(self.end - self.at, LONGEST_ITEM):
            raise CheckpointError(
                f"the item at byte {self.at} has {size:,} bytes; {self.end - self.at:,} are left, and an item may have "
                f"at most {LONGEST_ITEM:,}"
            )
        self._budget.spend(READ_COST + BYTE_COST * size, "its pickle or its table of contents")
        data = self._file.read(size)
        if len(data) != size:
            raise CheckpointError("the file shrank while it was being read")
        self.at += size
        return data

    def readline(self) -> bytes:
        """Return the next line.

        Returns
        -------
        bytes
            The line, including its line break.

        Raises
        ------
        CheckpointError
            If the line is longer than LONGEST_LINE or has no line break.
        """
        self._budget.spend(READ_COST + BYTE_COST * LONGEST_LINE, "its pickle")
        line = self._file.readline(min(self.end - self.at, LONGEST_LINE))
        self.at += len(line)
        if not line.endswith(b"\n"):
            raise CheckpointError(f"byte {self.at}: a line of its pickle has no line break")
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
            If fewer bytes are left in the part.
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
    """Quote text from a file for a message: escape it, and cut it after 60 characters.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The quoted text.
    """
    return repr(text if len(text) <= 60 else text[:60] + "...")
