"""Ctrl-C that waits until what must not be cut in two is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block.

    A kernel runs to its end all the same, but then Python would raise KeyboardInterrupt before the
    next statement, and what the kernel has done would not be accounted for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python raises KeyboardInterrupt in the main thread alone
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is None:  # a handler that is not Python's
        yield
        return
    caught = False

    def remember(signum: int, frame: object) -> None:
        nonlocal caught
        caught = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if caught:
            signal.raise_signal(signal.SIGINT)
