"""Helpers for .pth files: contents of the files in tests/pth, an assembler for other files, and random damage."""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "pth"

# ---------------------------------------------------------------------- contents of the files in tests/pth

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")


def bits(dtype: str, count: int) -> np.ndarray:
    """Return `count` numbers of a dtype; floats include a NaN with payload, an infinity and a negative zero."""
    size = np.dtype(dtype).itemsize
    spread = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (spread >> np.uint64(64 - 8 * size)).astype(f"u{size}").view(dtype)
    if numbers.dtype.kind == "f":
        numbers[:3] = np.nan, -np.inf, -0.0
        numbers.view(f"u{size}")[0] += 5  # a NaN with payload
    return numbers


def kinds() -> dict[str, np.ndarray]:
    """Return the contents of the files kinds*.pth: every dtype, and every kind of view of a storage."""
    shared = bits("float32", 24)
    return {
        **{dtype: bits(dtype, 6).reshape(2, 3) for dtype in DTYPES},
        "bool": np.array([True, False, True]),
        "bfloat16": (bits("float32", 6).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
        "whole": shared,
        "tied": shared,
        "turned": shared.reshape(4, 6).T,
        "stepped": shared[5:17:3],
        "expanded": np.broadcast_to(bits("float32", 4)[3:], (3, 2)),
        "single": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": bits("float32", 5),
    }


def old_names() -> dict[str, np.ndarray]:
    """Return the contents of old_names.pth: parameters under torchvision's names until 0.12, in the smallest shapes."""
    blocks = [f"backbone.fpn.{kind}_blocks.{level}" for level in range(4) for kind in ("inner", "layer")]
    names = [
        f"{part}.{suffix}"
        for part in [*blocks, "rpn.head.conv", "rpn.head.cls_logits", "rpn.head.bbox_pred"]
        for suffix in ("weight", "bias")
    ]
    return {
        name: np.full((2, 1, 1, 1) if name.endswith("weight") else 2, number, np.float32)
        for number, name in enumerate(names)
    }


# ---------------------------------------------------------------------- an assembler

PROTOCOL = b"\x80\x02"
STOP = b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(*values: int) -> bytes:
    return tuple_of(*map(number, values))


def dict_of(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + item for name, item in items.items()) + b"u"


def name(module: str, qualified: str) -> bytes:
    return b"c" + module.encode() + b"\n" + qualified.encode() + b"\n"


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage") -> bytes:
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    shape: bytes = numbers(2, 3), strides: bytes = numbers(3, 1), offset: bytes = number(0), of: bytes = storage()
) -> bytes:
    """Return an assembled tensor; by default six float32 in two rows."""
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(of, offset, shape, strides, b"\x89", b"}") + b"R"


SIX = np.arange(6, dtype=np.float32)


def archive(
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    extra: Iterable[tuple[str | zipfile.ZipInfo, bytes]] = (),
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """Return a zip archive like those of torch.save, around a pickle without its first and last instruction."""
    storages = {"0": SIX.tobytes()} if storages is None else storages
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", PROTOCOL + content + STOP)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for entry, data in extra:
            archive.writestr(entry, data)
    return file.getvalue()


def stream(content: bytes, storages: Mapping[str, tuple[int, bytes]] | None = None) -> bytes:
    """Return a legacy stream like those of torch.save, around a pickle; a storage is its count and its bytes."""
    storages = {"0": (6, SIX.tobytes())} if storages is None else storages
    start = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(
        [
            *start,
            PROTOCOL,
            content,
            STOP,
            pickle.dumps(list(storages), 2),
            *(struct.pack("<q", count) + data for count, data in storages.values()),
        ]
    )


# ---------------------------------------------------------------------- damage

INSTRUCTIONS = bytes(
    opcode[0]
    for opcode in (
        pickle.MARK,
        pickle.POP,
        pickle.DUP,
        pickle.REDUCE,
        pickle.BUILD,
        pickle.INST,
        pickle.OBJ,
        pickle.GLOBAL,
        pickle.STACK_GLOBAL,
        pickle.NEWOBJ,
        pickle.BINPERSID,
        pickle.SETITEM,
        pickle.SETITEMS,
        pickle.APPEND,
        pickle.APPENDS,
        pickle.TUPLE,
        pickle.TUPLE1,
        pickle.TUPLE2,
        pickle.TUPLE3,
        pickle.EMPTY_DICT,
        pickle.EMPTY_LIST,
        pickle.EMPTY_TUPLE,
        pickle.NONE,
        pickle.BINGET,
        pickle.BINPUT,
        pickle.LONG_BINGET,
        pickle.LONG_BINPUT,
        pickle.MEMOIZE,
        pickle.FRAME,
        pickle.BINUNICODE,
        pickle.SHORT_BINUNICODE,
        pickle.LONG1,
        pickle.LONG4,
        pickle.BININT,
        pickle.BININT1,
        pickle.BININT2,
        pickle.BINFLOAT,
        pickle.BINBYTES8,
        pickle.BYTEARRAY8,
        pickle.STOP,
    )
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**64 - 1)


def damage(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with one to four random changes; a change may copy a piece of `other`."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, length = int(rng.integers(max(len(changed), 1))), int(rng.integers(1, 64))
        match int(rng.integers(8)):
            case 0:
                changed[at : at + 1] = bytes([(changed[at] if at < len(changed) else 0) ^ 1 << int(rng.integers(8))])
            case 1:
                changed[at : at + 1] = rng.bytes(1)
            case 2:
                changed[at : at + 1] = bytes([int(rng.choice(list(INSTRUCTIONS)))])
            case 3:  # a length, a size, an offset
                width = int(rng.choice([1, 2, 4, 8]))
                value = EXTREMES[rng.integers(len(EXTREMES))] % 256**width
                changed[at : at + width] = value.to_bytes(width, "little")
            case 4:
                start = int(rng.integers(len(other)))
                changed[at : at + length] = other[start : start + length]
            case 5:
                start = int(rng.integers(max(len(changed), 1)))
                changed[at:at] = changed[start : start + length]
            case 6:
                del changed[at : at + length]
            case 7:
                if rng.integers(4) == 0:
                    del changed[at:]
    return bytes(changed)
