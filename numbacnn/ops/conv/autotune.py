"""Choosing convolution algorithms by measuring them once, where the caller asks for it."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import memory
from .._call import make_call
from . import measurements, plan
from .program import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..geometry import ConvGeometry

# What `algorithm` becomes where "auto" means to measure.
MEASURED = "auto, measured"
# Each candidate runs once to be compiled and planned, then in turn with the others, until all have had so many turns or
# so much time. Who takes so many times as long as the fastest, and not once or twice by accident, has no further turn.
TURNS, SECONDS, HOPELESS, SURE = 7, 0.5, 2.0, 3

_scoped: contextvars.ContextVar[bool] = contextvars.ContextVar("numbacnn_autotune", default=False)

# One measurement at a time, and none while the process forks: the child would wait for a thread that it does not have.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextlib.contextmanager
def autotune(enabled: bool = True) -> Iterator[None]:
    """Measure convolution algorithms, rather than estimate, inside a ``with`` block and in this Python thread.

    The first convolution of its kind (sizes, options, direction, dtype) runs on every algorithm that takes it, which
    costs some tenths of a second and as much memory as its arrays once more, and the fastest is remembered: in the
    process, and for later ones in the cache directory. It is used under `autotune` alone. `ops.explain` says which
    choices were measured. Also a decorator.

    Without `autotune`, results have the same bits wherever vectors are as wide. A measured choice may differ from
    machine to machine, and so may the last bits. It depends neither on the number of threads nor, but for gradients of
    weights, on the size of the batch: the first of its kind, of whatever size, decides for all.

    Parameters
    ----------
    enabled : bool, default True
        False: do not measure inside, although the surrounding block does.

    Warns
    -----
    MeasurementWarning
        What the cache directory holds cannot be read; it is measured again.

    Examples
    --------
    >>> import numbacnn as nc
    >>> with nc.autotune():
    ...     choice = nc.ops.explain((1, 16, 12, 12), (16, 16, 3, 3))
    >>> print(choice)  # doctest: +ELLIPSIS
    forward: ... (measured)
    ...
    """
    token = _scoped.set(bool(enabled))
    try:
        yield
    finally:
        _scoped.reset(token)


def resolve(algorithm: str) -> str:
    """What a call's ``algorithm=`` means here: itself, or that "auto" is to be measured."""
    return MEASURED if algorithm == "auto" and _scoped.get() else algorithm


def choose(direction: str, geometry: ConvGeometry, algorithm: str, precision: str, dtype: np.dtype[Any]) -> plan.Choice:
    """The algorithm for one direction of a convolution, by estimate or, if `algorithm` is `MEASURED`, by stopwatch."""
    if algorithm != MEASURED:
        return plan.plan_conv(direction, geometry, algorithm, precision, dtype.itemsize)
    geometry = plan.what_runs(direction, geometry)
    if geometry.batch == 0:
        return plan.plan_conv(direction, geometry, "auto", precision, dtype.itemsize)
    with _lock:
        return _choose(direction, geometry, precision, dtype)


def _choose(direction: str, geometry: ConvGeometry, precision: str, dtype: np.dtype[Any]) -> plan.Choice:
    refused, able = plan.candidates(direction, geometry, precision)
    problem = _problem(direction, geometry, dtype)
    seconds = _remembered(problem)
    if seconds.keys().isdisjoint(able):
        # Whatever the precision, so that what was chosen with one does not change when the other is met.
        seconds.update(measure(direction, geometry, dtype, plan.candidates(direction, geometry, "fast")[1]))
        measurements.store(problem, seconds)
    fastest = min(filter(seconds.__contains__, able), key=seconds.__getitem__)
    for name in able:
        if name not in seconds:
            refused[name] = "it did not take the first problem of this kind, on which the others were measured"
        elif name != fastest:
            refused[name] = f"it was measured to take {seconds[name] / seconds[fastest]:.2f} times as long"
    ordered = tuple((module.name, refused[module.name]) for module in plan.ALGORITHMS if module.name in refused)
    return plan.Choice(direction, geometry, fastest, ordered, measured=True)


@functools.cache
def _remembered(problem: str) -> dict[str, float]:
    """Seconds by algorithm; a measurement fills what is empty, so that without a disk it holds for the process."""
    return measurements.load(problem) or {}


def _problem(direction: str, g: ConvGeometry, dtype: np.dtype[Any]) -> str:
    """What a measurement is remembered for. Without the batch, so that a batch has the bits of its samples."""
    if direction != "backward_weight":
        g = g._replace(batch=0)
    return " ".join([direction, dtype.name, *(f"{name}={value}" for name, value in zip(g._fields, g, strict=True))])


def measure(
    direction: str, g: ConvGeometry, dtype: np.dtype[Any], names: list[str], turns: int = TURNS
) -> dict[str, float]:
    """The least time each algorithm takes, in seconds."""
    calls = {name: _call(direction, g, dtype, name) for name in names}
    for call in calls.values():
        call()
    best = dict.fromkeys(names, float("inf"))
    began = time.perf_counter()
    for turn in range(turns):
        for name, call in calls.items():
            if turn >= SURE and best[name] > HOPELESS * min(best.values()):
                continue
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
        if time.perf_counter() - began > SECONDS:
            break
    return best


def _call(direction: str, g: ConvGeometry, dtype: np.dtype[Any], name: str) -> Callable[[], Any]:
    """One run of an algorithm, on memory like that of a call."""
    p = program(direction, name, g, dtype)
    inputs, outputs = (g.batch, *g.input, g.in_channels), (g.batch, *g.output, g.out_channels)
    weight = (g.out_channels, g.in_per_group, *g.kernel)
    first, second, out = {
        "forward": (inputs, weight, outputs),
        "backward_data": (outputs, weight, inputs),
        "backward_weight": (outputs, inputs, weight),
    }[direction]
    absent = () if direction == "backward_weight" else (None, None)  # bias and residual
    call = make_call(p, memory.Room(out, dtype))
    return functools.partial(call, _random(first, dtype), _random(second, dtype), *absent)


def _random(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    out = memory.empty(shape, dtype)
    np.random.default_rng(0).random(out=out, dtype=dtype)  # type: ignore[call-overload]
    return out
