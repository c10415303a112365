"""A progress bar, where tqdm is installed and somebody is looking."""

from __future__ import annotations

import contextlib
from typing import Any


class ProgressBar:
    """Counts steps and shows them; without tqdm, or where standard error is not a terminal, it shows nothing.

    A context manager: the bar is taken off the screen however the ``with`` block ends.

    Parameters
    ----------
    total : int
        Number of steps.
    description : str
        What is going on.
    enabled : bool, default True
        False never shows a bar.

    Examples
    --------
    >>> from numbacnn._progress import ProgressBar
    >>> with ProgressBar(3, "counting", enabled=False) as bar:
    ...     for _ in range(3):
    ...         bar.step("so far so good")
    """

    def __init__(self, total: int, description: str, enabled: bool = True) -> None:
        self._bar: Any = None
        if enabled:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                # disable=None: no bar in files and pipes. leave=False: the line printed per epoch takes its place.
                self._bar = tqdm(total=total, desc=description, leave=False, disable=None, dynamic_ncols=True)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, note: str = "") -> None:
        """One step is done; `note` is shown behind the bar."""
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
