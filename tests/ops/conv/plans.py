"""The plans that convolutions remember."""

import sys

from numbacnn.ops import conv


def forget_plans() -> None:
    """Empty every cache of every algorithm."""
    for name, module in list(sys.modules.items()):
        if name.startswith(conv.__name__):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
