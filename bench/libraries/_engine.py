"""What inference engines have in common: float32 forward convolutions only, their weights packed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..cases import Case, ConvCase
from . import Call, Unsupported


class Engine:
    """It may lay the weights out as it likes before the clock starts."""

    _calls: Callable[[ConvCase, Mapping[str, np.ndarray]], dict[str, Call]]  # a subclass's: one per memory format

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def release(self) -> None:
        """Nothing to do: what an engine has made of a case dies with it."""

    def pool_counts(self) -> None:
        """No pool."""

    def prepare(self, case: Case, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        if not isinstance(case, ConvCase) or direction != "forward" or arrays["x"].dtype != np.float32:
            raise Unsupported("only float32 forward convolutions are measured here")
        return self._calls(case, arrays)
