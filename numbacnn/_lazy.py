"""Names of a package that are imported when they are first asked for.

``import numbacnn`` should take little longer than ``import numpy``, but the modules that define kernels take longer
than that. So a package lists where its names live, and this loads them on demand (PEP 562).

A submodule must not share its name with a function of the package: whoever imports the submodule first would put it
where the function belongs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["attach"]


def attach(
    package: str, names: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    names : mapping of str to sequence of str
        For each submodule (a dotted path below the package), the names to take from it.
    submodules : sequence of str
        Submodules that are themselves public.

    Examples
    --------
    >>> get, _ = attach("numbacnn", {"errors": ["ShapeError"]}, ["nn"])
    >>> get("ShapeError").__name__, get("nn").__name__
    ('ShapeError', 'numbacnn.nn')
    >>> get("absent")
    Traceback (most recent call last):
        ...
    AttributeError: module 'numbacnn' has no attribute 'absent'
    """
    home = {name: module for module, listed in names.items() for name in listed}

    def get(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)  # so that the next access costs nothing
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home, *submodules})

    return get, list_names
