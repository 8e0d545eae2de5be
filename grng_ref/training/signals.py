"""Ctrl-C and SIGTERM as a wish: the step in progress is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Wish:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.stop = False

    def heard(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second one interrupts at once."""
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True


@contextmanager
def stop_wishes() -> Iterator[Wish]:
    """Listen for SIGINT and SIGTERM; in the main thread only, elsewhere Python hears none."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish.heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
