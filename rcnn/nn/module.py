"""`Module`: a part of a network that finds its own parameters.

A module is an ordinary object. Its content is found by walking its attributes in the order in which they were set. A
`Parameter` is learned, a buffer (see `register_buffer`) is saved but not learned, and a `Module` is a part of this one.
Parameters and modules may also be in lists, tuples and dicts. A name is the attribute's, joined by dots with index or
key: `conv.0.weight`.
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

    The block holds for its context and writes nothing into modules, so any number of threads may evaluate a network
    while another trains it. Threads that are started in the block, as in a `forward`, do not inherit it. It also works
    as a decorator.

    Yields
    ------
    None
        The block runs in evaluation mode.

    Examples
    --------
    >>> from rcnn import nn
    >>> layer = nn.Dropout()
    >>> with evaluation():
    ...     layer.training
    False
    >>> layer.training
    True
    """
    token = _evaluating.set(True)
    try:
        yield
    finally:
        _evaluating.reset(token)


class Module:
    """A part of a network. Subclass it, set layers as attributes in `__init__`, and define `forward`.

    Attributes
    ----------
    ignored_state : tuple of str
        Names that a state may have for this module, and that are ignored.

    Examples
    --------
    >>> from rcnn import nn
    >>> class Head(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(4, 2)
    ...
    ...     def forward(self, x):
    ...         return self.linear(x)
    >>> [(name, parameter.shape) for name, parameter in Head().named_parameters()]
    [('linear.weight', (2, 4)), ('linear.bias', (2,))]
    """

    ignored_state: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.forward(*args, **kwargs)
        hooks = vars(self).get("_forward_hooks")
        return self._run_hooks(hooks, args, result) if hooks else result

    # ------------------------------------------------------------------ hooks

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(module, args, result)` after every forward pass of this module.

        Parameters
        ----------
        hook : callable
            It gets the positional arguments `args` and the result of `forward`. If it returns something other than
            None, that replaces the result.

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

    # ------------------------------------------------------------------ content

    def register_buffer(self, name: str, value: np.ndarray) -> None:
        """Set an array as attribute `name`; it is saved and loaded with the state, but not learned.

        Parameters
        ----------
        name : str
            The name of the attribute.
        value : array
            Its value.
        """
        self.__dict__.setdefault("_buffers", {})[name] = None  # an ordered set of names
        setattr(self, name, value)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly below this one, in the order in which they were set.

        Yields
        ------
        name : str
            The name of the module in this one.
        module : Module
            The module.
        """
        for name, value in self._attributes():
            yield from _find(Module, name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it.

        Parameters
        ----------
        prefix : str
            What every name begins with.

        Yields
        ------
        prefix : str
            What the full names of the module's own parts begin with: "", "conv.", "conv.0.", ...
        module : Module
            The module.
        """
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it.

        Yields
        ------
        Module
            In the order of `named_modules`.
        """
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter: this module's own first, then those of its parts. A shared one comes once.

        Parameters
        ----------
        prefix : str
            What every name begins with.

        Yields
        ------
        name : str
            The full name.
        parameter : Parameter
            The parameter.
        """
        seen: set[int] = set()
        for name, value in self._named_state(prefix):
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter.

        Yields
        ------
        Parameter
            In the order of `named_parameters`.
        """
        for _, parameter in self.named_parameters():
            yield parameter

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | np.ndarray]]:
        """Yield (full name, value) of the whole state: parameters, then buffers, then those of the parts."""
        for name, value in self._attributes():
            for full_name, parameter in _find(Parameter, name, value):
                yield prefix + full_name, parameter
        for name, buffer in self._own_buffers():
            yield prefix + name, buffer
        for name, child in self.children():
            yield from child._named_state(f"{prefix}{name}.")

    def _attributes(self) -> list[tuple[str, Any]]:
        """Return the attributes that may hold parts; a list, because another thread may set a mode meanwhile."""
        attributes = list(vars(self).items())
        if "_forward_hooks" in vars(self):
            attributes = [(name, value) for name, value in attributes if name != "_forward_hooks"]
        return attributes

    def _own_buffers(self) -> list[tuple[str, np.ndarray]]:
        """Return the buffers of this module alone, with their names."""
        return [(name, getattr(self, name)) for name in vars(self).get("_buffers", ())]

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return every parameter and buffer by its full name.

        Returns
        -------
        dict of str to array
            The arrays are the module's own, not copies.
        """
        return {name: value.data if isinstance(value, Parameter) else value for name, value in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy arrays into the parameters and buffers of the same names.

        Parameters
        ----------
        state : mapping of str to array
            The arrays by full name; they are converted to the dtype of the module's own.
        strict : bool
            If True, a missing or an unexpected name is an error.

        Returns
        -------
        missing, unexpected : list of str
            The names that only the module has, and those that only the state has.

        Raises
        ------
        ValueError
            If a shape differs, or with `strict` a name is missing or unexpected. The message lists all of them, and
            nothing is changed.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        ignored = {prefix + name for prefix, module in self.named_modules() for name in module.ignored_state}
        unexpected = [name for name in state if name not in own and name not in ignored]
        misshapen = [
            f"{name} has shape {np.shape(state[name])} in the state, {own[name].shape} in the model"
            for name in own
            if name in state and np.shape(state[name]) != own[name].shape
        ]
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(unexpected))
        if misshapen:
            problems.append("wrong shape: " + "; ".join(misshapen))
        if problems:
            raise ValueError(f"the state does not fit {type(self).__name__}. " + ". ".join(problems))
        for name, array in own.items():
            if name in state:
                array[...] = np.asarray(state[name])
        return missing, unexpected

    def astype(self, dtype: Any) -> Self:
        """Convert every floating-point parameter and buffer to `dtype`, in place; gradients are dropped.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        Module
            This module.
        """
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
        """True if this module trains: its own mode, but False in an `evaluation` block.

        Returns
        -------
        bool
            The mode.
        """
        return vars(self).get("_training", True) and not _evaluating.get()

    @training.setter
    def training(self, mode: bool) -> None:  # numpydoc ignore=GL08
        self._training = bool(mode)

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training.

        In training, dropout drops elements and batch norm uses the batch's statistics.

        Parameters
        ----------
        mode : bool
            If False, switch to evaluation.

        Returns
        -------
        Module
            This module.
        """
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all below it to evaluation.

        Returns
        -------
        Module
            This module.
        """
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters are learned or frozen.

        Parameters
        ----------
        requires_grad : bool
            If False, they are frozen.

        Returns
        -------
        Module
            This module.
        """
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for parameter in self.parameters():
            parameter.grad = None


class HookHandle:
    """A registered forward hook, which can be removed.

    Parameters
    ----------
    module : Module
        The module that calls the hook.
    """

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
    """Yield (name, value) of each object of a kind in an attribute: its value, or items of lists, tuples and dicts."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find(kind, f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(kind, f"{name}.{key}", item)
