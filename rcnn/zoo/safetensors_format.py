"""Reading and writing of safetensors files without the safetensors package, which is not available in browsers.

A file consists of the length of the header (8 bytes, little-endian), the header (JSON), and the elements of all
arrays. The header maps each name to a dtype, a shape, and the range of the array's bytes; these ranges cover the rest
of the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "C64": "<c8",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}  # in the order of the package, which writes arrays of the last dtype first
METADATA = "__metadata__"
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors package


class UnknownDtypeError(Exception):
    """Error for a dtype that NumPy does not have, such as bfloat16."""


def save(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a file with these arrays; `safetensors.numpy.save` would return the same bytes.

    Parameters
    ----------
    tensors : mapping of str to array
        The arrays.
    metadata : mapping of str to str
        The metadata.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    ValueError
        If an array has a dtype that the format does not support.
    """
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in names:
            raise ValueError(f"{name} must have one of the dtypes {', '.join(map(str, names))}, got {array.dtype}")
    order = list(DTYPES)
    kinds = {name: names[array.dtype.newbyteorder("<")] for name, array in arrays.items()}
    entries: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    chunks, offset = [], 0
    for name in sorted(arrays, key=lambda name: (-order.index(kinds[name]), name)):
        array = arrays[name]
        entries[name] = {
            "dtype": kinds[name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        chunks.append(array.astype(DTYPES[kinds[name]], copy=False).tobytes())
        offset += array.nbytes
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # aligns the elements
    return b"".join([len(header).to_bytes(8, "little"), header, *chunks])


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    tensors : dict of str to array
        The arrays.
    metadata : dict of str to str
        The metadata; empty if the file has none.

    Raises
    ------
    ValueError
        If the file is not a valid safetensors file.
    UnknownDtypeError
        If the file is valid, and an array has a dtype that NumPy does not have.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER, os.fstat(file.fileno()).st_size - 8):
            raise ValueError(f"its header of {length} bytes is longer than the file or than {MAX_HEADER} bytes")
        try:
            entries = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its header is not JSON: {error}") from error
        data = file.read()
    if not isinstance(entries, dict):
        raise ValueError("its header is not a JSON object")
    metadata = entries.pop(METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata does not map names to strings")
    layouts = {name: _layout(name, entry) for name, entry in entries.items()}
    end = 0
    for name in sorted(layouts, key=lambda name: layouts[name][2:]):
        start, stop = layouts[name][2:]
        if start != end:
            raise ValueError(f"the bytes of {name} begin at {start}, but the array before it ends at {end}")
        end = stop
    if end != len(data):
        raise ValueError(f"its arrays have {end} bytes, but the file contains {len(data)}")
    tensors = {
        name: np.frombuffer(bytearray(data[start:stop]), dtype).reshape(shape)  # a writable copy, which is aligned
        for name, (dtype, shape, start, stop) in layouts.items()
    }
    return tensors, metadata


def _layout(name: str, entry: object) -> tuple[np.dtype, list[int], int, int]:
    """Return the dtype, the shape, and the range of bytes of an array; raise ValueError if they are invalid."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"{name} has no dtype, shape or data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    for values in (shape, offsets):
        if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 1 << 63 for value in values):
            raise ValueError(f"the shape and data_offsets of {name} must be lists of natural numbers, got {values}")
    if len(offsets) != 2 or len(shape) > 64:
        raise ValueError(f"{name} must have 2 data_offsets and at most 64 axes, got {len(offsets)} and {len(shape)}")
    if not isinstance(entry["dtype"], str):
        raise ValueError(f"the dtype of {name} must be a string, got {entry['dtype']!r}")
    if entry["dtype"] not in DTYPES:
        raise UnknownDtypeError(f"{name} has the dtype {entry['dtype']}")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        size = offsets[1] - offsets[0]
        raise ValueError(f"{name} has {size} bytes, which is not the size of a {dtype} array of shape {shape}")
    return dtype, shape, offsets[0], offsets[1]
