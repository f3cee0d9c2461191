"""How much slower each peer gets when another process wants a core."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from case import Case
from timing import Result, measure

# It ends with this process, however that ends.
BUSY_LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
TIMES_LONGER = 4  # than other points: how threads and the busy loop meet is a matter of chance


@contextmanager
def busy_loop() -> Iterator[None]:
    """Keep one core busy from another process."""
    process = subprocess.Popen([sys.executable, "-c", BUSY_LOOP])
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the busy loop ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def measure_interference(case: Case, seconds: float) -> Result:
    """Measure a case alone, then beside a busy loop (peers named "..., busy")."""
    alone = measure(case, TIMES_LONGER * seconds)
    with busy_loop():
        busy = measure(case, TIMES_LONGER * seconds)
    times = {f"{peer}, busy": timing for peer, timing in busy.times.items()}
    return replace(alone, rounds=min(alone.rounds, busy.rounds), times={**alone.times, **times})


def slow_down(result: Result, peer: str) -> float:
    """Return a peer's mean time beside the busy loop in units of that without it.

    Means, since a run that collapses now and then must count.
    """
    return result.times[f"{peer}, busy"].mean / result.times[peer].mean
