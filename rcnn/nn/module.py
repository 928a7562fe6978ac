"""`Module`: a part of a network, which remembers its parameters.

A module is an ordinary object. What belongs to it is found by walking its attributes in the order in which they were
set: a `Parameter` is learned, a buffer (see `register_buffer`) is remembered but not learned, and a module is a part.
Parameters and modules may also stand in lists, tuples and dicts. Names are the attribute's, joined by dots, with the
index or key: `conv.0.weight`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np

from rcnn.nn.fusion import compute_all
from rcnn.nn.tensor import Parameter

T = TypeVar("T")
Hook = Callable[["Module", tuple[Any, ...], Any], Any]

_evaluating: contextvars.ContextVar[bool] = contextvars.ContextVar("evaluating", default=False)


@contextlib.contextmanager
def evaluation() -> Iterator[None]:
    """Let every module evaluate in this block, whatever its own mode: `training` is False.

    The block holds for its context, and writes nothing into modules, so that any number of threads may evaluate one
    network while another trains it. Threads that are started in the block, as in a `forward`, do not inherit it. Also
    works as a decorator.
    """
    token = _evaluating.set(True)
    try:
        yield
    finally:
        _evaluating.reset(token)


class Module:
    """A part of a network. Subclass it, set layers as attributes in `__init__`, and define `forward`."""

    ignored_state: tuple[str, ...] = ()
    """Names that a state may have for this module, and that are ignored."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.forward(*args, **kwargs)
        hooks = vars(self).get("_forward_hooks")
        return self._run_hooks(hooks, args, result) if hooks else result

    # ------------------------------------------------------------------ hooks

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(module, args, result)` after every forward pass of this module.

        `result` is what `forward` returned for the positional arguments `args`. If the hook returns something other
        than None, that takes the place of the result.

        Returns
        -------
        HookHandle
            `handle.remove()` removes the hook, and so does leaving a `with handle:` block.
        """
        if not callable(hook):
            raise TypeError(f"hook must be callable, got {type(hook).__name__}")
        handle = HookHandle(self)
        vars(self).setdefault("_forward_hooks", {})[handle] = hook
        return handle

    def _run_hooks(self, hooks: Mapping[HookHandle, Hook], args: tuple[Any, ...], result: Any) -> Any:
        for hook in list(hooks.values()):
            compute_all(result)
            replaced = hook(self, args, result)
            result = result if replaced is None else replaced
        return result

    # ------------------------------------------------------------------ what it holds

    def register_buffer(self, name: str, value: np.ndarray) -> None:
        """Sets an array as attribute `name` and makes it part of the state: saved and loaded, but not learned."""
        self.__dict__.setdefault("_buffers", {})[name] = None  # an ordered set of names
        setattr(self, name, value)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names, in the order in which they were set."""
        for name, value in self._attributes():
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
        for name, value in self._attributes():
            for full_name, parameter in _find(Parameter, name, value):
                yield prefix + full_name, parameter
        for name, buffer in self._own_buffers():
            yield prefix + name, buffer
        for name, child in self.children():
            yield from child._named_state(f"{prefix}{name}.")

    def _attributes(self) -> list[tuple[str, Any]]:
        """Return the attributes that may hold parts; a list, because another thread may set a mode meanwhile."""
        return [(name, value) for name, value in list(vars(self).items()) if name != "_forward_hooks"]

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

    @property
    def training(self) -> bool:
        """Whether this module trains: its own mode, but False in an `evaluation` block."""
        return vars(self).get("_training", True) and not _evaluating.get()

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)

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


class HookHandle:
    """A registered forward hook, which can be removed."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        vars(self._module).get("_forward_hooks", {}).pop(self, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


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
