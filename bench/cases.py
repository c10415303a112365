"""The problems that are measured: one line of a table in `shapes/` each, and what follows from that line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

SHAPES = Path(__file__).parent / "shapes"


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
class PoolCase:
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

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.spatial)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *_windows(self.spatial, self.kernel, self.stride, self.padding))

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes that any implementation must move: one array read, the other written."""
        return float(itemsize * (math.prod(self.input_shape) + math.prod(self.output_shape)))

    def __str__(self) -> str:
        return f"{_shape(self.input_shape)} {self.mode} {_axes(self.kernel)} s{_axes(self.stride)}"


@dataclass(frozen=True)
class NormCase:
    """Batch normalisation; `evaluation` uses the running statistics."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward", "evaluation")
    unit: ClassVar[str] = "GB/s"

    name: str
    batch: int
    channels: int
    spatial: tuple[int, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.spatial)

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of the arrays of the input's size that go in and come out, each counted once."""
        arrays = {"forward": 2, "backward": 3, "evaluation": 2}[direction]
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
class ActivationCase:
    """An activation function; softmax runs along the channels."""

    directions: ClassVar[tuple[str, ...]] = ("forward", "backward")
    unit: ClassVar[str] = "GB/s"
    functions: ClassVar[tuple[str, ...]] = (
        *("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"),
        *("softmax", "log_softmax"),
    )

    name: str
    function: str
    batch: int
    channels: int
    spatial: tuple[int, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.spatial)

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of the arrays that go in and come out, each counted once."""
        return float(itemsize * (2 if direction == "forward" else 3) * math.prod(self.input_shape))

    def __str__(self) -> str:
        return f"{self.function} of {_shape(self.input_shape)}"


@dataclass(frozen=True)
class ArithmeticCase:
    """A sum or product of two arrays or of one and a number (scale), or two arrays joined along their channels."""

    directions: ClassVar[tuple[str, ...]] = ("forward",)
    unit: ClassVar[str] = "GB/s"
    functions: ClassVar[tuple[str, ...]] = ("add", "multiply", "scale", "concatenate")

    name: str
    function: str
    batch: int
    channels: int
    spatial: tuple[int, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.spatial)

    def work(self, direction: str, itemsize: int) -> float:
        """Bytes of the arrays that go in and come out, each counted once."""
        arrays = {"add": 3, "multiply": 3, "scale": 2, "concatenate": 4}[self.function]
        return float(itemsize * arrays * math.prod(self.input_shape))

    def __str__(self) -> str:
        return f"{self.function} of {_shape(self.input_shape)}"


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
    return [case for case in parse(path.read_text(), _ROWS.get(path.stem, _conv)) if re.search(pattern, case.name)]


def parse(text: str, row: Callable[..., Case] | None = None) -> list[Case]:
    """The cases of a table; `#` starts a comment, columns are separated by blanks, `->` is decoration."""
    cases: list[Case] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field for field in line.partition("#")[0].split() if field != "->"]
        if not fields:
            continue
        try:
            cases.append((row or _conv)(*fields))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number}: {line.strip()!r}: {error}") from None
    names = [case.name for case in cases]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"names must be unique, repeated: {', '.join(sorted(repeated))}")
    return cases


def _conv(
    name: str,
    n: str,
    c: str,
    spatial: str,
    out: str,
    kernel: str,
    stride: str,
    padding: str,
    dilation: str,
    groups: str,
) -> ConvCase:
    size = _tuple(spatial)
    per_axis = (_tuple(text, len(size)) for text in (kernel, stride, padding, dilation))
    case = ConvCase(name, int(n), int(c), size, int(out), *per_axis, int(groups))
    if case.in_channels % case.groups or case.out_channels % case.groups:
        raise ValueError(f"{case.groups} groups do not divide {case.in_channels} -> {case.out_channels} channels")
    if min(case.output_shape) < 1:
        raise ValueError(f"the output would be empty: {case.output_shape}")
    return case


def _pool(name: str, n: str, c: str, spatial: str, mode: str, kernel: str, stride: str, padding: str) -> PoolCase:
    if mode not in ("max", "avg"):
        raise ValueError(f"mode is max or avg, got {mode!r}")
    size = _tuple(spatial)
    return PoolCase(name, int(n), int(c), size, mode, *(_tuple(text, len(size)) for text in (kernel, stride, padding)))


def _norm(name: str, n: str, c: str, spatial: str) -> NormCase:
    return NormCase(name, int(n), int(c), _tuple(spatial))


def _linear(name: str, n: str, c_in: str, c_out: str) -> LinearCase:
    return LinearCase(name, int(n), int(c_in), int(c_out))


def _elementwise(kind: type[ActivationCase] | type[ArithmeticCase]) -> Callable[..., Case]:
    def row(name: str, function: str, n: str, c: str, spatial: str) -> Case:
        if function not in kind.functions:
            raise ValueError(f"the function is one of {', '.join(kind.functions)}, got {function!r}")
        return kind(name, function, int(n), int(c), () if spatial == "-" else _tuple(spatial))

    return row


def _matmul(name: str, rows: str, depth: str, columns: str) -> MatmulCase:
    return MatmulCase(name, int(rows), int(depth), int(columns))


def _train(name: str, net: str, n: str) -> TrainCase:
    return TrainCase(name, net, int(n))


_ROWS: dict[str, Callable[..., Case]] = {
    "pool": _pool,
    "norm": _norm,
    "linear": _linear,
    "activation": _elementwise(ActivationCase),
    "arithmetic": _elementwise(ArithmeticCase),
    "matmul": _matmul,
    "train": _train,
    "train_deep": _train,
}


def _tuple(text: str, rank: int | None = None) -> tuple[int, ...]:
    """'3x5' -> (3, 5); one number serves every axis when the rank is known."""
    values = tuple(int(part) for part in text.split("x"))
    if rank is not None and len(values) == 1:
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
