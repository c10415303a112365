"""`@device`, `@inlined`, `@intrinsic`: what kernels may call, compiled into each of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from . import _compile

if TYPE_CHECKING:
    from collections.abc import Callable


class _LazyNumba:
    """A function that Numba sees as compiled code, without Numba being imported before it is needed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self._function.__qualname__} exists only inside kernels")


class device(_LazyNumba):
    """A helper that kernels call; Numba compiles it into each of them."""

    _force_inline = False

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._compiled: dict[bool, tuple[Any, Any]] = {}  # for each way to compile

    @property
    def _numba_type_(self) -> Any:
        quickly = _compile.is_quick()
        if quickly not in self._compiled:
            dispatcher = _compile.helper(self._function, self._force_inline)
            self._compiled[quickly] = dispatcher._numba_type_, dispatcher  # kept: the type holds it weakly
        return self._compiled[quickly][0]


class inlined(device):
    """A device function that is inlined however large: for one hot place that has much to hand over."""

    _force_inline = True


class intrinsic(_LazyNumba):
    """A helper that emits LLVM IR itself (`numba.extending.intrinsic`, imported when first compiled)."""

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from numba import extending
        from numba.core.registry import cpu_target

        self._compiled = extending.intrinsic(self._function)
        cpu_target.typing_context.refresh()
        return cpu_target.typing_context.resolve_value_type(self._compiled)
