"""Ctrl-C as a request, not as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def catch_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag; a second one raises KeyboardInterrupt as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    caught = False
    previous = signal.getsignal(signal.SIGINT)

    def handle(signum: int, frame: object) -> None:
        nonlocal caught
        caught = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: caught
    finally:
        signal.signal(signal.SIGINT, previous)
