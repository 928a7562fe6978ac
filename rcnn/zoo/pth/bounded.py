"""Reading a file that may come from anywhere: never past its end, and never for more memory than it was given."""

from __future__ import annotations

from typing import BinaryIO

# What one read may leave in memory: an empty list or dict, the costliest things that a pickle makes of one byte, take
# about 70 bytes with their place on the stack. A file of 10,000 tensors stays within 100 MB by this reckoning.
READ_COST = 90
BYTE_COST = 5  # a byte of a text may become a character of 4 bytes, and both are there for a moment

LONGEST_ITEM = 1 << 20  # bytes; a state dict has names, and names are shorter
LONGEST_LINE = 256  # bytes; only names of modules and functions come in lines


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint, or that does not fit the model; the message says what is wrong."""


class Budget:
    """How many bytes may still be allocated on a file's behalf."""

    def __init__(self, left: int):
        self.left = left

    def spend(self, size: int, on: str) -> None:
        """Takes `size` bytes off; CheckpointError that names what they were wanted for, where there are not so many."""
        self.left -= size
        if self.left < 0:
            raise CheckpointError(f"{on} would take more memory than a file of this size may")


class Stream:
    """A stretch of a file: reads no further than its end, and pays for what it reads."""

    def __init__(self, file: BinaryIO, start: int, end: int, budget: Budget):
        self._file, self.at, self.end, self._budget = file, start, end, budget
        file.seek(start)

    def read(self, size: int) -> bytes:
        """The next `size` bytes; CheckpointError where there are fewer, or where they are too many for one item."""
        if size > min(self.end - self.at, LONGEST_ITEM):
            raise CheckpointError(
                f"at byte {self.at} it asks for {size:,} bytes, and {self.end - self.at:,} are left "
                f"(one item may have {LONGEST_ITEM:,})"
            )
        self._budget.spend(READ_COST + BYTE_COST * size, "what its pickle or its table of contents makes")
        data = self._file.read(size)
        if len(data) != size:
            raise CheckpointError("it became shorter while it was read")
        self.at += size
        return data

    def readline(self) -> bytes:
        """The next line, its end included; CheckpointError where none ends soon enough."""
        self._budget.spend(READ_COST + BYTE_COST * LONGEST_LINE, "what its pickle makes")
        line = self._file.readline(min(self.end - self.at, LONGEST_LINE))
        self.at += len(line)
        if not line.endswith(b"\n"):
            raise CheckpointError(f"at byte {self.at} a line of its pickle has no end")
        return line

    def skip(self, size: int) -> int:
        """Where the next `size` bytes begin, which are passed over; CheckpointError where there are fewer."""
        if size > self.end - self.at:
            raise CheckpointError(
                f"it is cut off: at byte {self.at} {size:,} bytes are wanted, and {self.end - self.at:,} are left"
            )
        start = self.at
        self.at += size
        self._file.seek(self.at)
        return start


def quote(text: str) -> str:
    """A text from a file as it can be shown to a person: escaped, and not too long."""
    return repr(text if len(text) <= 100 else text[:100] + "...")
