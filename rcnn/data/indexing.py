"""Indices of a data set, `dataset[index]`."""

import operator
from typing import SupportsIndex


def normalise_index(index: SupportsIndex, length: int, noun: str) -> int:
    """Return an index of any integer type as a non-negative int; negative indices count from the end.

    Parameters
    ----------
    index : int or NumPy integer
        An index as for a list.
    length : int
        Number of elements.
    noun : str
        Word for one element in messages, such as "image".

    Returns
    -------
    int
        From 0 to length - 1.

    Raises
    ------
    IndexError
        If the index is out of range; this ends a `for` loop over a data set.
    TypeError
        If the index is no integer, such as a slice.

    Examples
    --------
    >>> normalise_index(-1, 3, "image")
    2
    """
    if not hasattr(index, "__index__"):
        raise TypeError(
            f"the index of a {noun} must be an integer, got {index!r}; for several, [dataset[i] for i in range(...)]"
        )
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexError(f"{noun} index {i} is out of range; the data set has {length} {noun}s")
    return i % length
