"""Blocks for two cores: layers of few channels have enough of them, and none leaves a core idle at the end."""

import pytest

from numbacnn.ops._split import MANY_BLOCKS, for_all_cores
from numbacnn.ops.conv import blocking, gemm, weight_gradient, weight_gradient_in_place, winograd
from numbacnn.ops.conv.weight_gradient_plan import LEAST_SHARED_POINTS, chunks_for_all_cores
from numbacnn.ops.geometry import conv_geometry
from tests.ops.conv.checks import PANEL


@pytest.mark.parametrize("beside", [1, 2, 3, 4, 7])
def test_blocks_are_finished_in_step(beside):
    for blocks in range(1, MANY_BLOCKS + 9):
        more = for_all_cores(blocks, beside)
        assert blocks <= more <= 4 * blocks / 3
        rounds = -(-more * beside // 2)
        assert rounds <= -(-blocks * beside // 2) * 4 / 3
        if blocks >= 3:
            assert more * beside % 2 == 0 or blocks * beside >= MANY_BLOCKS


@pytest.mark.parametrize("panels", [1, 2, 3, 5])
def test_few_panels_on_winograd(panels):
    geometry = conv_geometry((1, 4 * PANEL, 28, 28), (panels * PANEL, 4 * PANEL, 3, 3), 1, 1, 1, 1, "zeros")
    plan = winograd.plan(geometry, "forward", 4)
    assert len(plan.parts) == 1
    blocks = plan.tile_blocks * panels
    assert blocks >= winograd.FEW_BLOCKS
    assert blocks % 2 == 0


@pytest.mark.parametrize("panels", [3, 5, 7])
def test_an_odd_number_of_panels_packed_by_blocks(panels):
    geometry = conv_geometry((1, 24, 48, 48), (panels * PANEL, 24, 3, 3), 2, 1, 1, 1, "zeros")
    (part,) = gemm.plan_forward(geometry, 4).parts
    assert part.launches[0].record.packs
    assert part.launches[0].blocks == 2 * panels


@pytest.mark.parametrize(("channels", "panels"), [(128, 1), (48, 2), (24, 3)])
def test_few_positions_of_a_weight_gradient(channels, panels):
    geometry = conv_geometry((1, channels, 14, 14), (panels * PANEL, channels, 3, 3), 1, 1, 1, 1, "zeros")
    record = weight_gradient_in_place.plan(geometry, 4).record
    blocks = record.run_blocks * record.panel_blocks * record.tap_blocks * record.chunks
    assert blocks >= weight_gradient_in_place.FEW_BLOCKS
    assert (record.run_blocks - 1) * record.run_block < channels <= record.run_blocks * record.run_block


@pytest.mark.parametrize("channels", [(16, 32), (16, 16), (18, 18), (40, 8)])
@pytest.mark.parametrize("taps", [3, 5])
def test_a_weight_gradient_of_few_channels_is_never_a_single_block(channels, taps):
    inputs, outputs = channels
    geometry = conv_geometry((1, inputs, 28, 28), (outputs, inputs, taps, taps), padding=taps // 2)
    way = weight_gradient.way_of(geometry, 4)
    assert (way or weight_gradient).plan(geometry, 4).blocks > 1


def test_chunks_are_worth_their_sums():
    def chunks(points, channels, before=1):
        geometry = conv_geometry((1, channels, points), (channels, channels, 1))
        return chunks_for_all_cores(geometry, before, 1, 4)

    assert chunks(2 * LEAST_SHARED_POINTS - 1, 16) == 1
    assert chunks(2 * LEAST_SHARED_POINTS, 16) == 2
    assert chunks(4 * LEAST_SHARED_POINTS, 16, before=3) == 4
    assert chunks(4 * LEAST_SHARED_POINTS - 1, 16, before=3) == 3
    assert chunks(4096, 1024) == 2
    assert chunks(4096, 2048) == 1  # two copies of the gradient would take more than there may be
    assert blocking.PACKED_BYTES < 2 * 4 * 2048**2
