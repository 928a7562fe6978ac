"""`Module`: a part of a network, which remembers its parameters.

A module is an ordinary object. What belongs to it is found by walking its attributes in the order in which they were
set: a `Parameter` is learned, a buffer (see `register_buffer`) is remembered but not learned, and a module is a part.
Parameters and modules may also stand in lists, tuples and dicts. Names are the attribute's, joined by dots, with the
index or key: `conv.0.weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np

from rcnn.nn.tensor import Parameter

T = TypeVar("T")


class Module:
    """A part of a network. Subclass it, set layers as attributes in `__init__`, and define `forward`."""

    training = True
    ignored_state: tuple[str, ...] = ()
    """Names that a state may hold for this module, and that say nothing to it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ------------------------------------------------------------------ what it holds

    def register_buffer(self, name: str, value: np.ndarray) -> None:
        """Sets an array as attribute `name` and makes it part of the state: saved and loaded, but not learned."""
        self.__dict__.setdefault("_buffers", {})[name] = None  # an ordered set of names
        setattr(self, name, value)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names, in the order in which they were set."""
        for name, value in vars(self).items():
            yield from _find(Module, name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with what their parts' full names begin with: "", "conv.", "conv.0.", ..."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its full name: this module's own first, then its parts'. A shared one comes once."""
        seen: set[int] = set()
        for name, value in self._named_state(prefix):
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, in the order of `named_parameters`."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | np.ndarray]]:
        """(full name, value) of everything in the state: parameters, then buffers, then the parts'."""
        for name, value in vars(self).items():
            for full_name, parameter in _find(Parameter, name, value):
                yield prefix + full_name, parameter
        for name, buffer in self._own_buffers():
            yield prefix + name, buffer
        for name, child in self.children():
            yield from child._named_state(f"{prefix}{name}.")

    def _own_buffers(self) -> list[tuple[str, np.ndarray]]:
        """The buffers of this module alone, with their names."""
        return [(name, getattr(self, name)) for name in vars(self).get("_buffers", ())]

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, np.ndarray]:
        """{full name: array} of every parameter and buffer. The arrays are the module's own, not copies."""
        return {name: value.data if isinstance(value, Parameter) else value for name, value in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copies arrays into the parameters and buffers of the same names, and gives (missing, unexpected) names.

        Arrays are converted to the dtype that is there. Raises ValueError, having changed nothing, when a shape
        differs, or with `strict` when a name is missing or unexpected; the message lists every one of them.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        ignored = {prefix + name for prefix, module in self.named_modules() for name in module.ignored_state}
        unexpected = [name for name in state if name not in own and name not in ignored]
        misshapen = [
            f"{name}: {np.shape(state[name])} in the state, {own[name].shape} in the model"
            for name in own
            if name in state and np.shape(state[name]) != own[name].shape
        ]
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(unexpected))
        if misshapen:
            problems.append("of another shape: " + "; ".join(misshapen))
        if problems:
            raise ValueError(f"the state does not fit {type(self).__name__}. " + ". ".join(problems))
        for name, array in own.items():
            if name in state:
                array[...] = np.asarray(state[name])
        return missing, unexpected

    def astype(self, dtype: Any) -> Self:
        """Turns every floating-point parameter and buffer into `dtype` (float32 or float64), in place."""
        for parameter in self.parameters():
            parameter.data, parameter.grad = parameter.data.astype(dtype), None
        for module in self.modules():
            for name, buffer in module._own_buffers():
                if buffer.dtype.kind == "f":
                    setattr(module, name, buffer.astype(dtype))
        return self

    # ------------------------------------------------------------------ modes

    def train(self, mode: bool = True) -> Self:
        """Switches this module and all below it to training (dropout drops, batch norm uses the batch's statistics)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switches this module and all below it to evaluation."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Lets every parameter be learned, or freezes it."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forgets every gradient."""
        for parameter in self.parameters():
            parameter.grad = None


def _find(kind: type[T], name: str, value: Any) -> Iterator[tuple[str, T]]:
    """What an attribute holds of a kind: itself, or those in a list, tuple or dict, however nested."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find(kind, f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(kind, f"{name}.{key}", item)
