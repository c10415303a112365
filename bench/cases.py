"""The problems that are measured: one line of a table in `shapes/` each, whose columns are the fields of a case."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

SHAPES = Path(__file__).parent / "shapes"


class _Image:
    """What has an input of shape (N, C, *spatial)."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.spatial)


@dataclass(frozen=True)
class ConvCase:
    """A convolution of 1 to 3 spatial axes, without bias."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward_data", "backward_weight")
    unit: ClassVar[str] = "GFLOP/s"

    name: str
    batch: int
    in_channels: int
    spatial: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __post_init__(self) -> None:
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.in_channels} -> {self.out_channels} channels")
        if min(self.output_shape) < 1:
            raise ValueError(f"the output would be empty: {self.output_shape}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.spatial)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def output_shape(self) -> tuple[int, ...]:
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        return (self.batch, self.out_channels, *_windows(self.spatial, reach, self.stride, self.padding))

    def work(self, direction: str, itemsize: int) -> float:
        """Floating-point operations, two per multiply-add; padding counts, as in every published figure."""
        return 2.0 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    def __str__(self) -> str:
        text = f"{_shape(self.input_shape)} -> {self.out_channels}, {_axes(self.kernel)}"
        for letter, values, usual in (("s", self.stride, 1), ("d", self.dilation, 1)):
            if any(v != usual for v in values):
                text += f" {letter}{_axes(values)}"
        return text + (f" g{self.groups}" if self.groups > 1 else "")


@dataclass(frozen=True)
class PoolCase(_Image):
    """Maximum or average pooling."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward")
    unit: ClassVar[str] = "GB/s"

    name: str
    batch: int
    channels: int
    spatial: tuple[int, ...]
    mode: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.mode not in ("max", "avg"):
            raise ValueError(f"mode is max or avg, got {self.mode!r}")

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *_windows(self.spatial, self.kernel, self.stride, self.padding))

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes that any implementation must move: one array read, the other written, and which elements won.

        Which one of a window is a byte at least; numbacnn's is.
        """
        winners = math.prod(self.output_shape) if self.mode == "max" else 0
        return float(itemsize * (math.prod(self.input_shape) + math.prod(self.output_shape)) + winners)

    def __str__(self) -> str:
        return f"{_shape(self.input_shape)} {self.mode} {_axes(self.kernel)} s{_axes(self.stride)}"


@dataclass(frozen=True)
class NormCase(_Image):
    """Batch normalisation; `evaluation` uses the running statistics."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward", "evaluation")
    unit: ClassVar[str] = "GB/s"

    name: str
    batch: int
    channels: int
    spatial: tuple[int, ...]

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of arrays of the input's size: sums over what goes in come first, then it is read again, if no cache
        holds it, for what comes out."""
        arrays = {"forward": 3, "backward": 5, "evaluation": 2}[direction]
        return float(itemsize * arrays * math.prod(self.input_shape))

    def __str__(self) -> str:
        return _shape(self.input_shape)


@dataclass(frozen=True)
class LinearCase:
    """A fully connected layer without bias."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward_data", "backward_weight")
    unit: ClassVar[str] = "GFLOP/s"

    name: str
    batch: int
    in_features: int
    out_features: int

    def work(self, direction: str, itemsize: int) -> float:
        """Floating-point operations, two per multiply-add."""
        return 2.0 * self.batch * self.in_features * self.out_features

    def __str__(self) -> str:
        return f"{self.batch}×{self.in_features} -> {self.out_features}"


@dataclass(frozen=True)
class _Elementwise(_Image):
    """A function of whole arrays."""

    unit: ClassVar[str] = "GB/s"
    functions: ClassVar[tuple[str, ...]]

    name: str
    function: str
    batch: int
    channels: int
    spatial: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.function not in self.functions:
            raise ValueError(f"the function is one of {', '.join(self.functions)}, got {self.function!r}")

    def __str__(self) -> str:
        return f"{self.function} of {_shape(self.input_shape)}"


@dataclass(frozen=True)
class ActivationCase(_Elementwise):
    """An activation function; softmax runs along the channels."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward")
    functions: ClassVar[tuple[str, ...]] = (
        *("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"),
        *("softmax", "log_softmax"),
    )

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of the arrays that go in and come out, each counted once."""
        return float(itemsize * (2 if direction == "forward" else 3) * math.prod(self.input_shape))


@dataclass(frozen=True)
class ArithmeticCase(_Elementwise):
    """A sum or product of two arrays or of one and a number (scale), or two arrays joined along their channels."""

    directions: ClassVar[tuple[str, ...]] = ("forward",)
    functions: ClassVar[tuple[str, ...]] = ("add", "multiply", "scale", "concatenate")

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of the arrays that go in and come out, each counted once."""
        arrays = {"add": 3, "multiply": 3, "scale": 2, "concatenate": 4}[self.function]
        return float(itemsize * arrays * math.prod(self.input_shape))


@dataclass(frozen=True)
class MatmulCase:
    """A product of two C-contiguous matrices."""

    directions: ClassVar[tuple[str, ...]] = ("forward",)
    unit: ClassVar[str] = "GFLOP/s"

    name: str
    rows: int
    depth: int
    columns: int

    def work(self, direction: str, itemsize: int) -> float:
        """Floating-point operations, two per multiply-add."""
        return 2.0 * self.rows * self.depth * self.columns

    def __str__(self) -> str:
        return f"{self.rows}×{self.depth} times {self.depth}×{self.columns}"


@dataclass(frozen=True)
class TrainCase:
    """One training step (forward, loss, backward, optimiser) of a net of `nets.py`."""

    directions: ClassVar[tuple[str, ...]] = ("step",)
    unit: ClassVar[str] = "samples/s"

    name: str
    net: str
    batch: int

    def work(self, direction: str, itemsize: int) -> float:
        """Samples per step (the reports divide by 1e9 only where the unit says giga)."""
        return float(self.batch)

    def __str__(self) -> str:
        return f"{self.net}, batch {self.batch}"


Case = ConvCase | PoolCase | NormCase | LinearCase | ActivationCase | ArithmeticCase | MatmulCase | TrainCase

# What a table holds if it is not convolutions.
_KINDS: dict[str, type[Case]] = {
    "pool": PoolCase,
    "norm": NormCase,
    "linear": LinearCase,
    "activation": ActivationCase,
    "arithmetic": ArithmeticCase,
    "matmul": MatmulCase,
    "train": TrainCase,
    "train_deep": TrainCase,
}


def rate(case: Case, direction: str, itemsize: int, seconds: float) -> float:
    """Work per second in the case's unit."""
    scale = 1e9 if case.unit.startswith("G") else 1.0
    return case.work(direction, itemsize) / seconds / scale


def groups() -> list[str]:
    """The tables in `shapes/`."""
    return sorted(path.stem for path in SHAPES.glob("*.txt"))


def load(group: str, pattern: str = "") -> list[Case]:
    """The cases of one table whose names match `pattern`; a table is a name in `shapes/` or the path of a .txt file."""
    path = Path(group) if group.endswith(".txt") else SHAPES / f"{group}.txt"
    if not path.is_file():
        raise ValueError(f"no shape table {group!r}; known are {', '.join(groups())}, or give the path of a .txt file")
    return [case for case in parse(path.read_text(), _KINDS.get(path.stem, ConvCase)) if re.search(pattern, case.name)]


def parse(text: str, kind: type[Case] = ConvCase) -> list[Case]:
    """The cases of a table; `#` starts a comment, columns are separated by blanks, `->` is decoration."""
    cases: list[Case] = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = [column for column in line.partition("#")[0].split() if column != "->"]
        if not columns:
            continue
        try:
            cases.append(_case(kind, columns))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number}: {line.strip()!r}: {error}") from None
    names = [case.name for case in cases]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"names must be unique, repeated: {', '.join(sorted(repeated))}")
    return cases


def _case(kind: type[Case], columns: list[str]) -> Case:
    """The case of a line; one number of several axes is the same for as many as the first such column has."""
    values: list[Any] = []
    rank = None
    for field, text in zip(fields(kind), columns, strict=False):  # the constructor says how many there should be
        if field.type == "str":
            values.append(text)
        elif field.type == "int":
            values.append(int(text))
        else:
            values.append(_tuple(text, rank))
            rank = len(values[-1]) if rank is None else rank
    return kind(*values, *columns[len(values) :])


def _tuple(text: str, rank: int | None = None) -> tuple[int, ...]:
    """'3x5' -> (3, 5), '-' -> (); one number serves every axis when the rank is known."""
    if text == "-" and rank is None:
        return ()
    values = tuple(int(part) for part in text.split("x"))
    if rank and len(values) == 1:
        return values * rank
    if not 1 <= len(values) <= 3 or (rank is not None and len(values) != rank):
        raise ValueError(f"{text!r} does not have one number per axis")
    return values


def _windows(spatial, reach, stride, padding) -> tuple[int, ...]:
    """How many windows fit along each axis."""
    return tuple((i + 2 * p - r) // s + 1 for i, r, s, p in zip(spatial, reach, stride, padding, strict=True))


def _axes(values: tuple[int, ...]) -> str:
    return "×".join(map(str, values))


def _shape(shape: tuple[int, ...]) -> str:
    return ",".join([str(shape[0]), str(shape[1]), *([_axes(shape[2:])] if shape[2:] else [])])
