"""Validation of the index in `dataset[index]`."""

import operator
from typing import SupportsIndex


def normalise_index(index: SupportsIndex, length: int, noun: str) -> int:
    """Convert an index of any integer type to a non-negative int; negative indices count from the end.

    Parameters
    ----------
    index : int or NumPy integer
        The index, as in a list.
    length : int
        Number of elements in the data set.
    noun : str
        Word for one element in error messages, such as "image".

    Returns
    -------
    int
        The index, from 0 to length - 1.

    Raises
    ------
    IndexError
        If the index is out of range. This error also ends a `for` loop over a data set.
    TypeError
        If the index is not an integer, for example if it is a slice.

    Examples
    --------
    >>> normalise_index(-1, 3, "image")
    2
    """
    if not hasattr(index, "__index__"):
        raise TypeError(
            f"{noun} index must be an integer, got {index!r}; for several {noun}s, use [dataset[i] for i in range(...)]"
        )
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexError(f"{noun} index {i} is out of range; the data set has {length} {noun}s")
    return i % length
