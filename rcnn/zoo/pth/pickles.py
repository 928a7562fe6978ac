"""Reader of pickles that runs no code from them.

A pickle is a program for a small stack machine. Python's own machine imports and calls any object that the program
names. The machine in this module looks names up in a table instead of importing them. A name that is not in the table
becomes a `Foreign` object, and so does the result of every call of it: nothing is imported or called. A checkpoint may
therefore contain any object beside its weights, such as a scheduler or a date.

The memory of all reads together is limited, so that a pickle of a few bytes cannot use gigabytes of memory or hours of
time. The standard library has a machine written in Python and another written in C. This module extends the machine in
Python. The machine in C is unsuitable: it allocates as much memory as a length field requests, even if the file has
fewer bytes.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NoReturn

from rcnn.zoo.pth.bounded import CheckpointError, Stream, quote

LARGEST_KEY = 1 << 16  # limit for the integer keys of optimisers; an attacker could make larger keys collide
LONGEST_TEXT = 1 << 16  # bytes; a longer string is skipped, because no name is as long
LONGEST_KIND = 100  # characters

KEPT = (
    "PROTO",
    "STOP",
    "MARK",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "SHORT_BINSTRING",
    "SHORT_BINUNICODE",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "EMPTY_LIST",
    "EMPTY_DICT",
    "BINGET",
    "LONG_BINGET",
    "BINPUT",
    "MEMOIZE",
    "POP",
    "POP_MARK",
    "GLOBAL",
    "STACK_GLOBAL",
    "BINPERSID",
)
OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


class Foreign(dict[Any, Any]):
    """Class, function or object that is not in the table of names; it is neither imported nor called.

    It keeps the items that the pickle sets, because scripts also store state dicts in subclasses of dict.

    Parameters
    ----------
    kind : str
        Module and name of the class or function; at most `LONGEST_KIND` characters are kept.
    """

    __slots__ = ("is_module", "kind")

    def __init__(self, kind: str):
        self.kind, self.is_module = kind[:LONGEST_KIND], False


def load(
    stream: Stream, names: Mapping[tuple[str, str], Any], persistent_load: Callable[[object], object] | None = None
) -> object:
    """Read the next pickle of a stream.

    An OrderedDict becomes a dict, and its extra attributes are dropped. Bytes, sets and very long strings become None.
    Items of a dict are dropped if their key is neither a string nor a small integer.

    Parameters
    ----------
    stream : Stream
        The stream. After the call, it is positioned at the end of the pickle.
    names : mapping of (str, str) to object
        Maps each (module, name) that the pickle may use to an object. If this object is a plain function, the pickle
        may call it, so the function must check its arguments.
    persistent_load : callable, optional
        Function that takes a persistent id and returns the object with this id.

    Returns
    -------
    object
        The pickled object.

    Raises
    ------
    CheckpointError
        If the pickle is damaged, or contains an instruction that is not allowed.
    """
    machine = _Machine(stream, names, persistent_load)
    try:
        return machine.load()
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle causes many types of error, from IndexError to UnicodeDecodeError
        raise CheckpointError(f"its pickle is damaged before byte {stream.at} ({type(error).__name__})") from error


class _Instructions(dict[int, Callable[[Any], None]]):
    """Dict from codes to instructions of the machine; an unknown code raises an error that names the instruction."""

    def __missing__(self, code: int) -> NoReturn:
        raise CheckpointError(
            f"its pickle uses the instruction {OPCODES.get(code, hex(code))}, which is not allowed because "
            "torch.save never writes it; no code from the file was run"
        )


class _Machine(pickle._Unpickler):
    """Python's machine for pickles, with fewer instructions, which create only plain objects."""

    dispatch = _Instructions(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in KEPT}
    )
    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self, stream: Stream, names: Mapping[tuple[str, str], Any], persistent_load: Callable[[object], object] | None
    ):
        super().__init__(stream, encoding="latin-1")  # of texts that Python 2 wrote; every byte can be decoded
        self._stream, self._names, self._persistent_load = stream, names, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._names:
            return self._names[module, name]
        return Foreign(f"{module[:LONGEST_KIND]}.{name[:LONGEST_KIND]}")

    def persistent_load(self, pid: object) -> object:
        if self._persistent_load is None:
            raise CheckpointError("its pickle refers to a storage where none is allowed")
        return self._persistent_load(pid)

    def load_frame(self) -> None:
        self.read(8)  # length of the frame; this machine does not need it

    def load_long_binput(self) -> None:
        index = int.from_bytes(self.read(4), "little")
        if index > len(self.memo):  # valid indices ascend one by one; an attacker could make other indices collide
            raise CheckpointError(f"a memo index of its pickle must be at most {len(self.memo)}, got {index}")
        self.memo[index] = self.stack[-1]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(arguments) is not tuple or type(function) not in (FunctionType, Foreign):
            raise CheckpointError("its pickle calls an object that is not a function")
        self.stack[-1] = Foreign(function.kind) if type(function) is Foreign else function(*arguments)

    def load_newobj(self) -> None:
        self.stack.pop()  # the arguments
        if type(self.stack[-1]) is not Foreign:
            raise CheckpointError("its pickle creates an object of something that is not a class")
        self.stack[-1] = Foreign(self.stack[-1].kind)

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # the keyword arguments
        self.load_newobj()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Foreign:
            target.is_module = target.is_module or (type(state) is dict and "_modules" in state)
        elif type(state) is not dict or type(target) is not dict:
            raise CheckpointError("its pickle sets attributes of an object that is not an OrderedDict")

    def load_append(self) -> None:
        value = self.stack.pop()
        self._append([value])

    def load_appends(self) -> None:
        self._append(self.pop_mark())

    def _append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is Foreign:
            return
        if type(self.stack[-1]) is not list:
            raise CheckpointError("its pickle appends to an object that is not a list")
        self.stack[-1].extend(values)

    def load_empty_set(self) -> None:
        self.stack.append(None)

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.stack.append(None)

    def load_additems(self) -> None:
        self.pop_mark()

    def load_short_binbytes(self) -> None:
        self._skip(1)

    def load_binbytes(self) -> None:
        self._skip(4)

    def load_binbytes8(self) -> None:
        self._skip(8)

    def _skip(self, digits: int) -> None:
        """Read a number from the next `digits` bytes, and skip this number of bytes."""
        self._stream.skip(int.from_bytes(self.read(digits), "little"))
        self.stack.append(None)

    def load_binunicode(self) -> None:
        size = int.from_bytes(self.read(4), "little")
        if size > LONGEST_TEXT:
            self._stream.skip(size)
            self.stack.append(None)
        else:
            self.stack.append(str(self.read(size), "utf-8", "surrogatepass"))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, keys_and_values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, Foreign):
            raise CheckpointError("its pickle sets items of an object that is not a dict")
        for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
            # Check the type before the key is hashed, because hashing nested tuples can take practically forever.
            if type(key) is str or (type(key) is int and 0 <= key < LARGEST_KEY):
                if key in target:
                    raise CheckpointError(f"the key {quote(key) if type(key) is str else key} appears twice in a dict")
                target[key] = value

    dispatch.update(
        {
            pickle.FRAME[0]: load_frame,
            pickle.LONG_BINPUT[0]: load_long_binput,
            pickle.REDUCE[0]: load_reduce,
            pickle.NEWOBJ[0]: load_newobj,
            pickle.NEWOBJ_EX[0]: load_newobj_ex,
            pickle.BUILD[0]: load_build,
            pickle.APPEND[0]: load_append,
            pickle.APPENDS[0]: load_appends,
            pickle.EMPTY_SET[0]: load_empty_set,
            pickle.FROZENSET[0]: load_frozenset,
            pickle.ADDITEMS[0]: load_additems,
            pickle.SHORT_BINBYTES[0]: load_short_binbytes,
            pickle.BINBYTES[0]: load_binbytes,
            pickle.BINSTRING[0]: load_binbytes,  # Python 2 wrote long texts, which are no names, and bytes in this way
            pickle.BINBYTES8[0]: load_binbytes8,
            pickle.BYTEARRAY8[0]: load_binbytes8,
            pickle.BINUNICODE[0]: load_binunicode,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
        }
    )
