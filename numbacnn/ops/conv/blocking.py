"""Tuning numbers of the convolution kernels, each with its reason.

Measured on a Zen 3 server core (32 KiB L1, 512 KiB L2); none is sharp. What decides the order of summation
(`RUN_BYTES`, `TAP_BLOCK`) depends on channels and taps only, never on batch, image size or threads, so results do not
either.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...kernels._serial import SCRATCH_SLOTS
from ...kernels._target import LINE_BYTES, target
from ...kernels.conv_gemm import FIRST_TABLE, MAX_TAPS, MAX_TILES, TABLE_SLOTS
from ...kernels.tile import MAX_ROWS
from .._split import split_evenly

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Vectors of 64 bytes, for which algorithms' costs were measured apart.
WIDE_VECTORS = target().wide

# The cache of which a thread's scratch is half: 512 KiB, or 1 MiB where vectors are of 64 bytes.
L2_BYTES = 2 * 8 * SCRATCH_SLOTS

# A panel's weights for one block of the reduction stream from L2 once per row tile; a larger block amortises loading
# and storing the accumulators, a smaller one leaves L2 to the source rows. See `reduction_blocks`. 64 KiB, or 256 KiB
# where vectors are of 64 bytes: a panel is twice as wide, and L2 has room for twice as many steps (1.02 to 1.15 times
# as fast where there are more than 512).
RUN_BYTES = 64 * 1024 * (L2_BYTES // (512 * 1024)) ** 2

# Taps whose pointers are tabulated at a time: tables of a block of points for so many fit conv_gemm's scratch.
TAP_BLOCK = MAX_TAPS
# Points whose tables a block can hold, and the slots that there are for them.
MAX_POINTS, TABLES = MAX_TILES * MAX_ROWS, TABLE_SLOTS - FIRST_TABLE

# Lattice points per block: 16 tiles reuse each weight panel. With tiles of 6 rows and the 3x3 neighbourhood of 64
# channels the source rows take about 100 KiB of L2.
POINT_BLOCK = 16 * MAX_ROWS

# Points that are worth a block of their own where there is but one panel.
FEW_POINTS = 6 * MAX_ROWS

# The least gain that tiles which end where lines do must promise.
WORTH_ALIGNING = 0.97
# Where more than this share of the taps reads the image, what tiles meet of the rest does not tell.
MOSTLY_INSIDE = 0.75
# Taps times points of a line of which planning looks at each: some milliseconds.
MANY_READS = 4096

# Places for lines in L1, and the share of the lines that a depthwise tile reads twice that must have one: then it takes
# 0.86 times as long as one that reads them once (0.6 to 1.2), with fewer places 1.07 times (0.7 to 1.5).
L1_SETS, L1_WAYS = 64, 8
KEPT_SHARE = 0.75

# Enough blocks that two to eight cores finish together; more would only split panels further.
MIN_BLOCKS = 16
# Blocks that pack their own weights are fewer: each lists all points and reads all source rows, once for several panels
# (1.02 to 1.1 times as fast).
PACKING_BLOCKS = 8

# ... and the source is no larger than this, about what is near a core (2.4 MB of it: 1.4 times the time), or than the
# weights, whose packing would take longer than blocks lose by reading more (3x3, 384 channels, 27x27: 1.25 times).
REREAD_BYTES = 1 << 20

# Points that take as long to multiply by a panel as the panel takes to pack.
PACKING_POINTS = 16

# Packed weights of all phases of a data gradient that leave room in L2 for a block's source (3x3x3, stride 2, 64 to 32
# channels and 48x48x48 positions: 1.05 to 1.08 times as fast).
IN_STEP_BYTES = L2_BYTES // 2

# Packed weights per launch: with everything else a call stays below 16 MB of extra memory.
PACKED_BYTES = 8 << 20

# With fewer source channels at a time, panels would be read and written too often.
FEW_CHANNELS = 64

# One core, conservatively: decides only whether a launch is worth a second core.
FLOPS_PER_NS = 60.0

# Weights of panels that stay in L2 whatever passes. Each tile meets all of them in turn: its rows stay in L1 while
# these weights pass, one stream that the hardware foresees, and whole stretches of a result are written at once. (All
# rows of a block times one panel after the other took up to 1.2 times as long where sums are short. It took up to a
# tenth less where a panel's weights are more than `PANEL_BYTES`, which L1 does not hold.)
PANEL_BYTES = L2_BYTES // 16
PANELS_BYTES = 192 * 1024

# Up to so many destination channels per group are computed as dot products: a vector of eight lanes would idle.
DOT_LANES = 4


# What the planes under a depthwise kernel take of L2.
BAND_BYTES = L2_BYTES * 5 // 8


# What a choice is judged by: see `judged`.
BATCHES = (1, 8)


def judged(direction: str, g: ConvGeometry) -> list[ConvGeometry]:
    """The problems by which a choice is judged, all together.

    A batch must give the bits of its samples, so whatever the batch, forward and data gradient are judged by a single
    sample and by a batch of some, to which packed weights are of more use: what is lost on the one must be gained on
    the other. The weight gradient sums over the batch anyway.
    """
    batches = (max(1, g.batch),) if direction == "backward_weight" else BATCHES
    return [g._replace(batch=batch) for batch in batches]


# What a panel of one vector takes of the time of one of two: what it loads is used for half as many products.
HALF_PANEL = 0.75 if WIDE_VECTORS else 0.85


def panels(lanes: int, width: int) -> float:
    """Panels of so many lanes, in terms of the time that whole ones take.

    Examples
    --------
    >>> panels(40, 16) - HALF_PANEL, panels(48, 16), panels(57, 16)
    (2.0, 3.0, 4.0)
    """
    whole, left = divmod(lanes, width)
    return whole + (0.0 if left == 0 else HALF_PANEL if 2 * left <= width else 1.0)


def reduction_blocks(taps: int, line: int, run: int, steps: int, unit: int) -> tuple[int, int]:
    """Taps and source channels of a block of the reduction: `steps` products, in whole rows and lines if they fit.

    Parts of rows are whole cache lines, of `unit` channels.

    Long rows are read as memory is laid out, and a block meets few of them: were it to cover few channels of all taps,
    rows a power of two apart would compete for the same lines of the caches.
    """
    if run >= steps or taps <= 1:
        return 1, split_evenly(run, steps, unit)
    most = min(steps // max(run, 1), TAP_BLOCK)
    if line <= most:
        return split_evenly(taps // line, most // line) * line, run
    return split_evenly(taps, most), run


def run_portion(run: int, bytes_of_channel: int) -> int:
    """Source channels whose weights are packed at a time, if they do not all fit: evenly cut, and not too few.

    Cut like that, rather than by panels, each source row is met by all panels while it is in the caches.
    """
    portion = split_evenly(run, PACKED_BYTES // max(1, bytes_of_channel))
    return portion if portion >= FEW_CHANNELS else run


def row_band(planes: int, kernel_rows: int, row_bytes: int, out: tuple[int, int, int]) -> int:
    """Rows to compute in all planes before the next ones: as many as L2 holds in the planes under a kernel.

    All rows where there is a single plane.
    """
    if out[0] == 1 or planes <= 1:
        return out[1]
    rows = BAND_BYTES // max(1, planes * row_bytes) - kernel_rows + 1
    bands = -(-out[1] // max(2, rows))
    return -(-out[1] // bands)


def packs_itself(points: int, taps: int) -> bool:
    """Whether each block packs its own weights, for all points: so few that tables of all of them fit the scratch.

    Otherwise a launch of its own packs them for everybody, and every core waits for lines that others have read. Up to
    a few hundred points that took longer than each block's source rows, which all blocks now read: 1 to 1.3 times.
    """
    return points <= MAX_POINTS and taps <= TAP_BLOCK and points * (taps * 7 // 6 + 3) <= TABLES


def l1_sets(step_bytes: int) -> int:
    """How many sets of L1 cache lines lie in that are multiples of `step_bytes` apart.

    The lower bits of its address tell a line's set; lines a power of two apart share a few sets.
    """
    return min(L1_SETS, L1_SETS * LINE_BYTES // math.gcd(step_bytes, L1_SETS * LINE_BYTES))


def l1_keeps(lines: int, step_bytes: int) -> bool:
    """Whether L1 has places for most of some cache lines that are multiples of `step_bytes` apart: see `KEPT_SHARE`."""
    return KEPT_SHARE * lines <= l1_sets(step_bytes) * L1_WAYS
