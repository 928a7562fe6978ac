"""`Module`: a part of a network that finds its own parameters.

A module is an ordinary Python object. Its parts are found by visiting its attributes in the order in which they were
set. There are three kinds of parts. The first kind is a `Parameter`, which is learned. The second kind is a buffer (see
`register_buffer`), which is saved but not learned. The third kind is another `Module`, which has its own parts.
Parameters and modules may also be in lists, tuples and dicts. The name of a part consists of attribute names, indices
and keys, joined by dots, for example `conv.0.weight`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np

from rcnn._validate import FLAG, as_array, check_dtype, listed, shown
from rcnn.nn.fusion import compute_all
from rcnn.nn.tensor import Parameter

T = TypeVar("T")
Hook = Callable[["Module", tuple[Any, ...], Any], Any]

MAX_NAMES = 120  # the maximum number of characters of names in the message of a `StateError`

_evaluating: contextvars.ContextVar[bool] = contextvars.ContextVar("evaluating", default=False)


@contextlib.contextmanager
def evaluation() -> Iterator[None]:
    """Run all modules in evaluation mode within this block, regardless of their own mode.

    Within the block, `training` is False for every module. The block applies only to the current context and does not
    change the modules. Any number of threads may therefore evaluate a network while another thread trains it. A thread
    that is started within the block, for example by a `forward` method, does not inherit the evaluation mode. You can
    also use `evaluation` as a decorator.

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


class StateError(ValueError):
    """The error that `load_state_dict` raises if a state does not fit the module.

    The message shows the first names of missing, unexpected and misshapen arrays. `problems` contains all names.

    Parameters
    ----------
    module : str
        Class name of the module.
    problems : mapping of str to list of str
        Maps each kind of problem, such as "missing", to the names that have it.
    """

    def __init__(self, module: str, problems: Mapping[str, list[str]]):
        self.problems = {kind: names for kind, names in problems.items() if names}
        texts = [f"{kind}: {listed(names, MAX_NAMES // len(self.problems))}" for kind, names in self.problems.items()]
        super().__init__(f"the state does not fit {listed([module])}. " + ". ".join(texts))


class Module:
    """A part of a network. Subclass it, set layers as attributes in `__init__`, and define `forward`.

    Attributes
    ----------
    ignored_state : tuple of str
        Names that `load_state_dict` ignores if a state contains them for this module.

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
            Function that gets this module, the positional arguments of `forward` and its result. If the function
            returns a value other than None, this value replaces the result.

        Returns
        -------
        HookHandle
            The handle of the hook. To remove the hook, call `handle.remove()` or leave a `with handle:` block.
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
        """Set an array as attribute `name`. It is saved and loaded with the state, but not learned.

        Parameters
        ----------
        name : str
            The name of the attribute.
        value : array
            The array.

        Raises
        ------
        TypeError
            If `name` is not a string or `value` is not an array.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {shown(name)}")
        if not isinstance(value, np.ndarray):
            raise TypeError(f"value must be an array, got {shown(value)}")
        self.__dict__.setdefault("_buffers", {})[name] = None  # an ordered set of names
        setattr(self, name, value)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that are direct parts of this module, in the order in which they were set.

        Yields
        ------
        name : str
            The name of the part within this module.
        module : Module
            The part.
        """
        for name, value in self._attributes():
            yield from _find(Module, name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all modules in it, at any depth.

        Parameters
        ----------
        prefix : str
            A string that is put before every yielded prefix.

        Yields
        ------
        prefix : str
            The prefix of the names of the module's own parameters and submodules, such as "", "conv." or "conv.0.".
        module : Module
            The module.
        """
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}{name}.")

    def modules(self) -> Iterator[Module]:
        """Yield this module and all modules in it, at any depth.

        Yields
        ------
        Module
            The modules, in the order of `named_modules`.
        """
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter, first those of this module itself, then those of its parts.

        A shared parameter is yielded only once.

        Parameters
        ----------
        prefix : str
            A string that is put before every name.

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
            The parameters, in the order of `named_parameters`.
        """
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield every buffer.

        Yields
        ------
        name : str
            The full name.
        buffer : array
            The buffer, which is not copied.
        """
        for prefix, module in self.named_modules():
            for name, buffer in module._own_buffers():
                yield prefix + name, buffer

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | np.ndarray]]:
        """Yield (full name, value) for the whole state: parameters, then buffers, then the state of the submodules."""
        for name, value in self._attributes():
            for full_name, parameter in _find(Parameter, name, value):
                yield prefix + full_name, parameter
        for name, buffer in self._own_buffers():
            yield prefix + name, buffer
        for name, child in self.children():
            yield from child._named_state(f"{prefix}{name}.")

    def _attributes(self) -> list[tuple[str, Any]]:
        """Return the attributes that may contain submodules.

        The attributes are copied to a list, because another thread may set a mode during an iteration.
        """
        attributes = list(vars(self).items())
        if "_forward_hooks" in vars(self):
            attributes = [(name, value) for name, value in attributes if name != "_forward_hooks"]
        return attributes

    def _own_buffers(self) -> list[tuple[str, np.ndarray]]:
        """Return the buffers of this module itself, with their names."""
        return [(name, getattr(self, name)) for name in vars(self).get("_buffers", ())]

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the arrays of all parameters and buffers, with their full names.

        Returns
        -------
        dict of str to array
            Maps full names to arrays. The arrays are not copied.
        """
        return {name: value.data if isinstance(value, Parameter) else value for name, value in self._named_state()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> tuple[list[str], list[str]]:
        """Copy arrays into the parameters and buffers with the same names.

        Parameters
        ----------
        state : mapping of str to array
            Maps full names to arrays. Each array is converted to the dtype of the parameter or buffer.
        strict : bool
            If True, a missing or an unexpected name is an error.
        assign : bool
            If True, the arrays are not copied if their dtypes and layouts allow it. They then belong to the module, so
            they must not be used afterwards.

        Returns
        -------
        missing, unexpected : list of str
            The names that only the module has, and the names that only the state has.

        Raises
        ------
        TypeError, ValueError
            If `state` is not a mapping, or if a value is not an array of real numbers. The module is then unchanged.
        StateError
            If a shape differs, or if `strict` is True and a name is missing or unexpected. The module is then
            unchanged, and `problems` contains all names.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, got {shown(state)}")
        strict, assign = FLAG.check("strict", strict), FLAG.check("assign", assign)
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        ignored = {prefix + name for prefix, module in self.named_modules() for name in module.ignored_state}
        unexpected = [name for name in state if name not in own and name not in ignored]
        given = {name: as_array(state[name], f"state[{shown(name)}]") for name in own if name in state}
        for name, array in given.items():
            if array.dtype.kind not in "fiub":
                raise TypeError(f"state[{shown(name)}] must contain real numbers, got dtype {array.dtype}")
        misshapen = [
            f"{name} has shape {array.shape} in the state, but {own[name].shape} in the model"
            for name, array in given.items()
            if array.shape != own[name].shape
        ]
        problems = {
            "missing": missing if strict else [],
            "unexpected": list(map(str, unexpected)) if strict else [],
            "wrong shape": misshapen,
        }
        if any(problems.values()):
            raise StateError(type(self).__name__, problems)
        with np.errstate(over="ignore", invalid="ignore"):
            if assign:
                self._assign(given)
            else:
                for name, array in given.items():
                    own[name][...] = array
        return missing, unexpected

    def _assign(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the arrays of parameters and buffers by those with the same names in `state`.

        An array is copied if it has another dtype, is read-only or not contiguous, or if it is a view of memory that
        another parameter already uses.
        """
        used: set[int] = set()

        def owned(name: str, dtype: np.dtype[Any]) -> np.ndarray:
            array = state[name]
            memory = id(array if array.base is None else array.base)
            if memory in used:
                return np.array(array, dtype, order="C")
            used.add(memory)
            return np.require(array, dtype, ["C", "A", "W"])

        for name, value in self._named_state():
            if isinstance(value, Parameter) and name in state:
                value.data = owned(name, value.dtype)
        for prefix, module in self.named_modules():
            for name, buffer in module._own_buffers():
                if prefix + name in state:
                    setattr(module, name, owned(prefix + name, buffer.dtype))

    def astype(self, dtype: Any) -> Self:
        """Convert every floating-point parameter and buffer to `dtype` in place, and delete the gradients.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        Module
            This module.

        Raises
        ------
        TypeError
            If `dtype` is another dtype.
        """
        dtype = check_dtype(dtype)
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
        """The mode of this module: True for training; always False within an `evaluation` block.

        Returns
        -------
        bool
            True in training mode, False in evaluation mode.
        """
        return vars(self).get("_training", True) and not _evaluating.get()

    @training.setter
    def training(self, mode: bool) -> None:  # numpydoc ignore=GL08
        self._training = bool(mode)

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all modules in it to training mode.

        In training mode, dropout sets elements to 0, and batch norm uses the statistics of the batch.

        Parameters
        ----------
        mode : bool
            If False, switch to evaluation mode instead.

        Returns
        -------
        Module
            This module.
        """
        mode = FLAG.check("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all modules in it to evaluation mode.

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
            True to learn the parameters, False to freeze them.

        Returns
        -------
        Module
            This module.
        """
        requires_grad = FLAG.check("requires_grad", requires_grad)
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
        """Remove the hook. A second call does nothing."""
        vars(self._module).get("_forward_hooks", {}).pop(self, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def _find(kind: type[T], name: str, value: Any) -> Iterator[tuple[str, T]]:
    """Yield (name, object) for each object of type `kind` in `value`, including nested lists, tuples and dicts."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find(kind, f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(kind, f"{name}.{key}", item)
