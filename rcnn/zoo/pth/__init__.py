"""State dicts from PyTorch's .pth files, without PyTorch and without running anything that is in them.

`torch.save` writes a pickle of the names, shapes and strides, and beside it the storages, plain runs of numbers that
tensors look into. Since PyTorch 1.6 both lie in a zip archive, uncompressed:

    NAME/data.pkl, NAME/data/0, NAME/data/1, ..., NAME/byteorder and a few more

Before, they followed each other in one stream: three small pickles (a magic number, a version, facts about the
machine), the pickle, a pickle with the list of the storages' keys, and for each key a count (int64) and the numbers.

Such a file may come from anywhere, so it is taken at its word nowhere: sizes are compared with the file before anything
is allocated, shapes and strides with the storage before a view is made.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rcnn.zoo.pth import zips
from rcnn.zoo.pth.bounded import Budget, CheckpointError, Stream, quote
from rcnn.zoo.pth.pickles import load

ALLOWANCE = 90_000_000  # bytes of memory beyond the file's size; 10 MB are left for what is not counted
CHUNK = 1 << 18  # numbers that are read at a time
LONGEST_KEY = 40  # characters of a storage's key, which is a number
MAX_DIMS = 16  # no layer has more than five
ARRAY_COST = 400  # bytes of an array object, beside its numbers; its shape and strides come to it

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001
WRAPPERS = ("model", "state_dict")  # keys under which training scripts keep the state dict


class _Kind(NamedTuple):
    """A kind of storage: how many bytes a number takes in the file, and the dtype that it gets."""

    name: str
    stored_size: int
    dtype: np.dtype[Any]


class _Storage(NamedTuple):
    """What the pickle says of a storage."""

    key: str
    kind: _Kind
    numel: int


class _Tensor(NamedTuple):
    """A view of a storage, checked against the count that the pickle gives; offset and strides in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.kind.dtype.itemsize


@dataclass(frozen=True)
class _Contents:
    """What a file holds: the pickled object, where each storage lies, and the order of its bytes."""

    pickled: object
    extents: Mapping[str, zips.Extent]
    byte_order: str = "<"


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of the state dict in a .pth file by name, in the file's order.

    The file holds a state dict, or a dict with one under "model" or "state_dict". Tensors may be float64, float32,
    float16, bfloat16 (which becomes float32), int64, int32, int16, int8, uint8 and bool. As in PyTorch, tensors that
    shared a storage share memory, and strides are kept; tensors that are the same view are one array.

    Never takes more memory than the file is large plus 100 MB; a file whose tensors, each copied once, would take more
    than that, as overlapping and expanded views can, is refused. Raises CheckpointError that says what is wrong with
    the file, and OSError where it cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        budget = Budget(ALLOWANCE)
        try:
            contents = _open(file, size, budget)
            tensors = _state_dict(contents.pickled)
            _check_total(tensors.values(), size, budget)
            return _arrays(file, tensors, contents)
        except CheckpointError as error:
            raise CheckpointError(f"{path} is not a .pth file that can be read: {error}") from error


def _open(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    """The contents of either format."""
    start = file.read(4)
    if start == zips.START:
        return _open_zip(file, size, budget)
    if start[:1] == b"\x80":
        return _open_stream(file, size, budget)
    raise CheckpointError(
        f"it begins with {start!r}, and torch.save writes {zips.START!r} or b'\\x80'" if start else "it is empty"
    )


# ---------------------------------------------------------------------- the two formats


def _open_zip(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    entries = zips.entries(file, size, budget)
    folders = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise CheckpointError(f"it is a zip archive with {len(folders)} entries FOLDER/data.pkl; torch.save writes one")
    folder = folders[0]
    extent = entries[f"{folder}/data.pkl"]
    zips.check_crc(file, extent, "data.pkl")
    stream = Stream(file, extent.start, extent.start + extent.size, budget)
    storages = _Storages()
    pickled = load(stream, NAMES, storages)
    if stream.at != stream.end:
        raise CheckpointError(f"{stream.end - stream.at} bytes follow the pickle in data.pkl")
    extents = {}
    for storage in storages.by_key.values():
        found = entries.get(f"{folder}/data/{storage.key}")
        wanted = storage.numel * storage.kind.stored_size
        if found is None or found.size != wanted:
            raise CheckpointError(
                f"storage {quote(storage.key)} should have {wanted:,} bytes, and "
                f"{'is not there' if found is None else f'has {found.size:,}'}"
            )
        extents[storage.key] = found
    return _Contents(pickled, extents, _byte_order(file, entries.get(f"{folder}/byteorder"), budget))


def _byte_order(file: BinaryIO, extent: zips.Extent | None, budget: Budget) -> str:
    """ "<" or ">", as the entry says; files that have none are older than it, and little-endian."""
    if extent is None:
        return "<"
    zips.check_crc(file, extent, "byteorder")
    text = Stream(file, extent.start, extent.start + extent.size, budget).read(extent.size)
    if text not in (b"little", b"big"):
        raise CheckpointError(f"its byte order is {text[:20]!r}; b'little' and b'big' are known")
    return "<" if text == b"little" else ">"


def _open_stream(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    stream = Stream(file, 0, size, budget)
    for what, wanted in (("magic number", MAGIC_NUMBER), ("version", STREAM_VERSION)):
        if load(stream, {}) != wanted:
            raise CheckpointError(f"its {what} is not that of torch.save, {wanted}")
    load(stream, {})  # sizes of C's integers and the byte order of the machine; what follows depends on neither
    storages = _Storages()
    pickled = load(stream, NAMES, storages)
    keys = load(stream, {})
    if (
        type(keys) is not list
        or not all(type(key) is str for key in keys)
        or len(keys) != len(storages.by_key)
        or set(keys) != storages.by_key.keys()
    ):
        raise CheckpointError("its list of storages is not that of the storages which its tensors need")
    extents = {}
    for key in keys:
        storage = storages.by_key[key]
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if count != storage.numel:
            raise CheckpointError(f"storage {quote(key)} should have {storage.numel:,} numbers and says {count:,}")
        nbytes = count * storage.kind.stored_size
        extents[key] = zips.Extent(stream.skip(nbytes), nbytes, None)
    if stream.at != size:
        raise CheckpointError(f"{size - stream.at:,} bytes follow its last storage")
    return _Contents(pickled, extents)


# ---------------------------------------------------------------------- what the pickle may make


class _Storages:
    """Makes storages of persistent ids, and keeps them by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def __call__(self, pid: object) -> _Storage:
        """The storage of ("storage", kind, key, location, numel), which in a stream a None follows."""
        if type(pid) is not tuple or len(pid) not in (5, 6) or type(pid[0]) is not str or pid[0] != "storage":
            raise CheckpointError("its pickle refers to something other than a storage")
        kind, key, location, numel = pid[1:5]
        if type(kind) is not _Kind or type(key) is not str or type(location) is not str or not _are_sizes((numel,)):
            raise CheckpointError("its pickle describes a storage wrongly")
        if len(key) > LONGEST_KEY:
            raise CheckpointError(f"the key of a storage has {len(key):,} characters; they are short numbers")
        if len(pid) == 6 and pid[5] is not None:
            raise CheckpointError(f"storage {quote(key)} is a view of another, as they were before PyTorch 0.4")
        described = _Storage(key, kind, numel)
        storage = self.by_key.setdefault(key, described)
        if storage != described:
            raise CheckpointError(f"storage {quote(key)} is described in two ways")
        return storage


def _are_sizes(values: Iterable[object]) -> bool:
    """Whether all are integers that an int64 holds, and none is negative."""
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _tensor(storage: object, offset: Any, shape: object, strides: object) -> _Tensor:
    """torch._utils._rebuild_tensor: the view, checked."""
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise CheckpointError("its pickle describes a tensor wrongly")
    if len(shape) > MAX_DIMS or len(shape) != len(strides) or not _are_sizes((offset, *shape, *strides)):
        raise CheckpointError(
            f"a tensor has an offset, {len(shape)} sizes and {len(strides)} strides that are not "
            f"integers of at least 0, as many of the one as of the other and at most {MAX_DIMS}"
        )
    nbytes = math.prod(side for side in shape if side) * storage.kind.dtype.itemsize
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if nbytes >= 2**63 or (0 not in shape and last >= storage.numel):
        raise CheckpointError(
            f"a tensor of shape {_show(shape)}, strides {_show(strides)} and offset {offset} does "
            f"not lie within its storage, {quote(storage.key)} of {storage.numel:,} numbers"
        )
    return _Tensor(storage, offset, shape, strides)


def _tensor_v2(
    storage: object,
    offset: Any,
    shape: object,
    strides: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> _Tensor:
    """torch._utils._rebuild_tensor_v2; the metadata are about conjugate and negative views, which are not read here."""
    del requires_grad, hooks
    if metadata is not None and metadata != {}:
        raise CheckpointError("a tensor is a conjugate or a negative view of its storage, which is not read here")
    return _tensor(storage, offset, shape, strides)


def _parameter(tensor: object, requires_grad: object, hooks: object) -> _Tensor:
    """torch._utils._rebuild_parameter."""
    del requires_grad, hooks
    if type(tensor) is not _Tensor:
        raise CheckpointError("its pickle makes a parameter of something other than a tensor")
    return tensor


def _ordered_dict() -> dict[object, object]:
    """collections.OrderedDict."""
    return {}


def _show(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sizes[:8]))}{', ...' if len(sizes) > 8 else ''})"


NAMES: dict[tuple[str, str], _Kind | Callable[..., object]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{
        ("torch", name): _Kind(name, stored_size, np.dtype(dtype))
        for name, stored_size, dtype in (
            ("DoubleStorage", 8, "f8"),
            ("FloatStorage", 4, "f4"),
            ("HalfStorage", 2, "f2"),
            ("BFloat16Storage", 2, "f4"),
            ("LongStorage", 8, "i8"),
            ("IntStorage", 4, "i4"),
            ("ShortStorage", 2, "i2"),
            ("CharStorage", 1, "i1"),
            ("ByteStorage", 1, "u1"),
            ("BoolStorage", 1, "?"),
        )
    },
}


# ---------------------------------------------------------------------- from the pickle to arrays


def _state_dict(pickled: object) -> dict[str, _Tensor]:
    """The tensors by name, from a state dict or a dict that holds one."""
    if type(pickled) is dict:
        wrappers = [key for key in WRAPPERS if type(pickled.get(key)) is dict]
        if len(wrappers) > 1:
            raise CheckpointError(f"it holds more than one state dict, under {' and '.join(wrappers)}")
        if wrappers:
            pickled = pickled[wrappers[0]]
    if type(pickled) is not dict:
        raise CheckpointError(f"it holds a {_type(pickled)}, not a state dict")
    for name, tensor in pickled.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            raise CheckpointError(
                "it holds no state dict, for that has a tensor under every name, and this one a "
                f"{_type(tensor)} under {quote(name) if type(name) is str else name}"
            )
    return pickled


def _type(value: object) -> str:
    return type(value).__name__.lstrip("_").lower()


def _check_total(tensors: Iterable[_Tensor], size: int, budget: Budget) -> None:
    """CheckpointError where the storages, or copies of all different tensors, exceed the file's size and what is left.

    A storage of bfloat16 takes twice its size, and a few numbers can be expanded to any shape.
    """
    views = {}
    for tensor in tensors:
        identity = _identity(tensor)
        budget.spend(ARRAY_COST + 16 * len(tensor.shape) + len(identity), "the tensors that it holds")
        views[identity] = tensor
    storages = {tensor.storage.key: tensor.storage for tensor in views.values()}
    limit = size + budget.left
    for what, total in (
        ("storages", sum(storage.numel * storage.kind.dtype.itemsize for storage in storages.values())),
        ("tensors", sum(tensor.nbytes() for tensor in views.values())),
    ):
        if total > limit:
            raise CheckpointError(
                f"its {what} would take {total:,} bytes, and the file has {size:,}; the limit for it is {limit:,}"
            )


def _identity(tensor: _Tensor) -> str:
    """A text that two tensors share when they are the same view; the hash of a text, unlike a tuple's, has a seed."""
    return f"{tensor.offset} {tensor.shape} {tensor.strides} {tensor.storage.key}"


def _arrays(file: BinaryIO, tensors: Mapping[str, _Tensor], contents: _Contents) -> dict[str, np.ndarray]:
    """The tensors as arrays: each storage that one of them needs is read once, in the file's order."""
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = {}
    for key in sorted(storages, key=lambda key: contents.extents[key].start):
        numbers[key] = _numbers(file, storages[key], contents.extents[key], contents.byte_order)
    views: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        identity = _identity(tensor)
        if identity not in views:
            views[identity] = _view(numbers[tensor.storage.key], tensor)
        arrays[name] = views[identity]
    return arrays


def _numbers(file: BinaryIO, storage: _Storage, extent: zips.Extent, byte_order: str) -> np.ndarray:
    """The numbers of a storage, (count,), bit for bit; bfloat16 is the upper half of a float32."""
    kind = storage.kind
    numbers = np.empty(storage.numel, kind.dtype)
    bits = numbers.view(f"u{kind.dtype.itemsize}")
    crc = 0
    file.seek(extent.start)
    for start in range(0, storage.numel, CHUNK):
        stop = min(start + CHUNK, storage.numel)
        data = file.read((stop - start) * kind.stored_size)
        if len(data) != (stop - start) * kind.stored_size:
            raise CheckpointError("it became shorter while it was read")
        crc = zlib.crc32(data, crc)
        bits[start:stop] = np.frombuffer(data, f"{byte_order}u{kind.stored_size}")
    if extent.crc not in (None, crc):
        raise CheckpointError(f"storage {quote(storage.key)} is damaged: its checksum is wrong")
    if kind.name == "BFloat16Storage":
        bits <<= 16
    if kind.name == "BoolStorage" and bits.size and bits.max() > 1:
        raise CheckpointError(f"storage {quote(storage.key)} holds bools that are neither 0 nor 1")
    return numbers


def _view(numbers: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The array that looks into a storage's numbers as the tensor does; NumPy checks its bounds once more."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    # A side of 1 may have any stride in PyTorch. NumPy must not see it: in bytes it may not fit an integer.
    strides = [
        stride * numbers.itemsize if side > 1 else 0 for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides)
