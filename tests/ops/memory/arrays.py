"""Arrays of the pool, and where they lie."""

SHAPE = (64, 16, 16)  # 64 KB of float32


def address(array):
    return array.__array_interface__["data"][0]
