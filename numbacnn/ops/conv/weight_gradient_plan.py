"""What every way of summing a weight gradient over the positions is ready to be launched with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .._split import for_all_cores
from . import blocking
from .lattice import Memory, forward_phase

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Kernel
    from ...kernels.conv_rows import RowsConv
    from ...kernels.conv_weight import WeightConv
    from ...kernels.conv_weight_chains import ChainsConv
    from ...kernels.conv_weight_few import FewConv
    from ...kernels.conv_weight_groups import GroupsConv
    from ...kernels.conv_weight_in_place import InPlaceConv
    from ...kernels.sources import Sources
    from ..geometry import ConvGeometry

# Positions of a chunk that is one more than there would be if cores need not finish together.
LEAST_SHARED_POINTS = 192


class SumsPlan(NamedTuple):
    """A kernel and those of its arguments that do not depend on the data; its estimated cost, in ns on one core.

    What taps read is told by `Sources`, or by their offsets in a patch.
    ``partial[chunk]`` receives what the positions of each of ``record.chunks`` chunks contribute.
    """

    kernel: Kernel
    record: WeightConv | ChainsConv | FewConv | GroupsConv | InPlaceConv | RowsConv
    sources: Sources | np.ndarray
    blocks: int
    cost: float
    zeros: int = 0  # that are read, if not those of a position


def sums_plan(
    kernel: Kernel, record: WeightConv | FewConv | GroupsConv | InPlaceConv, g: ConvGeometry, blocks: int, cost: float
) -> SumsPlan:
    """The plan of a kernel that lists the sources of `g` as a forward convolution does."""
    return SumsPlan(kernel, record, forward_phase(g).sources(Memory(g.input, g.in_channels)), blocks, cost)


def chunks_for_all_cores(g: ConvGeometry, chunks: int, beside: int, itemsize: int) -> int:
    """`chunks`, or a few more where cores would else have uneven shares of them; `beside` blocks have one each.

    (A single block that became two: 1.4 to 1.6 times as fast on two cores, 1.05 times the time on one.)
    """
    more = for_all_cores(chunks, beside, one_more=True)
    sums_bytes = g.out_channels * g.in_per_group * g.taps * itemsize
    worth = g.batch * math.prod(g.output) >= more * LEAST_SHARED_POINTS
    return more if worth and more * sums_bytes <= blocking.PACKED_BYTES else chunks
