"""One case in one direction: validated in every library, then timed in alternating blocks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import numpy as np

from . import inputs, reference, validate
from .cases import Case, ConvCase, TrainCase, rate
from .libraries import Unsupported
from .load import ForeignLoad
from .worker import Worker, WorkerFailed

OURS = "numbacnn"
# OpenMP threads spin for some milliseconds after their last work: let them rest before the next process is timed.
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` alternations of blocks of `budget` seconds, again if the machine was busy."""

    rounds: int = 7
    budget: float = 0.15
    attempts: int = 1


@dataclass
class Contestant:
    """A library in one memory format, with the median of each of its blocks."""

    worker: Worker
    variant: str
    blocks: list[float] = field(default_factory=list)


def measure(case: Case, direction: str, dtype: str, workers: Sequence[Worker], effort: Effort) -> dict[str, Any]:
    """A report's entry: what each library takes, or why it was not timed, and how the others compare with the first."""
    entry: dict[str, Any] = {
        "case": case.name,
        "description": str(case),
        "direction": direction,
        "dtype": dtype,
        "unit": case.unit,
        "axes": len(case.kernel) if isinstance(case, ConvCase) else None,
        "libraries": {},
    }
    contestants = _validated(case, direction, dtype, workers, entry["libraries"])
    load = ForeignLoad(pid for worker in workers for pid in worker.pids)
    alternate(contestants, effort)
    entry["foreign_load"] = load.share()
    for library in {c.worker.library: None for c in contestants}:
        variants = [c for c in contestants if c.worker.library == library]
        entry["libraries"][library] |= _timing(case, direction, dtype, variants)
    entry["ratios"] = ratios(entry["libraries"], workers[0].library)
    return entry


def _validated(
    case: Case, direction: str, dtype: str, workers: Iterable[Worker], libraries: dict[str, Any]
) -> list[Contestant]:
    """Who may be timed. The others get their reason into `libraries`."""
    expected = reference.sample(case, direction, inputs.make(case, dtype))
    first: dict[str, np.ndarray] | None = None
    contestants = []
    for worker in workers:
        try:
            variants = worker.ask("prepare", case, direction, dtype)
            error = 0.0
            for variant in variants:
                result = worker.ask("result", variant)
                error = max(error, validate.check_sample(result, expected, dtype))
                if first is None:
                    first = result
                else:
                    error = max(error, validate.check_agreement(result, first, dtype))
        except (Unsupported, WorkerFailed, validate.WrongResult) as reason:
            libraries[worker.library] = {"refused": str(reason), "wrong": not isinstance(reason, Unsupported)}
            continue
        libraries[worker.library] = {"error": error}
        contestants += [Contestant(worker, variant) for variant in variants]
    return contestants


def alternate(contestants: Sequence[Contestant], effort: Effort) -> None:
    """Give everyone a block in turn, `effort.rounds` times; only one process computes at any moment."""
    for _ in range(effort.rounds):
        for contestant in contestants:
            time.sleep(SETTLE_SECONDS)
            seconds, _ = contestant.worker.ask("time_block", contestant.variant, effort.budget)
            contestant.blocks.append(seconds)


def _timing(case: Case, direction: str, dtype: str, variants: Sequence[Contestant]) -> dict[str, Any]:
    """The best memory format's median of block medians, and everybody's blocks."""
    best = min(variants, key=lambda contestant: median(contestant.blocks))
    seconds = median(best.blocks)
    return {
        "variant": best.variant,
        "seconds": seconds,
        "rate": rate(case, direction, np.dtype(dtype).itemsize, seconds),
        "spread": _spread(best.blocks),
        "blocks": {contestant.variant: contestant.blocks for contestant in variants},
    }


def ratios(libraries: dict[str, Any], ours: str) -> dict[str, Any]:
    """Per other library: its time over ours, and the middle half of the same ratio round by round."""
    if "seconds" not in libraries.get(ours, {}):
        return {}
    mine = libraries[ours]
    table = {}
    for name, other in libraries.items():
        if name == ours or "seconds" not in other:
            continue
        theirs, blocks = other["blocks"][other["variant"]], mine["blocks"][mine["variant"]]
        rounds = [their / my for their, my in zip(theirs, blocks, strict=True)]
        low, high = _spread(rounds)
        table[name] = {"ratio": other["seconds"] / mine["seconds"], "low": low, "high": high}
    return table


def add_memory(entry: dict[str, Any], case: Case, workers: Iterable[Worker]) -> None:
    """Memory of every library's best format, measured by workers that are never timed."""
    for worker in workers:
        timing = entry["libraries"].get(worker.library, {})
        if "seconds" not in timing:
            continue
        worker.ask("prepare", case, entry["direction"], entry["dtype"])
        if isinstance(case, TrainCase):
            timing |= worker.ask("training_memory", timing["variant"])
        else:
            timing["extra_bytes"] = worker.ask("extra_bytes", timing["variant"])


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The quartiles."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
