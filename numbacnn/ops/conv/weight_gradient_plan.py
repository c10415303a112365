"""What every way of summing a weight gradient over the positions is ready to be launched with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
