"""Reader of the state dicts in PyTorch's .pth files; it does not need PyTorch and runs no code from the file.

A state dict maps the names of a model's parameters and buffers to tensors. `torch.save` writes a pickle that contains
names, shapes and strides. Separately, it writes the storages, which are flat arrays of numbers. A tensor is a view of a
storage. Since PyTorch 1.6, the pickle and the storages are entries of an uncompressed zip archive:

    NAME/data.pkl, NAME/data/0, NAME/data/1, ..., NAME/byteorder and a few more

Before PyTorch 1.6, the file was one stream. It starts with three small pickles: a magic number, a version and facts
about the machine. The next two pickles contain the state dict and the list of the storages' keys. Finally, the stream
contains, for each key, a count (int64) and then that many numbers.

Scripts also store other objects beside the state dict, such as an optimiser, a scheduler or a date. This reader skips
these objects and runs none of their code.

Such a file may come from anywhere, so this reader trusts nothing in it. It compares all sizes with the size of the file
before it allocates memory. It compares shapes and strides with the storage before it creates a view.
"""

from __future__ import annotations

import math
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rcnn._files import open_regular
from rcnn._validate import listed
from rcnn.zoo import origins
from rcnn.zoo.pth import zips
from rcnn.zoo.pth.bounded import WEIGHTS_ONLY, Budget, CheckpointError, Stream, quote
from rcnn.zoo.pth.pickles import Foreign, load

ALLOWANCE = 90_000_000  # bytes of memory in addition to the file's size; objects that are not counted get 10 MB more
CHUNK = 1 << 18  # numbers to read in one step
LONGEST_KEY = 40  # maximum length of the key of a storage; PyTorch uses numbers as keys
MAX_DIMS = 16  # maximum number of dimensions of a tensor; no layer has more than five
ARRAY_COST = 400  # bytes of an array object, without its numbers, shape and strides

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001
DEEPEST = 4  # maximum number of keys that lead to the state dict
AVERAGED = re.compile(r"(^|_)ema($|_)")  # a key of averaged weights
OTHER_MODEL = re.compile("(?i)yolo|ultralytics|detr|mmdet|detectron2|transformers")  # in the name of a class
FOREIGN_TENSOR = re.compile(
    r"torch\.(storage\.)?\w+Storage|torch\.(_utils|_tensor)\._rebuild\w*"
)  # unsupported tensors


class _Kind(NamedTuple):
    """Kind of number in a storage: bytes per number in the file, and dtype of the array in memory."""

    name: str
    stored_size: int
    dtype: np.dtype[Any]


class _Storage(NamedTuple):
    """The description of one storage (a flat array of numbers in the file), read from the pickle."""

    key: str
    kind: _Kind
    numel: int


class _Tensor(NamedTuple):
    """A validated view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.kind.dtype.itemsize


class StateDict(dict[str, np.ndarray]):
    """Dict from the names in a state dict to its arrays, in the order of the file.

    Parameters
    ----------
    arrays : mapping of str to array
        The arrays.
    beside : tuple of str
        The outermost keys of the file, such as "model" and "epoch".
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], beside: tuple[str, ...]):
        super().__init__(arrays)
        self.beside = beside


@dataclass(frozen=True)
class _Contents:
    """Contents of a file: the pickled object, the extent of each storage, and the byte order."""

    pickled: object
    extents: Mapping[str, zips.Extent]
    byte_order: str = "<"


def read(path: str | os.PathLike[str]) -> StateDict:
    """Read the state dict in a .pth file.

    The state dict may be the whole content of the file, or be nested in dicts, under keys such as "model". Everything
    else in the file is skipped. If there are several state dicts, the small ones are skipped: those with fewer than
    half of the tensors of the largest one. If more than one remains, there is a warning, and the first one is read.
    Averaged weights (under a key such as "ema") are read only if nothing else remains.

    Supported dtypes are float64, float32, float16, bfloat16 (converted to float32), int64, int32, int16, int8, uint8
    and bool. As in PyTorch, tensors that are views of the same storage share memory, and their strides are kept. If two
    tensors are the same view, they become one array with two names.

    The reader uses at most 100 MB more memory than the size of the file. The file is refused if its tensors, each
    counted in full, need more memory than this. A small file can contain such tensors if views overlap or are expanded,
    because their elements then share memory.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    StateDict
        Maps the names to the arrays, in the order of the file.

    Raises
    ------
    CheckpointError
        If the file is invalid; the message gives the reason.
    OSError
        If the file is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        budget = Budget(ALLOWANCE)
        try:
            contents = _open(file, size, budget)
            tensors = _state_dict(contents.pickled, str(path))
            _check_total(tensors.values(), size, budget)
            outermost = contents.pickled if isinstance(contents.pickled, dict) else ()
            return StateDict(_arrays(file, tensors, contents), tuple(map(str, outermost)))
        except CheckpointError as error:
            raise CheckpointError(f"{path} is not a readable .pth file: {error}") from error


def _open(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    """Return the contents of a file of either format."""
    start = file.read(origins.START_LENGTH)
    if start.startswith(zips.START):
        return _open_zip(file, size, budget)
    if start[:1] == b"\x80":
        return _open_stream(file, size, budget)
    if not start:
        raise CheckpointError("it is empty")
    expected = f"it must start with {zips.START!r} or b'\\x80', got {start[:4]!r}"
    raise CheckpointError(origins.of_bytes(start) or expected)


# ---------------------------------------------------------------------- the two formats


def _open_zip(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    entries = zips.entries(file, size, budget)
    folders = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise CheckpointError(
            f"a zip archive from torch.save has exactly one entry FOLDER/data.pkl, but this one has {len(folders)}"
        )
    folder = folders[0]
    extent = entries[f"{folder}/data.pkl"]
    zips.check_crc(file, extent, "data.pkl")
    stream = Stream(file, extent.start, extent.start + extent.size, budget)
    storages = _Storages()
    pickled = load(stream, NAMES, storages)
    if stream.at != stream.end:
        raise CheckpointError(f"data.pkl has {stream.end - stream.at} extra bytes after the pickle")
    extents = {}
    for storage in storages.by_key.values():
        found = entries.get(f"{folder}/data/{storage.key}")
        expected = storage.numel * storage.kind.stored_size
        if found is None or found.size != expected:
            raise CheckpointError(
                f"storage {quote(storage.key)} must have {expected:,} bytes, "
                f"{'but is missing' if found is None else f'got {found.size:,}'}"
            )
        extents[storage.key] = found
    return _Contents(pickled, extents, _byte_order(file, entries.get(f"{folder}/byteorder"), budget))


def _byte_order(file: BinaryIO, extent: zips.Extent | None, budget: Budget) -> str:
    """Return the byte order in the entry, "<" or ">"; older files lack this entry and are little-endian."""
    if extent is None:
        return "<"
    zips.check_crc(file, extent, "byteorder")
    text = Stream(file, extent.start, extent.start + extent.size, budget).read(extent.size)
    if text not in (b"little", b"big"):
        raise CheckpointError(f"its byte order must be b'little' or b'big', got {text[:20]!r}")
    return "<" if text == b"little" else ">"


def _open_stream(file: BinaryIO, size: int, budget: Budget) -> _Contents:
    stream = Stream(file, 0, size, budget)
    first = load(stream, {})
    if first != MAGIC_NUMBER:
        of = " of Detectron2" if isinstance(first, dict) and "__author__" in first else ""
        raise CheckpointError(f"it is a plain pickle{of}, not a file from torch.save; in PyTorch, {WEIGHTS_ONLY}")
    if load(stream, {}) != STREAM_VERSION:
        raise CheckpointError(f"its version must be {STREAM_VERSION}, which torch.save writes")
    load(stream, {})  # byte order and sizes of C integers on the machine; nothing else depends on them
    storages = _Storages()
    pickled = load(stream, NAMES, storages)
    keys = load(stream, {})
    if (
        type(keys) is not list
        or not all(type(key) is str for key in keys)
        or len(keys) != len(storages.by_key)
        or set(keys) != storages.by_key.keys()
    ):
        raise CheckpointError("its list of storages does not match the storages of its tensors")
    extents = {}
    for key in keys:
        storage = storages.by_key[key]
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if count != storage.numel:
            raise CheckpointError(f"storage {quote(key)} must have {storage.numel:,} numbers, got {count:,}")
        nbytes = count * storage.kind.stored_size
        extents[key] = zips.Extent(stream.skip(nbytes), nbytes, None)
    if stream.at != size:
        raise CheckpointError(f"it has {size - stream.at:,} extra bytes after the last storage")
    return _Contents(pickled, extents)


# ---------------------------------------------------------------------- objects that the pickle may create


class _Storages:
    """Collection of storages by key; a call with a persistent id adds a storage."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def __call__(self, pid: object) -> _Storage | Foreign:
        """Return the storage that `pid` describes: ("storage", kind, key, location, numel), in a stream also with None.

        If the storage has an unsupported dtype, or if the id describes a module with its source code, return a
        `Foreign` object.
        """
        if type(pid) is tuple and len(pid) > 1 and type(pid[1]) is Foreign:
            return pid[1]
        if type(pid) is not tuple or len(pid) not in (5, 6) or type(pid[0]) is not str or pid[0] != "storage":
            raise CheckpointError("its pickle refers to an object that is not a storage")
        kind, key, location, numel = pid[1:5]
        if type(kind) is not _Kind or type(key) is not str or type(location) is not str or not _are_sizes((numel,)):
            raise CheckpointError("its pickle contains an invalid description of a storage")
        if len(key) > LONGEST_KEY:
            raise CheckpointError(f"the key of a storage must have at most {LONGEST_KEY} characters, got {len(key):,}")
        if len(pid) == 6 and pid[5] is not None:
            raise CheckpointError(
                f"storage {quote(key)} is a view of another storage, as in PyTorch before 0.4; this is not supported"
            )
        described = _Storage(key, kind, numel)
        storage = self.by_key.setdefault(key, described)
        if storage != described:
            raise CheckpointError(f"storage {quote(key)} has two different descriptions")
        return storage


def _are_sizes(values: Iterable[object]) -> bool:
    """Return True if all values are integers from 0 to 2 ** 63 - 1."""
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _tensor(storage: object, offset: Any, shape: object, strides: object) -> _Tensor | Foreign:
    """Validate and return a view. In a pickle, this function is called torch._utils._rebuild_tensor."""
    if type(storage) is Foreign:  # of an unsupported dtype
        return Foreign(storage.kind)
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise CheckpointError("its pickle contains an invalid description of a tensor")
    if len(shape) > MAX_DIMS or len(shape) != len(strides) or not _are_sizes((offset, *shape, *strides)):
        raise CheckpointError(
            "offset, sizes and strides of a tensor must be integers of at least 0, with one stride for each size and "
            f"at most {MAX_DIMS} sizes; got {len(shape)} sizes and {len(strides)} strides"
        )
    nbytes = math.prod(side for side in shape if side) * storage.kind.dtype.itemsize
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if nbytes >= 2**63 or (0 not in shape and last >= storage.numel):
        raise CheckpointError(
            f"a tensor of shape {_show(shape)}, strides {_show(strides)} and offset {offset} "
            f"exceeds its storage {quote(storage.key)} of {storage.numel:,} numbers"
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
) -> _Tensor | Foreign:
    """Validate and return a view. In a pickle, this function is called torch._utils._rebuild_tensor_v2."""
    del requires_grad, hooks
    if metadata is not None and metadata != {}:
        raise CheckpointError(
            "a tensor is stored as a negated or conjugated view, which is not supported; save "
            "tensor.resolve_neg().resolve_conj() instead"
        )
    return _tensor(storage, offset, shape, strides)


def _parameter(tensor: object, requires_grad: object, hooks: object, state: object = None) -> _Tensor | Foreign:
    """Return the tensor of a parameter.

    In a pickle, this function is called torch._utils._rebuild_parameter or _rebuild_parameter_with_state.
    """
    del requires_grad, hooks, state
    if not isinstance(tensor, _Tensor | Foreign):
        raise CheckpointError("its pickle creates a parameter from an object that is not a tensor")
    return tensor


def _ordered_dict(pairs: object = ()) -> dict[object, object]:
    """Return a dict of `pairs`, which Python 2 passes. In a pickle, this function is called collections.OrderedDict."""
    if not isinstance(pairs, tuple | list):
        raise CheckpointError("its pickle contains an invalid OrderedDict")
    return {pair[0]: pair[1] for pair in pairs if type(pair) is list and len(pair) == 2 and type(pair[0]) is str}


def _show(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sizes[:8]))}{', ...' if len(sizes) > 8 else ''})"


NAMES: dict[tuple[str, str], _Kind | Callable[..., object]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
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


def _state_dict(pickled: object, path: str) -> dict[str, _Tensor]:
    """Return a dict from names to tensors, given a state dict or dicts that contain one."""
    counts = {keys: count for keys, found in _dicts(pickled) if (count := _count_tensors(found))}
    if not counts:
        raise CheckpointError(_explain(pickled))
    similar = [keys for keys, count in counts.items() if 2 * count >= max(counts.values())]
    keys = next((keys for keys in similar if not any(AVERAGED.search(key) for key in keys)), similar[0])
    if len(similar) > 1:
        others = ", ".join(quote(".".join(other)) for other in similar if other != keys)
        warnings.warn(
            f"{path} contains several state dicts; {quote('.'.join(keys))} is read, not {others[:100]}", stacklevel=4
        )
    chosen = next(found for other, found in _dicts(pickled) if other == keys)
    for name, value in chosen.items():
        if type(value) is Foreign and FOREIGN_TENSOR.fullmatch(value.kind):
            raise CheckpointError(f"tensor {quote(str(name))} is a {value.kind}, which is not supported")
    return {name: value for name, value in chosen.items() if type(name) is str and isinstance(value, _Tensor)}


def _dicts(pickled: object) -> Iterator[tuple[tuple[str, ...], dict[object, object]]]:
    """Yield every dict and the keys that lead to it, outer dicts first; skip the dicts of optimisers."""
    if type(pickled) in (list, tuple):  # some scripts store a list of state dicts
        pickled = dict(enumerate(pickled[:10]))  # type: ignore[index]
    level: list[tuple[tuple[str, ...], object]] = [((), pickled)]
    seen = set()
    for _ in range(DEEPEST + 1):
        below = []
        for keys, value in level:
            if isinstance(value, dict) and value and id(value) not in seen:
                seen.add(id(value))
                yield keys, value
                below += [((*keys, str(key)), item) for key, item in value.items() if isinstance(item, dict) and item]
        level = [(keys, value) for keys, value in below if "optim" not in keys[-1].lower()]


def _count_tensors(values: Mapping[object, object]) -> int:
    """Return the number of tensors with a name; the state of an optimiser has numbers instead."""
    return sum(type(name) is str and type(value) is _Tensor for name, value in values.items())


def _explain(pickled: object) -> str:
    """Describe the content of a file without a state dict, and say what to do."""
    values = [pickled, *(pickled.values() if isinstance(pickled, dict) else ())]
    foreign = [value for value in values if type(value) is Foreign]
    for value in foreign:
        if value.kind.startswith("__torch__"):
            return "it is a TorchScript program (torch.jit.save), which is never run; " + WEIGHTS_ONLY
        if value.is_module and OTHER_MODEL.search(value.kind):
            return f"it contains a whole pickled model ({value.kind}), which is not torchvision's Faster R-CNN"
        if value.is_module:
            return f"it contains a whole pickled model ({value.kind}), whose code is never run; {WEIGHTS_ONLY}"
        if FOREIGN_TENSOR.fullmatch(value.kind):
            return f"its tensors are stored as {value.kind}, which is not supported; in PyTorch, save tensor.float()"
    if type(pickled) is dict:
        keys = listed([str(key) for key in pickled])
        return f"it contains no state dict, only {f'the keys {keys}' if keys else 'an empty dict'}"
    kind = foreign[0].kind if foreign else _type(pickled)
    return f"it must contain a state dict, got {kind}; {WEIGHTS_ONLY}"


def _type(value: object) -> str:
    return type(value).__name__.lstrip("_").lower()


def _check_total(tensors: Iterable[_Tensor], size: int, budget: Budget) -> None:
    """Raise CheckpointError if the storages, or copies of all different tensors, would exceed the memory limit.

    In memory, a bfloat16 storage takes twice its size in the file, and a few numbers can be expanded to any shape.
    """
    views = {}
    for tensor in tensors:
        identity = _identity(tensor)
        budget.spend(ARRAY_COST + 16 * len(tensor.shape) + len(identity), "its tensors")
        views[identity] = tensor
    storages = {tensor.storage.key: tensor.storage for tensor in views.values()}
    limit = size + budget.left
    for part, total in (
        ("storages", sum(storage.numel * storage.kind.dtype.itemsize for storage in storages.values())),
        ("tensors", sum(tensor.nbytes() for tensor in views.values())),
    ):
        if total > limit:
            raise CheckpointError(
                f"its {part} would take {total:,} bytes, more than the limit of {limit:,} for a file of {size:,} bytes"
            )


def _identity(tensor: _Tensor) -> str:
    """Return a string that describes a view; only equal views have equal strings.

    A tuple of integers would do as well, but its hash is predictable, so an attacker could make many hashes collide.
    The hash of a string depends on a random seed.
    """
    return f"{tensor.offset} {tensor.shape} {tensor.strides} {tensor.storage.key}"


def _arrays(file: BinaryIO, tensors: Mapping[str, _Tensor], contents: _Contents) -> dict[str, np.ndarray]:
    """Return the tensors as arrays; each storage that they use is read once, in the order of the file."""
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
    """Return the (count,) numbers of a storage, bit for bit; a bfloat16 becomes the upper half of a float32."""
    kind = storage.kind
    numbers = np.empty(storage.numel, kind.dtype)
    bits = numbers.view(f"u{kind.dtype.itemsize}")
    crc = 0
    file.seek(extent.start)
    for start in range(0, storage.numel, CHUNK):
        stop = min(start + CHUNK, storage.numel)
        data = file.read((stop - start) * kind.stored_size)
        if len(data) != (stop - start) * kind.stored_size:
            raise CheckpointError("the file shrank while it was being read")
        crc = zlib.crc32(data, crc)
        bits[start:stop] = np.frombuffer(data, f"{byte_order}u{kind.stored_size}")
    if extent.crc not in (None, crc):
        raise CheckpointError(f"storage {quote(storage.key)} is damaged: wrong checksum")
    if kind.name == "BFloat16Storage":
        bits <<= 16
    if kind.name == "BoolStorage" and bits.size and bits.max() > 1:
        raise CheckpointError(f"storage {quote(storage.key)} contains bools that are neither 0 nor 1")
    return numbers


def _view(numbers: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Return a tensor as a view of its storage's numbers; NumPy checks the bounds again."""
    if 0 in tensor.shape:
        return np.empty(tensor.shape, numbers.dtype)
    # In PyTorch, a side of 1 may have any stride. Use stride 0 instead, because a huge stride may overflow in bytes.
    strides = [
        stride * numbers.itemsize if side > 1 else 0 for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.ndarray(tensor.shape, numbers.dtype, numbers, tensor.offset * numbers.itemsize, strides)
