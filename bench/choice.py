"""Winograd or the general algorithm: measure both on random problems, fit the model of their costs, count its losses.

    python -m bench.choice measure FILE [--seconds 60] [--seed 0]    appends to FILE, a line of JSON per problem
    python -m bench.choice fit FILE                                  prints costs for winograd_choice.py, of machines
                                                                     whose vectors are as wide as here
    python -m bench.choice check FILE                                how the costs that are there do on the problems

Measure on an idle machine, with as many cores as the numbers are meant for.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numbacnn.ops.conv import autotune, plan, row_runs, winograd, winograd_choice
from numbacnn.ops.conv.plan import DIRECTIONS
from numbacnn.ops.conv.winograd_choice import Costs, OtherCosts, Work
from numbacnn.ops.geometry import ConvGeometry, collapse, conv_geometry

CHANNELS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
KERNELS = {
    1: [(3,), (3,), (4,), (5,), (2,), (7,), (9,), (16,)],
    2: [(3, 3)] * 6 + [(5, 5), (4, 4), (3, 1), (1, 5), (1, 7), (7, 1)],
    3: [(3, 3, 3), (3, 1, 1), (1, 3, 3)],
}
# Multiply-adds of the problems, from what costs a call to a few hundredths of a second.
LEAST, MOST = 2e6, 1e9
TURNS = 5
LOSS = 1.05  # what counts as a wrong choice


class Sample(NamedTuple):
    """One measured problem; seconds."""

    direction: str
    dtype: str
    geometry: ConvGeometry
    other: float
    winograd: float

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize


class Model(NamedTuple):
    """The tables of `winograd_choice`."""

    OTHER: dict[str, OtherCosts]
    WINOGRAD: dict[tuple[str, int], Costs]


def random_problem(generator: np.random.Generator) -> ConvGeometry:
    """A convolution that Winograd's algorithm takes."""
    while True:
        rank = int(generator.choice([1, 2, 2, 2, 3]))
        kernel = KERNELS[rank][generator.integers(len(KERNELS[rank]))]
        channels = [int(generator.choice(CHANNELS)) for _ in range(2)]
        batch = int(generator.choice([1, 1, 1, 2, 8]))
        span = {1: (32, 20000), 2: (5, 256), 3: (4, 64)}[rank]
        size = [int(math.exp(generator.uniform(*np.log(span)))) for _ in range(rank)]
        size = [size[0]] * rank if generator.random() < 0.7 else size
        dilation = int(generator.choice([1, 1, 1, 2, 4]))
        stride = int(generator.choice([1, 1, 2, 4])) if rank == 1 and dilation == 1 and kernel[0] != 5 else 1
        padding = [dilation * (k // 2) for k in kernel]
        shapes = (batch, channels[0], *size), (channels[1], channels[0], *kernel)
        if min(size) + min(padding) * 2 > dilation * 4:
            options = {"stride": stride, "padding": padding, "dilation": dilation}
            g = collapse(conv_geometry(*shapes, **options, warn=False))
            if g.stride != (1, 1, 1) and math.prod(g.kernel) <= stride:
                continue
            if LEAST <= g.flops / 2 <= MOST:
                return g


def measure(path: Path, seconds: float, seed: int) -> None:
    """Append problems to a file for so many seconds."""
    generator, began = np.random.default_rng(seed), time.perf_counter()
    with path.open("a", encoding="utf-8") as out:
        while time.perf_counter() - began < seconds:
            g, dtype = random_problem(generator), str(generator.choice(["float32", "float32", "float64"]))
            direction = str(generator.choice(DIRECTIONS))
            able = plan.candidates(direction, g, "fast")[1]
            if "winograd" in able:
                few = "row_runs" in able and row_runs.declines(direction, g, np.dtype(dtype).itemsize) is None
                other = "row_runs" if few else "indirect"
                times = autotune.measure(direction, g, np.dtype(dtype), ["winograd", other], TURNS)
                sample = Sample(direction, dtype, g, times[other], times["winograd"])
                print(json.dumps([*sample[:2], list(g), *sample[3:]]), file=out, flush=True)


def load(path: Path) -> list[Sample]:
    """The problems of a file."""
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        direction, dtype, g, *seconds = json.loads(line)
        geometry = ConvGeometry(*(tuple(value) if isinstance(value, list) else value for value in g))
        samples.append(Sample(direction, dtype, geometry, *seconds))
    return samples


def fit(samples: list[Sample]) -> Model:
    """Costs that are nowhere negative and whose relative errors are least."""
    work = np.array([work_of(s) for s in samples]) * 1e-6
    work = np.hstack([np.ones((len(work), 1)), work])
    # float64 takes about twice as long per item; only ratios matter, so it counts by half its time.
    halves = np.array([0.5e6 if s.dtype == "float64" else 1e6 for s in samples])
    other, winograd = (halves * np.array([s[i] for s in samples]) for i in (-2, -1))
    expected, others = _fit(
        work[:, :3], other, [winograd_choice.other_family(s.direction, s.geometry, s.itemsize) for s in samples]
    )
    # The machine's speed drifts: of what the other algorithm, measured beside it, took longer than expected, half.
    winograd *= np.sqrt(expected / other)
    _, winograds = _fit(work[:, [0, *range(3, work.shape[1])]], winograd, [family(s) for s in samples])
    return Model(
        {name: OtherCosts(*costs) for name, costs in others.items()},
        {name: Costs(*costs) for name, costs in winograds.items()},
    )


def _fit(work: np.ndarray, times: np.ndarray, families: list[Any]) -> tuple[np.ndarray, dict[Any, list[float]]]:
    """Expected times, and costs by family."""
    expected, costs = np.ones(len(work)), {}
    for name in sorted(set(families)):
        members = np.array([name == other for other in families])
        solution = _least_errors(work[members] / times[members, None])
        expected[members] = work[members] @ solution
        costs[name] = [float(f"{value:.3g}") for value in solution]
    return expected, costs


def _least_errors(terms: np.ndarray) -> np.ndarray:
    """Factors with sums near 1. Errors count by their squares while small, by themselves when large: some runs were
    disturbed."""
    from scipy.optimize import nnls

    weights = np.ones(len(terms))
    for _ in range(20):
        factors = nnls(terms * weights[:, None], weights)[0]
        weights = np.minimum(1, 0.1 / np.abs(terms @ factors - 1).clip(1e-9)) ** 0.5
    return factors


def work_of(s: Sample) -> Work:
    """What both algorithms do."""
    passes = winograd.passes(s.direction, s.geometry, s.itemsize)
    return winograd_choice.work_of(s.direction, s.geometry, passes, s.itemsize)


def family(s: Sample) -> tuple[str, int]:
    """Whose costs hold."""
    return winograd_choice.family(s.geometry, winograd.passes(s.direction, s.geometry, s.itemsize))


def losses(samples: list[Sample]) -> list[float]:
    """By which factor the algorithm chosen takes longer than the better one."""
    found = []
    for s in samples:
        chosen = s.other if winograd.declines(s.direction, s.geometry, s.itemsize) else s.winograd
        found.append(chosen / min(s.other, s.winograd))
    return found


def report(samples: list[Sample]) -> None:
    """One line per family of problems."""
    families: dict[Any, list[Sample]] = defaultdict(list)
    for sample in samples:
        families[family(sample)].append(sample)
    for name, members in [*sorted(families.items()), ("all", samples)]:
        lost = losses(members)
        share = sum(factor > LOSS for factor in lost) / len(lost)
        mean = math.exp(sum(map(math.log, lost)) / len(lost)) - 1
        print(f"{name!s:24} {len(lost):5} problems, {share:4.0%} lose more than 5 %, {mean:.1%} lost in the mean")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "fit", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments: Any = parser.parse_args()
    if arguments.action == "measure":
        measure(arguments.file, arguments.seconds, arguments.seed)
    else:
        samples = load(arguments.file)
        if arguments.action == "fit":
            model = fit(samples)
            for name, table in zip(model._fields, model, strict=True):
                print(
                    f"{name} =", "\n    ".join(["{", *(f"{key!r}: {costs}," for key, costs in table.items())]) + "\n}"
                )
                getattr(winograd_choice, name).update(table)
        report(samples)


if __name__ == "__main__":
    main()
