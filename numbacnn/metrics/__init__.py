"""Measures of how good predictions are."""

from ._classification import accuracy

__all__ = ["accuracy"]
