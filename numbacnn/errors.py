"""The exceptions and warnings that numbacnn raises.

Every exception is a `NumbacnnError` and also the built-in exception a NumPy user would expect in its place, so
``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DTypeError",
    "GradientError",
    "NumbacnnError",
    "OptionError",
    "PaddingWarning",
    "ShapeError",
    "StateDictError",
]


class NumbacnnError(Exception):
    """The base of every exception that numbacnn raises on purpose.

    Examples
    --------
    >>> issubclass(ShapeError, NumbacnnError) and issubclass(ShapeError, ValueError)
    True
    """


class ShapeError(NumbacnnError, ValueError):
    """An array has the wrong number of axes, or sizes that do not fit together."""


class DTypeError(NumbacnnError, TypeError):
    """An array has a dtype that is not supported here, or two arrays differ in dtype."""


class OptionError(NumbacnnError, ValueError):
    """An option such as ``stride`` or ``padding`` has an illegal value."""


class StateDictError(NumbacnnError, ValueError):
    """A state dict does not fit the module: keys are missing, unexpected, or of the wrong shape."""


class CheckpointError(NumbacnnError, ValueError):
    """A saved file is truncated, corrupt, or not one of ours."""


class GradientError(NumbacnnError, RuntimeError):
    """Gradients were asked for where there are none, or a second time after they were freed."""


class MeasurementWarning(UserWarning):
    """What the cache directory remembers of measurements cannot be used."""


class PaddingWarning(UserWarning):
    """A legal combination of size, kernel, stride and padding that is seldom meant."""
