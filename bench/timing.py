"""Timing a case: peers take turns, run by run, so that what disturbs the machine disturbs all."""

import gc
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from case import Case, Run, name_of

WARM_UP_RUNS = 5
FEWEST_ROUNDS, MOST_ROUNDS = 5, 5000


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median, the first and third quartile, and the mean."""

    median: float
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Result:
    """One case as measured.

    Parameters
    ----------
    group, sizes, flops
        As in the case.
    rounds
        How many times each peer ran.
    times
        A timing a peer.
    memory
        Bytes a peer, where they were measured.
    """

    group: str
    sizes: Mapping[str, int]
    flops: float
    rounds: int
    times: Mapping[str, Timing]
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The sizes in one line."""
        return name_of(self.sizes)

    def ratio(self, over: str, under: str) -> float:
        """Return the median time of a peer in units of another's."""
        return self.times[over].median / self.times[under].median

    @property
    def speedup(self) -> float:
        """How many times faster seqkern is than torch."""
        return self.ratio("torch", "seqkern")

    def gflops(self, peer: str) -> float:
        """Return a peer's GFLOP/s."""
        return self.flops / self.times[peer].median / 1e9

    def row(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Result":
        """Return the result that :meth:`row` came from."""
        times = {peer: Timing(**timing) for peer, timing in row["times"].items()}
        return cls(**{**row, "times": times})


def seconds_of(run: Run) -> float:
    """Time one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timing_of(samples: list[float]) -> Timing:
    """Sum samples up, to five digits."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(*(float(f"{x:.5g}") for x in (median, low, high, statistics.fmean(samples))))


def turns(peers: Iterable[str], rounds: int) -> Iterator[str]:
    """Yield who runs next: there and back again, so that none always runs after the same other."""
    order = list(peers)
    for number in range(rounds):
        yield from order[:: 1 if number % 2 == 0 else -1]


def measure(case: Case, seconds: float) -> Result:
    """Run the peers of a case in turns for about this long, after at most as long a warm-up."""
    runs = {peer: case.make(peer) for peer in case.peers}
    warm_up = 0.0
    for _ in range(WARM_UP_RUNS):
        a_round = sum(seconds_of(run) for run in runs.values())
        warm_up += a_round
        if warm_up > seconds:
            break
    rounds = min(max(round(seconds / a_round), FEWEST_ROUNDS), MOST_ROUNDS)
    samples: dict[str, list[float]] = {peer: [] for peer in runs}
    gc.collect()
    gc.disable()
    try:
        for peer in turns(runs, rounds):
            samples[peer].append(seconds_of(runs[peer]) / case.calls)
    finally:
        gc.enable()
    times = {peer: timing_of(of_peer) for peer, of_peer in samples.items()}
    return Result(case.group, dict(case.sizes), case.flops, rounds, times)


def environment() -> dict[str, Any]:
    """Describe the machine and the versions."""
    import seqkern  # here: a report of a build that failed reads timings too

    info = seqkern.build_info()
    wanted = ("cpu", "threads", "isa", "seqkern", "torch", "python", "compiler")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{key: info[key] for key in wanted},
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def machine_of(facts: Mapping[str, Any]) -> str:
    """Return the machine of :func:`environment` in one line."""
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['isa']}, {facts['threads']} threads"


def versions_of(facts: Mapping[str, Any]) -> str:
    """Return the versions of :func:`environment` in one line."""
    return (
        f"seqkern {facts['seqkern']} ({facts['compiler']}), torch {facts['torch']}, "
        f"Python {facts['python']}"
    )
