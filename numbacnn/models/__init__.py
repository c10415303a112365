"""Ready-made networks."""

from ._small_cnn import small_cnn

__all__ = ["small_cnn"]
