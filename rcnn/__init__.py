"""A Faster R-CNN detector to read, take apart and use, written in NumPy with Cython kernels.

The public names are listed in `__init__.pyi`. Each name is imported when it is first used. For example, the statement
`from rcnn.boxes import iou` loads little more than NumPy.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Return a public name. The first call replaces this function with one that knows all public names."""
    import lazy_loader  # not at the top: the command must handle Ctrl-C before any import that takes time

    resolve, listing, names = lazy_loader.attach_stub(__name__, __file__)
    globals().update(__getattr__=resolve, __dir__=listing, __all__=names)
    return names if name == "__all__" else resolve(name)


def __dir__() -> object:
    """Return the public names."""
    __getattr__("__all__")
    return globals()["__dir__"]()
