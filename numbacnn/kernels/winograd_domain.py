"""Into the transformed domain of Winograd convolution: the record of a launch, the scratch, inputs and weights."""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import MOST_SCRATCH_SLOTS, SCRATCH_SLOTS
from .columns import pack_lanes
from .pointer import cast, load_pointer, offset, store_pointer
from .runs import clear_run, even_part
from .simd import lanes
from .sources import source_at
from .tile import MAX_ROWS
from .winograd_transform import input_points, many_weight_points, stretch_points, weight_points

MAX_AXIS_POINTS, MAX_POINTS = 8, 64
MAX_TAPS_D = 16
# The scratch: pointers of transforms (sources of a tile, rows between its two passes, destinations); where the lines
# and places on a line are that a tile reads; the tables of matrix products; rows between two passes, so many vectors
# of channels; then products and transformed input.
SOURCES, BETWEEN, TARGETS, LINES, PLACES, TABLES = 0, 64, 132, 196, 204, 212
TABLE_SLOTS = 8 * (1 + MAX_ROWS + 7 * (MAX_ROWS + 1))
PASS_VECTORS = 8
# Source channels whose weights are gathered at a time: with 9 taps each, whole squares to transpose; fewer of more
# taps. Behind them, rows between two passes over the taps of a large kernel.
GATHERED, FEW_TAPS, MOST_GATHERED, MOST_TAPS = 8, 9, 100, 200
# Of the taps for so many images of outputs, those of one are gathered one by one, not four together with others.
MANY_OUTPUTS = 4
PASS_SLOTS = (MAX_POINTS + 1) * PASS_VECTORS * 64 // 8
FIRST_PASS = -(-(TABLES + TABLE_SLOTS) // 8) * 8
FIRST_PRODUCT = FIRST_PASS + PASS_SLOTS
PRODUCT_SLOTS = SCRATCH_SLOTS - 2944  # what comes before takes more, but shorter vectors leave half of that untouched
# With transformed weights beside the products: everything else is read once, a little at a time.
MOST_PRODUCT_SLOTS = MOST_SCRATCH_SLOTS - FIRST_PRODUCT


class Winograd(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    points_h: int  # points per tile, by axis: 8, 6, 4 or (not transformed) 1
    points_w: int
    form_h: int  # whose transforms: see `winograd_transform`
    form_w: int
    outputs_h: int  # outputs per tile, by axis: so many points less one are outputs and taps less one each, or more
    outputs_w: int
    taps_h: int
    taps_w: int
    tiles_h: int
    tiles_w: int
    columns: int  # tiles of the whole batch that do not differ in D alone
    in_d: int
    in_h: int
    in_w: int
    out_d: int
    out_h: int
    out_w: int
    taps_d: int
    dilation_d: int
    dilation_h: int  # coordinates between neighbouring points and outputs of a tile, by axis
    dilation_w: int
    stride_h: int  # coordinates of the source between outputs that neighbour in their tile
    stride_w: int
    needed_h: int  # coordinates that the outputs read, from the first: by a plane's taps, and by all planes'
    needed_w: int
    reach_h: int
    reach_w: int
    # Taps cut into stretches of `taps_h` times `taps_w`, each of which is a tap along D, W first: whether they are;
    # how many there are along W; source coordinates from one tap to the next; how many stretches begin one tap after
    # the other, before the next begin where these end; how many taps further the next tap of a stretch is.
    stretched: int
    stretches_w: int
    shift_h: int
    shift_w: int
    phases_h: int
    phases_w: int
    apart_h: int
    apart_w: int
    all_h: int  # taps gathered together, by axis: those of a plane, or of all stretches
    all_w: int
    all_taps: int  # of the kernel, with those along D
    gathered: int  # of so many source channels
    pad_d: int
    pad_h: int
    pad_w: int
    mode_h: int  # what is read outside: an index into `sources.MODES`
    mode_w: int
    source_n: int
    source_d: int
    source_h: int
    source_w: int
    out_sn: int  # destination elements between samples and between positions, by axis
    out_sd: int
    out_sh: int
    out_sw: int
    # Where outputs of a tile lie `step` positions apart, between them are as many of other weights, taps 1, 2, ...
    # later. The first tile's first output is at `first`, those of other weights before it; `size` positions exist.
    step_h: int
    step_w: int
    first_h: int
    first_w: int
    size_h: int
    size_w: int
    groups: int
    run: int  # source channels of one group
    lanes: int  # destination channels of one group
    vector: int  # lanes of one vector
    line: int  # elements of a cache line
    width: int  # lanes of a panel of transformed weights
    panels: int  # panels per group
    lane_panels: int  # of which so many for the same positions of the outputs
    block_columns: int  # tiles of a block: so many columns
    block_depth: int  # of so many outputs along D
    depth_blocks: int
    panel_blocks: int  # blocks of the panels of one group
    step_panels: int  # panels whose products are in the scratch at a time
    own_values: int  # 1: each block transforms its input; 0: it has been done
    slices: int  # otherwise: into how many parts the channels are cut for that
    values_run: int  # source channels of transformed input that lie side by side
    values_row: int  # elements from such a row to the next
    values_part: int  # from rows of so many channels to those of the next
    values_point: int  # and of all rows of one point
    products_point: int
    weight_point: int  # elements of all transformed weights of one point of one panel
    weight_run: int  # strides of the weights as they come: source channels, destination channels, groups
    weight_lane: int
    weight_group: int
    backwards: int  # 1: taps are taken in reverse
    weight_blocks: int  # into how many parts the reduction is cut when weights are transformed beforehand
    own_run: int  # else: source channels whose weights each block transforms at a time; 0: it has been done
    adds: int  # 1: to what launches for other source channels have left in the destination
    run_step: int  # source channels that are summed over at a time: `own_run` of them, if that is not 0


@device
def columns_of(tile_block, g):
    """First column, number of columns, first output plane and number of planes of a block of tiles."""
    depth = tile_block % g.depth_blocks * g.block_depth
    column = tile_block // g.depth_blocks * g.block_columns
    return column, min(g.block_columns, g.columns - column), depth, min(g.block_depth, g.out_d - depth)


@device
def planes_of(depth, depths, g):
    """First input plane under some output planes, and the number of planes; at most those that exist."""
    first = max(0, depth - g.pad_d)
    return first, max(0, min(g.in_d, depth + depths - g.pad_d + (g.taps_d - 1) * g.dilation_d) - first)


@device
def tile_start(tile, outputs, dilation):
    """First output coordinate of a tile along one axis.

    Under a dilation, every so many coordinates are an image of their own: the first tile of each comes first, then the
    second of each. Images that have one tile fewer are the last.
    """
    if dilation == 1:
        return tile * outputs
    step = tile // dilation
    return step * outputs * dilation + tile - step * dilation


@device
def tile_of(column, g):
    """Sample and place along H and W of a tile."""
    line = column // g.tiles_w
    n = line // g.tiles_h
    return n, line - n * g.tiles_h, column - line * g.tiles_w


@device
def following_tile(n, tile_h, tile_w, g):
    """`tile_of` the next column. Dividing takes as long as transforming several vectors."""
    tile_w += 1
    if tile_w == g.tiles_w:
        tile_w = 0
        tile_h += 1
        if tile_h == g.tiles_h:
            return n + 1, 0, 0
    return n, tile_h, tile_w


@device
def stretch_start(stretch, phases, length):
    """Where a stretch begins along one axis: those of each phase of the stride, then their second ones."""
    if phases == 1:  # dividing takes as long as transforming several vectors
        return stretch * length
    return stretch % phases + stretch // phases * length


@device
def first_taps(plane, panel, g):
    """The first tap of a stretch, by axis, for the outputs of a panel of a group."""
    along_h, output = plane // g.stretches_w, panel // g.lane_panels
    along_w, before_h = plane - along_h * g.stretches_w, output // g.step_w
    tap_h = before_h + stretch_start(along_h, g.phases_h, g.taps_h * g.apart_h)
    tap_w = output - before_h * g.step_w + stretch_start(along_w, g.phases_w, g.taps_w * g.apart_w)
    return tap_h, tap_w


@device
def put_between(scratch, rows):
    """Pointers to the rows between a transform's two passes, and to one that nobody reads."""
    for i in range(MAX_POINTS + 1):
        store_pointer(scratch, BETWEEN + i, offset(rows, i * PASS_VECTORS * lanes(rows)))


@device
def _put_places(scratch, slot, first, points, step, needed, pad, size, mode, stride):
    """How far along one axis, in elements, each point of a tile from `first` on reads; -1: a zero.

    So are inputs that only outputs beyond the edge would read, from `needed` on: they may hold infinities.
    """
    for i in range(points):
        coordinate = first + i * step
        at = source_at(coordinate - pad, size, mode) if coordinate < needed else -1
        scratch[slot + i] = at * stride if at >= 0 else -1


@device
def _transform_tile(scratch, image, zeros, target, count, g):
    """Transform `count` channels of the tile at `LINES` and `PLACES`: ``target[point * values_point]`` gets them."""
    points = g.points_h * g.points_w
    for i in range(g.points_h):
        line = scratch[LINES + i]
        for j in range(g.points_w):
            place = scratch[PLACES + j]
            inside = line >= 0 and place >= 0
            store_pointer(scratch, SOURCES + i * g.points_w + j, offset(image, line + place) if inside else zeros)
    for i in range(points):
        store_pointer(scratch, TARGETS + i, offset(target, i * g.values_point))
    first = SOURCES
    if g.points_h > 1:
        first = BETWEEN if g.points_w > 1 else TARGETS
        for j in range(1 if g.form_w == 3 else 0, g.points_w):
            input_points(g.form_h, scratch, SOURCES + j, g.points_w, scratch, first + j, g.points_w, count, target)
    if g.points_w > 1:
        for i in range(g.points_h):
            row = i * g.points_w
            input_points(g.form_w, scratch, first + row, 1, scratch, TARGETS + row, 1, count, target)


@device
def _put_tile(scratch, h, w, along_h, along_w, g):
    """Where the tile whose first outputs are `h` and `w` reads, of one stretch of taps along each axis."""
    down = stretch_start(along_h, g.phases_h, g.taps_h * g.phases_h) * g.shift_h
    right = stretch_start(along_w, g.phases_w, g.taps_w * g.phases_w) * g.shift_w
    needed_h, needed_w = min(g.needed_h, g.reach_h - down), min(g.needed_w, g.reach_w - right)
    _put_places(
        scratch, LINES, h * g.stride_h, g.points_h, g.stride_h * g.dilation_h, needed_h, g.pad_h - down, g.in_h,
        g.mode_h, g.source_h,
    )  # fmt: skip
    _put_places(
        scratch, PLACES, w * g.stride_w, g.points_w, g.stride_w * g.dilation_w, needed_w, g.pad_w - right, g.in_w,
        g.mode_w, g.source_w,
    )  # fmt: skip


@device
def value_place(row, channel, g):
    """Where the transformed input of a row begins, from `channel` on: elements from there to point 0, row 0."""
    part = channel // g.values_run
    return part * g.values_part + row * g.values_row + channel - part * g.values_run


@device
def _transform_channels(scratch, image, zeros, values, row, first, end, g):
    """Transform channels `first` to `end` of the tile at `LINES` and `PLACES`: they become row `row` of all points."""
    most = PASS_VECTORS * lanes(values)
    while first < end:
        together = min(g.values_run - first % g.values_run, end - first)
        parts = (together + most - 1) // most
        target = offset(values, value_place(row, first, g))
        for i in range(parts):
            c, count = even_part(i, parts, together)
            _transform_tile(scratch, offset(image, first + c), zeros, offset(target, c), count, g)
        first += together


@device
def transform_columns(scratch, source, zeros, values, tile_block, channel, channels, g):
    """Transform the input under a block of tiles, `channels` channels from `channel` on, a few at a time."""
    column, columns, depth, depths = columns_of(tile_block, g)
    plane, planes = planes_of(depth, depths, g)
    n, tile_h, tile_w = tile_of(column, g)
    for i in range(columns):
        h = tile_start(tile_h, g.outputs_h, g.dilation_h)
        w = tile_start(tile_w, g.outputs_w, g.dilation_w)
        along_h, along_w = 0, 0
        for d in range(planes):
            if d == 0 or g.stretched:
                _put_tile(scratch, h, w, along_h, along_w, g)
                along_w += 1
                if along_w == g.stretches_w:
                    along_h, along_w = along_h + 1, 0
            image = offset(source, n * g.source_n + (plane + d) * g.source_d)
            _transform_channels(scratch, image, zeros, values, i * planes + d, channel, channel + channels, g)
        n, tile_h, tile_w = following_tile(n, tile_h, tile_w, g)
    if g.taps_d > 1:  # what padding planes read
        for point in range(g.points_h * g.points_w):
            first = channel
            while first < channel + channels:
                count = min(g.values_run - first % g.values_run, channel + channels - first)
                row = point * g.values_point + value_place(columns * planes, first, g)
                clear_run(offset(values, row), count)
                first += count


@kernel
def winograd_inputs(block, scratch, source: "T*", zeros: "T*", values: "T*", first_block: "int64", g: "Winograd"):
    """One block: a slice of the channels of one block of tiles, those from `first_block` on."""
    tile_block = block // g.slices
    part = block - tile_block * g.slices
    channels = g.groups * g.run
    lines = channels // g.line  # cut between them, so that each slice of a row that lies in parts has whole vectors
    first = part * lines // g.slices * g.line
    last = channels if part + 1 == g.slices else (part + 1) * lines // g.slices * g.line
    put_between(scratch, cast(offset(scratch, FIRST_PASS), values))
    region = offset(values, tile_block * g.points_h * g.points_w * g.values_point)
    transform_columns(scratch, source, zeros, region, first_block + tile_block, first, last - first, g)


@device
def _gather_taps(weight, count, valid, buffer, g):
    """``buffer[r][tap][lane]``: taps of one plane of the kernel, `count` source channels, `valid` lanes.

    Those of the source channels that follow are asked for: pieces too short for the hardware to foresee.
    """
    taps, ahead = g.all_h * g.all_w, count * g.weight_run
    together = count if g.weight_run == taps else 1  # source channels whose taps lie one after the other
    for r in range(0, count, together):
        source, target = offset(weight, r * g.weight_run), offset(buffer, r * taps * g.width)
        pack_lanes(source, g.weight_lane, ahead, together * taps, 1, target, g.width, 0, valid, g.width)


@device
def _gather_taps_of(output, weight, count, valid, buffer, g):
    """`_gather_taps` for those that one image of outputs reads, each by itself."""
    before_h = output // g.step_w
    for h in range(before_h, g.all_h, g.step_h):
        for w in range(output - before_h * g.step_w, g.all_w, g.step_w):
            tap = h * g.all_w + w
            if g.backwards:
                tap = g.all_taps - 1 - tap
            for r in range(count):
                source, target = (
                    offset(weight, r * g.weight_run + tap),
                    offset(buffer, (r * g.all_taps + tap) * g.width),
                )
                pack_lanes(source, g.weight_lane, 0, 1, 1, target, g.width, 0, valid, g.width)


@device
def _transform_stretch(taps, buffer, values, there_h, there_w, step_h, step_w, g):
    """Transform one vector of the taps of a stretch, of which the first are there."""
    n = lanes(values)
    if there_h <= 0 or there_w <= 0:
        for point in range(g.points_h * g.points_w):
            clear_run(offset(values, point * g.weight_point), n)
    elif g.points_w == 1:
        stretch_points(g.form_h, g.taps_h, there_h, taps, step_h, values, g.weight_point)
    elif g.points_h == 1:
        stretch_points(g.form_w, g.taps_w, there_w, taps, step_w, values, g.weight_point)
    else:
        between = g.taps_w * n
        for j in range(there_w):
            column = offset(taps, j * step_w)
            stretch_points(g.form_h, g.taps_h, there_h, column, step_h, offset(buffer, j * n), between)
        for i in range(g.points_h):
            target = offset(values, i * g.points_w * g.weight_point)
            stretch_points(g.form_w, g.taps_w, there_w, offset(buffer, i * between), n, target, g.weight_point)


@device
def _transform_stretches(buffer, between, target, count, plane, panel, g):
    """`_transform_gathered` for the taps of one stretch."""
    tap_h, tap_w = first_taps(plane, panel, g)
    there_h = min(g.taps_h, (g.all_h - tap_h + g.apart_h - 1) // g.apart_h)
    there_w = min(g.taps_w, (g.all_w - tap_w + g.apart_w - 1) // g.apart_w)
    first, step_h, step_w = tap_h * g.all_w + tap_w, g.apart_h * g.all_w * g.width, g.apart_w * g.width
    if g.backwards:
        first, step_h, step_w = g.all_taps - 1 - first, -step_h, -step_w
    for i in range(count):
        for c in range(0, g.width, lanes(target)):
            row, values = offset(buffer, i * g.all_taps * g.width + c), offset(target, i * g.width + c)
            taps = offset(row, first * g.width)
            _transform_stretch(taps, between, values, there_h, there_w, step_h, step_w, g)


@device
def _transform_gathered(buffer, target, count, plane, panel, g):
    """Transform what has been gathered for `count` source channels; behind it is room for rows between two passes."""
    taps = g.all_h * g.all_w
    between = offset(buffer, g.gathered * taps * g.width)
    if g.stretched:
        _transform_stretches(buffer, between, target, count, plane, panel, g)
        return
    for i in range(count):
        for c in range(0, g.width, lanes(target)):
            row, values = offset(buffer, i * taps * g.width + c), offset(target, i * g.width + c)
            if max(g.taps_h, g.taps_w) > 3 or max(g.form_h, g.form_w) == 8:
                many_weight_points(
                    g.form_h, g.form_w, g.taps_h, g.taps_w, row, g.width, g.backwards, between, values, g.weight_point
                )  # fmt: skip
            else:
                weight_points(g.form_h, g.form_w, row, g.width, g.backwards, values, g.weight_point)


@device
def transform_weights(scratch, weight, packed, panel, first, last, g):
    """Transform one panel's weights for the reduction from `first` to `last`; `packed` begins with `first`."""
    group = panel // g.panels
    panel -= group * g.panels
    lane = panel % g.lane_panels * g.width
    valid = min(g.width, g.lanes - lane)
    source = offset(weight, group * g.weight_group + lane * g.weight_lane)
    points = g.points_h * g.points_w
    buffer = load_pointer(scratch, BETWEEN, packed)
    for r in range(first, last, g.gathered):
        count = min(g.gathered, last - r)
        for tap_d in range(g.taps_d):  # while the cache holds all of them
            if not g.stretched:
                from_d = (g.taps_d - 1 - tap_d if g.backwards else tap_d) * g.all_h * g.all_w
                _gather_taps(offset(source, r * g.weight_run + from_d), count, valid, buffer, g)
            elif tap_d == 0 and g.step_h * g.step_w >= MANY_OUTPUTS:
                _gather_taps_of(panel // g.lane_panels, offset(source, r * g.weight_run), count, valid, buffer, g)
            elif tap_d == 0:
                _gather_taps(offset(source, r * g.weight_run), count, valid, buffer, g)
            target = offset(packed, tap_d * points * g.weight_point + (r - first) * g.width)
            _transform_gathered(buffer, target, count, tap_d, panel, g)


@kernel
def winograd_weights(block, scratch, weight: "T*", packed: "T*", g: "Winograd"):
    """One block: part of the reduction of one panel, ``packed[panel][tap_d][point][r][lane]``."""
    panel = block // g.weight_blocks
    part = block - panel * g.weight_blocks
    put_between(scratch, cast(offset(scratch, FIRST_PASS), packed))
    first, last = part * g.run // g.weight_blocks, (part + 1) * g.run // g.weight_blocks
    target = offset(packed, panel * g.taps_d * g.points_h * g.points_w * g.weight_point + first * g.width)
    transform_weights(scratch, weight, target, panel, first, last, g)
