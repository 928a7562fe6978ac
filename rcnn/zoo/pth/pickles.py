"""Pickles read without running what is in them.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program names.
The one here knows the instructions that a state dict needs and no others, looks names up in a table instead of
importing them, and pays for everything that it reads out of a budget, so that a few bytes cannot ask for gigabytes or
hours. It stands on Python's pure machine, because the one in C allocates what a length field says before it looks for
the bytes.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NoReturn

from rcnn.zoo.pth.bounded import CheckpointError, Stream, quote

LARGEST_KEY = 1 << 16  # of integer keys in a dict, which optimisers use; unbounded ones could all be made to collide

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
    "BINUNICODE",
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
    "GLOBAL",
    "STACK_GLOBAL",
    "BINPERSID",
)
OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def load(
    stream: Stream, names: Mapping[tuple[str, str], Any], persistent_load: Callable[[object], object] | None = None
) -> object:
    """What the pickle at the stream's place stands for; the stream is left behind it.

    names: what stands for each (module, name) that the pickle may use; plain functions among them may be called by it,
    and must check their arguments. persistent_load: what makes an object of a persistent id. An OrderedDict is a dict,
    and what was attached to it is dropped. Raises CheckpointError for everything else, and for what is damaged.
    """
    machine = _Machine(stream, names, persistent_load)
    try:
        return machine.load()
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle gives a dozen kinds, from IndexError to UnicodeDecodeError
        raise CheckpointError(f"its pickle is damaged before byte {stream.at} ({type(error).__name__})") from error


class _Instructions(dict[int, Callable[[Any], None]]):
    """The machine's instructions by code; asking for another is an error that names it."""

    def __missing__(self, code: int) -> NoReturn:
        raise CheckpointError(
            f"its pickle uses the instruction {OPCODES.get(code, hex(code))}, which is not among the "
            "few that a state dict needs; nothing of it was run"
        )


class _Machine(pickle._Unpickler):
    """Python's machine with fewer instructions, and with every one that acts on an object narrowed to plain ones."""

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
        super().__init__(stream)
        self._names, self._persistent_load = names, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise CheckpointError(
                f"its pickle names {quote(f'{module}.{name}')}, which is not among the few that a "
                "state dict needs; nothing of it was run"
            )
        return self._names[module, name]

    def persistent_load(self, pid: object) -> object:
        if self._persistent_load is None:
            raise CheckpointError("its pickle refers to a storage where none can be")
        return self._persistent_load(pid)

    def load_frame(self) -> None:
        self.read(8)  # the length of what follows, for readers that fetch it at once; this one does not

    def load_long_binput(self) -> None:
        index = int.from_bytes(self.read(4), "little")
        if index > len(self.memo):  # they are counted up; chosen freely, they could all be made to collide
            raise CheckpointError(f"its pickle numbers its memo wrongly: {index} follows {len(self.memo)} entries")
        self.memo[index] = self.stack[-1]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(function) is not FunctionType or type(arguments) is not tuple:
            raise CheckpointError("its pickle calls what is no function")
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(state) is not dict or type(self.stack[-1]) is not dict:
            raise CheckpointError("its pickle sets attributes of something other than an OrderedDict")

    def load_append(self) -> None:
        value = self.stack.pop()
        self._append([value])

    def load_appends(self) -> None:
        self._append(self.pop_mark())

    def _append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise CheckpointError("its pickle appends to something other than a list")
        self.stack[-1].extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, keys_and_values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise CheckpointError("its pickle sets items of something other than a dict")
        for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
            # Checked before it is hashed: the hash of nested tuples can take longer than anyone lives.
            if type(key) is not str and not (type(key) is int and 0 <= key < LARGEST_KEY):
                raise CheckpointError(f"a key of a dict must be a text or a small number, not {type(key).__name__}")
            if key in target:
                raise CheckpointError(f"the key {quote(key) if type(key) is str else key} comes twice in a dict")
            target[key] = value

    dispatch.update(
        {
            pickle.FRAME[0]: load_frame,
            pickle.LONG_BINPUT[0]: load_long_binput,
            pickle.REDUCE[0]: load_reduce,
            pickle.BUILD[0]: load_build,
            pickle.APPEND[0]: load_append,
            pickle.APPENDS[0]: load_appends,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
        }
    )
