"""What `dataset[index]` means."""

import operator
from typing import SupportsIndex


def place_of(index: SupportsIndex, length: int, noun: str) -> int:
    """The place, 0 .. length - 1, that `index` stands for: any integer, Python's or NumPy's; -1 is the last one.

    noun: what is in the data set, for messages. Raises IndexError beyond the end, which is what ends a `for` loop over
    the data set, and TypeError for what is no integer, such as a slice.
    """
    if not hasattr(index, "__index__"):
        raise TypeError(
            f"a {noun} of a data set is asked for by an integer, got {index!r}; "
            "for several, [dataset[i] for i in range(...)]"
        )
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexError(f"{noun} {i} of a data set of {length} {noun}s")
    return i % length
