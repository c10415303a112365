"""A small table of convolutions, and the entries of a report about them."""

SMALL = """
# name       N C_in input -> C_out kernel stride padding dilation groups
image        2  6   7x8   ->  4    3x2    2x1    1x0     1        2
sequence     3  4   19    ->  8    5      1      4       2        1
volume       1  3   4x5x6 ->  3    3      1      1       1        3
"""


def make_timing(seconds, **more):
    return {"variant": "channels_last", "seconds": seconds, "rate": 1e-3 / seconds, "error": 1e-6, **more}


def make_entry(name, ours, theirs, direction="forward"):
    return {
        "group": "conv",
        "case": name,
        "description": "1,64,56×56 -> 64, 3×3",
        "direction": direction,
        "dtype": "float32",
        "unit": "GFLOP/s",
        "libraries": {
            "numbacnn": make_timing(ours, share_of_peak=0.914, extra_bytes=3_400_000),
            "torch": make_timing(theirs, extra_bytes=0),
        },
        "ratios": {"torch": {"ratio": theirs / ours, "low": 0.9 * theirs / ours, "high": 1.1 * theirs / ours}},
    }
