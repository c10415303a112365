"""One table of cases for values and gradients: convolutions and pools of every rank.

Tests parametrise over `CONV_CASES` and `POOL_CASES` with ``ids=str``; `conv_arrays` and `pool_array` make the inputs.
Values are small integers stored as floats: every order of summation gives the same result, so outputs can be compared
with ``==``.

The bulk of the table covers every *pair* of settings (all ranks with all paddings, all strides with all memory orders,
...) rather than every combination; named cases after it hold the corners.
"""

import itertools
import random
from typing import NamedTuple

import numpy as np

ORDERS = ("C", "channels_last", "F", "sliced", "reversed", "read_only")


class ConvCase(NamedTuple):
    """A convolution. Per-axis values are in the order of the array's axes."""

    batch: int
    in_channels: int
    out_channels: int
    size: tuple
    kernel: tuple
    stride: object = 1
    padding: object = 0
    dilation: object = 1
    groups: int = 1
    padding_mode: object = "zeros"
    dtype: str = "float32"
    order: str = "C"
    name: str = ""

    @property
    def input_shape(self):
        return (self.batch, self.in_channels, *self.size)

    @property
    def weight_shape(self):
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def options(self):
        """Keyword arguments of every convolution function."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
        }

    def __str__(self):
        if self.name:
            return self.name.replace(" ", "-")
        text = f"{len(self.size)}d n{self.batch} c{self.in_channels}-{self.out_channels} {_by(self.size)}"
        text += f" k{_by(self.kernel)} s{_by(self.stride)} p{_by(self.padding)} d{_by(self.dilation)} g{self.groups}"
        return f"{text} {_by(self.padding_mode)} {self.dtype} {self.order}".replace(" ", "-")


class PoolCase(NamedTuple):
    """A pool; `dilation` is for max pools, `count_include_pad` for average pools."""

    batch: int
    channels: int
    size: tuple
    kernel: object
    stride: object = None
    padding: object = 0
    dilation: object = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    dtype: str = "float32"
    order: str = "C"
    name: str = ""

    @property
    def input_shape(self):
        return (self.batch, self.channels, *self.size)

    @property
    def max_options(self):
        """Keyword arguments of max pools, but for the kernel size."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }

    @property
    def avg_options(self):
        """Keyword arguments of average pools, but for the kernel size."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
            "count_include_pad": self.count_include_pad,
        }

    def __str__(self):
        if self.name:
            return self.name.replace(" ", "-")
        text = (
            f"{len(self.size)}d n{self.batch} c{self.channels} {_by(self.size)} k{_by(self.kernel)} s{_by(self.stride)}"
        )
        text += f" p{_by(self.padding)} d{_by(self.dilation)} ceil{self.ceil_mode:d} pad{self.count_include_pad:d}"
        return f"{text} {self.dtype} {self.order}".replace(" ", "-")


def _by(value):
    return "x".join(map(_by, value)) if isinstance(value, tuple) else str(value)


# ------------------------------------------------------------------------------------------------------------- arrays


def integers(shape, dtype="float32", seed=0, low=-3, high=3):
    """Random integers from `low` to `high`, both included, as floats (or whatever the dtype is)."""
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def in_order(array, order):
    """The same values with another memory order: one of `ORDERS`.

    "sliced" is every second element of a larger array along the last axis and a corner along the others, "reversed"
    has negative strides along the first and the last axis.
    """
    if order == "channels_last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    if order == "F":
        return np.asfortranarray(array)
    if order == "sliced":
        larger = np.full([extent + 1 for extent in array.shape[:-1]] + [2 * array.shape[-1] + 1], 77, array.dtype)
        view = larger[(slice(1, None),) * (array.ndim - 1) + (slice(1, None, 2),)]
        view[...] = array
        return view
    if order == "reversed":
        flip = (slice(None, None, -1), *[slice(None)] * (array.ndim - 2), slice(None, None, -1))
        return np.ascontiguousarray(array[flip])[flip]
    if order == "read_only":
        array = array.copy()
        array.setflags(write=False)
        return array
    if order == "C":
        return np.ascontiguousarray(array)
    raise ValueError(f"order must be one of {ORDERS}, got {order!r}")


def conv_arrays(case, seed=0):
    """Input (in the case's memory order), weight and bias of a convolution."""
    x = in_order(integers(case.input_shape, case.dtype, seed), case.order)
    weight = integers(case.weight_shape, case.dtype, seed + 1)
    return x, weight, integers((case.out_channels,), case.dtype, seed + 2)


def pool_array(case, seed=0):
    """Input of a pool; the small range makes ties common."""
    return in_order(integers(case.input_shape, case.dtype, seed), case.order)


# ------------------------------------------------------------------------------------------------------ the pair table


def pairwise(axes, seed=0):
    """Rows that contain every pair of values of every two axes, greedily few; the same rows every time."""
    draw = random.Random(seed)
    names = list(axes)
    missing = {
        (a, u, b, v)
        for a, b in itertools.combinations(names, 2)
        for u, v in itertools.product(range(len(axes[a])), range(len(axes[b])))
    }

    def gain(row):
        return sum((a, row[a], b, row[b]) in missing for a, b in itertools.combinations(names, 2))

    rows = []
    while missing:
        a, u, b, v = min(missing)
        candidates = [{name: draw.randrange(len(axes[name])) for name in names} | {a: u, b: v} for _ in range(40)]
        best = max(candidates, key=gain)
        missing -= {(a, best[a], b, best[b]) for a, b in itertools.combinations(names, 2)}
        rows.append({name: axes[name][best[name]] for name in names})
    return rows


# Per axis (D, H, W); lower ranks use the last ones.
_CONV_AXES = {
    "rank": (1, 2, 3),
    "kernel": ((1, 1, 1), (3, 3, 3), (2, 2, 2), (1, 5, 3), (3, 2, 4), (2, 1, 7)),
    "stride": (1, 2, (1, 2, 3), 4),
    "padding": (0, 1, (0, 2, 1), ((1, 0), (0, 2), (3, 1)), "valid", "same", "same_lower", "same_size", "causal"),
    "dilation": (1, 2, (2, 1, 3)),
    "groups": ("one", "two", "many", "depthwise", "multiplier"),
    # Remainders of every register tile: vectors of 4, 8 and 16, and their neighbours.
    "channels": (1, 2, 3, 5, 7, 8, 12, 16, 17, 24, 33),
    "padding_mode": ("zeros", "reflect", "replicate", "circular", ("zeros", "circular", "reflect")),
    "extra": (0, 1, 2, 5),
    "batch": (1, 2, 3),
    "dtype": ("float32", "float64"),
    "order": ORDERS,
}


def _conv_case(rank, kernel, stride, padding, dilation, groups, channels, padding_mode, extra, batch, dtype, order):
    def last(value):
        return value[3 - rank :] if isinstance(value, tuple) else value

    kernel, dilations = last(kernel), dilation if isinstance(dilation, tuple) else (dilation,) * 3
    # The kernel always fits, even unpadded; `extra` leaves remainders; axes differ.
    size = tuple(
        d * (k - 1) + 2 + extra + axis for axis, (k, d) in enumerate(zip(kernel, last(dilations), strict=True))
    )
    in_channels, out_channels, count = {
        "one": (channels, 2 + channels // 2, 1),
        "two": (2 * ((channels + 1) // 2), 2 * channels, 2),
        "many": (2 * channels, 3 * channels, channels),
        "depthwise": (channels, channels, channels),
        "multiplier": (channels, 2 * channels, channels),
    }[groups]
    return ConvCase(
        batch, in_channels, out_channels, size, kernel, last(stride), last(padding), last(dilation), count,
        last(padding_mode), dtype, order,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the corners

_NAMED_CONVS = [
    ConvCase(2, 3, 5, (4,), (3,), padding=11, padding_mode="reflect", name="reflect wraps repeatedly"),
    ConvCase(2, 3, 5, (4, 3), (3, 3), padding=(9, 7), padding_mode="circular", name="circular wraps repeatedly"),
    ConvCase(1, 2, 3, (2, 5), (3, 2), padding=6, padding_mode="replicate", name="replicate wider than input"),
    ConvCase(1, 2, 3, (1, 1), (3, 3), padding=1, name="single sample"),
    ConvCase(1, 1, 1, (1,), (1,), name="one of everything"),
    ConvCase(0, 3, 4, (9,), (3,), name="empty batch 1-D"),
    ConvCase(0, 4, 4, (7, 8), (3, 3), stride=2, padding=1, groups=4, name="empty batch depthwise"),
    ConvCase(0, 3, 4, (4, 5, 6), (1, 1, 1), name="empty batch pointwise"),
    ConvCase(1, 2, 3, (9, 9), (2, 2), stride=(5, 3), name="stride larger than kernel"),
    ConvCase(1, 2, 3, (9, 11), (3, 3), stride=(4, 5), padding=2, dilation=(2, 1), name="stride larger than span"),
    ConvCase(1, 2, 3, (21, 4), (3, 2), padding=(9, 0), dilation=(9, 1), name="dilation leaves taps in padding"),
    ConvCase(1, 4, 6, (6, 7), (6, 7), name="kernel as large as input"),
    ConvCase(1, 3, 4, (5, 6), (7, 8), padding=(1, 1), name="kernel larger than input"),
    ConvCase(1, 3, 8, (30, 31), (7, 7), stride=2, padding=3, name="first layer"),
    ConvCase(3, 1, 32, (28, 28), (3, 3), padding=1, name="single input channel"),
    ConvCase(2, 130, 70, (5, 6), (3, 3), padding=1, name="many channels"),
    ConvCase(1, 300, 40, (3, 3), (1, 1), name="long reduction"),
    ConvCase(2, 40, 140, (9, 7), (1, 1), stride=2, name="pointwise strided"),
    ConvCase(2, 64, 64, (300,), (9,), padding=4, name="long 1-D"),
    ConvCase(1, 16, 16, (600,), (2,), padding="causal", dilation=64, name="causal dilated"),
    ConvCase(2, 48, 48, (70,), (31,), padding=15, groups=48, name="depthwise k31"),
    ConvCase(2, 32, 32, (14, 13), (7, 7), padding=3, groups=32, name="depthwise 7x7"),
    ConvCase(2, 40, 40, (14, 13), (3, 3), 2, 1, groups=5, name="groups of eight strided"),
    ConvCase(1, 20, 20, (9, 9), (3, 3), stride=2, padding=1, groups=20, name="depthwise strided"),
    ConvCase(1, 24, 24, (5, 7, 6), (3, 3, 3), padding=1, groups=24, name="depthwise 3-D"),
    ConvCase(1, 64, 128, (6, 6), (3, 3), padding=1, groups=32, name="32 groups"),
    ConvCase(1, 8, 16, (6, 7, 9), (3, 3, 3), padding=1, name="3-D"),
    ConvCase(1, 4, 4, (1, 8, 8), (1, 3, 3), padding=(0, 1, 1), name="3-D with one slice"),
]
_REMAINDERS = (1, 2, 3, 5, 7, 8, 12, 16, 17, 24, 33)
_NAMED_CONVS += [
    ConvCase(1, a, b, (4, 7), (3, 3), padding=1, dtype=dtype, name=f"{dtype} {a} to {b} channels")
    for (a, b), dtype in zip(
        zip(_REMAINDERS, _REMAINDERS[4:] + _REMAINDERS[:4], strict=True), ("float32", "float64") * 6, strict=False
    )
]
CONV_CASES = [*(_conv_case(**row) for row in pairwise(_CONV_AXES)), *_NAMED_CONVS]


# --------------------------------------------------------------------------------------------------------------- pools

_POOL_AXES = {
    "rank": (1, 2, 3),
    "kernel": (2, 3, (1, 2, 3), (3, 4, 2), 5),
    "stride": (None, 1, 2, (3, 1, 2), 4),
    # In units of "at most half the window": no window may lie wholly in the padding.
    "padding": ("none", "half", "low", "same"),
    "dilation": (1, 2, (1, 2, 1)),
    "ceil_mode": (False, True),
    "count_include_pad": (True, False),
    "extra": (0, 1, 2, 5),
    "channels": (1, 3, 8, 17, 40),
    "batch": (1, 3),
    "dtype": ("float32", "float64"),
    "order": ORDERS,
}


def _pool_case(
    rank, kernel, stride, padding, dilation, ceil_mode, count_include_pad, extra, channels, batch, dtype, order
):
    def last(value):
        return value[3 - rank :] if isinstance(value, tuple) else value

    kernels = last(kernel if isinstance(kernel, tuple) else (kernel,) * 3)
    dilations = last(dilation if isinstance(dilation, tuple) else (dilation,) * 3)
    size = tuple(d * (k - 1) + 2 + extra + axis for axis, (k, d) in enumerate(zip(kernels, dilations, strict=True)))
    sides = {
        "none": 0,
        "half": tuple(k // 2 for k in kernels),
        "low": tuple((k // 2, 0) for k in kernels),
        "same": "same",
    }[padding]
    return PoolCase(
        batch,
        channels,
        size,
        last(kernel),
        last(stride),
        sides,
        last(dilation),
        ceil_mode,
        count_include_pad,
        dtype,
        order,
    )


_NAMED_POOLS = [
    PoolCase(1, 8, (7, 7), 7, name="global by window"),
    PoolCase(2, 64, (16, 17), 3, stride=2, padding=1, name="stem pool"),
    PoolCase(1, 4, (9,), 3, stride=5, name="stride larger than window"),
    PoolCase(1, 4, (5, 5), 2, stride=3, ceil_mode=True, name="ceil window dropped or partial"),
    PoolCase(1, 3, (6, 6), 1, name="window of one"),
    PoolCase(0, 5, (6, 7), 2, name="empty batch"),
    PoolCase(1, 5, (20, 18), 17, stride=3, padding=8, name="more than 256 taps"),
    PoolCase(1, 2, (4, 4, 4), 2, dtype="float64", name="3-D halves"),
]
POOL_CASES = [*(_pool_case(**row) for row in pairwise(_POOL_AXES)), *_NAMED_POOLS]
