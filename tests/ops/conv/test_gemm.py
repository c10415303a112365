"""Forward convolution and data gradient on the indirect-GEMM kernel: every way of cutting the work."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels import conv_gemm
from numbacnn.kernels.tile import MAX_ROWS, MIN_GEMM_ROWS
from numbacnn.ops import conv_forward
from numbacnn.ops.conv import blocking, gemm, gemm_launch
from numbacnn.ops.geometry import conv_geometry
from tests.cases import ConvCase, conv_arrays
from tests.ops.conv import checks
from tests.ops.conv.checks import PANEL

# Channels of which a block of the reduction holds not quite a row: the wider a panel, the fewer.
LONG_ROW = blocking.RUN_BYTES // (4 * PANEL) + 76

BLOCKED = [
    ConvCase(1, 3, 20, (260,), (200,), padding=40, name="200 taps"),
    ConvCase(1, 20, 9, (260,), (200,), padding=40, name="200 taps of many channels"),
    ConvCase(2, 10, 9, (15, 16), (11, 11), padding=5, name="121 taps"),
    ConvCase(1, 10, 9, (25, 17), (11, 11), stride=4, padding=2, name="121 taps strided"),
    ConvCase(1, 300, 70, (8, 9), (3, 3), padding=1, name="few points pack their own weights"),
    ConvCase(9, 300, 70, (12, 13), (3, 3), padding=1, name="many points share packed weights"),
    ConvCase(3, 300, 7, (9, 11), (4, 4), padding=1, name="blocks of points of a single panel"),
    ConvCase(3, 300, 70, (12, 13), (3, 3), 2, 1, name="phases share packed weights"),
    ConvCase(1, 512, 512, (7, 7), (3, 3), padding=1, dtype="float64", name="deep layer"),
    ConvCase(1, 600, 40, (33, 20), (1, 1), name="long pointwise"),
    ConvCase(2, 36, 45, (40, 30), (3, 3), padding=1, groups=9, name="many points of groups"),
    ConvCase(1, 15, 35, (11, 10), (3, 3), padding=1, groups=5, name="odd groups"),
    ConvCase(1, 21, 33, (18, 19), (3, 2), (5, 4), 1, groups=3, name="odd groups and stride beyond the kernel"),
    ConvCase(2, 7, 5, (40,), (2,), stride=7, name="stride far beyond the kernel"),
    ConvCase(1, 1, 1, (3,), (2,), stride=3, padding_mode="reflect", name="phases without taps, padding mirrored"),
    ConvCase(1, 1, 1, (2,), (3,), stride=3, padding=((0, 1),), padding_mode="reflect", name="phases that add, alone"),
    ConvCase(2, 3, 20, (36, 50), (8, 8), stride=8, name="columns side by side"),
    ConvCase(1, 48, 768, (31,), (5,), 3, 2, name="columns side by side but for one phase"),
    ConvCase(2, 300, 500, (1, 1), (2, 2), 2, 1, name="a single phase of one of the taps"),
    ConvCase(1, 5, 18, (30, 41), (8, 8), stride=4, padding=3, dtype="float64", name="overlapping columns side by side"),
    ConvCase(2, 3, 9, (7, 9, 18), (2, 4, 8), (2, 4, 4), name="columns side by side in 3-D"),
    ConvCase(1, 70, 300, (16, 40), (16, 16), stride=16, name="weights of columns side by side in parts"),
    ConvCase(2, 141, 21, (4, 7), (2, 3), stride=(2, 4), padding=1, name="many channels of columns side by side"),
    ConvCase(1, 40, 34, (9, 6, 7), (3, 3, 3), padding=1, name="blocked 3-D"),
    ConvCase(1, 37, 3, (260,), (200,), padding=40, name="200 taps to few channels"),
    ConvCase(1, 300, 1, (8, 9), (9, 9), padding=4, dtype="float64", name="dot products in blocks of taps"),
    ConvCase(1, 40, 34, (9, 6, 7), (3, 3, 3), 2, 2, 2, padding_mode="circular", name="blocked circular 3-D"),
    ConvCase(1, LONG_ROW, 20, (81, 17), (1, 2), name="rows longer than a block"),
    ConvCase(1, LONG_ROW // 22, 20, (18, 30), (6, 5), padding=2, name="lines of taps in blocks"),
    ConvCase(2, 20, 24, (21, 40), (3, 3), padding=12, dilation=12, name="taps that read padding alone"),
    ConvCase(2, 30, 18, (3, 4, 5), (2, 3, 3), padding=9, name="points that read padding alone"),
    ConvCase(1, 40, 3, (4, 5), (3, 3), padding=7, dtype="float64", name="dot products with padding alone"),
]


@pytest.mark.parametrize("algorithm", ["auto", "indirect"])
@pytest.mark.parametrize("case", BLOCKED, ids=str)
def test_blocking(case, algorithm):
    checks.check(case, algorithm)


def test_the_cases_meet_weights_of_joined_columns_in_parts():
    (case,) = [case for case in BLOCKED if "side by side in parts" in case.name]
    planned = gemm.plan_backward_data(checks.geometry_of(case), 4)
    joined = [part.joined for part in planned.parts if part.joined]
    assert len(joined) > 1
    assert joined[1].first_lane > 0
    assert [part.columns for part in planned.parts] == [8] * len(joined)


def test_the_cases_meet_both_ways_of_packing():
    few, many = (forward_record(case) for case in BLOCKED[4:6])
    assert few.packs
    assert few.run_block < few.run == 300
    assert not many.packs
    assert (many.tap_block, many.run_block) == (few.tap_block, few.run_block)


@pytest.mark.parametrize(("outputs", "packs"), [(384, True), (48, False)])
def test_blocks_pack_weights_that_are_larger_than_the_source(outputs, packs):
    g = conv_geometry((1, 300, 35, 35), (outputs, 300, 3, 3), 2)
    assert g.in_channels * 35 * 35 * 4 > blocking.REREAD_BYTES
    assert gemm.plan_forward(g, 4).parts[0].launches[0].record.packs == packs


def forward_record(case):
    return gemm.plan_forward(checks.geometry_of(case), 4).parts[0].launches[0].record


def test_the_cases_meet_tiles_that_end_with_lines():
    (case,) = [case for case in BLOCKED if case.name == "taps that read padding alone"]
    assert forward_record(case).together == 40
    assert forward_record(case._replace(padding=1, dilation=1)).together == 1


def test_the_cases_meet_blocks_of_rows_and_of_lines():
    rows, lines = (
        {case.name: forward_record(case) for case in BLOCKED}[name]
        for name in ("rows longer than a block", "lines of taps in blocks")
    )
    assert not rows.packs
    assert (rows.tap_block, -(-LONG_ROW // rows.run_block)) == (1, 2)
    assert rows.run_block * 4 % blocking.LINE_BYTES == 0
    assert lines.merges
    assert 5 < lines.tap_block < 30


@pytest.mark.parametrize(
    "numbers",
    [
        {"PACKED_BYTES": 1, "MAX_POINTS": 100},
        {"PACKED_BYTES": 40_000, "MAX_POINTS": 100},
        {"PACKED_BYTES": 40_000, "FEW_CHANNELS": 1, "MAX_POINTS": 100},
        {"WORTH_ALIGNING": 100.0},
        {"WORTH_ALIGNING": 100.0, "POINT_BLOCK": 45, "TAP_BLOCK": 4},
        {"TAP_BLOCK": 1, "RUN_BYTES": 1},
        {"TAP_BLOCK": 4, "RUN_BYTES": 4096, "POINT_BLOCK": 7},
        {"POINT_BLOCK": 1, "MIN_BLOCKS": 1},
        {"MIN_BLOCKS": 200},
        {"PANELS_BYTES": 1},
        {"PANEL_BYTES": 1 << 20, "PANELS_BYTES": 1 << 20, "MIN_BLOCKS": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 40, 70, (17, 18), (3, 3), padding=1, name="one group"),
        ConvCase(1, 40, 70, (34, 18), (3, 3), 2, 1, name="phases"),
        ConvCase(2, 30, 60, (13, 14), (3, 2), padding=1, groups=5, dtype="float64", name="groups"),
        ConvCase(2, 34, 140, (12, 12), (2, 2), groups=2, name="two groups of several panels"),
        ConvCase(1, 18, 18, (20, 20), (3, 3), groups=18, name="depthwise"),
        ConvCase(1, 3, 40, (20, 20), (3, 3), name="few input channels"),
    ],
    ids=str,
)
def test_any_block_sizes_give_the_same_values(case, numbers, tune):
    tune(blocking, **numbers)
    checks.check(case)
    checks.check(case, "indirect")


def test_what_follows_comes_after_the_last_source_channels(tune):
    tune(blocking, PACKED_BYTES=40_000, FEW_CHANNELS=1, MAX_POINTS=100)
    case = ConvCase(1, 70, 40, (17, 18), (3, 3), padding=1)
    parts = gemm.plan_forward(checks.geometry_of(case), 4).parts
    assert [part.complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2
    x, weight, bias = conv_arrays(case)
    options = {**case.options, "algorithm": "indirect"}
    y = conv_forward(x, weight, bias, **options)
    assert (y < 0).any()
    np.testing.assert_array_equal(conv_forward(x, weight, bias, activation="relu", **options), np.maximum(y, 0))


@pytest.mark.parametrize(
    ("case", "in_step"),
    [
        (ConvCase(1, 8, 16, (80, 80), (3, 3), stride=2, padding=1), True),
        (ConvCase(1, 8, 16, (81, 80), (3, 3), stride=2, padding=1), False),  # phases of other numbers of blocks
        (ConvCase(1, 8, 16, (20, 20), (3, 3), stride=2, padding=1), False),  # too few blocks
        (ConvCase(1, 256, 256, (80, 80), (3, 3), stride=2, padding=1), False),  # too many weights
    ],
)
def test_phases_go_in_step_where_each_block_finds_its_source_in_the_cache(case, in_step, tune):
    tune(blocking, POINT_BLOCK=10)
    launches = gemm_launch.prepare("backward_data", checks.geometry_of(case), np.dtype("f4"))
    assert [part.in_step for part in launches.parts] == [in_step]
    if case.in_channels < 256:
        checks.check(case, "indirect")


def test_scratch_memory_holds_every_table():
    """What `blocking` allows must fit the part of the scratch where the kernel puts its pointers."""
    assert blocking.TAP_BLOCK <= conv_gemm.MAX_TAPS
    for taps in range(1, blocking.TAP_BLOCK + 1):
        most = max([blocking.POINT_BLOCK] + [p for p in range(1, 1000) if blocking.packs_itself(p, taps)])
        for points in range(1, most + 1):
            tiles = -(-points // MAX_ROWS)
            rows = max(points, MIN_GEMM_ROWS)
            slots = tiles * (conv_gemm.TABLE_HEADER + taps) + rows * (1 + taps)
            assert tiles <= conv_gemm.MAX_TILES
            assert slots <= conv_gemm.TABLE_SLOTS - conv_gemm.FIRST_TABLE
