"""Winograd convolution in parts, portions and blocks: every way of cutting, what fits into scratch, the same bits."""

import itertools

import numpy as np
import pytest

from numbacnn.kernels import conv_winograd_weight, winograd_domain
from numbacnn.kernels._serial import MOST_SCRATCH_SLOTS
from numbacnn.kernels.tile import MAX_ROWS
from numbacnn.ops.conv import winograd, winograd_tiles, winograd_weight
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks
from tests.ops.conv.winograd_checks import TOLERANCE, results

MOST_TAPS = 25  # of a tile

# Together they meet every way of cutting; `test_the_cases_meet_every_cut` sees to that.
CUT = [
    ConvCase(16, 32, 40, (24, 23), (3, 3), padding=1, name="own input"),
    ConvCase(2, 32, 24, (17, 20, 18), (3, 3, 3), padding=1, name="own input, planes"),
    ConvCase(1, 80, 50, (13, 14), (3, 3), padding=1, name="own weights"),
    ConvCase(1, 130, 140, (40, 41), (3, 3), padding=1, name="shared"),
    ConvCase(2, 80, 90, (6, 20, 18), (3, 3, 3), padding=1, dtype="float64", name="shared planes"),
    ConvCase(1, 256, 96, (60, 56), (3, 3), padding=1, name="in portions"),
    ConvCase(1, 96, 200, (5, 12, 13), (3, 3, 3), padding=1, dtype="float64", name="panels in parts"),
    ConvCase(1, 240, 360, (5, 12, 13), (3, 3, 3), padding=1, groups=3, name="groups in parts"),
    ConvCase(1, 140, 560, (70, 38), (3, 3), padding=1, dtype="float64", name="panels of gradients in parts"),
    ConvCase(1, 600, 900, (50, 18), (3, 3), padding=1, groups=3, name="groups of gradients in parts"),
    ConvCase(1, 130, 70, (9, 24, 13), (3, 3, 3), padding=(0, 2, 3), dilation=(4, 2, 3), name="dilated"),
    ConvCase(1, 70, 120, (33, 31), (5, 5), padding=2, name="five taps"),
    ConvCase(1, 1030, 40, (9, 13), (3, 3), padding=1, name="source channels in parts"),
    ConvCase(1, 900, 70, (2, 8, 10), (3, 3, 3), padding=(1, 3, 4), dilation=(1, 3, 4), name="planes of parts"),
    ConvCase(1, 33, 70, (2, 7, 7), (3, 3, 3), padding=1, name="taps of all planes put together"),
    ConvCase(1, 120, 140, (6, 7, 7), (7, 5, 5), padding=2, name="taps put one by one"),
    ConvCase(1, 200, 150, (17, 15), (5, 5), padding=2, name="five taps, own weights"),
    ConvCase(1, 1043, 200, (33, 31), (3, 3), padding=1, name="gradients in parts both ways"),
]


STRETCHED = [
    ConvCase(2, 200, 40, (1000,), (7,), padding=3, name="stretches, own input"),
    ConvCase(1, 200, 150, (90,), (9,), padding=3, dtype="float64", name="stretches, own weights"),
    ConvCase(1, 70, 50, (2000,), (2,), padding=64, dilation=64, name="two taps"),
    ConvCase(2, 24, 70, (90, 80), (3, 5), stride=2, padding=1, name="both axes, own input"),
    ConvCase(1, 130, 90, (15, 18), (5, 6), stride=2, padding=(2, 3), name="both axes, own weights"),
    ConvCase(
        1, 60, 72, (19, 21), (7, 5), stride=(1, 3), padding=2, groups=2, dtype="float64", name="both axes, groups"
    ),
    ConvCase(1, 110, 64, (700,), (17,), stride=4, padding=8, name="images of outputs"),
    ConvCase(3, 130, 24, (18, 15), (7, 6), stride=(2, 3), padding=1, name="both axes, few channels at a time"),
]


# Channels that fill no vectors, in rows, groups and parts.
RAGGED = [
    ConvCase(3, 164, 232, (15,), (4,), stride=3, padding=1, groups=4),
    ConvCase(1, 106, 78, (55,), (5,), stride=3, padding=1, groups=2),
    ConvCase(2, 44, 152, (54,), (5,), padding=2, groups=4, dtype="float64"),
    ConvCase(1, 166, 170, (7, 9), (3, 3), padding=1, groups=2),
    *(ConvCase(1, channels, 40, (9, 13), (3, 3), padding=1) for channels in (771, 1003, 1025, 1441)),
]


@pytest.mark.parametrize("case", [*CUT, *STRETCHED], ids=str)
def test_cutting_changes_no_bit(case, tune):
    def bits():
        return [result.tobytes() for result in results(case)]

    usual = bits()
    for got, want in zip(results(case), results(case, "indirect"), strict=True):
        assert np.abs(got - want).max() <= TOLERANCE[case.dtype] * np.abs(want).max()
    tune(winograd, OWN_TILES=(), FEWER_OWN_TILES=())
    assert bits() == usual
    tune(winograd, OWN_WEIGHT_POINTS=400)
    tune(winograd_weight, MOST_AT_ONCE_BYTES=0)
    assert bits() == usual
    tune(winograd, PORTION_BYTES=1, TILES=7, STEP_PANELS=1, MORE_STEP_PANELS=1, BLOCKS=3)
    tune(winograd_tiles, BLOCKS=5)
    tune(winograd_weight, BLOCKS=7, TILES=5, LARGEST_PORTION_BYTES=1 << 20)
    assert bits() == usual


def test_the_cases_meet_every_cut():
    plans = [winograd.plan(checks.geometry_of(case), "forward", np.dtype(case.dtype).itemsize) for case in CUT]
    kinds = [(plan.parts[0].record.own_values, plan.parts[0].record.own_run > 0) for plan in plans]
    assert kinds[:5] == [(1, False), (1, False), (0, True), (0, True), (0, False)]
    points = [(plan.parts[0].record.points_h, plan.parts[0].record.points_w) for plan in plans]
    assert (points[0], points[2], points[11], points[16]) == ((8, 8), (6, 6), (8, 8), (8, 8))
    assert (kinds[11], kinds[16]) == ((1, False), (0, True))
    stretched = [winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record for case in STRETCHED]
    assert [(g.own_values, g.own_run > 0) for g in stretched[:5]] == [
        (1, False),
        (0, True),
        (1, False),
        (1, False),
        (0, True),
    ]
    assert stretched[0].run_step < stretched[0].run
    assert stretched[4].run_step < stretched[4].run
    gradient = winograd.plan(checks.geometry_of(STRETCHED[6]), "backward_data", 4).parts[0].record
    assert gradient.panels == 4 * gradient.lane_panels
    assert plans[5].portion < plans[5].tile_blocks
    assert len(plans[6].parts) > 1
    assert len(plans[7].parts) > 1
    assert plans[7].parts[0].record.groups < 3
    assert [(part.record.run, part.record.adds, part.complete) for part in plans[12].parts] == [
        (352, 0, False),
        (352, 1, False),
        (326, 1, True),
    ]
    assert [part.record.own_run > 0 for part in plans[12].parts] == [True] * 3
    assert {(part.record.own_run, part.record.adds) for part in plans[13].parts} == {(0, 0), (0, 1)}
    plans = [winograd_weight.plan(checks.geometry_of(case), np.dtype(case.dtype).itemsize) for case in CUT]
    at_once = [plan.parts[0].sums.point_blocks == 0 for plan in plans]
    portions = [len(plan.parts[0].portions) for plan in plans]
    assert at_once[:12] == [False, False, True, *[False] * 7, True, False]
    assert portions[8] > 1
    assert len(plans[8].parts) > 1
    assert len(plans[9].parts) > 1
    many = plans[17].parts
    starts = [(part.part.source_start, part.part.out_start) for part in many]
    assert len(starts) > len({source for source, _ in starts}) > 1
    assert len({out for _, out in starts}) > 1


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_blocks_fit_the_scratch(vector_bytes, itemsize, monkeypatch):
    """On processors with other vectors as well."""
    for module in (winograd, winograd_tiles):
        monkeypatch.setattr(module, "tile_lanes", lambda itemsize: 2 * vector_bytes // itemsize)
    more = [
        ConvCase(1, 256, 256, (4000,), (3,)),
        ConvCase(8, 512, 512, (7, 7), (3, 3), padding=1),
        ConvCase(1, 512, 512, (4000,), (2,)),
        ConvCase(1, 512, 512, (4000,), (60,)),
        ConvCase(1, 512, 512, (90,), (9,), stride=2),
        ConvCase(1, 512, 512, (90,), (64,), stride=16),
        *(
            ConvCase(1, n, n, (60, 60), (k, k), stride=s)
            for n in (32, 300)
            for k, s in ((4, 2), (7, 2), (14, 3), (13, 1))
        ),
        *(ConvCase(1, n, 64, (planes, 56, 56), (1, 3, 3), padding=(0, 1, 1)) for n in (112, 144) for planes in (6, 8)),
    ]
    both = itertools.product([*CUT, *STRETCHED, *more], ["forward", "backward_data"])
    for case, direction in both:
        g = winograd.plan.__wrapped__(checks.geometry_of(case), direction, itemsize).parts[0].record
        own = g.products_point + g.own_values * g.values_point + (g.weight_point * g.taps_d if g.own_run else 0)
        points = g.points_h * g.points_w
        most = g.own_run or points > winograd.MANY_POINTS
        slots = winograd_domain.MOST_PRODUCT_SLOTS if most else winograd_domain.PRODUCT_SLOTS
        assert points * own * itemsize <= slots * 8
        assert g.own_run <= g.run + 64 // itemsize


@pytest.mark.parametrize("case", [*CUT, *STRETCHED, *RAGGED], ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_slices_end_with_whole_vectors(case, direction, vector_bytes, monkeypatch):
    """What is left of a row of transformed input at the end of a slice; a shorter piece would hit another slice's."""
    for module in (winograd, winograd_tiles):
        monkeypatch.setattr(module, "tile_lanes", lambda itemsize: 2 * vector_bytes // itemsize)
    itemsize = np.dtype(case.dtype).itemsize
    for part in winograd.plan.__wrapped__(checks.geometry_of(case), direction, itemsize).parts:
        g = part.record
        if not g.own_values:
            channels = g.groups * g.run
            lines = channels // g.line
            ends = {*(i * lines // g.slices * g.line for i in range(g.slices)), channels}
            ends |= set(range(0, channels, g.values_run))
            assert min(b - a for a, b in itertools.pairwise(sorted(ends))) >= g.vector


def test_tables_fit_the_scratch():
    sums = conv_winograd_weight.AT_ONCE_SUMS * conv_winograd_weight.AT_ONCE_PANELS * 2 * 64
    used = conv_winograd_weight.AT_ONCE_TILES + sums // 8
    assert used <= winograd_domain.PRODUCT_SLOTS
    tiles = winograd_weight.FEW_TILES + winograd_weight.MORE_FEW_TILES * winograd_domain.MAX_TAPS_D
    assert tiles <= conv_winograd_weight.AT_ONCE_TILES
    assert used + MOST_TAPS * winograd_domain.PASS_VECTORS * 64 // 8 <= winograd_domain.MOST_PRODUCT_SLOTS
    assert winograd_domain.FIRST_PRODUCT + winograd_domain.PRODUCT_SLOTS <= MOST_SCRATCH_SLOTS
    for taps in (winograd_domain.FEW_TAPS, MOST_TAPS, winograd_domain.MOST_TAPS):
        gathered = winograd_domain.GATHERED * winograd_domain.FEW_TAPS
        if taps > winograd_domain.FEW_TAPS:
            gathered = max(gathered, winograd_domain.MOST_GATHERED, taps)
        between = 5 * winograd_domain.MAX_AXIS_POINTS  # rows between the passes over five taps each way
        vectors = gathered * 2 + (taps > winograd_domain.FEW_TAPS) * between
        assert vectors * 64 // 8 <= winograd_domain.PASS_SLOTS
    more = [
        ConvCase(1, 16, 16, (40, 9, 9), (16, 3, 3)),
        ConvCase(1, 16, 16, (900,), (45,)),
        ConvCase(1, 16, 16, (60, 60), (14, 14), stride=4),
    ]
    for case in [*CUT, *STRETCHED, *more]:
        g = winograd.plan(checks.geometry_of(case), "forward", 4).parts[0].record
        tables = -(-g.block_columns * g.block_depth // MAX_ROWS)
        assert tables * (1 + MAX_ROWS + g.taps_d * (MAX_ROWS + 1)) <= winograd_domain.TABLE_SLOTS


@pytest.mark.parametrize("case", [*CUT, *STRETCHED, ConvCase(1, 40, 40, (60, 60), (14, 14), stride=4)], ids=str)
@pytest.mark.parametrize("itemsize", [4, 8])
def test_taps_that_are_put_together_fit_the_scratch(case, itemsize):
    for part in winograd_weight.plan(checks.geometry_of(case), itemsize).parts:
        g, s = part.part.record, part.sums
        at_once = s.point_blocks == 0
        run = -(-g.run // s.run_blocks)
        sums = g.points_h * g.points_w * run * -(-g.panels // s.panel_blocks) * g.width if at_once else 0
        together = min(s.taps_run, run) if s.taps_run >= run or not at_once else 1
        taps = g.taps_h * g.taps_w * (g.taps_d * together if together > 1 else 1)
        if g.stretched:
            assert s.taps_run >= run or not at_once  # those of a stretch lie anywhere among all
            taps = g.all_h * g.all_w * together
        used = (sums + taps * winograd_domain.PASS_VECTORS * g.width // 2) * itemsize // 8
        room = winograd_domain.MOST_PRODUCT_SLOTS - (conv_winograd_weight.AT_ONCE_TILES if at_once else 0)
        assert used <= room


def test_weight_gradients_put_taps_together_or_one_by_one():
    ways = set()
    for case in CUT:
        for part in winograd_weight.plan(checks.geometry_of(case), 4).parts:
            s, at_once = part.sums, part.sums.point_blocks == 0
            ways.add((at_once, s.taps_run >= -(-part.part.record.run // s.run_blocks) if at_once else s.taps_run > 1))
    assert ways >= {(True, True), (True, False), (False, True)}


@pytest.mark.parametrize("case", [*CUT[:4], *STRETCHED[3:]], ids=str)
def test_same_bits_on_any_threads(case):
    assert_same_bits(lambda: tuple(results(case)))
