"""Reader of the table of contents of an uncompressed zip archive; it checks every size and offset against the file.

Python's module zipfile is not safe enough for untrusted files. For each entry that the archive claims to have, zipfile
creates an object of half a kilobyte. If two entries have the same name, zipfile uses the last one. It also decompresses
compressed entries, although torch.save never compresses an entry. Source: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from rcnn.zoo.pth.bounded import Budget, CheckpointError, Stream, quote

START = b"PK\3\4"
LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
END64_LOCATOR = struct.Struct("<4sIQI")
LONGEST_COMMENT = 0xFFFF
HARMLESS_FLAGS = 0x0808  # sizes follow the data, names are in UTF-8; other flags mean, for example, encryption
CHUNK = 1 << 20


class Extent(NamedTuple):
    """Position and size of a range of bytes in a file, and their checksum, if there is one."""

    start: int
    size: int
    crc: int | None


class _Entry(NamedTuple):
    """An entry of the table of contents."""

    name: str
    flags: int
    crc: int
    size: int
    header: int  # offset of the local header
    compressed: bool


def entries(file: BinaryIO, size: int, budget: Budget) -> dict[str, Extent]:
    """Return the position, size and checksum of the data of each entry.

    Parameters
    ----------
    file : binary file
        The archive.
    size : int
        Size of the archive in bytes.
    budget : Budget
        Memory that may be allocated.

    Returns
    -------
    dict of str to Extent
        The extent of each entry, by its name.

    Raises
    ------
    CheckpointError
        If the archive is damaged, an entry is compressed, two entries have the same name, or entries overlap.
    """
    start, end, count = _table(file, size, budget)
    stream = Stream(file, start, end, budget)
    found: dict[str, _Entry] = {}
    for _ in range(count):
        entry = _entry(stream)
        if entry.name in found:
            raise CheckpointError(f"its zip archive has two entries named {quote(entry.name)}")
        found[entry.name] = entry
    if stream.at != end:
        raise CheckpointError(f"its zip archive has more entries than the declared {count:,}")
    _check_kind(found.values())
    extents = {name: _extent(file, entry, start, budget) for name, entry in found.items()}
    spans = sorted((entry.header, extents[name].start + extents[name].size) for name, entry in found.items())
    if any(stop > following for (_, stop), (following, _) in pairwise(spans)):
        raise CheckpointError("entries of its zip archive overlap")
    return extents


def _check_kind(entries: Collection[_Entry]) -> None:
    """Raise CheckpointError with a description of the archive unless torch.save may have written these entries."""
    names = [entry.name for entry in entries]
    compressed = next((entry.name for entry in entries if entry.compressed), None)
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            "it is a TorchScript program (torch.jit.save), which is never run; save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if any(name.endswith(".npy") for name in names):
        raise CheckpointError("it is an archive of NumPy arrays (.npz); save the arrays as .safetensors")
    if weights := next((name for name in names if name.lower().endswith((".pth", ".pt", ".safetensors"))), None):
        raise CheckpointError(f"it is a zip archive that contains {quote(weights)}; unpack it first")
    if compressed is not None:
        raise CheckpointError(
            f"entry {quote(compressed)} of its zip archive is compressed, but torch.save never compresses entries"
        )


def check_crc(file: BinaryIO, extent: Extent, name: str) -> None:
    """Raise CheckpointError if the bytes do not match their checksum.

    Parameters
    ----------
    file : binary file
        The file.
    extent : Extent
        Position, size and checksum of the bytes. If the checksum is None, nothing is checked.
    name : str
        Name of the entry, for the error message.
    """
    if extent.crc is None:
        return
    crc, left = 0, extent.size
    file.seek(extent.start)
    while left and (data := file.read(min(left, CHUNK))):
        crc, left = zlib.crc32(data, crc), left - len(data)
    if crc != extent.crc:
        raise CheckpointError(f"{name} is damaged: wrong checksum")


def _table(file: BinaryIO, size: int, budget: Budget) -> tuple[int, int, int]:
    """Return the start, the end and the number of entries of the table of contents."""
    end, fields = _end_record(file, size)
    locator_at = end - END64_LOCATOR.size
    if locator_at >= 0:
        locator = Stream(file, locator_at, end, budget).read(END64_LOCATOR.size)
        signature, _, record_at, _ = END64_LOCATOR.unpack(locator)
        if signature == b"PK\6\7":
            end = record_at
            fields = _large_fields(file, record_at, locator_at, fields, budget)
    disk, table_disk, disk_count, count, length, start = fields
    if disk or table_disk or disk_count != count:
        raise CheckpointError("it is one of several parts of a zip archive")
    if start + length != end:
        raise CheckpointError("the table of contents of its zip archive is not at the recorded offset")
    return start, end, count


def _end_record(file: BinaryIO, size: int) -> tuple[int, tuple[int, ...]]:
    """Return the offset and the fields of the end record, the last record whose comment ends at the end of the file."""
    tail_at = max(size - END.size - LONGEST_COMMENT, 0)
    file.seek(tail_at)
    tail = file.read(END.size + LONGEST_COMMENT)
    found = max(len(tail) - END.size + 4, 0)
    while (found := tail.rfind(b"PK\5\6", 0, found)) >= 0:
        *fields, comment_length = END.unpack_from(tail, found)
        if found + END.size + comment_length == len(tail):
            return tail_at + found, tuple(fields[1:])
        found += 3  # the next search finds only signatures that start before this one
    raise CheckpointError(
        "its zip archive has no table of contents: the file is truncated (download it again), or has extra bytes"
    )


def _large_fields(
    file: BinaryIO, record_at: int, locator_at: int, small: tuple[int, ...], budget: Budget
) -> tuple[int, ...]:
    """Return the fields of the 64-bit end record, after checking that they agree with the 32-bit record."""
    if record_at + END64.size != locator_at:
        raise CheckpointError("the 64-bit end record of its zip archive is not at the recorded offset")
    record = END64.unpack(Stream(file, record_at, locator_at, budget).read(END64.size))
    large = record[4:]
    limits = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    agree = all(one in (other, limit) for one, other, limit in zip(small, large, limits, strict=True))
    if record[0] != b"PK\6\6" or not agree:
        raise CheckpointError("the two end records of its zip archive contradict each other")
    return large


def _entry(stream: Stream) -> _Entry:
    """Return the next entry of the table of contents."""
    (
        signature,
        _,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        name_length,
        extra_length,
        comment_length,
        disk,
        _,
        _,
        header,
    ) = CENTRAL.unpack(stream.read(CENTRAL.size))
    if signature != b"PK\1\2":
        raise CheckpointError("the table of contents of its zip archive is damaged")
    name = _decode(stream.read(name_length))
    extra = stream.read(extra_length)
    stream.read(comment_length)
    size, packed, header = _large_sizes(extra, (size, packed, header))
    compressed = bool(method) or size != packed
    if disk or (flags & ~HARMLESS_FLAGS and not compressed):
        raise CheckpointError(f"entry {quote(name)} of its zip archive is encrypted or split")
    return _Entry(name, flags, crc, size, header, compressed)


def _large_sizes(extra: bytes, small: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the sizes and the offset of an entry; values that need more than 32 bits are in its extra field."""
    if 0xFFFFFFFF not in small:
        return small
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            large = [int.from_bytes(extra[at + 4 + 8 * i : at + 12 + 8 * i], "little") for i in range(length // 8)]
            if len(large) >= small.count(0xFFFFFFFF) and at + 4 + length <= len(extra):
                return tuple(large.pop(0) if value == 0xFFFFFFFF else value for value in small)
        at += 4 + length
    raise CheckpointError("an entry of its zip archive has no 64-bit sizes in its extra field")


def _extent(file: BinaryIO, entry: _Entry, table: int, budget: Budget) -> Extent:
    """Return the extent of an entry's data, and check that its local header agrees with the table of contents."""
    stream = Stream(file, min(entry.header, table), table, budget)
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL.unpack(
        stream.read(LOCAL.size)
    )
    sizes_come_later = flags & 8
    agrees = (
        signature == START
        and flags == entry.flags
        and not method
        and _decode(stream.read(name_length)) == entry.name
        and (sizes_come_later or crc == entry.crc and {packed, size} <= {entry.size, 0xFFFFFFFF})
    )
    if not agrees:
        raise CheckpointError(f"entry {quote(entry.name)} of its zip archive contradicts the table of contents")
    stream.skip(extra_length)
    return Extent(stream.skip(entry.size), entry.size, entry.crc or None)  # PyTorch writes 0 if it computed no checksum


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError("a name in its zip archive is not UTF-8") from error
